"""Clocks and what hangs on them: event time may run fast, members' lives never do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from anomaly.domain import Alert, AlertState, Anomaly, Kind, Priority
from anomaly.errors import ConfigurationError, Unreachable
from pipelines.adapters.memory import MemoryClock, MemoryNotifier
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import ScaledClock, SystemClock
from pipelines.adapters.upkeep import COMPACT_AT, DAY, Retention
from pipelines.ports import AlertEvent, NewRecord, Partition


def test_the_system_clock_tells_the_time_and_sleeps() -> None:
    clock = SystemClock()
    before = time.time_ns()
    clock.sleep(0.01)
    clock.sleep(-1.0)
    assert before + 10_000_000 <= clock.now() <= time.time_ns()


def test_a_scaled_clock_runs_so_many_times_faster_from_its_start() -> None:
    wall = [5_000_000_000]
    clock = ScaledClock(60.0, 1_000, timer=lambda: wall[0])
    assert clock.now() == 1_000
    wall[0] += 2_000_000_000
    assert clock.now() == 1_000 + 120_000_000_000


def test_a_minute_of_a_fast_clock_is_slept_in_its_share_of_the_wall() -> None:
    clock = ScaledClock(6_000.0, 0)
    begin = time.monotonic()
    clock.sleep(60.0)
    assert 0.01 <= time.monotonic() - begin < 5.0
    assert clock.now() >= 60_000_000_000


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clock_that_cannot_run_is_refused(speed: float) -> None:
    with pytest.raises(ConfigurationError, match="must be a positive number"):
        ScaledClock(speed, 0)


def test_days_of_event_time_expire_no_member(tmp_path: Path) -> None:
    clock = MemoryClock()
    log = SqliteLog(tmp_path / "log.db", clock)
    log.create({"t": 2})
    first, second = log.join("g", ["t"]), log.join("g", ["t"])
    assert len(first.poll(10, 0.0).assigned) == 1
    assert len(second.poll(10, 0.0).assigned) == 1
    clock.sleep(30 * 86_400.0)
    for member in (first, second):
        assert member.poll(10, 0.0).revoked == ()
        member.close()
    log.close()


def test_a_compacted_topic_is_compacted_by_itself_once_it_is_big_and_readers_see_tombstones_for_a_day(
    tmp_path: Path,
) -> None:
    clock = MemoryClock()
    log = SqliteLog(tmp_path / "log.db", clock)
    log.create({"c": 1}, frozenset({"c"}))
    log.append([NewRecord("c", b"gone", None)])
    for i in range(30):
        log.append([NewRecord("c", b"k%d" % (j % 3), b"%d" % i) for j in range(100)])
    left = log.read(Partition("c", 0), 0, 10**6)
    assert len(left) < COMPACT_AT + 100
    assert left[0].key == b"gone"
    assert log.ends("c") == {Partition("c", 0): (0, 3001)}
    clock.sleep(2 * 86_400.0)
    log.compact("c")
    assert [record.key for record in log.read(Partition("c", 0), 0, 10)] == [b"k1", b"k2", b"k0"]
    log.close()


def test_retention_by_age_and_by_size_moves_the_start_and_never_an_offset(tmp_path: Path) -> None:
    clock = MemoryClock()
    log = SqliteLog(tmp_path / "log.db", clock, retention={"t": Retention(age=DAY, size=1_000)})
    log.create({"t": 1})
    log.append([NewRecord("t", None, b"x" * 100) for _ in range(12_000)])
    assert log.trim() == 11_990
    assert log.ends("t") == {Partition("t", 0): (11_990, 12_000)}
    clock.sleep(86_401.0)
    log.append([NewRecord("t", None, b"new")])
    assert log.trim() == 10
    (record,) = log.read(Partition("t", 0), 0, 10)
    assert (record.offset, record.value) == (12_000, b"new")
    assert log.trim() == 0
    log.close()


def test_a_notifier_in_memory_keeps_what_it_is_told_unless_it_is_down() -> None:
    anomaly = Anomaly("p", Kind.PROCESS, "process", 1, None, 2.0, ("a",), "v1")
    event = AlertEvent("a-1", "raised", 1, Alert("a", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, 1))
    notifier = MemoryNotifier()
    notifier.notify(event, "text")
    notifier.down = True
    with pytest.raises(Unreachable, match="is down"):
        notifier.notify(event, "again")
    assert notifier.sent == [(event, "text")]
