"""The record service: what the topics say is in the historian, once, whatever happened in between (G2, G3)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from anomaly.domain import (
    SECOND,
    Alert,
    AlertState,
    Anomaly,
    Kind,
    Priority,
    Quality,
    Readings,
    Rung,
    Scores,
    SensorFault,
    State,
)
from anomaly.errors import StorageError, StorageFull
from pipelines import codec, feeding, patience, service, topics
from pipelines.adapters.memory import MemoryClock, MemoryHistorian, MemoryLog
from pipelines.notices import CLOCK_VERSION, SILENCE_VERSION
from pipelines.ports import AlertEvent, NewRecord, Partition, Position
from pipelines.recording import RecordWorker
from pipelines.service import Session

START = 1_700_000_000 * SECOND
PUMP = "s/pump"


class Historian(MemoryHistorian):
    """Counts writes; `trouble` may raise before one."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.trouble: Callable[[], None] = lambda: None

    def write(
        self, readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        self.trouble()
        self.writes += 1
        super().write(readings, scores, events)


class Bench:
    def __init__(self) -> None:
        self.log = MemoryLog(MemoryClock(START + 10**6 * SECOND))
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.historian = Historian()
        self.join()

    def join(self) -> None:
        self.worker = RecordWorker(self.log, self.historian, lambda: self.historian.span() is None)
        self.session = Session(self.worker, self.log.join("record", self.worker.topics), 64)

    def turns(self, count: int = 4) -> None:
        for _ in range(count):
            self.session.step(0.0)

    def send(self, *rows: tuple[int, float]) -> None:
        times = np.array([START + second * SECOND for second, _ in rows], dtype=np.int64)
        values = np.array([[value] for _, value in rows])
        feeding.append(self.log, [Readings(PUMP, ("temp",), times, values, np.zeros(values.shape, np.uint8))])

    def put(self, topic: str, value: bytes | None, key: bytes = b"k") -> None:
        self.log.append([NewRecord(topic, key, value, partition=0)])

    def behind(self) -> int:
        found = 0
        for topic in self.worker.topics:
            committed = self.log.committed("record", topic)
            found += sum(
                end - (committed[p].offset if p in committed else 0) for p, (_, end) in self.log.ends(topic).items()
            )
        return found

    def values(self) -> list[float]:
        found: list[float] = self.historian.readings(PUMP, 0, 2**62).values.ravel().tolist()
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def scores(second: int, version: str = "v1") -> Scores:
    return Scores(
        tags=("temp",),
        assets=(PUMP,),
        times=np.array([START + second * SECOND], dtype=np.int64),
        score=np.array([0.5]),
        contributions=np.ones((1, 1)),
        expected=np.array([[20.0]]),
        actual=np.array([[20.5]]),
        coverage=np.ones(1),
        isolated=np.array([np.nan]),
        faults=np.array([[SensorFault.NONE]], dtype=np.uint8),
        state=(State.OK,),
        version=version,
        rung=Rung.WINDOW_PCA,
    )


def event(number: int) -> AlertEvent:
    anomaly = Anomaly(PUMP, Kind.PROCESS, "process", START, None, 2.0, ("temp",), "v1")
    alert = Alert("a1", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, START + number)
    return AlertEvent(f"a1-{number}", "raised" if number == 1 else "updated", START + number, alert)


def test_readings_scores_and_transitions_reach_the_historian_in_one_write_and_are_committed(bench: Bench) -> None:
    bench.send((1, 20.0), (2, 21.0))
    bench.put(topics.SCORES, codec.encode_scores(scores(2))[0][1])
    bench.put(topics.ALERTS, codec.encode_event(event(1)), b"a1")
    bench.turns()
    assert bench.values() == [20.0, 21.0]
    assert [block.version for block in bench.historian.scores(PUMP, 0, 2**62)] == ["v1"]
    assert bench.historian.events("a1") == [event(1)]
    assert bench.historian.writes == 1
    assert bench.behind() == 0


def test_without_anything_new_the_historian_is_left_alone(bench: Bench) -> None:
    bench.turns()
    assert bench.historian.writes == 0


def test_what_cannot_be_decoded_is_passed_over_and_what_comes_after_is_stored(bench: Bench) -> None:
    for topic in (topics.READINGS, topics.SCORES, topics.ALERTS):
        for value in (b"{", b"[]", b"\xff", b"null", None):
            bench.put(topic, value)
    bench.send((1, 20.0))
    bench.put(topics.ALERTS, codec.encode_event(event(1)), b"a1")
    bench.turns(8)
    assert bench.values() == [20.0]
    assert len(bench.historian.events("a1")) == 1
    assert bench.behind() == 0


def test_a_reading_from_the_future_is_not_stored(bench: Bench) -> None:
    bench.send((2 * 10**6, 20.0))
    bench.turns()
    assert bench.historian.span() is None


def test_bad_values_are_stored_with_their_quality(bench: Bench) -> None:
    bench.send((1, float("nan")), (2, 5.0))
    bench.turns()
    stored = bench.historian.readings(PUMP, 0, 2**62)
    assert stored.quality.ravel().tolist() != [Quality.GOOD, Quality.GOOD]
    assert np.isnan(stored.values[0, 0])


def test_a_notice_of_a_wrong_clock_is_no_score_to_show(bench: Bench) -> None:
    bench.put(topics.SCORES, codec.encode_scores(scores(1))[0][1])
    bench.put(topics.SCORES, codec.encode_scores(scores(9, CLOCK_VERSION))[0][1])
    bench.put(topics.SCORES, codec.encode_scores(scores(9, SILENCE_VERSION))[0][1])
    bench.turns()
    [block] = bench.historian.scores(PUMP, 0, 2**62)
    assert (block.version, len(block)) == ("v1", 1)


def test_a_historian_that_fails_loses_nothing_and_nothing_is_committed_before_it_took_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "BACKOFF_S", (0.0,))
    bench.session.close()
    stop, failures = threading.Event(), [StorageFull("full"), StorageError("locked"), StorageError("locked")]

    def trouble() -> None:
        assert all(at.offset == 0 for at in bench.log.committed("record", topics.READINGS).values())
        if failures:
            raise failures.pop()
        stop.set()

    bench.historian.trouble = trouble
    bench.send((1, 20.0), (2, 21.0))
    service.run(RecordWorker(bench.log, bench.historian), bench.log, stop, timeout_s=0.0)
    assert bench.values() == [20.0, 21.0]
    assert bench.behind() == 0


