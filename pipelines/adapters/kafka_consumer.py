"""A member of a consumer group on Kafka: the loop of a consumer that survives kafka-python.

Records are taken from the client as soon as they are there, all of them, into one queue a partition; `poll` serves the
queues by turns, so that a backlog on one partition starves no other, and the client never holds a half-drained fetch
(which stalls for ever when it is paused). Positions are ours: the client only ever reads on from where it was sought.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka import errors as kafka
from kafka.structs import OffsetAndMetadata

from anomaly.errors import ConfigurationError, Fenced, StorageError
from pipelines.adapters.groups import difference
from pipelines.adapters.kafka_assignor import TogetherAssignor
from pipelines.adapters.kafka_client import make_member
from pipelines.adapters.kafka_errors import door
from pipelines.adapters.kafka_joining import joining, keep_joining
from pipelines.adapters.kafka_listener import Assignment
from pipelines.adapters.kafka_reader import record_of
from pipelines.adapters.kafka_watch import Watch
from pipelines.adapters.memory_consumer import METADATA_BYTES
from pipelines.ports import Batch, Partition, Position, Record

if TYPE_CHECKING:
    from pipelines.adapters.kafka_log import KafkaLog

_SLICE_MS: Final = 50
"""One wait of the client: what a rebalance brought is seen so soon."""
_ALL: Final = 1_000_000
_KEEP_S: Final = 0.5
"""While queues are full the client is only asked so often, for the sake of the group."""
_COMMIT_MS: Final = 10_000
_SETTLE_S: Final = 20.0
_CLOSE_MS: Final = 3_000


class KafkaConsumer:
    """See `Consumer`. Made by `KafkaLog.join`; `counts`: partitions of each topic (our names).

    A static member (`config.member`) that closes keeps its place for the session time, as Kafka means it: its next
    life under the same name finds its partitions waiting.
    """

    def __init__(self, log: KafkaLog, group: str, counts: Mapping[str, int]) -> None:
        self._log = log
        self._group = group
        self._counts = counts
        self._where = log.config.where
        self._names = {log.config.topic(topic): topic for topic in counts}
        self._queues: dict[Partition, deque[Record]] = {}
        self._mine: dict[Partition, int] = {}
        self._unsought: dict[Partition, int] = {}
        """Partitions handed out whose owner did not seek yet, each with where it then begins."""
        self._starts: dict[Partition, int] = {}
        self._turn = 0
        self._paused = False
        self._broken = ""
        self._asked = 0.0
        self._assignor = TogetherAssignor()
        self._client = make_member(log.config, log.config.group(group), self._assignor, log.session_s, log.silence_s)
        self._watch = Watch(self._client, log.stall_s, self._where)
        self._assignment = Assignment(self._client, self._assignor, self._ours)
        with door("joining", self._where, self._give_up):
            self._client.subscribe(topics=sorted(self._names), listener=self._assignment)
            self._watch.meet(
                [TopicPartition(name, n) for name, topic in self._names.items() for n in range(counts[topic])]
            )

    # ------------------------------------------------------------------- poll

    def poll(self, limit: int, timeout_s: float) -> Batch:
        """See `Consumer.poll`. Raises Unreachable too, and ConfigurationError (a right, a number of partitions)."""
        if self._broken:
            raise StorageError(f"this member of group {self._group!r} {self._broken}; join the group anew")
        deadline = time.monotonic() + timeout_s
        with door(f"reading as {self._group!r}", self._where, self._break):
            self._begin_unsought()
            while True:
                self._fetch(limit, max(0.0, deadline - time.monotonic()))
                if (changed := self._changes()) is not None:
                    return changed
                # While joining nothing can be committed, so nothing is given out.
                records = () if self._paused or joining(self._client) else self._take(limit)
                if records or time.monotonic() >= deadline:
                    return Batch(assigned={}, records=records)

    def _fetch(self, limit: int, left_s: float) -> None:
        """One turn of the client: membership always, records if there is room and no pause."""
        full = not self._paused and sum(map(len, self._queues.values())) >= limit
        if full and time.monotonic() - self._asked < _KEEP_S:
            return
        self._halt(self._paused or full)
        keep_joining(self._client, self._assignor)
        wait = 0 if full else min(_SLICE_MS, int(left_s * 1000))
        brought = self._client.poll(timeout_ms=wait, max_records=_ALL)
        self._asked = time.monotonic()
        for tp, records in brought.items():
            partition = self._ours(tp)
            if partition in self._queues and self._assignment.epochs.get(partition) == self._mine.get(partition):
                self._queues[partition].extend(record_of(partition, record) for record in records)
        waiting = {p for p, queue in self._queues.items() if queue}
        fetching = [self._theirs(p) for p in self._mine if p not in waiting and p not in self._unsought]
        self._watch.look(self._held(), [] if self._paused else fetching)

    def _halt(self, still: bool) -> None:
        """Pause or resume the whole assignment; what is not sought yet stays paused."""
        now = self._assignment.epochs
        held = [self._theirs(p) for p, gift in self._mine.items() if now.get(p) == gift and p not in self._unsought]
        (self._client.pause if still else self._client.resume)(*held)

    def _changes(self) -> Batch | None:
        """What the group took from us and gave us since the last word, or None."""
        now = dict(self._assignment.epochs)
        lost, gained = difference(self._mine, now)
        if not lost and not gained:
            return None
        for partition in lost:
            self._forget(partition)
        for partition in gained:
            self._check_number(partition)
        starts, positions = self._log.standing(self._group, gained) if gained else ({}, {})
        for partition in gained:
            at = positions.get(partition)
            self._queues[partition] = deque()
            self._starts[partition] = starts[partition]
            self._unsought[partition] = starts[partition] if at is None else at.offset
        self._mine = now
        return Batch(tuple(lost), {partition: positions.get(partition) for partition in gained})

    def _take(self, limit: int) -> tuple[Record, ...]:
        """From the queues by turns, beginning with another partition each time."""
        waiting = [partition for partition, queue in self._queues.items() if queue]
        if not waiting:
            return ()
        turn = self._turn = (self._turn + 1) % len(waiting)
        taken: list[Record] = []
        for place, partition in enumerate(waiting[turn:] + waiting[:turn]):
            queue = self._queues[partition]
            share = -(-(limit - len(taken)) // (len(waiting) - place))
            taken += [queue.popleft() for _ in range(min(share, len(queue)))]
        return tuple(taken)

    # ------------------------------------------------------------- positions

    def seek(self, partition: Partition, offset: int) -> None:
        """See `Consumer.seek`. Raises Fenced if the partition is not ours."""
        self._check_mine([partition])
        self._unsought.pop(partition, None)
        self._queues[partition].clear()
        tp = self._theirs(partition)
        with door("seeking", self._where, self._break):
            if offset <= self._starts[partition]:
                self._client.seek_to_beginning(tp)
            else:
                self._client.seek(tp, offset)
            self._watch.moved(tp)

    def pause(self) -> None:
        """See `Consumer.pause`."""
        self._paused = True

    def resume(self) -> None:
        """See `Consumer.resume`."""
        self._paused = False
        self._watch.begin_anew()

    def lag(self) -> Mapping[Partition, int]:
        """See `Consumer.lag`. The ends are at most a few seconds old."""
        behind: dict[Partition, int] = {}
        for partition in self._mine:
            queue = self._queues[partition]
            sought = self._unsought.get(partition)
            place = queue[0].offset if queue else self._watch.position(self._theirs(partition))
            place = max(sought, self._starts[partition]) if sought is not None else place
            end = self._watch.end(self._theirs(partition))
            if place is not None and end is not None:
                behind[partition] = max(0, end - place)
        return behind

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """See `Consumer.commit`. Waits for a rebalance that is under way to end."""
        self._check_mine(positions)
        for partition, position in positions.items():
            if len(position.metadata.encode()) > METADATA_BYTES:
                raise StorageError(
                    f"the metadata of a commit on {partition.topic}/{partition.number} is too long; at most "
                    f"{METADATA_BYTES} bytes can be kept with a position"
                )
        if not positions:
            return
        offsets = {self._theirs(p): OffsetAndMetadata(at.offset, at.metadata, -1) for p, at in positions.items()}
        until = time.monotonic() + _SETTLE_S
        with door("committing", self._where):
            while True:
                try:
                    self._client.commit(offsets, timeout_ms=_COMMIT_MS)
                    break
                except kafka.RebalanceInProgressError:
                    if time.monotonic() > until:
                        raise
                    self._settle()
                    self._check_mine(positions)

    def _settle(self) -> None:
        """Take part in the rebalance without reading on: what we keep through it may then be committed."""
        self._client.pause(*self._client.assignment())
        keep_joining(self._client, self._assignor)
        self._client.poll(timeout_ms=_SLICE_MS, max_records=1)

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """See `Consumer.close`. Waits a few seconds at most, then leaves it to the session time."""
        if self._client is None:
            return
        self._broken = self._broken or "was closed"
        client, self._client = self._client, None
        with suppress(Exception):
            client.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def _give_up(self) -> None:
        self.close()

    def _break(self) -> None:
        self._broken = "failed before"

    def _begin_unsought(self) -> None:
        """Whoever did not seek reads on from the committed position, or from the start."""
        for partition, offset in list(self._unsought.items()):
            if self._assignment.epochs.get(partition) == self._mine.get(partition):
                self.seek(partition, offset)

    def _forget(self, partition: Partition) -> None:
        self._queues.pop(partition, None)
        self._unsought.pop(partition, None)
        self._starts.pop(partition, None)

    def _check_mine(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            if partition not in self._mine or self._assignment.epochs.get(partition) != self._mine[partition]:
                raise Fenced(
                    f"partition {partition.number} of {partition.topic} is no longer this member's in group "
                    f"{self._group!r}: another member has taken it over; nothing was committed; drop its state and "
                    "poll on"
                )

    def _check_number(self, partition: Partition) -> None:
        count = self._counts[partition.topic]
        if partition.number >= count:
            raise ConfigurationError(
                f"topic {partition.topic!r} had {count} partitions and now has number {partition.number}: somebody "
                "added partitions, and assets change their home; stop all services, make new topics under another "
                "topic_prefix (`plantwatch topics init`), and start again"
            )

    def _held(self) -> list[TopicPartition]:
        return [self._theirs(partition) for partition in self._mine]

    def _ours(self, tp: Any) -> Partition:
        return Partition(self._names[tp.topic], tp.partition)

    def _theirs(self, partition: Partition) -> TopicPartition:
        return TopicPartition(self._log.config.topic(partition.topic), partition.number)
