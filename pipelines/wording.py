"""What people read: sentences about alerts, with units, in the plant's time zone. Pure; no markup.

Everything that comes from outside (names, notes) passes `plain`, so that no message can steer a terminal or a log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from anomaly.domain import SECOND, Alert, Anomaly, Asset, Kind, Rung, SensorFault
from anomaly.episode_policy import CLOCK, instrument
from pipelines.ports import AlertEvent

FAULTS: Final[Mapping[str, str]] = {
    SensorFault.MISSING.name: "sends nothing",
    SensorFault.BAD_QUALITY.name: "marks its own values as bad",
    SensorFault.OUT_OF_RANGE.name: "reads outside its range",
    SensorFault.STUCK.name: "keeps repeating one value",
    SensorFault.FLAT.name: "has all but stopped moving",
    SensorFault.SPIKE.name: "shows spikes",
    SensorFault.NOISE.name: "is far noisier than it was",
    SensorFault.UNIT_JUMP.name: "has jumped as if its unit or scale had changed",
    SensorFault.DISAGREES.name: "disagrees with all other sensors, which are normal",
}
"""What a sensor with the fault does, after its name."""

_BRIEF: Final[Mapping[str, str]] = {
    SensorFault.BAD_QUALITY.name: "marks its values as bad",
    SensorFault.STUCK.name: "is stuck",
    SensorFault.FLAT.name: "hardly moves",
    SensorFault.NOISE.name: "is far too noisy",
    SensorFault.UNIT_JUMP.name: "has jumped",
    SensorFault.DISAGREES.name: "disagrees with all others",
}
"""The same in fewer words, where there are fewer."""

VERBS: Final[Mapping[str, str]] = {
    "raised": "Alert",
    "updated": "Update",
    "cleared": "Cleared",
    "acknowledged": "Acknowledged",
    "shelved": "Shelved",
    "unshelved": "Unshelved",
    "closed": "Closed",
}
_STANDARDS: Final[Mapping[Rung | None, tuple[str, str]]] = {
    Rung.RULES: ("its limit", "their limits"),
    Rung.ROLLING_Z: ("its usual level", "their usual levels"),
}
"""What a rung that judges tags one by one holds one tag, or two, against."""
_OTHERS: Final = "what the others explain"
_TAGS_TOLD: Final = 3
_TAGS_EXPLAINED: Final = 2
_FINEST: Final = 1e-4
_COARSEST: Final = 1e7


def plain(text: str) -> str:
    r"""The text without control characters, on one line.

    >>> plain("pump\x1b[31m 1\n2")
    'pump[31m 1 2'
    """
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def number(value: float) -> str:
    """Three significant digits or all before the point, never an exponent for a plain size.

    >>> [number(v) for v in (7.114, 81.25, 1234.6, 0.00421, 0.0, 64.0)]
    ['7.11', '81.2', '1235', '0.00421', '0', '64']
    """
    if value == 0 or _FINEST <= abs(value) < _COARSEST:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.2e}"


def moment(time: int, timezone: str) -> str:
    """A time as people of the plant say it.

    >>> moment(1_700_000_000_000_000_000, "Europe/Berlin")
    '2023-11-14 23:13:20 CET'
    """
    return datetime.fromtimestamp(time // SECOND, UTC).astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def asset_name(path: str, asset: Asset | None) -> str:
    """Name and path, or the path alone.

    >>> asset_name("s1/pump-1", None)
    's1/pump-1'
    """
    return f"{plain(asset.name)} ({plain(path)})" if asset and asset.name else plain(path)


def with_unit(value: float, tag: str, asset: Asset | None) -> str:
    """A value with its tag's unit, if the plant file gives one."""
    unit = next((known.unit for known in asset.tags if known.name == tag), "") if asset else ""
    return f"{number(value)} {plain(unit)}".rstrip()


def trouble(anomaly: Anomaly) -> str:
    """The trouble in a few words, after the asset's name.

    >>> trouble(Anomaly("s1/pump-1", Kind.INSTRUMENT, "instrument:vib", 0, None, 0.0, ("vib",), "v1", "STUCK"))
    'sensor vib keeps repeating one value'
    """
    if anomaly.cause == instrument(CLOCK):
        return "the clock of its device is wrong: readings come late or dated in the future"
    if anomaly.kind is Kind.DATA_LOSS:
        return "no data come from any of its sensors"
    if anomaly.kind is Kind.INSTRUMENT:
        does = FAULTS.get(anomaly.fault, f"is not to be believed ({plain(anomaly.fault)})")
        return f"{_sensor(anomaly.tags)} {does}"
    return f"unlike normal{_times(anomaly.peak)}"


def _sensor(tags: Sequence[str]) -> str:
    """Subject of a sentence in the singular."""
    names = plain(", ".join(tags))
    return "a sensor" if not names else f"sensor {names}" if len(tags) == 1 else f"each of the sensors {names}"


def _times(peak: float) -> str:
    return f", {number(peak)} times its alert line" if math.isfinite(peak) else ""


