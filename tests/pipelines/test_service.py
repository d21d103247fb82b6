"""The loop: what is durable before what, what a broken store ends, and which record is blamed for a dead process."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import Fenced, StorageError, Unreachable
from pipelines import patience
from pipelines.adapters.memory_log import MemoryLog
from pipelines.condition import Condition
from pipelines.ports import Batch, Consumer, NewRecord, Partition, Position, Record
from pipelines.service import FATAL_TRIES, Metadata, Session, run

IN, OUT = "in", "out"
HOME = Partition(IN, 0)


class ProcessDied(BaseException):
    """Stands for the end of the process: nothing after it runs, not even `close`."""


class Clock:
    """Set by hand; members of a group expire by it."""

    def __init__(self) -> None:
        self.time = 10**18

    def now(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += int(seconds * 1e9)


class JournalLog(MemoryLog):
    """Notes what is appended to `out` and what is committed; `trouble` may raise before either."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, session_s=10.0, timer=clock.now)
        self.clock = clock
        self.journal: list[str] = []
        self.trouble: Callable[[str], None] = lambda _: None
        self.closed = 0

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        if records and records[0].topic == OUT:
            self.trouble("write")
            self.journal.append("write")
        return super().append(records)

    def join(self, group: str, topics: Sequence[str]) -> JournalConsumer:  # type: ignore[override]
        self.trouble("join")
        return JournalConsumer(self, super().join(group, topics))


class JournalConsumer:
    def __init__(self, log: JournalLog, inner: Consumer) -> None:
        self.log, self.inner = log, inner

    def poll(self, limit: int, timeout_s: float) -> Batch:
        self.log.trouble("poll")
        batch = self.inner.poll(limit, timeout_s)
        self.log.journal += ["poll"] if batch.records else []
        return batch

    def seek(self, partition: Partition, offset: int) -> None:
        self.inner.seek(partition, offset)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        marks = all(
            self.log.committed("echo", IN).get(p, Position(-1)).offset == at.offset for p, at in positions.items()
        )
        first = all(p not in self.log.committed("echo", IN) and '"t"' in at.metadata for p, at in positions.items())
        kind = "mark" if marks or first else "commit"
        self.log.trouble(kind)
        self.log.journal.append(kind)
        self.inner.commit(positions)

    def lag(self) -> Mapping[Partition, int]:
        return self.inner.lag()

    def pause(self) -> None:
        self.inner.pause()

    def resume(self) -> None:
        self.inner.resume()

    def close(self) -> None:
        self.log.closed += 1
        self.inner.close()


