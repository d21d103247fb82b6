"""How a session bears with a sink that fails (guarantee G7): try again with growing waits, and say what is wrong.

Also the size of a batch: it grows while a lag is worked off, so that what fell behind is drained faster than it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.ports import Record

BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits between tries; the last one is repeated."""
GROWTH: Final = 64
"""A batch grows to at most so many times its usual size."""
BATCH_BYTES: Final = 8 << 20
"""… and not beyond so many bytes of payload, as far as the last batch tells."""


def wait_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row before this one.

    >>> [wait_s(n) for n in (0, 1, 99)]
    [0.2, 0.5, 10.0]
    """
    return BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]


@dataclass(slots=True)
class Patience:
    """Trouble with one sink, and when to try again. `timer`: monotonic seconds."""

    timer: Callable[[], float] = time.monotonic
    reason: str = ""
    """What the sink said last; empty if it works."""
    failures: int = 0
    _again: float = 0.0

    def tried(self, error: Exception) -> float:
        """The sink failed; returns the seconds until it should be tried again."""
        wait = wait_s(self.failures)
        self.reason, self.failures, self._again = str(error), self.failures + 1, self.timer() + wait
        return wait

    def over(self) -> None:
        """The sink works."""
        self.reason, self.failures, self._again = "", 0, 0.0

    @property
    def due(self) -> bool:
        """Whether the sink may be tried now."""
        return self.left <= 0.0

    @property
    def left(self) -> float:
        """Seconds until it may."""
        return self._again - self.timer() if self.reason else 0.0


@dataclass(slots=True)
class BatchSize:
    """Records to ask for. Full batches double it, small or heavy ones take it back; never below `usual`.

    It grows only after as many records as the largest batch holds were taken in at the usual size: so a record that
    ended the process in a large batch is met in a usual one by the next start.
    """

    usual: int
    now: int = 0
    _taken: int = 0

    def __post_init__(self) -> None:
        self.now = self.now or self.usual

    def took(self, records: Sequence[Record]) -> None:
        """Learn from a batch that was asked for with `now`."""
        self._taken += len(records)
        weight = sum(len(record.value or b"") for record in records)
        proven = self._taken >= GROWTH * self.usual
        if len(records) >= self.now and proven and 2 * weight <= BATCH_BYTES:
            self.now = min(2 * self.now, GROWTH * self.usual)
        elif len(records) < self.now // 2 or weight > BATCH_BYTES:
            self.now = max(self.now // 2, self.usual)
