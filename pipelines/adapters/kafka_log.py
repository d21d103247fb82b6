"""The log on Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

import structlog
from kafka import TopicPartition
from kafka import errors as kafka

from anomaly.errors import ConfigurationError, StorageError
from pipelines import metrics
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_consumer import KafkaConsumer
from pipelines.adapters.kafka_errors import door
from pipelines.adapters.kafka_producer import Appender
from pipelines.adapters.kafka_reader import Reader
from pipelines.adapters.kafka_topics import TopicSpec, ensure, partition_counts, record_limit
from pipelines.ports import NewRecord, Partition, Position, Record

_RETRY_S: Final = 0.1
_PATIENCE_S: Final = 15.0
_OUTSIDE: Final = {
    "before": "the log has dropped records that the group had not read; keep them longer than the longest outage",
    "beyond": "the topic was deleted and made anew, or a backup was restored",
}
LEAST_SESSION_S: Final = 6.0
"""What a broker takes by default (`group.min.session.timeout.ms`)."""

_log = structlog.get_logger(__name__)


class KafkaLog:
    """A `Log` on the brokers of `config`. Thread-safe. Clients are made at first use, so after a fork.

    `session_s`: a member whose process is silent so long is taken for dead; `silence_s`: so is one that lives but does
    not poll. `stall_s`: a member that gets nothing for so long though there is something raises StorageError, so that
    it is rebuilt. `delivery_s`: an append that is not acknowledged by then raises Unreachable. `compression`: of what
    we append (gzip, lz4, snappy, zstd or None).
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        session_s: float = 10.0,
        silence_s: float = 300.0,
        stall_s: float = 30.0,
        delivery_s: float = 30.0,
        compression: str | None = None,
    ) -> None:
        if session_s < LEAST_SESSION_S:
            raise ConfigurationError(f"the session time is {session_s} s; brokers take {LEAST_SESSION_S} s at least")
        self.config = config
        self.session_s = session_s
        self.silence_s = silence_s
        self.stall_s = stall_s
        self._lock = threading.RLock()
        self._admin: Any = None
        self._counts: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._closed = False
        self._members: WeakSet[KafkaConsumer] = WeakSet()
        self._reader = Reader(config)
        self._appender = Appender(config, self.count, self._limit, delivery_s=delivery_s, compression=compression)

    def create(self, topics: Mapping[str, int], compacted: frozenset[str] = frozenset()) -> None:
        """See `Log.create`. Retention stays the broker's; `plantwatch topics init` sets it (`kafka_topics`)."""
        specs = {name: TopicSpec(count, compacted=name in compacted) for name, count in topics.items()}
        self._ask("creating topics", lambda admin: ensure(admin, self.config, specs))
        with self._lock:
            self._counts |= topics

    def verify(self, topics: Mapping[str, int]) -> None:
        """Raises ConfigurationError if a topic is missing or has another number of partitions: before serving."""
        found = self._look_up(list(topics))
        missing = sorted(self.config.topic(name) for name in topics if name not in found)
        if missing:
            raise ConfigurationError(
                f"Kafka at {self.config.where} has no topic {', '.join(missing)}; create them with `plantwatch topics "
                "init`, or correct topic_prefix"
            )
        for name, count in topics.items():
            if found[name] != count:
                raise ConfigurationError(
                    f"topic {self.config.topic(name)!r} has {found[name]} partitions, expected {count}: assets would "
                    f"change their home and lose their windows; set partitions = {found[name]}, or start anew under "
                    "another topic_prefix"
                )

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """See `Log.append`. An error may leave some of the records stored: a session rebuilds itself from the log."""
        return self._appender.append(records) if records else ()

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """See `Log.read`."""
        self._check(partition)
        return self._reader.read(partition, offset, limit)

    def ends(self, topic: str) -> Mapping[Partition, tuple[int, int]]:
        """See `Log.ends`."""
        return self._reader.ends([Partition(topic, number) for number in range(self.count(topic))])

    def standing(
        self, group: str, partitions: Sequence[Partition]
    ) -> tuple[Mapping[Partition, int], Mapping[Partition, Position]]:
        """Where partitions begin, and what the group committed there: what a member begins with.

        A position beyond the end is of a topic that was made anew: it is none of this one, whose records are all still
        to be read. That is told, and so is one before the start, from which records are gone.
        """
        found = self._stored(group, partitions)
        bounds = self._reader.ends(partitions)  # after it: ends only grow
        for partition, at in found.items():
            first, end = bounds[partition]
            if not first <= at.offset <= end:
                side = "before" if at.offset < first else "beyond"
                metrics.position_outside(group, side)
                _log.error(
                    "position_outside_log",
                    group=group,
                    topic=partition.topic,
                    partition=partition.number,
                    committed=at.offset,
                    log_start=first,
                    log_end=end,
                    why=_OUTSIDE[side],
                    effect=f"reading on from {first}",
                )
        starts = {partition: first for partition, (first, _) in bounds.items()}
        return starts, {p: at for p, at in found.items() if at.offset <= bounds[p][1]}

    def committed(self, group: str, topic: str) -> Mapping[Partition, Position]:
        """See `Log.committed`."""
        return self.positions(group, [Partition(topic, number) for number in range(self.count(topic))])

    def positions(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """Committed positions of a group on some partitions. One beyond the end is none: see `standing`."""
        found = self._stored(group, partitions)
        bounds = self._reader.ends(list(found)) if found else {}
        return {partition: at for partition, at in found.items() if at.offset <= bounds[partition][1]}

    def _stored(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        ours = {TopicPartition(self.config.topic(p.topic), p.number): p for p in partitions}
        name = self.config.group(group)
        answer = self._ask("reading offsets", lambda admin: admin.list_group_offsets({name: list(ours)}))
        found = {ours[tp]: Position(at.offset, at.metadata or "") for tp, at in answer[name].items() if at.offset >= 0}
        return dict(sorted(found.items()))

    def join(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        """See `Log.join`. Raises ConfigurationError for an unknown topic."""
        self._look_up(topics)
        consumer = KafkaConsumer(self, group, {topic: self.count(topic) for topic in topics})
        self._members.add(consumer)
        return consumer

    def close(self) -> None:
        """See `Log.close`. Members that are not closed yet are, so that the group need not wait for their silence."""
        with self._lock:
            self._closed = True
            self._drop_admin()
        for member in list(self._members):
            member.close()
        self._appender.close()
        self._reader.close()

    def count(self, topic: str) -> int:
        """Partitions of a topic, as it was when first looked at or joined. Raises ConfigurationError if unknown."""
        if topic not in self._counts:
            self._look_up([topic])
        if topic not in self._counts:
            raise ConfigurationError(
                f"Kafka at {self.config.where} has no topic {self.config.topic(topic)!r}; create it with `plantwatch "
                "topics init`, or correct topic_prefix"
            )
        return self._counts[topic]

    def _check(self, partition: Partition) -> None:
        count = self.count(partition.topic)
        if not 0 <= partition.number < count:
            raise ConfigurationError(
                f"topic {partition.topic!r} has {count} partitions; there is no number {partition.number}"
            )

    def _look_up(self, topics: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = self._ask(
            "looking at topics", lambda admin: partition_counts(admin, self.config, topics)
        )
        with self._lock:
            self._counts |= found
            for topic in topics:
                if topic not in found:
                    self._counts.pop(topic, None)
        return found

    def _limit(self, topic: str) -> int:
        if topic not in self._limits:
            self._limits[topic] = self._ask(
                "looking at a topic's limits", lambda admin: record_limit(admin, self.config, topic)
            )
        return self._limits[topic]

    def _ask(self, doing: str, question: Callable[[Any], Any]) -> Any:
        """Ask by the one admin client; what passes by itself (a coordinator that moves) is tried again for a while."""
        until = time.monotonic() + _PATIENCE_S
        with self._lock, door(doing, self.config.where, self._drop_admin):
            while True:
                if self._closed:
                    raise StorageError("this log is closed; open it anew")
                if self._admin is None:
                    self._admin = make_admin(self.config)
                try:
                    return question(self._admin)
                except kafka.RetriableError:
                    if time.monotonic() > until:
                        raise
                    self._drop_admin()
                    time.sleep(_RETRY_S)

    def _drop_admin(self) -> None:
        admin, self._admin = self._admin, None
        with suppress(Exception):
            if admin is not None:
                admin.close()