class Echo:
    """Copies `in` to `out`, in order. Its memory: how many records it took in since `rewind` before the commit."""

    name = "echo"
    topics: tuple[str, ...] = (IN,)
    patient = False

    def __init__(self, log: JournalLog, rewind: int = 0, deadly: frozenset[bytes] = frozenset()) -> None:
        self.log = log
        self.rewind = rewind
        self.deadly = deadly
        self.on_process: Callable[[Record], None] = lambda _: None
        self.on_write: Callable[[], None] = lambda: None
        self.resets = 0
        self.heard: list[tuple[str, object]] = []
        self.aside: list[bytes | None] = []
        self.reset()

    def reset(self) -> None:
        self.resets += 1
        self.next: dict[Partition, int] = {}
        self.pending: list[NewRecord] = []

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        self.heard.append(("assign", (partition.number, committed, metadata)))
        self.next[partition] = committed or 0
        return max(0, self.next[partition] - self.rewind)

    def revoke(self, partition: Partition) -> None:
        self.heard.append(("revoke", partition.number))
        del self.next[partition]

    def process(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.offset < self.next[record.partition]:
                continue
            self.on_process(record)
            if record.value in self.deadly:
                raise ProcessDied
            self._take(record, record.value)

    def set_aside(self, record: Record) -> None:
        self.aside.append(record.value)
        self._take(record, b"aside " + (record.value or b""))

    def _take(self, record: Record, value: bytes | None) -> None:
        self.pending.append(NewRecord(OUT, record.key, value, partition=0))
        self.next[record.partition] = record.offset + 1

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        self.on_write()
        if self.pending:
            self.log.append(self.pending)
        self.pending = []
        return {partition: (offset, {"seen": offset}) for partition, offset in self.next.items()}


@pytest.fixture
def log() -> JournalLog:
    return a_log()


def a_log(partitions: int = 1) -> JournalLog:
    log = JournalLog(Clock())
    log.create({IN: partitions, OUT: 1})
    return log


def send(log: JournalLog, *values: bytes, partition: int = 0) -> None:
    log.append([NewRecord(IN, b"k", value, partition=partition) for value in values])


def out(log: JournalLog) -> list[bytes | None]:
    return [record.value for record in log.read(Partition(OUT, 0), 0, 10**6)]


def session(log: JournalLog, worker: Echo, limit: int = 64) -> Session:
    return Session(worker, log.join(worker.name, worker.topics), limit)


def position(log: JournalLog, number: int = 0) -> Position | None:
    return log.committed("echo", IN).get(Partition(IN, number))


def lives(
    log: JournalLog, deadly: frozenset[bytes], rewind: int = 0, limit: int = 64
) -> tuple[int, list[bytes | None]]:
    """Start processes until one reads to the end; returns how many died, and what was set aside."""
    deaths = 0
    aside: list[bytes | None] = []
    while True:
        worker = Echo(log, rewind, deadly)
        try:
            alive = session(log, worker, limit)
            idle = 0
            while idle < 3:
                idle = 0 if alive.step(0.0) else idle + 1
        except ProcessDied:
            deaths += 1
            assert deaths < 100, "the same records end the process for ever"
        else:
            alive.close()
            return deaths, aside + worker.aside
        aside += worker.aside
        log.clock.sleep(30.0)


def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "BACKOFF_S", (0.0,))


# ------------------------------------------------------------------------------------------------------- order (G3)


def test_what_was_read_is_written_before_its_offset_is_committed(log: JournalLog) -> None:
    send(log, b"1", b"2")
    one = session(log, Echo(log))
    for _ in range(3):
        one.step(0.0)
    assert log.journal == ["poll", "mark", "write", "commit"]
    assert out(log) == [b"1", b"2"]
    assert position(log) == Position(2, '{"seen":2}')


def test_a_turn_that_moved_nothing_commits_nothing(log: JournalLog) -> None:
    one = session(log, Echo(log))
    assert [one.step(0.0) for _ in range(3)] == [0, 0, 0]
    assert log.journal == []
    assert position(log) is None


def test_what_the_worker_committed_comes_back_to_the_next_one_without_our_own_marks(log: JournalLog) -> None:
    send(log, b"1", b"2", b"3")
    first = session(log, Echo(log), limit=2)
    first.step(0.0)
    first.step(0.0)
    first.close()
    second = Echo(log)
    session(log, second).step(0.0)
    assert second.heard == [("assign", (0, 2, {"seen": 2}))]


@pytest.mark.parametrize("moment", ["poll", "mark", "write", "commit", "join"])
def test_a_store_that_fails_at_any_moment_ends_the_session_and_the_next_rebuilds_everything(
    log: JournalLog, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch)
    send(log, b"1", b"2", b"3")
    stop, failures = threading.Event(), [StorageError("gone"), Unreachable("gone"), Fenced("gone")]

    def trouble(now: str) -> None:
        if now == moment and failures:
            raise failures.pop()

    def stop_at_end() -> None:
        if (position(log) or Position(0)).offset == 3:
            stop.set()

    log.trouble = trouble
    worker = Echo(log)
    worker.on_write = stop_at_end
    run(worker, log, stop, timeout_s=0.0)
    assert not failures
    assert worker.resets >= 1 + 2 + 1  # when made, for each failed session, for the one that got through
    assert len(log.groups["echo"].members) == 0
    assert out(log) == [b"1", b"2", b"3"] * (4 if moment == "commit" else 1)
    assert worker.aside == []
    assert (position(log) or Position(0)).offset == 3


