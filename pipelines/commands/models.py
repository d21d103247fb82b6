"""`plantwatch models`: which versions there are, what they were made of, which serves, and how to change that."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from anomaly.detector import Detector, rules_detector
from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError
from anomaly.model_card import ModelCard
from anomaly.registry import Entry, Registry
from pipelines import wiring
from pipelines.codec import Serving
from pipelines.commands.alert_options import AsJson, Config, DataDir
from pipelines.commands.model_options import (
    ALIASES,
    Actor,
    Reason,
    card_json,
    figure,
    name_of,
    resolve,
    span_words,
    version_table,
)
from pipelines.comparing import Behaviour, Comparison
from pipelines.comparing import compare as compare_versions
from pipelines.promotion import promote as promote_version
from pipelines.promotion import roll_back
from pipelines.serving import RULES_VERSION
from pipelines.settings import Settings
from pipelines.spans import point
from pipelines.training_service import group_assets, training_set_from_historian
from pipelines.wording import plain

app = typer.Typer(help="Versions of models: list, compare, promote, roll back.", no_args_is_help=True)

Group = Annotated[str, typer.Argument(help="Group of machines that share a model.")]


@app.command("list")
def list_versions(
    group: Annotated[str | None, typer.Argument(help="Only this group.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List versions, oldest first, with what they were made of."""
    registry = wiring.open_registry(Settings(config=config, data_dir=data_dir))
    groups = registry.groups() if group is None else (group,)
    listed = [
        (name, entry, _alias(registry, name, entry.version)) for name in groups for entry in registry.entries(name)
    ]
    if as_json:
        typer.echo(json.dumps({"versions": [_entry_json(*row) for row in listed]}, indent=1))
        return
    if not listed:
        typer.echo("No version yet; the rules serve. Run `plantwatch train`.")
        return
    console = Console()
    columns = ("version", "group", "alias", "rung", "trained on", "line", "held-out loss")
    rows = [(entry.version, name, alias, *_row(entry)) for name, entry, alias in listed]
    console.print(version_table(columns, rows, console.width))
    for name, entry, _ in listed:
        if entry.refused:
            words = plain(f"{name} {entry.version} is refused: {entry.refused}")
            console.print(words, markup=False, highlight=False, soft_wrap=True)


