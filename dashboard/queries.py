"""What the historian holds, as the answers the pages show. No Streamlit here; the wall clock is an argument."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from anomaly.domain import SECOND, Alert, AlertState, Asset, Kind, Plant, Priority, State
from pipelines.heartbeats import STOPPED
from pipelines.ports import Heartbeat, HistorianReader, ScoreSummary

SILENT_WALL: Final = 15 * SECOND
"""A part of the system that has said nothing for so long (wall clock) is not well; younger data are never stale."""
SERVICES: Final = ("record", "score")
"""Parts whose life says that the plant is being watched."""
SILENT_TICKS: Final = 5
"""Data older than so many ticks of plant time are stale."""
TREND: Final = 3600 * SECOND
"""How far back a tile's trend looks, plant time."""
TREND_POINTS: Final = 60
_ACTIVE: Final = frozenset({AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.ACKNOWLEDGED_ACTIVE})


class Need(IntEnum):
    """How much a machine needs a person, most first. Only the first four carry colour."""

    HIGH = 0
    MEDIUM = 1
    LOW = 2
    OVER_LINE = 3
    """Over its line just now, no alert raised (yet)."""
    RETURNED = 4
    """Back to normal, but nobody has acknowledged the alert."""
    HANDLED = 5
    """Somebody acknowledged the alert; it lasts."""
    UNKNOWN = 6
    """Cannot be judged: no data, or too few sensors seen."""
    NORMAL = 7

    @property
    def acts(self) -> bool:
        """Whether a person is asked to act now."""
        return self <= Need.LOW


_BY_PRIORITY: Final = {Priority.HIGH: Need.HIGH, Priority.MEDIUM: Need.MEDIUM, Priority.LOW: Need.LOW}


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by the plant's clock (ns), and whether what is shown is fresh. `stale` says why not, empty when it is."""

    now: int
    newest: int | None
    """Time of the newest stored reading; None: nothing stored."""
    live: bool
    """Whether the plant's clock runs (its heartbeat is young)."""
    speed: float
    stale: str
    patience: int
    """Age (ns of plant time) above which data of a machine count as missing."""
    note: str = ""
    """What to know about where the readings come from, though nothing is wrong."""


def moment(reader: HistorianReader, plant: Plant, wall: int) -> Moment:
    """The plant's clock at wall time `wall` (ns), from the heartbeat `plant` and the newest reading.

    Where nothing speaks for the plant (its own gateways feed the log), its clock is the wall's while services run.
    """
    span, heartbeats = reader.span(), reader.heartbeats()
    heartbeat = heartbeats.get("plant")
    newest = span[1] if span else None
    speed = _figure(heartbeat, "speed", 1.0)
    patience = max(SILENT_TICKS * max((a.tick for a in plant.assets), default=10 * SECOND), int(SILENT_WALL * speed))
    if heartbeat is None or STOPPED in heartbeat.status:
        words = [heartbeats[part] for part in SERVICES if part in heartbeats]
        if any(wall - int(_figure(word, "wall", float(word.time))) <= SILENT_WALL for word in words):
            return _of_services(newest, wall, patience)
    if heartbeat is None:
        now = newest if newest is not None else wall
        return Moment(
            now, newest, False, speed, "" if newest is None else "no word from the plant's data source", patience
        )
    age = wall - int(_figure(heartbeat, "wall", float(heartbeat.time)))
    live = age <= SILENT_WALL
    files = heartbeat.status.get("files")
    if files is not None:
        return _of_files(str(files), newest, wall, live, speed, patience)
    now = heartbeat.time + int(max(0, age) * speed) if live else heartbeat.time
    stale = ""
    if not live:
        stale = "the plant's data source has stopped"
    elif newest is not None and now - newest > patience:
        stale = "the data source runs, but no new readings arrive"
    return Moment(now, newest, live, speed, stale, patience)


def _of_services(newest: int | None, wall: int, patience: int) -> Moment:
    """The services run, and what they read comes from the plant itself."""
    silent = newest is not None and wall - newest > patience
    return Moment(wall, newest, True, 1.0, "the services run, but no new readings arrive" if silent else "", patience)


def _of_files(files: str, newest: int | None, wall: int, live: bool, speed: float, patience: int) -> Moment:
    """Files of any age are read: the plant's time is that of their newest reading, and their end is no alarm."""
    stale = "" if live else "plantwatch, which read them from files, has stopped"
    note = "files are being read" if files == "being read" else "all files are read"
    return Moment(wall if newest is None else newest, newest, live, speed, stale, patience, note if live else "")


