"""How a service stands: written by its loop, read by health checks and heartbeats from other threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pipelines.ports import Partition

STILL_S: Final = 60.0
"""A loop that has not turned for so long is stuck, seconds."""
GROWING_S: Final = 60.0
"""Lag is judged over so long, seconds."""
LAG_FLOOR: Final = 1_000
"""Fewer records than these are no lag worth a word."""


@dataclass(slots=True)
class Condition:
    """Plain values, replaced whole: a reader sees the old or the new one. `timer`: monotonic seconds."""

    timer: Callable[[], float] = time.monotonic
    held: tuple[Partition, ...] = ()
    """Partitions assigned."""
    lag: int = 0
    """Records not read yet of all partitions held."""
    rate: float = 0.0
    """Records taken a second."""
    waiting: str = "starting"
    """Why there is no session: still starting, or the log is in trouble. Empty if there is one."""
    degraded: str = ""
    """What a sink said that fails while the session is kept (guarantee G7)."""
    _turned: float = 0.0
    _history: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._turned = self.timer()

    def turned(self) -> None:
        """The loop has come round once more."""
        self._turned = self.timer()

    def still_for(self) -> float:
        """Seconds since the loop last came round."""
        return self.timer() - self._turned

    def ended(self, reason: str) -> None:
        """There is no session: the log is in trouble, or the group moved on."""
        self.turned()
        self.waiting, self.degraded, self.held = reason, "", ()

    def note_lag(self, lag: int) -> None:
        """Take down the lag; its history is kept by the second."""
        self.lag, now = lag, self.timer()
        if self._history and now - self._history[-1][0] < 1.0:
            return
        self._history.append((now, lag))
        while now - self._history[0][0] > GROWING_S + 1.0:
            self._history.popleft()

    def figures(self) -> dict[str, str | int | float]:
        """For the System page."""
        return {"state": self.status(), "lag": self.lag, "per second": round(self.rate, 1)}

    def growing(self) -> int:
        """Records by which the lag has grown over `GROWING_S`; 0 if it has not been seen so long, or shrank meanwhile.

        A lag that is shrinking now is being worked off, however large it is.
        """
        history = list(self._history)
        if len(history) < 2 or history[-1][0] - history[0][0] < GROWING_S - 1.0 or history[-1][1] < LAG_FLOOR:
            return 0
        middle = history[len(history) // 2][1]
        return max(0, history[-1][1] - history[0][1]) if history[-1][1] > middle else 0

    def status(self) -> str:
        """One line for people: `ok`, or what is wrong.

        >>> Condition(degraded="no answer", waiting="").status()
        'degraded: no answer'
        """
        if self.waiting:
            return f"waiting: {self.waiting}"
        return f"degraded: {self.degraded}" if self.degraded else "ok"