def test_a_crash_after_the_write_and_before_the_commit_writes_again_and_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send((1, 20.0), (2, 21.0))
    bench.put(topics.SCORES, codec.encode_scores(scores(2))[0][1])
    bench.put(topics.ALERTS, codec.encode_event(event(1)), b"a1")
    real = bench.session.consumer.commit

    def commit(positions: Mapping[Partition, Position]) -> None:
        if bench.historian.writes:
            raise KeyboardInterrupt
        real(positions)

    monkeypatch.setattr(bench.session.consumer, "commit", commit)
    bench.turns(1)
    with pytest.raises(KeyboardInterrupt):
        bench.turns(1)
    bench.session.consumer.close()
    assert bench.behind() > 0
    bench.join()
    bench.turns(8)
    assert bench.historian.writes > 1
    assert bench.values() == [20.0, 21.0]
    assert bench.historian.events("a1") == [event(1)]
    assert [len(block) for block in bench.historian.scores(PUMP, 0, 2**62)] == [1]
    assert bench.behind() == 0


def fill(bench: Bench) -> None:
    bench.send((1, 20.0), (2, 21.0))
    bench.put(topics.SCORES, codec.encode_scores(scores(2))[0][1])
    bench.put(topics.ALERTS, codec.encode_event(event(1)), b"a1")
    bench.turns()
    bench.session.consumer.close()


def test_a_historian_that_was_removed_is_filled_again_from_the_log(bench: Bench) -> None:
    fill(bench)
    bench.historian = Historian()
    bench.join()
    bench.turns(8)
    assert bench.values() == [20.0, 21.0]
    assert bench.historian.events("a1") == [event(1)]
    assert [len(block) for block in bench.historian.scores(PUMP, 0, 2**62)] == [1]
    assert bench.behind() == 0


def test_a_historian_that_has_something_is_not_filled_again(bench: Bench) -> None:
    fill(bench)
    writes = bench.historian.writes
    bench.join()
    bench.turns(8)
    assert bench.historian.writes == writes


def test_a_crash_while_the_historian_is_filled_again_goes_on_with_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    bench.historian = Historian()
    bench.join()
    real = bench.session.consumer.commit

    def commit(positions: Mapping[Partition, Position]) -> None:
        if bench.historian.writes:
            raise KeyboardInterrupt
        real(positions)

    monkeypatch.setattr(bench.session.consumer, "commit", commit)
    bench.session.limit = 1
    with pytest.raises(KeyboardInterrupt):
        bench.turns(8)
    bench.session.consumer.close()
    assert bench.historian.span() is not None or bench.historian.events("a1")
    bench.join()
    bench.turns(8)
    assert bench.values() == [20.0, 21.0]
    assert bench.historian.events("a1") == [event(1)]
    assert [len(block) for block in bench.historian.scores(PUMP, 0, 2**62)] == [1]
    assert bench.behind() == 0


def test_a_record_that_ended_the_process_again_and_again_is_passed_over(bench: Bench) -> None:
    home = Partition(topics.SCORES, 0)
    bench.turns(1)
    bench.put(topics.SCORES, codec.encode_scores(scores(2))[0][1])
    bench.worker.set_aside(bench.log.read(home, 0, 1)[0])
    assert bench.worker.write()[home][0] == 1
    assert bench.historian.writes == 0


def test_single_rows_are_stored_together_and_the_later_of_two_still_wins(bench: Bench) -> None:
    blocks: list[int] = []
    write = bench.historian.write

    def counted(
        readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        blocks.extend((len(readings), len(scores)))
        write(readings, scores, events)

    bench.historian.write = counted  # type: ignore[method-assign]
    for second, value in ((1, 10.0), (2, 20.0), (3, 30.0), (2, 25.0)):
        bench.send((second, value))
        bench.put(topics.SCORES, codec.encode_scores(scores(second))[0][1])
    bench.put(topics.SCORES, codec.encode_scores(scores(4, "v2"))[0][1])
    bench.turns()
    assert blocks == [1, 2]
    assert bench.values() == [10.0, 25.0, 30.0]
    assert [len(block) for block in bench.historian.scores(PUMP, 0, 2**62)] == [3, 1]
