"""What one session of a service shows of its consumer: records taken, lag, commits."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pipelines import metrics
from pipelines.ports import Consumer, Partition, Record

RATE_S: Final = 10.0
"""The rate is that of about so many seconds."""
TELL_S: Final = 1.0
"""Lag and commits are shown so often, at most: lag costs an embedded consumer a query."""


class ConsumerWatch:
    """Feeds the metrics of one service's consumer. `timer`: monotonic seconds."""

    def __init__(self, service: str, timer: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._timer = timer
        self._told = timer() - TELL_S
        self.lag = 0
        """Records not read yet of all partitions held, when they were last counted."""
        self._taken = 0
        self._history: deque[tuple[float, int]] = deque([(timer(), 0)])

    @property
    def rate(self) -> float:
        """Records taken a second, over the last `RATE_S` or since the session began."""
        (first, before), (last, after) = self._history[0], self._history[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def turn(self, records: Sequence[Record], consumer: Consumer, committed: Mapping[Partition, int]) -> None:
        """One poll brought `records`; `committed`: next offset by partition. Raises what `Consumer.lag` raises."""
        for topic, count in Counter(_topics(records)).items():
            metrics.messages_consumed(self._service, topic, count)
        self._taken += len(records)
        if self._timer() - self._told < TELL_S:
            return
        self._told = self._timer()
        self._history.append((self._told, self._taken))
        while self._told - self._history[0][0] > RATE_S:
            self._history.popleft()
        lag = consumer.lag()
        self.lag = sum(lag.values())
        metrics.consumer_lag(self._service, lag)
        metrics.committed(self._service, committed)

    def over(self) -> None:
        """The session ended: its partitions are somebody else's."""
        metrics.consumer_lag(self._service, {})
        metrics.committed(self._service, {})


def _topics(records: Iterable[Record]) -> Iterable[str]:
    return (record.partition.topic for record in records)
