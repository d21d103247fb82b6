"""What the alert service shows of its alerts, and when a receiver that forgets is told again of what lasts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final

from anomaly.domain import Alert, AlertState
from pipelines import metrics
from pipelines.alert_state import AssetAlerts
from pipelines.alerting import open_alerts

FLOOD_ALERTS: Final = 10
"""More alerts than this within `FLOOD_S` are a flood: nobody can take them in (EEMUA 191, per operator)."""
FLOOD_S: Final = 600.0
LASTING: Final = frozenset({AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.ACKNOWLEDGED_ACTIVE})
"""States of alerts whose cause lasts and that are not shelved."""


class AlertWatch:
    """Feeds the metrics of one alert service. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._raised: deque[float] = deque(maxlen=FLOOD_ALERTS + 1)

    def raised(self, alert: Alert, now: float) -> None:
        """An alert was raised."""
        metrics.alert_raised(alert.priority)
        self._raised.append(now)

    def flood(self, now: float) -> bool:
        """Whether more than `FLOOD_ALERTS` were raised within the last `FLOOD_S`.

        >>> from unittest.mock import MagicMock
        >>> watch = AlertWatch()
        >>> for second in range(11): watch.raised(MagicMock(priority="low"), float(second))
        >>> watch.flood(11.0), watch.flood(601.0)
        (True, False)
        """
        return len(self._raised) > FLOOD_ALERTS and now - self._raised[0] <= FLOOD_S

    def tell(self, states: Iterable[AssetAlerts], now: float) -> None:
        """Show what lasts, and whether it is a flood."""
        metrics.alerts_active(Counter(str(alert.priority) for alert in lasting(states)))
        metrics.alert_flood(self.flood(now))


def lasting(states: Iterable[AssetAlerts]) -> Sequence[Alert]:
    """Alerts whose cause lasts and that people are to know of, newest first."""
    return [alert for alert in open_alerts(states) if alert.state in LASTING]
