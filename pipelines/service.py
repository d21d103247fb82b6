"""The loop, once for all services: poll → process → write → commit.

A worker says what to do with records; the loop says when. Nothing is committed before everything that came of a batch
is durable (guarantee G3). Any trouble with a store ends the session: the consumer is closed, the worker forgets, and a
new session rebuilds its state from the log (guarantee G4), so there is one way to recover and it is used often.

A record that ends the process is found by elimination (guarantee G6): the commit metadata counts starts that led
nowhere (`t`); from the first on, records are taken one by one, and the one that ended three starts is set aside. A
start that ended in an error, with the process alive, is excused: a full disk must condemn no record.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from anomaly.errors import Fenced, PlantwatchError, StorageError, Unreachable
from pipelines import metrics
from pipelines.ports import Batch, Consumer, Log, Partition, Position, Record

Metadata = dict[str, int | str | dict[str, int]]
"""What a worker wants to find again beside its committed offset; JSON, ≤ 4 kB."""

FATAL_TRIES: Final = 3
"""A record that ended the process so often is set aside."""
_CAREFUL_RECORDS: Final = 200
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_log = structlog.get_logger(__name__)


class Worker(Protocol):
    """What one service does. The loop calls it from one thread, in this order: assign, then process, then write."""

    name: str
    topics: tuple[str, ...]

    def reset(self) -> None:
        """Forget everything: a new session begins."""

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        """Load what the partition needs and say from which offset to read. `committed` None: never committed."""

    def revoke(self, partition: Partition) -> None:
        """Drop the partition's state."""

    def process(self, records: Sequence[Record]) -> None:
        """Take in records, in order. Writes nothing."""

    def set_aside(self, record: Record) -> None:
        """Take in a record that ended the process: it must become a dead letter, unread."""

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """Write all that `process` and time brought; when it returns, all is durable. Returns what to commit."""