def test_a_commit_after_the_partition_was_lost_is_refused_and_the_other_member_goes_on_from_before(
    log: JournalLog,
) -> None:
    send(log, b"1", b"2")
    sleepy = Echo(log)
    frozen = session(log, sleepy)
    frozen.step(0.0)
    heir = session(log, Echo(log))

    def sleep_too_long() -> None:
        log.clock.sleep(30.0)
        heir.step(0.0)

    sleepy.on_write = sleep_too_long
    with pytest.raises(Fenced):
        frozen.step(0.0)
    frozen.close()
    for _ in range(3):
        heir.step(0.0)
    assert out(log) == [b"1", b"2"] * 2  # written twice, which results that are keyed survive; committed once
    assert (position(log) or Position(0)).offset == 2


def test_a_partition_that_goes_to_another_member_is_dropped_and_not_committed_again() -> None:
    log = a_log(partitions=2)
    first = Echo(log)
    one = session(log, first)
    one.step(0.0)
    two = session(log, Echo(log))
    for _ in range(3):
        two.step(0.0)
        one.step(0.0)
    send(log, b"a", partition=0)
    send(log, b"b", partition=1)
    for _ in range(2):
        one.step(0.0)
        two.step(0.0)
    assert ("revoke", 1) in first.heard
    assert sorted(filter(None, out(log))) == [b"a", b"b"]
    assert set(first.next) == {Partition(IN, 0)}


# ------------------------------------------------------------------------------------------------------ poison (G6)


@pytest.mark.parametrize("place", [0, 5, 9])
def test_a_record_that_ends_the_process_is_set_aside_after_three_deaths_and_no_other_is(place: int) -> None:
    log = a_log()
    values = [str(i).encode() for i in range(10)]
    send(log, *values)
    deaths, aside = lives(log, frozenset({values[place]}))
    assert aside == [values[place]]
    assert deaths == FATAL_TRIES
    expected = [b"aside " + v if v == values[place] else v for v in values]
    assert out(log) == expected
    assert (position(log) or Position(0)).offset == 10


def test_a_long_refill_after_a_crash_does_not_put_the_blame_on_the_first_record_of_a_batch() -> None:
    """A refill brings records again that are done; the care must last until the new ones."""
    log = a_log()
    done = [f"done {i}".encode() for i in range(300)]
    send(log, *done)
    assert lives(log, frozenset(), rewind=300) == (0, [])
    new = [f"new {i}".encode() for i in range(10)]
    send(log, *new)
    deaths, aside = lives(log, frozenset({new[5]}), rewind=300)
    assert aside == [new[5]]
    assert deaths == FATAL_TRIES
    assert out(log) == [*done, *new[:5], b"aside " + new[5], *new[6:]]


def test_a_quiet_partition_under_suspicion_is_not_blamed_for_the_deaths_that_others_cause() -> None:
    """Where many records are tried at once, a death says nothing of any one of them."""
    log = a_log(partitions=2)
    for number in (0, 1):
        send(log, b"first", partition=number)
    lives(log, frozenset())
    two = '{"seen":1,"t":2}'
    with_marks = log.join("echo", [IN])
    with_marks.poll(1, 0.0)
    with_marks.commit({Partition(IN, 1): Position(1, two)})
    with_marks.close()
    send(log, *(f"busy {i}".encode() for i in range(250)), partition=0)
    worker = Echo(log, deadly=frozenset({b"deadly"}))
    one = session(log, worker)
    for _ in range(260):
        one.step(0.0)
    assert not one.careful
    send(log, b"deadly", partition=0)
    send(log, b"innocent", partition=1)
    with pytest.raises(ProcessDied):
        one.step(0.0)
    log.clock.sleep(30.0)
    assert lives(log, frozenset({b"deadly"}))[1] == [b"deadly"]
    assert b"innocent" in out(log)


