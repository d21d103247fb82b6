"""What one session of a service shows of its consumer: records taken, lag, commits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pipelines import metrics
from pipelines.ports import Consumer, Partition, Record

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

    def turn(self, records: Sequence[Record], consumer: Consumer, committed: Mapping[Partition, int]) -> None:
        """One poll brought `records`; `committed`: next offset by partition. Raises what `Consumer.lag` raises."""
        for topic, count in Counter(_topics(records)).items():
            metrics.messages_consumed(self._service, topic, count)
        if self._timer() - self._told < TELL_S:
            return
        self._told = self._timer()
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
