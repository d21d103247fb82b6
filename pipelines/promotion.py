"""Which version shall serve: said on the models topic first, which decides, then noted in the registry for people."""

from __future__ import annotations

from anomaly.domain import Rung
from anomaly.errors import ConfigurationError, ModelRefused
from anomaly.registry import Registry
from pipelines import serving
from pipelines.codec import Serving
from pipelines.ports import Log
from pipelines.serving import RULES_VERSION, ServingTable


def promote(
    log: Log, registry: Registry, group: str, version: str, *, since: int = 0, actor: str = "", reason: str = ""
) -> Serving:
    """Let `version` serve `group` from event time `since` (ns) on, at the earliest for rows not scored yet.

    The version is loaded first: one that fails a check is never promoted (ModelRefused). `rules` is a version too.
    Raises StorageError; said twice it changes nothing more.
    """
    wish = Serving(group, version, since, _rung(registry, group, version), actor, reason)
    serving.promote(log, wish)
    registry.set_alias(group, "champion", None if version == RULES_VERSION else version)
    return wish


def roll_back(
    log: Log,
    registry: Registry,
    group: str,
    *,
    since: int = 0,
    actor: str = "",
    reason: str = "",
    command: str = "",
) -> Serving:
    """Let the champion before the present one serve again; with none before, the rules.

    `command`: id of what was asked; asked again, as after a crash, it only finishes what is missing of it. Raises
    ConfigurationError if the rules serve already, ModelRefused if the earlier version is damaged, StorageError.
    """
    said = _said(log, group, command)
    if said is not None:
        _note(registry, said)
        return said
    version = registry.previous(group) or RULES_VERSION
    champion = registry.aliases(group).get("champion")
    if champion is None and version == RULES_VERSION:
        raise ConfigurationError(
            f"group {group!r} has no champion to roll back from; expected one promotion before; "
            "see `plantwatch models list`"
        )
    rung = _rung(registry, group, version)
    why = reason or f"rolled back from {champion}"
    wish = Serving(group, version, since, rung, actor, f"{why}{_mark(command)}")
    serving.promote(log, wish)
    _note(registry, wish)
    return wish


def _mark(command: str) -> str:
    return f" [command {command}]" if command else ""


def _said(log: Log, group: str, command: str) -> Serving | None:
    """The newest wish for the group, if it is this very command's."""
    table = ServingTable()
    table.refresh(log)
    newest = table.wishes.get(group)
    known = newest is not None and bool(command) and newest.serving.reason.endswith(_mark(command))
    return newest.serving if newest is not None and known else None


def _note(registry: Registry, wish: Serving) -> None:
    """Let the registry's champion be the one that was rolled back to, unless it is already."""
    if wish.version == RULES_VERSION:
        registry.set_alias(wish.group, "champion", None)
    elif registry.aliases(wish.group).get("champion") != wish.version:
        registry.roll_back(wish.group)


def _rung(registry: Registry, group: str, version: str) -> Rung:
    """What a version is, every check passed. Raises ModelRefused that names it."""
    if version == RULES_VERSION:
        return Rung.RULES
    try:
        return registry.load(group, version).rung
    except ModelRefused as error:
        raise ModelRefused(f"{group} {version} is not promoted: {error}") from error
