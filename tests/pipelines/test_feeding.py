"""Sources → readings topic: order, pace, stopping, and going on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import StorageError
from pipelines import feeding, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.codec import SIZE_LIMIT
from pipelines.decoding import decode
from pipelines.folder_feed import FolderFeed
from pipelines.sources.folder import Folder

START = 1_700_000_000 * SECOND


def block(asset: str, times: list[int], tags: tuple[str, ...] = ("a", "b")) -> Readings:
    """Rows at `times` seconds after the start; every value is different."""
    values = np.arange(len(times) * len(tags), dtype=float).reshape(len(times), len(tags)) + 0.5
    quality = np.full(values.shape, Quality.GOOD, np.uint8)
    return Readings(asset, tags, START + SECOND * np.array(times, dtype=np.int64), values, quality)


def a_log() -> MemoryLog:
    log = MemoryLog(MemoryClock(START + 10**6 * SECOND))
    log.create(topics.partitions(2), topics.COMPACTED)
    return log


def stored(log: MemoryLog) -> list[Readings]:
    """What lies on the topic, in the order of each partition."""
    records = [record for partition in log.ends(topics.READINGS) for record in log.read(partition, 0, 10**6)]
    return [found for record in records for found in decode(record.value, record.key, record.time)]


def seconds(readings: Readings) -> list[int]:
    return [(time - START) // SECOND for time in readings.times.tolist()]


class Pace(threading.Event):
    """A stop that is never set, or set in the n-th wait; its waits move the clock."""

    def __init__(self, clock: MemoryClock, stop_at: int | None = None) -> None:
        super().__init__()
        self.clock, self.stop_at = clock, stop_at
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.clock.sleep(timeout or 0.0)
        if len(self.waits) == self.stop_at:
            self.set()
        return self.is_set()


def test_what_was_appended_reads_back_equal_on_the_assets_own_partition() -> None:
    log = a_log()
    blocks = [block("s/a", [1, 2, 3]), block("s/b", [1, 2])]
    assert feeding.append(log, blocks) == 10
    found = {readings.asset: readings for readings in stored(log)}
    for sent in blocks:
        assert np.array_equal(found[sent.asset].values, sent.values)
        assert np.array_equal(found[sent.asset].times, sent.times)
    homes = {record.key for p in log.ends(topics.READINGS) for record in log.read(p, 0, 99)}
    assert homes == {b"s/a", b"s/b"}


def test_a_block_too_large_for_a_record_becomes_several_that_hold_every_row_once() -> None:
    log = a_log()
    wide = block("s/a", list(range(2000)), tuple(f"tag_{i}" for i in range(100)))
    feeding.append(log, [wide])
    records = [record for p in log.ends(topics.READINGS) for record in log.read(p, 0, 10**6)]
    assert len(records) > 1
    assert max(len(record.value or b"") for record in records) <= SIZE_LIMIT
    assert [t for readings in stored(log) for t in seconds(readings)] == list(range(2000))


@given(
    st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=30).map(sorted), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_machines_are_fed_side_by_side_and_nothing_is_lost_or_reordered(lives: list[list[int]], span: int) -> None:
    streams = [[block(f"s/{i}", times)] for i, times in enumerate(lives)]
    found = list(feeding.interleaved(streams, span * SECOND))
    firsts = [seconds(part)[0] for part in found]
    assert firsts == sorted(firsts)
    for part in found:
        assert max(seconds(part)) - min(seconds(part)) < span
    for i, times in enumerate(lives):
        mine = [part for part in found if part.asset == f"s/{i}"]
        assert [t for part in mine for t in seconds(part)] == times
        assert np.array_equal(np.concatenate([part.values for part in mine]), streams[i][0].values)


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 40))
def test_pieces_keep_the_order_even_of_rows_that_run_backwards(times: list[int], span: int) -> None:
    parts = list(feeding.pieces(block("s/a", times), span * SECOND))
    assert [t for part in parts for t in seconds(part)] == times
    assert all(abs(t - seconds(part)[0]) < span for part in parts for t in seconds(part))


def test_at_a_speed_no_block_is_sent_before_its_last_reading_is_due() -> None:
    log, clock = a_log(), MemoryClock(0)
    pace = Pace(clock)
    sent_at = []

    def blocks() -> Iterator[Readings]:
        for first in (0, 60, 120):
            yield block("s/a", [first, first + 30])
            sent_at.append(clock.now() / SECOND)

    assert feeding.feed(log, blocks(), pace, clock=clock, speed=10.0) == 12
    assert sent_at == [3.0, 9.0, 15.0]


def test_without_a_speed_nothing_waits() -> None:
    log, clock = a_log(), MemoryClock(0)
    pace = Pace(clock)
    feeding.feed(log, [block("s/a", [0]), block("s/a", [10**6])], pace, clock=clock)
    assert pace.waits == []


def test_a_stop_while_waiting_sends_nothing_more() -> None:
    log, clock = a_log(), MemoryClock(0)
    pace = Pace(clock, stop_at=2)
    blocks = [block("s/a", [t]) for t in (0, 60, 120)]
    assert feeding.feed(log, blocks, pace, clock=clock, speed=1.0) == 2
    assert [seconds(readings) for readings in stored(log)] == [[0]]


# ------------------------------------------------------------------------------------------------------------ folder


def write(folder: Path, asset: str, rows: int) -> None:
    lines = ["timestamp,a,b"]
    stamps = np.datetime_as_string((START + 60 * SECOND * np.arange(rows)).astype("datetime64[ns]"), unit="s")
    lines += [f"{stamp}Z,{i}.5,{i}.25" for i, stamp in enumerate(stamps.tolist())]
    folder.mkdir(exist_ok=True)
    (folder / f"{asset}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def feed(log: MemoryLog, tmp_path: Path, stop: threading.Event | None = None, speed: float | None = None) -> int:
    clock = stop.clock if isinstance(stop, Pace) else MemoryClock(0)
    folder_feed = FolderFeed(Folder(tmp_path / "data"), tmp_path / "source.json", speed, clock)
    return folder_feed.run(log, stop or threading.Event())


def minutes(log: MemoryLog) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for readings in stored(log):
        found.setdefault(readings.asset, []).extend(t // 60 for t in seconds(readings))
    return found


def test_a_folder_is_fed_once_and_a_second_run_sends_nothing(tmp_path: Path) -> None:
    log = a_log()
    write(tmp_path / "data", "pump", 200)
    write(tmp_path / "data", "fan", 100)
    assert feed(log, tmp_path) == 600
    assert feed(log, tmp_path) == 0
    assert minutes(log) == {"pump": list(range(200)), "fan": list(range(100))}


def test_rows_that_files_have_gained_are_fed_by_the_next_run(tmp_path: Path) -> None:
    log = a_log()
    write(tmp_path / "data", "pump", 90)
    feed(log, tmp_path)
    write(tmp_path / "data", "pump", 100)
    write(tmp_path / "data", "fan", 10)
    assert feed(log, tmp_path) == 40
    assert minutes(log) == {"pump": list(range(100)), "fan": list(range(10))}


def test_a_feed_that_was_stopped_goes_on_and_sends_each_row_once(tmp_path: Path) -> None:
    log = a_log()
    write(tmp_path / "data", "pump", 50)
    write(tmp_path / "data", "fan", 50)
    for stop_at in (3, 5, 8):
        feed(log, tmp_path, Pace(MemoryClock(0), stop_at), speed=120.0)
    assert 0 < len(minutes(log)["pump"]) < 50
    feed(log, tmp_path)
    assert minutes(log) == {"pump": list(range(50)), "fan": list(range(50))}


def test_a_crash_between_append_and_note_sends_the_last_block_again_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = a_log()
    write(tmp_path / "data", "pump", 50)
    with monkeypatch.context() as patch:
        patch.setattr(FolderFeed, "_save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            feed(log, tmp_path, speed=600.0, stop=Pace(MemoryClock(0)))
    feed(log, tmp_path)
    assert minutes(log) == {"pump": [*range(10), *range(50)]}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"folder": "/elsewhere", "rows": {"pump": 50}}'])
def test_a_position_that_says_nothing_of_this_folder_starts_at_its_beginning(tmp_path: Path, text: str) -> None:
    log = a_log()
    write(tmp_path / "data", "pump", 5)
    (tmp_path / "source.json").write_text(text, encoding="utf-8")
    assert feed(log, tmp_path) == 10


def test_a_position_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data", "pump", 5)
    (tmp_path / "source.new").mkdir()
    with pytest.raises(StorageError, match=r"source\.json cannot be written"):
        feed(a_log(), tmp_path)


def test_at_a_speed_a_machines_rows_come_about_every_second_not_every_hour(tmp_path: Path) -> None:
    write(tmp_path / "data", "pump", 120)
    pace = Pace(MemoryClock(0))
    feed(a_log(), tmp_path, pace, speed=60.0)
    assert max(pace.waits) <= 1.0