@app.command()
def show(
    group: Group,
    version: Annotated[str, typer.Argument(help="Version, its first characters, or an alias.")] = "champion",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the model card of a version, after every check of its files."""
    registry = wiring.open_registry(Settings(config=config, data_dir=data_dir))
    found = resolve(registry, group, version)
    detector = registry.load(group, found)
    card, alias = registry.card(group, found), _alias(registry, group, found)
    if as_json:
        typer.echo(json.dumps(card_json(group, found, card, alias), indent=1))
        return
    table = Table(box=None, show_header=False)
    for name, words in _card_rows(card, detector, alias):
        table.add_row(name, words)
    console = Console()
    console.print(f"{group} {found}", highlight=False, soft_wrap=True)
    console.print(table)


@app.command()
def compare(
    group: Group,
    challenger: Annotated[str, typer.Argument(help="Version to judge.")] = "challenger",
    champion: Annotated[str, typer.Argument(help="Version to judge it by; `rules` if none serves.")] = "champion",
    since: Annotated[
        str, typer.Option(help="Stored rows from: a time with zone, or so long before the newest.")
    ] = "24h",
    until: Annotated[str | None, typer.Option(help="To: a time with zone, or so long before the newest.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Run two versions over stored normal rows. Exit code 1 if something speaks against the challenger.

    Without a challenger the newest version is compared with the one before it.
    """
    settings = Settings(config=config, data_dir=data_dir)
    registry, plant = wiring.open_registry(settings), wiring.open_plant(settings)
    pair = _pair(registry, group, challenger, champion, as_json)
    if pair is None:
        return
    old, new = (_load(registry, settings, group, version) for version in pair)
    historian = wiring.open_historian_reader(settings)
    span = historian.span()
    newest = span[1] if span else 0
    first, last = point(since, newest), point(until, newest, "--until") if until else newest + 1
    cleaned = training_set_from_historian(historian, plant, group, None, first, last)
    found = compare_versions(old, new, cleaned.training, plant.alert_budget_per_week)
    if as_json:
        typer.echo(json.dumps(_comparison_json(group, found, dict(cleaned.left_out)), indent=1))
    else:
        _print_comparison(found, cleaned.training.rows, dict(cleaned.left_out))
    raise typer.Exit(1 if found.objections else 0)


@app.command()
def promote(
    group: Group,
    version: Annotated[
        str, typer.Argument(help="Version, its first characters, `challenger` or `rules`.")
    ] = "challenger",
    since: Annotated[
        str | None, typer.Option("--from", help="Event time from which it serves; without it, at once.")
    ] = None,
    actor: Actor = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let a version serve. Running services swap between two batches; no window is scored twice or waits."""
    settings = Settings(config=config, data_dir=data_dir)
    registry, name = wiring.open_registry(settings), name_of(actor)
    found = resolve(registry, group, version)
    start = point(since, _newest(settings), "--from") if since else 0
    log = wiring.open_log(settings)
    try:
        wish = promote_version(log, registry, group, found, since=start, actor=name, reason=reason)
    finally:
        log.close()
    _tell(wish, as_json)


@app.command()
def rollback(
    group: Group,
    actor: Actor = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let the champion before the present one serve again."""
    settings = Settings(config=config, data_dir=data_dir)
    registry, name = wiring.open_registry(settings), name_of(actor)
    log = wiring.open_log(settings)
    try:
        wish = roll_back(log, registry, group, actor=name, reason=reason)
    finally:
        log.close()
    _tell(wish, as_json)


def _alias(registry: Registry, group: str, version: str) -> str:
    return ", ".join(alias for alias, named in registry.aliases(group).items() if named == version)


def _entry_json(group: str, entry: Entry, alias: str) -> dict[str, Any]:
    if entry.card is None:
        return {"group": group, "version": entry.version, "alias": alias, "refused": entry.refused}
    return card_json(group, entry.version, entry.card, alias)


def _row(entry: Entry) -> tuple[str, str, str, str]:
    """Columns of the list after the alias."""
    card = entry.card
    if card is None:
        return "refused", "–", "–", "–"
    return card.rung, f"{card.hours:.1f} h", figure(card, "line"), figure(card, "held_out_loss")


def _card_rows(card: ModelCard, detector: Detector, alias: str) -> list[tuple[str, str]]:
    """A card, line by line."""
    return [
        ("alias", alias or "–"),
        ("rung", card.rung),
        ("trained", card.summary(detector.tick)),
        ("span", span_words(card.since, card.until)),
        ("machines", ", ".join(card.assets)),
        ("tags", ", ".join(card.tags)),
        ("window", f"{detector.length} rows of {detector.tick / SECOND:g} s"),
        ("settings", ", ".join(f"{name}={value}" for name, value in card.spec.items())),
        ("figures", ", ".join(f"{name} {figure(card, name)}" for name in card.figures)),
        ("seed", str(card.seed)),
        ("data", f"sha256 {card.data_sha256}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in card.libraries.items())),
        *((name, words) for name, words in card.labels.items() if words),
    ]


def _pair(registry: Registry, group: str, challenger: str, champion: str, as_json: bool) -> tuple[str, str] | None:
    """The versions to compare, the older first; None, once it is said, if there is nothing to compare."""
    aliases, versions = registry.aliases(group), registry.versions(group)
    if challenger == "challenger" and challenger not in aliases and versions:
        if len(versions) < 2 and champion in ALIASES:
            words = f"{group} has one version, {versions[0]}, and no challenger to compare with it"
            mend = f"learn one with `plantwatch train --group {group}`, or compare with `rules`"
            typer.echo(json.dumps({"group": group, "nothing": words}) if as_json else f"{words}; {mend}")
            return None
        newest = versions[-1]
        before = versions[-2] if champion in ALIASES else resolve(registry, group, champion)
        typer.echo(f"{group} has no challenger; comparing {newest} with {before}", err=True)
        return before, newest
    new = resolve(registry, group, challenger)
    return resolve(registry, group, aliases.get(champion, RULES_VERSION) if champion in ALIASES else champion), new


def _load(registry: Registry, settings: Settings, group: str, version: str) -> Detector:
    """A version, or the rules of the plant file."""
    if version == RULES_VERSION:
        return rules_detector(group, group_assets(wiring.open_plant(settings), group, None))
    return registry.load(group, version)


def _comparison_json(group: str, found: Comparison, left_out: dict[str, int]) -> dict[str, Any]:
    both = {name: asdict(side) | {"over_share": _known(side.over_share)} for name, side in _sides(found)}
    agreement = {"agreement": _known(found.agreement), "objections": list(found.objections), "left_out": left_out}
    return {"group": group, **both, **agreement}


def _sides(found: Comparison) -> list[tuple[str, Behaviour]]:
    return [(n, b) for n, b in (("champion", found.champion), ("challenger", found.challenger)) if b is not None]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print_comparison(found: Comparison, rows: int, left_out: dict[str, int]) -> None:
    sides = [side for _, side in _sides(found)]
    table = Table("", *(name for name, _ in _sides(found)), box=None)
    for name, values in (
        ("version", [side.version for side in sides]),
        ("rung", [side.rung for side in sides]),
        ("rows scored", [str(side.rows) for side in sides]),
        ("over the line", [f"{side.over_share:.2%}" for side in sides]),
        ("false alerts", [str(side.alerts) for side in sides]),
        ("asset-weeks", [f"{side.weeks:.2f}" for side in sides]),
    ):
        table.add_row(name, *values)
    console = Console()
    console.print(table)
    words = ", ".join(f"{reason} {count}" for reason, count in left_out.items()) or "none"
    console.print(f"{rows} normal rows; left out: {words}", highlight=False, soft_wrap=True)
    console.print(f"Both judge {found.agreement:.1%} of the rows alike", highlight=False)
    for objection in found.objections:
        console.print(f"Against it: {objection}", highlight=False, soft_wrap=True)
    if not found.objections:
        console.print("Nothing speaks against the challenger.", highlight=False)


def _newest(settings: Settings) -> int:
    """Newest reading time that is stored, ns. Raises ConfigurationError if nothing is."""
    span = wiring.open_historian_reader(settings).span()
    if span is None:
        raise ConfigurationError("nothing is stored yet, so --from has no newest time; leave it out to serve at once")
    return span[1]


def _tell(wish: Serving, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(wish), indent=1))
    else:
        when = f"from {span_words(wish.since, wish.since).split(' – ')[1]}" if wish.since else "from the next rows on"
        typer.echo(f"{wish.group}: {wish.version} ({wish.rung.value}) serves {when}")
