"""What the embedded stores do when the file, the disk or another process is in the way."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anomaly.domain import Readings
from anomaly.errors import ConfigurationError, PlantwatchError, StorageError, StorageFull, StorageLocked
from pipelines.adapters.historian_rows import HistorianRetention
from pipelines.adapters.memory import MemoryClock
from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.adapters.sqlite_historian_reading import SqliteHistorianReader
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.upkeep import DAY, Retention
from pipelines.ports import NewRecord, Partition

HERE = Partition("t", 0)
EVER = (0, 2**63 - 1)


def make_log(path: Path, *, patience_s: float = 0.2, max_bytes: int | None = None) -> SqliteLog:
    log = SqliteLog(path, MemoryClock(), patience_s=patience_s, max_bytes=max_bytes)
    log.create({"t": 1})
    return log


def put(log: SqliteLog, *values: bytes) -> None:
    log.append([NewRecord("t", b"k", value) for value in values])


def rows(count: int, first: int = 0) -> Readings:
    return Readings("p", ("a",), np.arange(first, first + count), np.ones((count, 1)), np.zeros((count, 1), np.uint8))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A log and a historian with something in them, closed."""
    log, historian = make_log(tmp_path / "log.db"), SqliteHistorian(tmp_path / "historian.db")
    put(log, *(b"%d" % i * 50 for i in range(300)))
    member = log.join("g", ["t"])
    member.poll(10, 0.0)
    historian.write([rows(3000)])
    member.close()
    log.close()
    historian.close()
    return tmp_path


def open_log(path: Path) -> object:
    log = make_log(path)
    try:
        put(log, b"x")
        member = log.join("g", ["t"])
        member.poll(10, 0.0)
        member.close()
        return [log.read(HERE, 0, 1000), log.ends("t"), log.committed("g", "t"), log.compact("t"), log.trim()]
    finally:
        log.close()


def open_historian(path: Path) -> object:
    historian = SqliteHistorian(path)
    try:
        historian.write([rows(10)])
        return [historian.readings("p", *EVER), historian.latest(), historian.assets(), historian.alerts()]
    finally:
        historian.close()


OPENERS: dict[str, Callable[[Path], object]] = {"log.db": open_log, "historian.db": open_historian}
each_store = pytest.mark.parametrize("name", OPENERS)


def test_a_log_locked_by_another_process_for_too_long_says_so_and_then_goes_on(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log.db")
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageLocked, match=r"another process has held it locked for more than 0\.2 s"):
        put(log, b"a")
    with pytest.raises(StorageLocked):
        log.join("g", ["t"])
    assert log.read(HERE, 0, 10) == ()
    other.execute("ROLLBACK")
    other.close()
    put(log, b"b")
    assert [record.value for record in log.read(HERE, 0, 10)] == [b"b"]
    log.close()