def explanation(
    anomaly: Anomaly, values: Mapping[str, tuple[float, float]], asset: Asset | None, rung: Rung | None = None
) -> str:
    """How far the strongest one or two tags are off what was expected of them; empty where that is not known.

    `values`: (actual, expected) per tag, in its unit. `rung`: what judged them, and so what they are held against.

    >>> pump = Anomaly("s1/pump-1", Kind.PROCESS, "process", 0, None, 2.4, ("vib", "temp"), "v1")
    >>> explanation(pump, {"vib": (7.1, 3.9), "temp": (81.0, 84.0)}, None)
    'vib is 3.2 above and temp 3 below what the others explain'
    >>> explanation(pump, {"vib": (7.1, 6.5)}, None, Rung.RULES)
    'vib is 0.6 above its limit'
    """
    known = _known(values)
    off = [(tag, known[tag][0] - known[tag][1]) for tag in anomaly.tags if tag in known]
    told = [(tag, apart) for tag, apart in off if math.isfinite(apart) and apart][:_TAGS_EXPLAINED]
    if not told:
        return ""
    one, several = _STANDARDS.get(rung, (_OTHERS, _OTHERS))
    if asset is not None and len(asset.signals) == 1 and rung not in _STANDARDS:
        one = "what is normal for it"
    ways = ["above" if apart > 0 else "below" for _, apart in told]
    amounts = [f"{plain(tag)} {{}}{with_unit(abs(apart), tag, asset)}" for tag, apart in told]
    first = amounts[0].format("is ")
    if len(told) == 1:
        return f"{first} {ways[0]} {one}"
    again = "" if ways[0] == ways[1] else f" {ways[0]}"
    return f"{first}{again} and {amounts[1].format('')} {ways[1]} {several}"


def _known(values: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """What can be told: both numbers known."""
    return {tag: pair for tag, pair in values.items() if all(map(math.isfinite, pair))}


def brief(anomaly: Anomaly) -> str:
    """The trouble in the fewest words, for one line.

    >>> brief(Anomaly("p", Kind.INSTRUMENT, "instrument:vib", 0, None, 0.0, ("vib",), "v1", "DISAGREES"))
    'sensor vib disagrees with all others'
    """
    if anomaly.cause == instrument(CLOCK):
        return "its device's clock is wrong"
    if anomaly.kind is Kind.DATA_LOSS:
        return "no data from any sensor"
    if anomaly.fault in _BRIEF:
        return f"{_sensor(anomaly.tags)} {_BRIEF[anomaly.fault]}"
    if anomaly.kind is Kind.PROCESS:
        return f"unlike normal, {number(anomaly.peak)} x its line" if math.isfinite(anomaly.peak) else "unlike normal"
    return trouble(anomaly)


def message(
    anomaly: Anomaly,
    values: Mapping[str, tuple[float, float]],
    coverage: float,
    asset: Asset | None,
    timezone: str,
    rung: Rung | None = None,
) -> str:
    """All that is known when an alert is raised, what is wrong in a plain sentence first.

    `values`: (actual, expected) per tag; `coverage` 0..1, NaN unknown; `rung`: what judged it.
    """
    name, since = asset_name(anomaly.asset, asset), f"since {moment(anomaly.onset, timezone)}"
    why = explanation(anomaly, values, asset, rung)
    if anomaly.kind is Kind.PROCESS:
        strength = _times(anomaly.peak) if why else ""
        parts = [f"{name}: {why or trouble(anomaly)}, {since}{strength}.", _readings(anomaly, values, asset)]
    else:
        parts = [f"{name}: {trouble(anomaly)}, {since}."]
    if anomaly.kind is Kind.DATA_LOSS or anomaly.cause == instrument(CLOCK):
        return parts[0]  # no model has judged it
    if anomaly.kind is Kind.INSTRUMENT and why and len(anomaly.tags) == 1:
        tag = anomaly.tags[0]
        parts.append(f"It reads {with_unit(values[tag][0], tag, asset)}:{why.removeprefix(f'{plain(tag)} is')}.")
    seen = f"Coverage {coverage:.0%}, " if math.isfinite(coverage) else ""
    parts.append(f"{seen}{'model' if seen else 'Model'} {plain(anomaly.version)}.")
    return " ".join(part for part in parts if part)


def _readings(anomaly: Anomaly, values: Mapping[str, tuple[float, float]], asset: Asset | None) -> str:
    """What the tags to blame read, and should; their names alone where that is not known."""
    known = _known(values)
    told = [
        f"{plain(tag)} {with_unit(known[tag][0], tag, asset)} (expected {with_unit(known[tag][1], tag, asset)})"
        if tag in known
        else plain(tag)
        for tag in anomaly.tags[:_TAGS_TOLD]
    ]
    return f"Most unusual: {', '.join(told)}." if told else ""


def event_text(event: AlertEvent, asset: Asset | None = None, timezone: str = "UTC") -> str:
    """One transition in a sentence or two, for notifiers."""
    alert = event.alert
    if event.event in ("raised", "updated") and not event.actor:
        return f"{VERBS[event.event]} ({alert.priority}): {alert.message}"
    verb = "Comment" if event.event == "updated" else VERBS.get(event.event, plain(event.event))
    who = f" by {plain(event.actor)}" if event.actor else ""
    until = (
        f", until {moment(alert.shelved_until, timezone)}" if event.event == "shelved" and alert.shelved_until else ""
    )
    why = f" ({plain(event.note)})" if event.note else ""
    subject = f"{asset_name(alert.anomaly.asset, asset)}: {trouble(alert.anomaly)}"
    return f"{verb}{who}{until}{why}. {subject}, since {moment(alert.anomaly.onset, timezone)}."


def headline(alert: Alert) -> str:
    """Asset and trouble in one short line.

    >>> from anomaly.domain import AlertState, Priority
    >>> anomaly = Anomaly("s1/pump-1", Kind.PROCESS, "process", 0, None, 2.41, ("vib",), "v1")
    >>> headline(Alert("a1", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, 0))
    's1/pump-1: unlike normal, 2.41 times its alert line (vib)'
    """
    tags = f" ({plain(', '.join(alert.anomaly.tags[:_TAGS_TOLD]))})" if alert.anomaly.kind is Kind.PROCESS else ""
    return f"{plain(alert.anomaly.asset)}: {trouble(alert.anomaly)}{tags if alert.anomaly.tags else ''}"