@settings(max_examples=60, deadline=None)
@given(
    deadly=st.sets(st.integers(0, 24), max_size=3),
    rewind=st.sampled_from([0, 4, 100]),
    limit=st.sampled_from([1, 4, 64]),
    partitions=st.integers(1, 3),
)
def test_whatever_records_end_the_process_they_alone_are_set_aside_and_all_others_get_through(
    deadly: set[int], rewind: int, limit: int, partitions: int
) -> None:
    log = a_log(partitions)
    values = [str(i).encode() for i in range(25)]
    for i, value in enumerate(values):
        send(log, value, partition=i % partitions)
    poison = frozenset(values[i] for i in deadly)
    deaths, aside = lives(log, poison, rewind, limit)
    assert Counter(aside) == Counter(poison)
    assert deaths <= (FATAL_TRIES + 3) * len(poison)
    through = Counter(out(log))
    assert set(through) == {b"aside " + v if v in poison else v for v in values}


@pytest.mark.parametrize("failures", [1, 5, 12])
def test_an_error_with_the_process_alive_condemns_no_record_however_often_it_comes(
    log: JournalLog, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch)
    send(log, b"1", b"2")
    stop, left = threading.Event(), [failures]

    def full_disk(moment: str) -> None:
        if moment == "write" and left[0]:
            left[0] -= 1
            raise StorageError("disk full")

    log.trouble = full_disk
    worker = Echo(log)
    worker.on_write = lambda: stop.set() if out(log) else None
    run(worker, log, stop, timeout_s=0.0)
    assert worker.aside == []
    assert out(log) == [b"1", b"2"]