@dataclass(slots=True)
class Session:
    """One membership in the group, from joining to trouble or stop."""

    worker: Worker
    consumer: Consumer
    limit: int
    careful: int = 0
    tries: dict[Partition, int] = field(default_factory=dict)
    """Starts that led nowhere, of partitions that have not moved since they were assigned."""
    committed: dict[Partition, tuple[int, Metadata]] = field(default_factory=dict)
    excused: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    """Marks (offset, tries) that this process wrote and lived on: kept by the caller from session to session."""

    def close(self) -> None:
        """Leave the group, taking back the marks of tries that did not end the process. Idempotent; raises nothing."""
        marks = {
            p: self._position(*self.committed[p], tries=t - 1) for p, (_, t) in self.excused.items() if p in self.tries
        }
        try:
            if marks:
                self.consumer.commit(marks)
        except PlantwatchError as error:
            _log.debug("marks_stay", reason=str(error))
        finally:
            self.consumer.close()

    def step(self, timeout_s: float) -> int:
        """One turn of the loop; returns the number of records taken in. Raises StorageError and Unreachable."""
        batch = self.consumer.poll(1 if self.careful else self.limit, timeout_s)
        self._rebalance(batch)
        for record in batch.records:
            metrics.messages_consumed(record.partition.topic)
        new = any(r.offset >= self._offset(r.partition) for r in batch.records)
        self._mark_tries(batch.records)
        self._process(batch.records)
        self._commit(self.worker.write())
        self.careful = max(0, self.careful - 1) if new else self.careful  # a refill proves no record innocent
        return len(batch.records)

    def _rebalance(self, batch: Batch) -> None:
        for partition in batch.revoked:
            self.worker.revoke(partition)
            self.tries.pop(partition, None)
            self.committed.pop(partition, None)
        for partition, position in dict(batch.assigned).items():
            metadata: Metadata = json.loads(position.metadata) if position and position.metadata else {}
            tries = metadata.pop("t", 0)
            start = self.worker.assign(partition, position.offset if position else None, metadata)
            self.consumer.seek(partition, start)
            self.tries[partition] = int(tries) if isinstance(tries, int) else 0
            mark = (position.offset if position else start, self.tries[partition])
            if self.excused.pop(partition, None) == mark:
                self.tries[partition] -= 1
            self.committed[partition] = (position.offset if position else start, metadata)
            if self.tries[partition]:
                self.careful = _CAREFUL_RECORDS

    def _mark_tries(self, records: Sequence[Record]) -> None:
        """Before a partition's first new record is touched, note durably that this start tries it.

        Only a record that was tried alone is suspected more and more: among many, any could have ended the process.
        """
        fresh = {r.partition for r in records if r.partition in self.tries and r.offset >= self._offset(r.partition)}
        tries = {p: self.tries[p] + 1 if self.careful else max(self.tries[p], 1) for p in fresh}
        marks = {p: self._position(*self.committed[p], tries=t) for p, t in tries.items() if t != self.tries[p]}
        if marks:
            self.excused |= {partition: (self._offset(partition), tries[partition]) for partition in marks}
            self.consumer.commit(marks)

    def _process(self, records: Sequence[Record]) -> None:
        condemned = [r for r in records if r.offset == self._offset(r.partition) and self._fatal(r.partition)]
        if not condemned:
            self.worker.process(records)
            return
        for record in records:
            if record in condemned:
                _log.error("record_set_aside", partition=record.partition, offset=record.offset, tries=FATAL_TRIES)
                self.worker.set_aside(record)
            else:
                self.worker.process([record])

    def _fatal(self, partition: Partition) -> bool:
        return self.tries.get(partition, 0) >= FATAL_TRIES

    def _offset(self, partition: Partition) -> int:
        return self.committed[partition][0]

    def _commit(self, progress: Mapping[Partition, tuple[int, Metadata]]) -> None:
        moved = {p: m for p, m in progress.items() if self.committed.get(p, (None,))[0] != m[0]}
        if not moved:
            return
        # While careful, a partition that moves stays under suspicion at its next record.
        tries = 1 if self.careful else 0
        self.consumer.commit({p: self._position(offset, meta, tries) for p, (offset, meta) in moved.items()})
        for partition, committed in moved.items():
            self.committed[partition] = committed
            self.excused.pop(partition, None)
            if tries:
                self.tries[partition] = tries
            else:
                self.tries.pop(partition, None)

    @staticmethod
    def _position(offset: int, metadata: Metadata, tries: int) -> Position:
        body = metadata | {"t": tries} if tries else metadata
        return Position(offset, json.dumps(body, separators=(",", ":"), sort_keys=True))


def run(worker: Worker, log: Log, stop: threading.Event, *, limit: int = 64, timeout_s: float = 0.2) -> None:
    """Serve until `stop` is set. Trouble with a store is waited out; whatever else escapes is a defect and ends it."""
    failures = 0
    excused: dict[Partition, tuple[int, int]] = {}
    while not stop.is_set():
        try:
            for _ in _session(worker, log, stop, limit, timeout_s, excused):
                failures = 0
        except (StorageError, Unreachable) as error:
            metrics.consumer_rebuilt(type(error).__name__)
            level = _log.debug if isinstance(error, Fenced) else _log.warning
            level("session_ended", service=worker.name, reason=str(error), retry_in_s=_wait(failures))
            stop.wait(_wait(failures))
            failures += 1


def _wait(failures: int) -> float:
    return _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]


def _session(
    worker: Worker,
    log: Log,
    stop: threading.Event,
    limit: int,
    timeout_s: float,
    excused: dict[Partition, tuple[int, int]],
) -> Iterator[int]:
    worker.reset()
    session = Session(worker, log.join(worker.name, worker.topics), limit, excused=excused)
    try:
        while not stop.is_set():
            yield session.step(timeout_s)
    finally:
        session.close()
