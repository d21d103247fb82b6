"""Which version shall serve: said on the models topic first, which decides, then noted in the registry for people."""

from __future__ import annotations

from anomaly.domain import Rung
from anomaly.errors import ConfigurationError, ModelRefused
from anomaly.registry import Registry
from pipelines import serving
from pipelines.codec import Serving
from pipelines.ports import Log
from pipelines.serving import RULES_VERSION


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
    log: Log, registry: Registry, group: str, *, since: int = 0, actor: str = "", reason: str = ""
) -> Serving:
    """Let the champion before the present one serve again; with none before, the rules.

    Raises ConfigurationError if the rules serve already, ModelRefused if the earlier version is damaged, StorageError.
    """
    version = registry.previous(group) or RULES_VERSION
    champion = registry.aliases(group).get("champion")
    if champion is None and version == RULES_VERSION:
        raise ConfigurationError(
            f"group {group!r} has no champion to roll back from; expected one promotion before; "
            "see `plantwatch models list`"
        )
    rung = _rung(registry, group, version)
    wish = Serving(group, version, since, rung, actor, reason or f"rolled back from {champion}")
    serving.promote(log, wish)
    if version == RULES_VERSION:
        registry.set_alias(group, "champion", None)
    else:
        registry.roll_back(group)
    return wish


def _rung(registry: Registry, group: str, version: str) -> Rung:
    """What a version is, every check passed. Raises ModelRefused that names it."""
    if version == RULES_VERSION:
        return Rung.RULES
    try:
        return registry.load(group, version).rung
    except ModelRefused as error:
        raise ModelRefused(f"{group} {version} is not promoted: {error}") from error
