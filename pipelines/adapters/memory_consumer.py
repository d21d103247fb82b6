"""A member of a consumer group of the log in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from anomaly.errors import Fenced, StorageError
from pipelines.adapters.groups import Group, difference
from pipelines.ports import Batch, Partition, Position, Record

if TYPE_CHECKING:
    from pipelines.adapters.memory_log import MemoryLog

METADATA_BYTES: Final = 4096


class MemoryConsumer:
    """See `Consumer`. Made by `MemoryLog.join`."""

    def __init__(self, log: MemoryLog, group: str, topics: tuple[str, ...]) -> None:
        self._log = log
        self._name = group
        self._topics = topics
        self._mine: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._turn = 0
        self._paused = False
        self._closed = False
        self._group = log.groups.setdefault(group, Group())
        self._number = self._group.join(topics, log.timer())

    def poll(self, limit: int, timeout_s: float) -> Batch:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout_s
        with self._log.open():
            while True:
                if self._closed:
                    raise StorageError(f"this member of group {self._name!r} was closed; join the group anew")
                batch = self._look(limit)
                left = deadline - time.monotonic()
                if batch.records or batch.assigned or batch.revoked or left <= 0:
                    return batch
                self._log.changed.wait(min(left, 0.05))
                self._log.open()

    def seek(self, partition: Partition, offset: int) -> None:
        """See `Consumer.seek`. Raises Fenced if the partition is not ours."""
        self._check(partition, self._mine)
        self._next[partition] = offset

    def pause(self) -> None:
        """See `Consumer.pause`."""
        self._paused = True

    def resume(self) -> None:
        """See `Consumer.resume`."""
        self._paused = False

    def lag(self) -> Mapping[Partition, int]:
        """See `Consumer.lag`."""
        with self._log.open():
            ends = {topic: self._log.ends(topic) for topic in self._topics}
            return {p: max(0, ends[p.topic][p][1] - max(self._next[p], ends[p.topic][p][0])) for p in self._mine}

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """See `Consumer.commit`."""
        with self._log.open():
            for partition, position in positions.items():
                self._check(partition, self._mine)
                if len(position.metadata.encode()) > METADATA_BYTES:
                    raise StorageError(f"the metadata of a commit is longer than {METADATA_BYTES} bytes")
            held = self._group.held(self._number)
            for partition in positions:
                self._check(partition, held)
            self._log.positions |= {(self._name, partition): position for partition, position in positions.items()}

    def close(self) -> None:
        """See `Consumer.close`."""
        with self._log.changed:
            if not self._closed:
                self._closed = True
                self._group.leave([self._number])
                self._log.changed.notify_all()

    def _look(self, limit: int) -> Batch:
        now = self._log.timer()
        self._group.leave(self._group.silent(now, self._log.session) - {self._number})
        topics = {topic for member in self._group.members.values() for topic in member.topics} | set(self._topics)
        self._group.sync(self._number, self._topics, now, {topic: len(self._log.stores(topic)) for topic in topics})
        held = self._group.held(self._number)
        lost, gained = difference(self._mine, held)
        self._mine = held
        if not lost and not gained:
            return Batch(assigned={}, records=self._records(limit))
        assigned = {partition: self._log.positions.get((self._name, partition)) for partition in gained}
        self._next |= {p: 0 if position is None else position.offset for p, position in assigned.items()}
        return Batch(tuple(lost), assigned)

    def _records(self, limit: int) -> tuple[Record, ...]:
        if self._paused:
            return ()
        partitions = list(self._mine)
        turn = self._turn = (self._turn + 1) % max(1, len(partitions))
        records: list[Record] = []
        for partition in partitions[turn:] + partitions[:turn]:
            more = self._log.read(partition, self._next[partition], limit - len(records))
            if more:
                self._next[partition] = more[-1].offset + 1
            records += more
        return tuple(records)

    def _check(self, partition: Partition, held: Mapping[Partition, int]) -> None:
        if partition not in self._mine or held.get(partition) != self._mine[partition]:
            raise Fenced(f"partition {partition} is no longer this member's in group {self._name!r}; nothing committed")