def test_deaths_before_an_outage_are_still_counted_after_it(log: JournalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of a store excuses its own tries, not those that ended a process before."""
    fast(monkeypatch)
    send(log, b"deadly")
    for _ in range(2):
        one = session(log, Echo(log, deadly=frozenset({b"deadly"})))
        one.step(0.0)
        with pytest.raises(ProcessDied):
            one.step(0.0)
        log.clock.sleep(30.0)
    stop, failures = threading.Event(), [3]
    worker = Echo(log)

    def outage(_: Record) -> None:
        failures[0] -= 1
        if failures[0] == 0:
            stop.set()
        raise StorageError("historian away")

    worker.on_process = outage
    run(worker, log, stop, timeout_s=0.0)
    log.clock.sleep(30.0)
    deaths, aside = lives(log, frozenset({b"deadly"}))
    assert (deaths, aside) == (1, [b"deadly"])


# -------------------------------------------------------------------------------------------------------------- end


def test_a_stop_while_waiting_for_records_is_prompt_and_leaves_the_group(log: JournalLog) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(Echo(log), log, stop))
    thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    stop.set()
    thread.join(5.0)
    assert time.monotonic() - began < 1.0
    assert log.closed == 1


def test_a_stop_while_a_store_is_waited_for_is_prompt(log: JournalLog) -> None:
    def away(moment: str) -> None:
        if moment == "poll":
            raise StorageError("away")

    log.trouble = away
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(Echo(log), log, stop))
    thread.start()
    time.sleep(0.4)  # by now it waits longer than this test may take
    began = time.monotonic()
    stop.set()
    thread.join(5.0)
    assert time.monotonic() - began < 0.4


def test_the_batch_under_way_is_finished_and_committed_when_a_stop_comes(log: JournalLog) -> None:
    send(log, b"1", b"2")
    stop = threading.Event()
    worker = Echo(log)
    worker.on_process = lambda _: stop.set()
    run(worker, log, stop, timeout_s=0.0)
    assert out(log) == [b"1", b"2"]
    assert position(log) == Position(2, '{"seen":2}')


def test_a_defect_ends_the_service_and_leaves_the_group(log: JournalLog) -> None:
    def defect(_: Record) -> None:
        raise ZeroDivisionError

    send(log, b"1")
    worker = Echo(log)
    worker.on_process = defect
    with pytest.raises(ZeroDivisionError):
        run(worker, log, threading.Event(), timeout_s=0.0)
    assert log.closed == 1
    assert out(log) == []
    assert (position(log) or Position(-1)).offset == 0


# ------------------------------------------------------------------------------------------------ back-pressure (G7)


class Sinking(Echo):
    """A patient worker: its sink fails as long as `down` says so, in `write` and, if `asks`, in `assign` too."""

    patient = True

    def __init__(self, log: JournalLog, *, asks: bool = False) -> None:
        self.down = False
        self.asks = asks
        self.most = 0
        super().__init__(log)

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        if self.down and self.asks:
            raise Unreachable("the sink does not answer")
        return super().assign(partition, committed, metadata)

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        self.most = max(self.most, len(self.pending))
        if self.down:
            raise Unreachable("the sink does not answer")
        return super().write()


class Bench:
    """A session of a `Sinking`, with a timer set by hand."""

    def __init__(self, log: JournalLog, worker: Sinking, limit: int = 4) -> None:
        self.time = 0.0
        bears = patience.Patience(lambda: self.time)
        self.session = Session(worker, log.join(worker.name, worker.topics), limit, patience=bears)

    def turns(self, count: int, seconds: float = 0.0) -> None:
        for _ in range(count):
            self.time += seconds
            self.session.step(0.0)


def test_a_sink_that_fails_keeps_the_session_reads_no_more_and_loses_nothing(log: JournalLog) -> None:
    worker = Sinking(log)
    bench = Bench(log, worker)
    bench.turns(1)
    worker.down = True
    send(log, *(str(i).encode() for i in range(100)))
    bench.turns(200, seconds=1.0)
    assert worker.most == 4
    assert log.journal.count("poll") == 1
    assert bench.session.patience.reason == "the sink does not answer"
    assert position(log) == Position(0, '{"t":1}')
    worker.down = False
    bench.turns(40, seconds=1.0)
    assert bench.session.patience.reason == ""
    assert out(log) == [str(i).encode() for i in range(100)]
    assert position(log) == Position(100, '{"seen":100}')
    assert (worker.resets, log.closed) == (1, 0)


def test_tries_at_a_failing_sink_come_with_growing_waits(log: JournalLog) -> None:
    worker = Sinking(log)
    bench = Bench(log, worker)
    tries: list[float] = []
    worker.down = True
    original = worker.write

    def write() -> Mapping[Partition, tuple[int, Metadata]]:
        tries.append(bench.time)
        return original()

    worker.write = write  # type: ignore[method-assign]
    bench.turns(600, seconds=0.1)
    waits = [round(later - earlier, 1) for earlier, later in itertools.pairwise(tries)]
    assert all(abs(wait - due) < 0.15 for wait, due in zip(waits, patience.BACKOFF_S, strict=False))
    assert waits[-1] == pytest.approx(patience.BACKOFF_S[-1], abs=0.15)


def test_a_sink_that_cannot_be_asked_at_an_assignment_delays_it_and_no_record_is_passed_over(log: JournalLog) -> None:
    send(log, b"1", b"2")
    worker = Sinking(log, asks=True)
    worker.down = True
    bench = Bench(log, worker)
    bench.turns(20, seconds=1.0)
    assert worker.heard == []
    assert bench.session.held == (HOME,)
    worker.down = False
    bench.turns(20, seconds=1.0)
    assert out(log) == [b"1", b"2"]
    assert position(log) == Position(2, '{"seen":2}')


def test_partitions_come_and_go_while_the_sink_is_down() -> None:
    log = a_log(partitions=2)
    for number in (0, 1):
        send(log, *(f"{number}{i}".encode() for i in range(20)), partition=number)
    one, two = Sinking(log), Sinking(log)
    first = Bench(log, one)
    first.turns(2)
    one.down = two.down = True
    first.turns(5, seconds=1.0)
    second = Bench(log, two)
    for _ in range(20):
        first.turns(1, seconds=1.0)
        second.turns(1, seconds=1.0)
    assert len(one.next) == len(two.next) == 1
    assert ("revoke", next(iter(two.next)).number) in one.heard
    assert first.session.patience.reason
    one.down = two.down = False
    for _ in range(40):
        first.turns(1, seconds=1.0)
        second.turns(1, seconds=1.0)
    assert {position(log, number).offset for number in (0, 1)} == {20}  # type: ignore[union-attr]
    assert set(out(log)) == {f"{number}{i}".encode() for number in (0, 1) for i in range(20)}
    assert first.session.held
    assert second.session.held


def test_trouble_of_the_log_ends_the_session_of_a_patient_worker_too(log: JournalLog) -> None:
    worker = Sinking(log)
    bench = Bench(log, worker)
    worker.down = True
    bench.turns(3, seconds=1.0)

    def gone(moment: str) -> None:
        if moment == "poll":
            raise StorageError("the log is gone")

    log.trouble = gone
    with pytest.raises(StorageError, match="the log is gone"):
        bench.turns(1)


def test_a_worker_that_is_not_patient_is_rebuilt(log: JournalLog) -> None:
    worker = Sinking(log)
    worker.patient = False
    bench = Bench(log, worker)
    worker.down = True
    with pytest.raises(Unreachable):
        bench.turns(2)


def test_a_lag_is_drained_in_batches_that_grow_and_go_back(log: JournalLog) -> None:
    send(log, *(str(i).encode() for i in range(1_200)))
    worker = Sinking(log)
    bench = Bench(log, worker, limit=4)
    sizes: list[int] = []
    while (position(log) or Position(0)).offset < 1_200:
        sizes.append(bench.session.step(0.0))
    assert sizes[1 : 1 + patience.GROWTH] == [4] * patience.GROWTH  # a record that kills is met in a usual batch
    assert max(sizes) == 4 * patience.GROWTH
    bench.turns(10)
    send(log, *(b"x" for _ in range(20)))
    assert bench.session.step(0.0) == 4


def test_heavy_records_keep_batches_small() -> None:
    size = patience.BatchSize(2)
    heavy = [Record(HOME, i, None, bytes(patience.BATCH_BYTES // 2), (), 0) for i in range(2)]
    for _ in range(100):
        size.took(heavy)
    assert size.now == 2


def test_the_condition_follows_the_loop(log: JournalLog) -> None:
    condition, stop, worker = Condition(), threading.Event(), Sinking(log)
    assert condition.status() == "waiting: starting"
    seen: list[str] = []
    send(log, b"1")
    original = worker.write

    def write() -> Mapping[Partition, tuple[int, Metadata]]:
        seen.append(condition.status())
        worker.down = 2 <= len(seen) < 5
        if len(seen) > 8:
            stop.set()
        return original()

    worker.write = write  # type: ignore[method-assign]
    run(worker, log, stop, timeout_s=0.01, condition=condition)
    assert "degraded: the sink does not answer" in seen
    assert seen[-1] == "ok"
    assert condition.held == (HOME,)
    assert condition.still_for() < 10.0


def test_a_growing_lag_is_told_and_one_that_is_worked_off_is_not() -> None:
    now = [0.0]
    condition = Condition(timer=lambda: now[0])
    for second in range(90):
        now[0] = float(second)
        condition.note_lag(second * 100)
    assert condition.growing() == pytest.approx(6_000, abs=200)
    for second in range(90, 130):
        now[0] = float(second)
        condition.note_lag(20_000 - second * 100)
    assert condition.growing() == 0
