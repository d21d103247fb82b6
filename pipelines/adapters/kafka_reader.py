"""Reading outside groups: pages of records and the ends of partitions, by a few consumers that are kept and lent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from kafka import TopicPartition

from anomaly.errors import StorageError, Unreachable
from pipelines.adapters.kafka_client import make_reader
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door
from pipelines.ports import Partition, Record

_KEPT: Final = 2
_ANSWER_MS: Final = 10_000
_WAIT_MS: Final = 500
_PATIENCE: Final = 40
"""So many waits without a record where records are known to be, before the consumer is given up."""
_BYTES: Final = 32 * 2**20
_MS: Final = 1_000_000


class Reader:
    """Thread-safe. After any error of a consumer it is closed and never asked again."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._idle: list[_Lent] = []
        self._closed = False

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """See `Log.read`. Brings fewer than `limit` when they are large (32 MiB)."""
        if limit <= 0:
            return ()
        there = TopicPartition(self._config.topic(partition.topic), partition.number)
        with self._lent(there) as lent:
            return tuple(lent.page(partition, there, offset, limit))

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """First offset still there and the next one, per partition."""
        there = {p: TopicPartition(self._config.topic(p.topic), p.number) for p in partitions}
        with self._lent() as lent:
            first = lent.client.beginning_offsets(list(there.values()), timeout_ms=_ANSWER_MS)
            last = lent.client.end_offsets(list(there.values()), timeout_ms=_ANSWER_MS)
            return {p: (first[tp], last[tp]) for p, tp in there.items()}

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for lent in idle:
            lent.close()

    @contextmanager
    def _lent(self, there: TopicPartition | None = None) -> Iterator[_Lent]:
        lent = self._take(there)
        with door("reading", self._config.where, lent.close):
            yield lent
        with self._lock:
            keep = len(self._idle) < _KEPT and not self._closed
            if keep:
                self._idle.append(lent)
        if not keep:
            lent.close()

    def _take(self, there: TopicPartition | None) -> _Lent:
        with self._lock:
            if self._closed:
                raise StorageError("this log is closed; open it anew")
            for place, lent in enumerate(self._idle):
                if lent.at is not None and lent.at[0] == there:
                    return self._idle.pop(place)
            if self._idle:
                return self._idle.pop()
        return _Lent(make_reader(self._config))


class _Lent:
    """A consumer outside groups, and where it stands."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.at: tuple[TopicPartition, int] | None = None

    def page(self, partition: Partition, there: TopicPartition, offset: int, limit: int) -> Iterator[Record]:
        """Records from `offset` to what is the end now. Holes that compaction left are passed over."""
        end = self.client.end_offsets([there], timeout_ms=_ANSWER_MS)[there]
        if offset >= end:
            return
        if self.at != (there, offset):
            self.at = None
            self.client.assign([there])
            self.client.seek(there, max(offset, 0))  # below the start: the consumer is set to begin at the earliest
        room, left, waited = _BYTES, limit, 0
        while left and room > 0 and self._position(there, offset) < end:
            records = self.client.poll(timeout_ms=_WAIT_MS, max_records=left).get(there, [])
            waited = 0 if records else waited + 1
            if waited > _PATIENCE:
                raise Unreachable(
                    f"topic {there.topic!r} has records up to {end} in partition {there.partition}, but none came from "
                    f"offset {self._position(there, offset)} on within {_PATIENCE * _WAIT_MS / 1000:g} s; "
                    "look at the broker"
                )
            for record in records:
                left -= 1
                room -= len(record.value or b"")
                yield record_of(partition, record)
        self.at = (there, self._position(there, offset))

    def _position(self, there: TopicPartition, offset: int) -> int:
        position = self.client.position(there, timeout_ms=_ANSWER_MS)
        return max(offset, 0) if position is None else int(position)

    def close(self) -> None:
        """Give up on it."""
        with suppress(Exception):
            self.client.close(autocommit=False, timeout_ms=1000)


def record_of(partition: Partition, record: Any) -> Record:
    """Our record of the library's: times in ns, raw bytes."""
    headers = tuple([(name, value or b"") for name, value in record.headers]) if record.headers else ()
    return Record(partition, record.offset, record.key, record.value, headers, record.timestamp * _MS)
