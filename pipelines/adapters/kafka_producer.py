"""Appending: acknowledged by all replicas, in order, bounded in memory, with a producer that is remade when it is dead.

kafka-python's producer bounds no memory, so bytes in flight are counted here. After one refusal by the broker its
idempotent producer fails for ever; sizes are therefore checked before sending, and after any failure a new one is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from anomaly.errors import ConfigurationError, StorageError, Unreachable
from pipelines.adapters.kafka_client import make_producer
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door
from pipelines.adapters.partitioning import home
from pipelines.ports import NewRecord

IN_FLIGHT_BYTES: Final = 32 * 2**20
_OVERHEAD: Final = 160
"""Bytes around a record alone in its batch, at most (61 of the batch, lengths, offsets), without headers."""
_SURE_BYTES: Final = 256 * 2**10
"""A record below it is not looked up: no topic of ours takes less."""
_GRACE_S: Final = 5.0
_CLOSE_S: Final = 2.0


class Appender:
    """Thread-safe. `count` gives a topic's partitions, `limit` the largest batch it takes (our names)."""

    def __init__(
        self,
        config: KafkaConfig,
        count: Callable[[str], int],
        limit: Callable[[str], int],
        *,
        delivery_s: float,
        compression: str | None,
    ) -> None:
        self._config = config
        self._count = count
        self._limit = limit
        self._delivery_s = delivery_s
        self._compression = compression
        self._lock = threading.Lock()
        self._room = _Room(IN_FLIGHT_BYTES)
        self._producer: Any = None
        self._closed = False

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """See `Log.append`. After an error some of the records may be there, in order, up to any of them."""
        counts = {topic: self._count(topic) for topic in dict.fromkeys(record.topic for record in records)}
        homes = [home(record, counts[record.topic]) for record in records]
        sizes = [self._checked_size(record) for record in records]
        offsets: list[int] = []
        for first, stop in _slices(sizes, IN_FLIGHT_BYTES // 2):
            room = sum(sizes[first:stop])
            self._room.take(room, self._delivery_s)
            try:
                offsets += self._send(records[first:stop], homes[first:stop])
            finally:
                self._room.give(room)
        return tuple(offsets)

    def close(self) -> None:
        """What was acknowledged is stored; nothing else is waited for. Idempotent."""
        with self._lock:
            self._closed = True
            producer, self._producer = self._producer, None
        _close(producer)

    def _send(self, records: Sequence[NewRecord], homes: Sequence[int]) -> list[int]:
        """Send all, then wait for each: in order per partition, since one producer sends what one thread gives it."""
        producer = self._ready()
        with door("appending", self._config.where, lambda: self._forget(producer)):
            futures = [
                producer.send(
                    self._config.topic(record.topic),
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    partition=partition,
                )
                for record, partition in zip(records, homes, strict=True)
            ]
            until = time.monotonic() + self._delivery_s + _GRACE_S
            return [future.get(timeout=max(0.1, until - time.monotonic())).offset for future in futures]

    def _ready(self) -> Any:
        with self._lock:
            if self._closed:
                raise StorageError("this log is closed; open it anew")
            if self._producer is None:
                largest = 64 * 2**20  # what a topic takes is checked by us
                self._producer = make_producer(self._config, self._delivery_s, largest, self._compression)
            return self._producer

    def _forget(self, producer: Any) -> None:
        with self._lock:
            if self._producer is producer:
                self._producer = None
        _close(producer)

    def _checked_size(self, record: NewRecord) -> int:
        size = len(record.key or b"") + len(record.value or b"") + _OVERHEAD
        size += sum(len(name.encode()) + len(value) + 10 for name, value in record.headers)
        if record.key is None and record.value is None:
            raise ConfigurationError(f"a record for {record.topic!r} has neither key nor value; give at least one")
        if size > _SURE_BYTES and size > (most := self._limit(record.topic)):
            raise ConfigurationError(
                f"a record of {size} bytes is too large for topic {self._config.topic(record.topic)!r}, which takes "
                f"{most}; send smaller blocks, or raise max.message.bytes of the topic"
            )
        return size


class _Room:
    """Bytes that may be in flight, over all threads."""

    def __init__(self, size: int) -> None:
        self._free = self._size = size
        self._changed = threading.Condition()

    def take(self, count: int, patience_s: float) -> None:
        """Wait until there is room. More than all the room is given when nothing else is in flight."""
        with self._changed:
            fits = lambda: self._free >= min(count, self._size)  # noqa: E731
            if not self._changed.wait_for(fits, patience_s):
                raise Unreachable(
                    f"{self._size - self._free} bytes wait for Kafka's acknowledgement and no more are taken; look at "
                    "the broker: it is too slow, or down"
                )
            self._free -= count

    def give(self, count: int) -> None:
        """The bytes are acknowledged, or given up."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


def _slices(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Runs of records that together hold at most `most` bytes, or a single one."""
    cuts, held = [0], 0
    for place, size in enumerate(sizes):
        if held and held + size > most:
            cuts.append(place)
            held = 0
        held += size
    return list(zip(cuts, [*cuts[1:], len(sizes)], strict=True))


def _close(producer: Any) -> None:
    """Give up at once what is not acknowledged: nothing may still arrive after the error was told.

    `close` alone would go on sending in the background when its time runs out.
    """
    if producer is not None:
        with suppress(Exception):
            producer._sender.force_close()
        with suppress(Exception):
            producer.close(timeout=_CLOSE_S)
