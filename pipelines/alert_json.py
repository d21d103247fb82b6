"""An alert as plain JSON values: what webhooks send and `--json` prints. One shape for all who read by program."""

from __future__ import annotations

import math
from typing import Any

from anomaly.domain import Alert
from pipelines.times import iso


def alert_json(alert: Alert) -> dict[str, Any]:
    """Times are ISO-8601 UTC, `None` where there is none; numbers are finite or `None`."""
    anomaly = alert.anomaly
    return {
        "id": alert.id,
        "asset": anomaly.asset,
        "kind": str(anomaly.kind),
        "cause": anomaly.cause,
        "fault": anomaly.fault,
        "state": str(alert.state),
        "priority": str(alert.priority),
        "onset": iso(anomaly.onset),
        "end": _maybe(anomaly.end),
        "raised_at": iso(alert.raised_at),
        "cleared_at": _maybe(alert.cleared_at),
        "acknowledged_by": alert.acknowledged_by,
        "acknowledged_at": _maybe(alert.acknowledged_at),
        "shelved_until": _maybe(alert.shelved_until),
        "peak": _finite(anomaly.peak),
        "tags": list(anomaly.tags),
        "version": anomaly.version,
        "reason": alert.reason,
        "message": alert.message,
        "expected": {tag: {"actual": _finite(a), "expected": _finite(e)} for tag, (a, e) in alert.expected.items()},
    }


def _maybe(time: int | None) -> str | None:
    return None if time is None else iso(time)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
