"""The simulated plant as a producer: what stands in for real sensors until there are some.

Its life begins so far in the past that the history and some hours with faults are there within minutes: event time runs
`speed` times as fast as the wall until it has caught up with it, and keeps step from then on. It never runs ahead: a
log with a clock of its own (Kafka) would take such readings for ones from the future.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anomaly.domain import SECOND
from pipelines.demo import DemoPlant
from pipelines.ports import Clock

BEHIND_S: Final = 12 * 3600
"""Event time between the end of the history and the first start, s: what is lived through quickly."""


class CappedClock:
    """`fast` as long as it is behind `wall`, then `wall`.

    >>> from pipelines.adapters.memory import MemoryClock
    >>> CappedClock(MemoryClock(5), MemoryClock(9)).now(), CappedClock(MemoryClock(12), MemoryClock(9)).now()
    (5, 9)
    """

    def __init__(self, fast: Clock, wall: Clock) -> None:
        self._fast = fast
        self._wall = wall

    def now(self) -> int:
        """The earlier of the two, ns."""
        return min(self._fast.now(), self._wall.now())

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds of the wall's."""
        self._wall.sleep(seconds)


def live_plant(folder: Path, seed: int | None, speed: float, wall: Clock, behind_s: float = BEHIND_S) -> DemoPlant:
    """The plant that lives in `folder`; its time never passes that of `wall`. Raises ConfigurationError."""
    plant = DemoPlant(folder, seed, speed, wall.now() - round(behind_s) * SECOND)
    plant.clock = CappedClock(plant.clock, wall)
    return plant