def _figure(heartbeat: Heartbeat | None, name: str, default: float) -> float:
    """A number of a heartbeat; `default` where it is absent, not a number or not finite."""
    try:
        value = float(heartbeat.status.get(name, default)) if heartbeat else default
    except (TypeError, ValueError):
        return default
    return value if math.isfinite(value) else default


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine on the overview. `summary` is None before its first score; `alerts` are open, most pressing first."""

    asset: Asset
    need: Need
    summary: ScoreSummary | None
    alerts: tuple[Alert, ...]
    silent: bool
    """No score for longer than the patience of the moment."""
    trend: tuple[float | None, ...]
    """Highest score per bucket of the last hour, oldest first; None where not known."""

    @property
    def score(self) -> float:
        """Newest score, NaN where there is none or it is too old to speak of now."""
        return math.nan if self.summary is None or self.silent else self.summary.score


def machines(reader: HistorianReader, plant: Plant, at: Moment) -> tuple[Machine, ...]:
    """All machines, those that need people first; equals stay in plant-file order, so that tiles do not jump."""
    latest = {summary.asset: summary for summary in reader.latest()}
    bucket = TREND // TREND_POINTS
    start = at.now // bucket * bucket - TREND + bucket
    heat = reader.heat(start, at.now + 1, bucket)
    alerts = group_alerts(reader.alerts(open_only=True))
    found = []
    for asset in plant.assets:
        summary, own = latest.get(asset.path), alerts.get(asset.path, ())
        silent = summary is not None and at.now - summary.time > at.patience
        row = heat.get(asset.path, {})
        trend = tuple(row.get(start + i * bucket) for i in range(TREND_POINTS))
        found.append(Machine(asset, _need(own, summary, silent), summary, own, silent, trend))
    return tuple(sorted(found, key=lambda machine: machine.need))


def _need(alerts: Sequence[Alert], summary: ScoreSummary | None, silent: bool) -> Need:
    new = [_BY_PRIORITY[alert.priority] for alert in alerts if alert.state is AlertState.UNACKNOWLEDGED_ACTIVE]
    if new:
        return min(new)
    states = {alert.state for alert in alerts}
    if summary is not None and not silent and summary.score > 1.0 and not alerts:
        return Need.OVER_LINE
    if AlertState.RETURNED_UNACKNOWLEDGED in states:
        return Need.RETURNED
    if AlertState.ACKNOWLEDGED_ACTIVE in states:
        return Need.HANDLED
    if silent or summary is None or summary.state == State.INSUFFICIENT_COVERAGE:
        return Need.UNKNOWN
    return Need.NORMAL


def pressing(alert: Alert) -> tuple[int, int, int]:
    """Sort key of alerts: new before returned before acknowledged before shelved, then priority, then newest."""
    order = tuple(AlertState)
    rank = {
        AlertState.UNACKNOWLEDGED_ACTIVE: 0,
        AlertState.RETURNED_UNACKNOWLEDGED: 1,
        AlertState.ACKNOWLEDGED_ACTIVE: 2,
    }.get(alert.state, 3 + order.index(alert.state))
    return rank, _BY_PRIORITY[alert.priority], -alert.raised_at


def group_alerts(alerts: Sequence[Alert]) -> Mapping[str, tuple[Alert, ...]]:
    """Alerts by asset, most pressing first."""
    grouped: dict[str, list[Alert]] = {}
    for alert in sorted(alerts, key=pressing):
        grouped.setdefault(alert.anomaly.asset, []).append(alert)
    return {asset: tuple(found) for asset, found in grouped.items()}


def active(alert: Alert) -> bool:
    """Whether its trouble lasts."""
    return alert.state in _ACTIVE or (alert.state is AlertState.SHELVED and alert.cleared_at is None)


@dataclass(frozen=True, slots=True)
class AlertFigures:
    """How the alerts themselves are doing (EEMUA 191), over `span` ns before now."""

    span: int
    raised: int
    unacknowledged: int
    active: int
    busiest: int
    """Most alerts raised within any 10 minutes."""
    median_answer: int | None
    """Median time from raising to acknowledging, ns."""
    oldest_active: int | None
    """Age of the oldest that still lasts, ns."""
    per_machine_week: float
    """Process alerts per machine and week, to compare with the plant's budget."""
    worst: tuple[tuple[str, int], ...]
    """Machines with most alerts, and how many."""


def alert_figures(alerts: Sequence[Alert], now: int, span: int, machine_count: int) -> AlertFigures:
    """Figures over alerts (all that were raised in the span, and all open ones)."""
    recent = [alert for alert in alerts if alert.raised_at >= now - span]
    times = sorted(alert.raised_at for alert in recent)
    answers = sorted(a.acknowledged_at - a.raised_at for a in recent if a.acknowledged_at is not None)
    lasting = [now - alert.raised_at for alert in alerts if active(alert)]
    by_machine: dict[str, int] = {}
    for alert in recent:
        by_machine[alert.anomaly.asset] = by_machine.get(alert.anomaly.asset, 0) + 1
    weeks = span / (7 * 86400 * SECOND)
    process = sum(alert.anomaly.kind is Kind.PROCESS for alert in recent)
    return AlertFigures(
        span=span,
        raised=len(recent),
        unacknowledged=sum(
            a.state in {AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.RETURNED_UNACKNOWLEDGED} for a in alerts
        ),
        active=len(lasting),
        busiest=_busiest(times, 600 * SECOND),
        median_answer=answers[len(answers) // 2] if answers else None,
        oldest_active=max(lasting, default=None),
        per_machine_week=process / weeks / machine_count if machine_count and weeks else 0.0,
        worst=tuple(sorted(by_machine.items(), key=lambda item: (-item[1], item[0]))[:3]),
    )


def _busiest(times: Sequence[int], window: int) -> int:
    """Most of the (sorted) times within any half-open window."""
    best = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= window:
            first += 1
        best = max(best, last - first + 1)
    return best
