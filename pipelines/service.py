"""The loop, once for all services: poll → process → write → commit.

A worker says what to do with records; the loop says when. Nothing is committed before everything that came of a batch
is durable (guarantee G3). Any trouble with the log ends the session: the consumer is closed, the worker forgets, and a
new session rebuilds its state from the log (guarantee G4), so there is one way to recover and it is used often.

Trouble with the sink of a `patient` worker (the historian) does not: the whole assignment is paused, polls go on and
keep the membership, and the write is tried again until it succeeds (guarantee G7). Memory stays flat: nothing is read
meanwhile, and the one batch that waits is bounded.

A record that ends the process is found by elimination (guarantee G6): the commit metadata counts starts that led
nowhere (`t`); from the first on, records are taken one by one, and the one that ended three starts is set aside. A
start that ended in an error, with the process alive, is excused: a full disk must condemn no record.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import structlog

from anomaly.errors import Fenced, PlantwatchError, StorageError, Unreachable
from pipelines import metrics
from pipelines.condition import Condition
from pipelines.consumer_watch import ConsumerWatch
from pipelines.patience import BatchSize, Patience, wait_s
from pipelines.ports import Batch, Consumer, Log, Partition, Position, Record

Metadata = dict[str, int | str | dict[str, int]]
"""What a worker wants to find again beside its committed offset; JSON, ≤ 4 kB."""

FATAL_TRIES: Final = 3
"""A record that ended the process so often is set aside."""
_CAREFUL_RECORDS: Final = 200
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class Worker(Protocol):
    """What one service does. The loop calls it from one thread, in this order: assign, then process, then write."""

    name: str
    topics: tuple[str, ...]
    patient: bool
    """Its `assign` and `write` may be repeated when they raise StorageError or Unreachable: trouble of a sink."""

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
    patience: Patience = field(default_factory=Patience)
    """Trouble with the sink of a patient worker."""
    _size: BatchSize = field(init=False)
    _watch: ConsumerWatch = field(init=False)
    _waiting: dict[Partition, Position | None] = field(default_factory=dict, init=False)
    """Assigned, but the worker could not load what it needs yet."""
    _new: bool = field(default=False, init=False)
    """Whether something is to be written that was never tried before."""

    def __post_init__(self) -> None:
        self._size = BatchSize(self.limit)
        self._watch = ConsumerWatch(self.worker.name)

    @property
    def held(self) -> tuple[Partition, ...]:
        """Partitions assigned."""
        return (*self.committed, *self._waiting)

    @property
    def lag(self) -> int:
        """Records not read yet of all partitions held, as of about a second ago."""
        return self._watch.lag

    @property
    def rate(self) -> float:
        """Records taken a second, of late."""
        return self._watch.rate

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
            self._watch.over()

    def step(self, timeout_s: float) -> int:
        """One turn of the loop; returns the number of records taken in. Raises StorageError and Unreachable."""
        trouble = bool(self.patience.reason)
        wait = max(0.0, min(timeout_s, self.patience.left)) if trouble else timeout_s
        batch = self.consumer.poll(1 if self.careful else self._size.now, wait)
        self._rebalance(batch)
        self._watch.turn(batch.records, self.consumer, {p: offset for p, (offset, _) in self.committed.items()})
        self._new |= any(r.offset >= self._offset(r.partition) for r in batch.records)
        self._mark_tries(batch.records)
        self._process(batch.records)
        if not self.careful and not trouble:
            self._size.took(batch.records)
        if self.patience.due:
            self._settle()
        return len(batch.records)

    def _settle(self) -> None:
        """Write what came and commit; after trouble, read on."""
        progress = self._sink(self._load_and_write)
        if progress is None:
            return
        self._commit(progress)
        self.careful = max(0, self.careful - 1) if self._new else self.careful  # a refill proves no record innocent
        self._new = False
        if self.patience.reason:
            _log.info("sink_works_again", service=self.worker.name, tries=self.patience.failures)
            self.patience.over()
            self.consumer.resume()

    def _sink(self, act: Callable[[], _T]) -> _T | None:
        """Do what may ask the sink. None: a patient worker's sink failed, and the whole assignment is paused."""
        try:
            return act()
        except (StorageError, Unreachable) as error:
            if not self.worker.patient or isinstance(error, Fenced):
                raise
            self._hold(error)
            return None

    def _hold(self, error: StorageError | Unreachable) -> None:
        first = not self.patience.reason
        if first:
            self.consumer.pause()
        retry = self.patience.tried(error)
        level = _log.warning if first or retry > 1 else _log.debug
        level("sink_failed", service=self.worker.name, reason=str(error), retry_in_s=retry)

    def _rebalance(self, batch: Batch) -> None:
        for partition in batch.revoked:
            if partition in self._waiting:
                del self._waiting[partition]
            else:
                self.worker.revoke(partition)
            self.tries.pop(partition, None)
            self.committed.pop(partition, None)
        self._waiting |= batch.assigned
        if self._waiting and not self.patience.reason:
            self._sink(self._load)

    def _load_and_write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        self._load()
        return self.worker.write()

    def _load(self) -> None:
        """Let the worker load what was assigned, before any of its records is taken in."""
        for partition in list(self._waiting):
            self._assign(partition, self._waiting[partition])
            del self._waiting[partition]

    def _assign(self, partition: Partition, position: Position | None) -> None:
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


def run(
    worker: Worker,
    log: Log,
    stop: threading.Event,
    *,
    limit: int = 64,
    timeout_s: float = 0.2,
    condition: Condition | None = None,
) -> None:
    """Serve until `stop` is set. Trouble with a store is waited out; whatever else escapes is a defect and ends it.

    `condition` is kept up to date for whoever asks how the service stands.
    """
    failures = 0
    seen = condition or Condition()
    excused: dict[Partition, tuple[int, int]] = {}
    while not stop.is_set():
        try:
            for session in _session(worker, log, stop, limit, timeout_s, excused):
                failures = 0
                _observe(session, seen)
        except (StorageError, Unreachable) as error:
            metrics.consumer_rebuilt(worker.name, type(error).__name__)
            level = _log.debug if isinstance(error, Fenced) else _log.warning
            level("session_ended", service=worker.name, reason=str(error), retry_in_s=wait_s(failures))
            seen.ended(str(error))
            stop.wait(wait_s(failures))
            failures += 1


def _session(
    worker: Worker,
    log: Log,
    stop: threading.Event,
    limit: int,
    timeout_s: float,
    excused: dict[Partition, tuple[int, int]],
) -> Iterator[Session]:
    """The session, after each of its steps."""
    worker.reset()
    session = Session(worker, log.join(worker.name, worker.topics), limit, excused=excused)
    try:
        while not stop.is_set():
            session.step(timeout_s)
            yield session
    finally:
        session.close()


def _observe(session: Session, condition: Condition) -> None:
    condition.turned()
    condition.waiting, condition.degraded = "", session.patience.reason
    condition.held = session.held
    condition.rate = session.rate
    condition.note_lag(session.lag)
