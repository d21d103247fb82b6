"""The log in memory: the slow, obvious twin that says what every other log must do."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from anomaly.errors import ConfigurationError, StorageError
from pipelines.adapters.groups import Group
from pipelines.adapters.memory_consumer import MemoryConsumer
from pipelines.adapters.partitioning import home
from pipelines.adapters.upkeep import TOMBSTONE_AGE, Retention
from pipelines.ports import Clock, NewRecord, Partition, Position, Record


@dataclass(slots=True)
class _Store:
    """Records of one partition in offset order; `start` and `next` as in `Log.ends`."""

    compacted: bool
    start: int = 0
    next: int = 0
    records: list[Record] = field(default_factory=list)


class MemoryLog:
    """A `Log` that forgets everything when it is gone. Arguments as of `SqliteLog`; only silence ends a member."""

    def __init__(
        self,
        clock: Clock,
        *,
        session_s: float = 60.0,
        retention: Mapping[str, Retention] | None = None,
        timer: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.session = int(session_s * 1e9)
        self.timer = timer
        self.changed = threading.Condition(threading.RLock())
        self.groups: dict[str, Group] = {}
        self.positions: dict[tuple[str, Partition], Position] = {}
        self._clock = clock
        self._retention = dict(retention or {})
        self._topics: dict[str, list[_Store]] = {}
        self._closed = False

    def create(self, topics: Mapping[str, int], compacted: frozenset[str] = frozenset()) -> None:
        """See `Log.create`."""
        with self.open():
            for topic, count in topics.items():
                stores = self._topics.get(topic)
                if count < 1:
                    raise ConfigurationError(f"topic {topic!r} was asked for with {count} partitions; at least 1")
                if stores and (len(stores), stores[0].compacted) != (count, topic in compacted):
                    raise ConfigurationError(f"topic {topic!r} exists with {len(stores)} partitions, not {count}")
            for topic, count in topics.items():
                self._topics.setdefault(topic, [_Store(topic in compacted) for _ in range(count)])

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """See `Log.append`."""
        with self.open():
            homes = [self._home(record) for record in records]
            offsets = []
            now = self._clock.now()
            for record, partition in zip(records, homes, strict=True):
                store = self._store(partition)
                offsets.append(store.next)
                headers = tuple(record.headers)
                store.records.append(Record(partition, store.next, record.key, record.value, headers, now))
                store.next += 1
            self.changed.notify_all()
        return tuple(offsets)

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """See `Log.read`."""
        with self.open():
            records = self._store(partition).records
            first = bisect_left(records, offset, key=lambda record: record.offset)
            return tuple(records[first : first + max(limit, 0)])

    def ends(self, topic: str) -> Mapping[Partition, tuple[int, int]]:
        """See `Log.ends`."""
        with self.open():
            return {Partition(topic, i): (store.start, store.next) for i, store in enumerate(self.stores(topic))}

    def committed(self, group: str, topic: str) -> Mapping[Partition, Position]:
        """See `Log.committed`."""
        with self.open():
            mine = ((p, position) for (name, p), position in self.positions.items() if name == group)
            return {p: position for p, position in sorted(mine) if p.topic == topic}

    def join(self, group: str, topics: Sequence[str]) -> MemoryConsumer:
        """See `Log.join`. Raises ConfigurationError for an unknown topic."""
        with self.open():
            for topic in topics:
                self.stores(topic)
            return MemoryConsumer(self, group, tuple(topics))

    def close(self) -> None:
        """See `Log.close`."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def compact(self, topic: str) -> int:
        """Forget what newer records of the same key have replaced, and old tombstones; returns how many records."""
        with self.open():
            cut = self._clock.now() - TOMBSTONE_AGE
            removed = 0
            for store in self.stores(topic):
                if store.compacted:
                    newest = {record.key: record for record in store.records}.values()
                    kept = [record for record in newest if record.value is not None or record.time >= cut]
                    removed += len(store.records) - len(kept)
                    store.records = sorted(kept, key=lambda record: record.offset)
            return removed

    def trim(self) -> int:
        """Apply the retention now; returns how many records went."""
        with self.open():
            now = self._clock.now()
            stores = [(store, rule) for topic, rule in self._retention.items() for store in self._topics.get(topic, ())]
            return sum(_trim(store, rule, now) for store, rule in stores)

    def open(self) -> threading.Condition:
        """The lock. Raises StorageError once closed."""
        if self._closed:
            raise StorageError("the log in memory is closed; make a new one")
        return self.changed

    def stores(self, topic: str) -> list[_Store]:
        """Partitions of a topic. Raises ConfigurationError for an unknown one."""
        if topic not in self._topics:
            raise ConfigurationError(f"the log has no topic {topic!r}; create it first, or correct its name")
        return self._topics[topic]

    def _store(self, partition: Partition) -> _Store:
        stores = self.stores(partition.topic)
        if not 0 <= partition.number < len(stores):
            raise ConfigurationError(f"topic {partition.topic!r} has no partition {partition.number}")
        return stores[partition.number]

    def _home(self, record: NewRecord) -> Partition:
        stores = self.stores(record.topic)
        if stores[0].compacted and record.key is None:
            raise ConfigurationError(f"topic {record.topic!r} keeps the newest record of each key: give a key")
        return Partition(record.topic, home(record, len(stores)))


def _trim(store: _Store, rule: Retention, now: int) -> int:
    """Forget the oldest records while they are too old or the partition too large."""
    removed = 0
    size = sum(len(record.key or b"") + len(record.value or b"") for record in store.records)
    for record in store.records:
        old = rule.age is not None and record.time < now - rule.age
        if not old and (rule.size is None or size <= rule.size):
            break
        size -= len(record.key or b"") + len(record.value or b"")
        store.start = record.offset + 1
        removed += 1
    del store.records[:removed]
    return removed
