"""What the commands about models have in common."""

from __future__ import annotations

import getpass
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError
from anomaly.model_card import ModelCard
from anomaly.registry import Registry
from pipelines.serving import RULES_VERSION

Actor = Annotated[str | None, typer.Option(help="Who you are; without it your login name.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the act.")]
_WIDE: Final = Console(width=1000)
VERSION_WIDTH: Final = len("20260101T000000-01234567")
ALIASES = ("champion", "challenger")


def name_of(actor: str | None) -> str:
    """Who acts. Raises ConfigurationError if nobody can be named."""
    try:
        name = (actor if actor is not None else getpass.getuser()).strip()
    except (OSError, KeyError, ImportError):
        name = ""
    if not name:
        raise ConfigurationError(
            "nobody is named; expected who you are, as the log keeps who did what; say --actor NAME"
        )
    return name


def resolve(registry: Registry, group: str, wanted: str) -> str:
    """The version that `wanted` names: `champion`, `challenger`, `rules`, or a version's first characters.

    Raises ConfigurationError if it names none, or more than one.
    """
    if not registry.versions(group):
        known = ", ".join(registry.groups()) or "none yet"
        raise ConfigurationError(
            f"group {group!r} has no version; groups with versions: {known}; run `plantwatch train`"
        )
    if wanted == RULES_VERSION:
        return wanted
    if wanted in ALIASES:
        aliases = registry.aliases(group)
        if wanted not in aliases:
            raise ConfigurationError(f"group {group!r} has no {wanted}; name a version; see `plantwatch models list`")
        return aliases[wanted]
    found = [version for version in registry.versions(group) if wanted and version.startswith(wanted)]
    if len(found) != 1:
        listed = ", ".join(found or registry.versions(group)[-5:])
        raise ConfigurationError(
            f"{wanted!r} names {len(found) or 'no'} versions of {group!r}; expected the beginning of just one of: "
            f"{listed}"
        )
    return found[0]


def version_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, keep: int = 4) -> Table:
    """A table in which the version, the first column, is whole and on one line at any width.

    The last columns are left out where there is no room for them, down to `keep`; then what is left wraps.
    """
    for count in range(len(columns), min(keep, len(columns)) - 1, -1):
        table = Table(box=None)
        table.add_column(columns[0], no_wrap=True, min_width=VERSION_WIDTH)
        for name in columns[1:count]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row[:count])
        if Measurement.get(_WIDE, _WIDE.options, table).maximum <= width:
            break
    return table


def span_words(since: int, until: int) -> str:
    """A span of event time (ns) in UTC.

    >>> span_words(0, 3600 * SECOND)
    '1970-01-01 00:00 – 1970-01-01 01:00 UTC'
    """
    first, last = (f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%d %H:%M}" for time in (since, until))
    return f"{first} – {last} UTC"


def figure(card: ModelCard, name: str, form: str = ".3g") -> str:
    """One figure of a card for people; a dash where it is not known."""
    value = card.figures.get(name)
    return f"{value:{form}}" if value is not None and math.isfinite(value) else "–"


def card_json(group: str, version: str, card: ModelCard, alias: str = "") -> dict[str, Any]:
    """A version for programs."""
    return {"group": group, "version": version, "alias": alias, "card": card.to_dict()}
