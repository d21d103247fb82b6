"""Tells Prometheus Alertmanager of plant alerts, over its API v2: it groups, inhibits, silences and routes them.

Alertmanager holds an alert as active only as long as it is told so. Each alert is therefore sent at once, with an end
four re-sendings away, and again every minute while it lasts (`remind`); when it clears, closes or is shelved, it is
sent with its end. If plantwatch dies, Alertmanager resolves the alert by itself, and the rule on a service that is down
says why.

Labels are what Alertmanager knows an alert by, so they are few and do not change while it lives, but for `severity`,
which may rise: then the alert of the lower severity is ended in the same message.

    alertname   PlantwatchMachine | PlantwatchSensor | PlantwatchDataLoss
    asset       path of the machine            place   the path above it: what to group by
    cause       process | instrument:TAG | …   severity   info | warning | critical
    source      plantwatch

Annotations: `summary`, `description`, `alert_id`, `onset` (ISO-8601 UTC), `peak` (of a machine, alert lines), `tags`,
`version`, `state`, `acknowledged_by`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from anomaly.domain import SECOND, Alert, AlertState, Kind, Priority
from pipelines.adapters.posting import checked_url, post
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import AlertEvent, Clock
from pipelines.times import iso
from pipelines.wording import headline, plain

REMIND_S: Final = 60.0
"""What lasts is sent again so often, seconds."""
PATIENCE: Final = 4
"""After so many re-sendings missed, Alertmanager resolves the alert by itself."""
SEVERITIES: Final[Mapping[Priority, str]] = {
    Priority.LOW: "info",
    Priority.MEDIUM: "warning",
    Priority.HIGH: "critical",
}
_NAMES: Final[Mapping[Kind, str]] = {
    Kind.PROCESS: "PlantwatchMachine",
    Kind.INSTRUMENT: "PlantwatchSensor",
    Kind.DATA_LOSS: "PlantwatchDataLoss",
}
_ACTIVE: Final = frozenset({AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.ACKNOWLEDGED_ACTIVE})
_ALERTS: Final = "/api/v2/alerts"
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class AlertmanagerNotifier:
    """Notifier over one Alertmanager; `url` is its address, with its path prefix if it has one.

    `clock` is the wall's, since Alertmanager lives by it: an alert whose event time lies ahead starts now. `timeout_s`
    bounds each attempt. Not thread-safe. Raises ConfigurationError for an address that is none.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, clock: Clock | None = None, name: str = "alertmanager"
    ) -> None:
        self.name = name
        self.remind_s = REMIND_S
        base = checked_url("Alertmanager", url)
        self._url = base.copy_with(path=base.path.rstrip("/") + _ALERTS)
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._told: dict[str, Priority] = {}

    def notify(self, event: AlertEvent, text: str) -> None:
        """Send the alert as it is after the transition. Repeating it changes nothing. Raises Unreachable."""
        alert = event.alert
        lasts = alert.state in _ACTIVE
        self._send([*self._outdated(alert), self._entry(alert, alert.priority, lasts=lasts, text=text)])
        if lasts:
            self._told[alert.id] = alert.priority
        else:
            self._told.pop(alert.id, None)

    def remind(self, alerts: Sequence[Alert]) -> None:
        """Send all that lasts again, in one message; nothing if nothing lasts. Raises Unreachable."""
        lasting = [alert for alert in alerts if alert.state in _ACTIVE]
        if lasting:
            entries = [self._entry(alert, alert.priority, lasts=True) for alert in lasting]
            self._send([old for alert in lasting for old in self._outdated(alert)] + entries)
        self._told = {alert.id: alert.priority for alert in lasting}

    def _outdated(self, alert: Alert) -> list[dict[str, Any]]:
        """The end of the alert under a severity it was told with and no longer has."""
        before = self._told.get(alert.id, alert.priority)
        return [] if before is alert.priority else [self._entry(alert, before, lasts=False)]

    def _entry(self, alert: Alert, priority: Priority, *, lasts: bool, text: str = "") -> dict[str, Any]:
        now = self._clock.now()
        end = now + round(PATIENCE * self.remind_s) * SECOND if lasts else now
        return {
            "labels": labels(alert, priority),
            "annotations": told(alert, text),
            "startsAt": iso(min(alert.raised_at, now)),
            "endsAt": iso(end),
        }

    def _send(self, entries: Sequence[Mapping[str, Any]]) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "plantwatch"}
        post("Alertmanager", self._url, _JSON.encode(entries), headers, self._timeout_s)


def labels(alert: Alert, priority: Priority) -> dict[str, str]:
    """What Alertmanager knows the alert by; none is empty.

    >>> from anomaly.domain import Anomaly
    >>> anomaly = Anomaly("s1/l2/pump-1", Kind.PROCESS, "process", 0, None, 2.4, ("vib",), "v1")
    >>> alert = Alert("id", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, 5)
    >>> [labels(alert, Priority.HIGH)[name] for name in ("alertname", "place", "severity")]
    ['PlantwatchMachine', 's1/l2', 'critical']
    """
    anomaly = alert.anomaly
    named = {
        "alertname": _NAMES[anomaly.kind],
        "asset": anomaly.asset,
        "place": anomaly.asset.rpartition("/")[0],
        "cause": anomaly.cause,
        "severity": SEVERITIES[priority],
        "source": "plantwatch",
    }
    return {name: _sound(value) for name, value in named.items() if value}


def told(alert: Alert, text: str = "") -> dict[str, str]:
    """What people read; free to change while the alert lasts."""
    anomaly = alert.anomaly
    words = {
        "summary": headline(alert),
        "description": alert.message or text,
        "alert_id": alert.id,
        "onset": iso(anomaly.onset),
        "peak": f"{anomaly.peak:.3g}" if anomaly.kind is Kind.PROCESS else "",
        "tags": ", ".join(anomaly.tags),
        "version": anomaly.version,
        "state": str(alert.state),
        "acknowledged_by": alert.acknowledged_by or "",
    }
    return {name: _sound(value) for name, value in words.items() if value}


def _sound(text: str) -> str:
    """The text as Alertmanager takes it: one line of valid UTF-8."""
    return plain(text).encode("utf-8", "replace").decode("utf-8")
