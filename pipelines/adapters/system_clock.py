"""Clocks: the machine's own, and one that runs faster for demos and replays."""

from __future__ import annotations

import time
from collections.abc import Callable

from anomaly.errors import ConfigurationError


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        """Current time, ns since the epoch, UTC."""
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        """Wait; a negative number waits not at all."""
        time.sleep(max(0.0, seconds))


class ScaledClock:
    """A clock that shows `start_event_ns` when made and runs `speed` times faster than the wall. Thread-safe.

    It follows the monotonic timer, so a step of the wall clock does not move it; it never runs ahead of `limit`. Raises
    ConfigurationError unless `speed` is positive and finite.

    >>> ticks = iter([0, 500_000_000])
    >>> clock = ScaledClock(10.0, 1_000, timer=lambda: next(ticks))
    >>> clock.now() - 1_000
    5000000000
    """

    def __init__(
        self,
        speed: float,
        start_event_ns: int,
        timer: Callable[[], int] = time.monotonic_ns,
        limit: Callable[[], int] | None = None,
    ) -> None:
        if not 0.0 < speed < float("inf"):
            raise ConfigurationError(f"the speed of the clock is {speed}; it must be a positive number, 1 is real time")
        self.speed = speed
        self._start = start_event_ns
        self._timer = timer
        self._limit = limit
        self._origin = timer()

    def now(self) -> int:
        """Current time of this clock, ns since the epoch, UTC."""
        shown = self._start + int((self._timer() - self._origin) * self.speed)
        return shown if self._limit is None else min(shown, max(self._start, self._limit()))

    def at_limit(self) -> bool:
        """Whether it has caught up with its limit, and so runs as fast as that."""
        return self._limit is not None and self.now() >= self._limit()

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock: `seconds / speed` of the wall's."""
        time.sleep(max(0.0, seconds / self.speed))
