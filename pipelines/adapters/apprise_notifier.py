"""Tells people through Apprise: mail, Teams, Slack, MQTT and some hundred more, each named by one URL."""

from __future__ import annotations

from typing import Final

import apprise

from anomaly.domain import Priority
from anomaly.errors import ConfigurationError, Unreachable
from pipelines.ports import AlertEvent
from pipelines.wording import headline

_TYPES: Final = {
    Priority.LOW: apprise.NotifyType.INFO,
    Priority.MEDIUM: apprise.NotifyType.WARNING,
    Priority.HIGH: apprise.NotifyType.FAILURE,
}
_OVER: Final = frozenset({"cleared", "closed"})


class AppriseNotifier:
    """Notifier over one Apprise URL, such as `mailtos://user:pass@example.org` or `mqtt://broker/plant/alerts`.

    One URL a notifier: each is then confirmed, repeated and counted alone. Apprise bounds each attempt itself (`cto`
    and `rto` in the URL, seconds; 4 each unless given). Raises ConfigurationError for a URL that Apprise does not know.
    """

    def __init__(self, url: str, *, name: str = "apprise") -> None:
        self.name = name
        self._service = apprise.Apprise()
        if not self._service.add(url):
            scheme = f"{url.split('://', 1)[0]}://…" if "://" in url else "(without a scheme)"
            raise ConfigurationError(
                f"notification address {scheme} is not understood; expected an Apprise URL with all its parts, "
                "such as mailtos://user:password@example.org"
            )

    def notify(self, event: AlertEvent, text: str) -> None:
        """Send once. The event's id stands in the last line, so that repetitions can be told. Raises Unreachable."""
        kind = apprise.NotifyType.SUCCESS if event.event in _OVER else _TYPES[event.alert.priority]
        try:
            sent = self._service.notify(
                body=f"{text}\n\n[{event.id}]",
                title=f"{event.event}: {headline(event.alert)}",
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # its hundred plugins raise what they like
            raise Unreachable(f"notification through {self.name} failed: {type(error).__name__}") from error
        if not sent:
            raise Unreachable(f"notification through {self.name} was not accepted; its log says why")
