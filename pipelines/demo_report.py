"""What came of a demo, against the truth: which faults were caught, after how long, and what was told without cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from anomaly.domain import SECOND, Alert, Kind, Rung
from anomaly.episode_policy import CLOCK, instrument
from pipelines.sources.simulator import Fault, FaultKind

GRACE: Final = 15 * 60 * SECOND
"""An alert so long after a repair still belongs to the fault: temperatures settle, ns."""
BLIND: Final = 75 * 60 * SECOND
"""A clock that was an hour ahead leaves its asset unseen for as long afterwards, ns."""
_KINDS: Final = {FaultKind.MACHINE: Kind.PROCESS, FaultKind.INSTRUMENT: Kind.INSTRUMENT}


def report(
    counts: Mapping[str, int], alerts: Sequence[Alert], faults: Sequence[Fault], stages: Mapping[str, float]
) -> dict[str, Any]:
    """The closing object of `plantwatch demo --json`. Times ISO-8601; `delay_s` in event time, `stages` in wall."""
    caught = {fault: _first(alerts, fault) for fault in faults}
    unexplained = [alert for alert in alerts if not any(_during(alert, fault) for fault in faults)]
    told_wrong = [
        alert
        for alert in alerts
        if alert not in unexplained and not any(_during(alert, f) and _is_of(alert, f) for f in faults)
    ]
    return {
        "readings": counts.get("acknowledged", 0),
        "samples": counts.get("samples", 0),
        "windows": {
            rung.value: counts.get(f"w:{rung.value}", 0)
            for rung in (Rung.RULES, Rung.WINDOW_PCA, Rung.LSTM_AUTOENCODER)
        },
        "alerts": [_alert(alert) for alert in sorted(alerts, key=lambda alert: alert.raised_at)],
        "faults": [_fault(fault, alert) for fault, alert in caught.items()],
        "false_alerts": len(unexplained),
        "wrong_kind": len(told_wrong),
        "dead_letters": counts.get("dead_lettered", 0),
        "conservation": conservation(counts),
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
    }


def conservation(counts: Mapping[str, int]) -> dict[str, int]:
    """Where every acknowledged reading ended (guarantee G1): the buckets add up to `acknowledged`."""
    names = ("scored", "warming_up", "dead_lettered", "late", "duplicate", "gap_discarded", "unknown_tag", "pending")
    return {"acknowledged": counts.get("acknowledged", 0)} | {name: counts.get(name, 0) for name in names}


def summary(found: Mapping[str, Any]) -> str:
    """Two lines for people."""
    by_kind = Counter(fault["kind"] for fault in found["faults"])
    hit = Counter(fault["kind"] for fault in found["faults"] if fault["caught"])
    caught = ", ".join(f"{hit[kind]} of {by_kind[kind]} {kind} faults" for kind in ("machine", "instrument"))
    return (
        f"caught {caught}; {found['false_alerts']} alerts without cause, {found['wrong_kind']} of the wrong kind\n"
        f"{found['readings']:,} readings, {found['samples']:,} samples, {found['dead_letters']} dead letters"
    )


def _first(alerts: Sequence[Alert], fault: Fault) -> Alert | None:
    """The first alert that tells of this very fault, in the right words."""
    told = [alert for alert in alerts if _during(alert, fault) and _is_of(alert, fault)]
    return min(told, key=lambda alert: alert.raised_at, default=None)


def _during(alert: Alert, fault: Fault) -> bool:
    after = BLIND if fault.name == "clock_wrong" else GRACE
    return alert.anomaly.asset == fault.asset and fault.onset <= alert.raised_at <= fault.until + after


def _is_of(alert: Alert, fault: Fault) -> bool:
    if alert.anomaly.kind is not _KINDS[fault.kind]:
        return False
    if fault.kind is FaultKind.MACHINE:
        return True
    return alert.anomaly.cause == instrument(CLOCK if fault.name == "clock_wrong" else str(fault.tag))


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "asset": alert.anomaly.asset,
        "kind": alert.anomaly.kind.value,
        "onset": _iso(alert.anomaly.onset),
        "raised_at": _iso(alert.raised_at),
        "cleared_at": None if alert.cleared_at is None else _iso(alert.cleared_at),
        "priority": alert.priority.value,
        "tags": list(alert.anomaly.tags),
        "fault": alert.anomaly.fault,
    }


def _fault(fault: Fault, alert: Alert | None) -> dict[str, Any]:
    return {
        "asset": fault.asset,
        "name": fault.name,
        "kind": fault.kind.value,
        "tag": fault.tag,
        "onset": _iso(fault.onset),
        "caught": alert is not None,
        "delay_s": None if alert is None else round((alert.raised_at - fault.onset) / SECOND),
    }


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time // SECOND, UTC).isoformat().replace("+00:00", "Z")