def test_a_historian_locked_by_another_process_still_answers_readers(stored: Path) -> None:
    historian = SqliteHistorian(stored / "historian.db", patience_s=0.2)
    other = sqlite3.connect(stored / "historian.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageLocked):
        historian.write([rows(1)])
    assert historian.span() == (0, 2999)
    other.close()
    historian.write([rows(1, first=5000)])
    assert historian.span() == (0, 5000)
    historian.close()


def test_a_log_at_its_size_limit_is_full_keeps_all_it_took_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    clock = MemoryClock()
    log = SqliteLog(tmp_path / "log.db", clock, max_bytes=400_000, retention={"t": Retention(age=DAY)})
    log.create({"t": 1})
    taken = fill(lambda i: put(log, b"%06d" % i + b"x" * 5000, b"%06d" % i))
    assert log.ends("t")[HERE] == (0, 2 * taken)
    assert len(log.read(HERE, 0, 10_000)) == 2 * taken
    clock.sleep(2 * 86_400)
    assert log.trim() == 2 * taken
    assert log.append([NewRecord("t", b"k", b"x" * 5000)]) == (2 * taken,)
    log.close()


def test_a_full_historian_keeps_all_it_took_and_nothing_of_the_write_that_failed(tmp_path: Path) -> None:
    historian = SqliteHistorian(tmp_path / "h.db", max_bytes=300_000)
    taken = fill(lambda i: historian.write([rows(500, first=500 * i)]))
    assert len(historian.readings("p", *EVER)) == 500 * taken
    historian.database.limit(3_000_000)
    historian.write([rows(500, first=500 * taken)])
    assert len(historian.readings("p", *EVER)) == 500 * (taken + 1)
    historian.close()


def fill(write: Callable[[int], None]) -> int:
    """Write until it is full, try again in vain, and say how many writes were taken."""
    taken = 0
    with pytest.raises(StorageFull, match="no space is left"):  # noqa: PT012  # which write fails is what we ask for
        for taken in range(10_000):
            write(taken)
    with pytest.raises(StorageFull):
        write(taken)
    return taken


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes; needs the right to mount one."""
    disk, mount = tmp_path / "disk", shutil.which("mount")
    disk.mkdir()
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "none", disk], check=False).returncode:
        pytest.skip("may not mount a small file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_loses_nothing_acknowledged_and_is_no_longer_full_when_space_is_back(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    log = make_log(small_disk / "log.db")
    taken = fill(lambda i: put(log, b"%06d" % i + b"x" * 3000))
    assert log.ends("t")[HERE] == (0, taken)
    with pytest.raises(StorageFull):
        make_log(small_disk / "another.db")
    ballast.unlink()
    put(log, b"after" * 10)
    member = log.join("g", ["t"])
    member.close()
    log.close()
    log = make_log(small_disk / "log.db")
    values = [record.value or b"" for record in log.read(HERE, 0, 10_000)]
    assert [value[:6] for value in values] == [*(b"%06d" % i for i in range(taken)), b"aftera"]
    log.close()


@each_store
def test_a_file_that_is_no_database_is_refused_with_advice(stored: Path, name: str) -> None:
    (stored / name).write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StorageError, match=r"it is damaged .* move the file"):
        OPENERS[name](stored / name)


@each_store
def test_a_file_cut_in_half_is_refused_with_advice(stored: Path, name: str) -> None:
    whole = (stored / name).read_bytes()
    (stored / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=r"it is damaged .* move the file"):
        OPENERS[name](stored / name)


@each_store
def test_whatever_is_damaged_in_a_file_only_our_errors_come_out(stored: Path, name: str) -> None:
    whole = (stored / name).read_bytes()
    chance = random.Random(7)
    told: list[str] = []
    for trial in range(60):
        damaged = bytearray(whole)
        for _ in range(1 + trial % 20):
            damaged[chance.randrange(100, len(damaged))] = chance.randrange(256)
        path = stored / f"trial-{trial}.db"
        path.write_bytes(damaged)
        try:
            OPENERS[name](path)
        except PlantwatchError as error:
            told.append(str(error))
    assert told
    assert all("trial-" in message for message in told)


def test_a_stored_row_that_means_nothing_is_told_as_damage(stored: Path) -> None:
    other = sqlite3.connect(stored / "historian.db")
    other.execute("UPDATE readings SET payload = x'0102' WHERE time = 7")
    other.execute("INSERT INTO heartbeats VALUES ('score', 1, x'c1')")
    other.commit()
    other.close()
    reader = SqliteHistorianReader(stored / "historian.db")
    for call in (lambda: reader.readings("p", *EVER), reader.heartbeats):
        with pytest.raises(StorageError, match="damaged"):
            call()
    assert len(reader.readings("p", 10, 20)) == 10
    reader.close()


@each_store
def test_a_file_of_a_newer_plantwatch_is_refused_untouched(stored: Path, name: str) -> None:
    other = sqlite3.connect(stored / name)
    other.execute("PRAGMA user_version = 7")
    other.close()
    before = (stored / name).read_bytes()
    with pytest.raises(ConfigurationError, match=r"newer plantwatch \(its schema is 7, this one knows up to 1"):
        OPENERS[name](stored / name)
    with pytest.raises(ConfigurationError):
        SqliteHistorianReader(stored / name).latest()
    assert (stored / name).read_bytes() == before


def test_a_log_is_not_taken_for_a_historian_nor_any_other_database_for_ours(stored: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a plantwatch historian"):
        open_historian(stored / "log.db")
    other = sqlite3.connect(stored / "other.db")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(ConfigurationError, match="not a plantwatch log but another SQLite file"):
        open_log(stored / "other.db")


@each_store
def test_a_folder_that_cannot_be_made_and_a_folder_in_place_of_the_file_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be made: .* expected a folder this user may write to"):
        OPENERS[name](tmp_path / "file" / name)
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        OPENERS[name](tmp_path / name)


@each_store
def test_an_empty_file_is_a_new_store(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    OPENERS[name](tmp_path / name)


def test_a_reader_finds_a_historian_that_is_made_after_it_and_one_that_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    reader = SqliteHistorianReader(path)
    assert reader.span() is None
    path.touch()
    assert reader.span() is None
    for first in (100, 700):
        historian = SqliteHistorian(path)
        historian.write([rows(5, first=first)])
        assert reader.span() == (first, first + 4)
        historian.close()
        assert reader.span() == (first, first + 4)
        for file in tmp_path.glob("h.db*"):
            file.unlink()
        assert reader.span() is None
    reader.close()
    with pytest.raises(StorageError, match="closed"):
        reader.span()


def test_threads_may_read_a_historian_while_it_is_being_made(tmp_path: Path) -> None:
    for life in range(5):
        path = tmp_path / f"{life}.db"
        reader = SqliteHistorianReader(path)
        with ThreadPoolExecutor(4) as pool:
            spans = [pool.submit(reader.span) for _ in range(100)]
            historian = SqliteHistorian(path)
            spans += [pool.submit(reader.span) for _ in range(20)]
            historian.write([rows(5)])
            assert {span.result() for span in spans} <= {None, (0, 4)}
        assert reader.span() == (0, 4)
        historian.close()
        reader.close()


def test_a_reader_changes_nothing(stored: Path) -> None:
    reader = SqliteHistorianReader(stored / "historian.db")
    assert reader.span() == (0, 2999)
    with pytest.raises(StorageError, match="readonly"), reader._database().transaction() as connection:
        connection.execute("DELETE FROM readings")
    reader.close()


def test_retention_forgets_what_is_old_by_the_newest_row_of_the_same_asset(tmp_path: Path) -> None:
    historian = SqliteHistorian(tmp_path / "h.db", retention=HistorianRetention(readings=100))
    historian.write([rows(1000)])
    quiet = rows(10)
    historian.write([Readings("quiet", quiet.tags, quiet.times, quiet.values, quiet.quality)])
    historian.trim()
    assert historian.span("p") == (899, 999)
    assert historian.span("quiet") == (0, 9)
    historian.close()


def test_files_of_two_logs_made_by_many_processes_at_once_are_whole(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from pipelines.adapters.system_clock import SystemClock\n"
        "from pipelines.adapters.sqlite_log import SqliteLog; from pipelines.ports import NewRecord\n"
        "log = SqliteLog(Path(sys.argv[1]), SystemClock(), patience_s=60.0); log.create({'t': 2})\n"
        "for i in range(60): log.append([NewRecord('t', sys.argv[2].encode(), b'%d %d' % (i, j)) for j in range(5)])\n"
        "log.close()\n"
    )
    path = tmp_path / "new" / "log.db"
    children = [subprocess.Popen([sys.executable, "-c", script, str(path), f"k{i}"]) for i in range(3)]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    log = SqliteLog(path, MemoryClock())
    records = [record for p in range(2) for record in log.read(Partition("t", p), 0, 10_000)]
    for key in (b"k0", b"k1", b"k2"):
        mine = [record.value for record in records if record.key == key]
        assert mine == [b"%d %d" % (i, j) for i in range(60) for j in range(5)]
    for partition, (start, end) in log.ends("t").items():
        assert [record.offset for record in log.read(partition, 0, 10_000)] == list(range(start, end))
    log.close()
