"""In-memory twins of every port: for tests, and for what need not outlive the process."""

from __future__ import annotations

import threading

from anomaly.errors import Unreachable
from pipelines.adapters.memory_historian import MemoryHistorian
from pipelines.adapters.memory_log import MemoryLog
from pipelines.ports import AlertEvent

__all__ = ["MemoryClock", "MemoryHistorian", "MemoryLog", "MemoryNotifier"]


class MemoryClock:
    """A clock that stands still until it is moved or slept on. Thread-safe.

    >>> clock = MemoryClock(0)
    >>> clock.sleep(1.5)
    >>> clock.now()
    1500000000
    """

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now = now

    def now(self) -> int:
        """The time it was moved to, ns."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by so many seconds, at once."""
        with self._lock:
            self._now += int(max(0.0, seconds) * 1e9)


class MemoryNotifier:
    """Keeps what it is told in `sent`. While `down` is True it answers like a receiver that does not."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.down = False
        self.sent: list[tuple[AlertEvent, str]] = []

    def notify(self, event: AlertEvent, text: str) -> None:
        """See `Notifier.notify`."""
        if self.down:
            raise Unreachable(f"the receiver {self.name!r} is down; it was expected to take {event.id}; bring it up")
        self.sent.append((event, text))
