"""`kill -9` in the middle of appends, commits and writes: nothing acknowledged is lost, and others take over."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.adapters.sqlite_historian_reading import SqliteHistorianReader
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import Partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS = 10
EVER = (0, 2**63 - 1)

APPENDER = """
import sys
from pathlib import Path
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import NewRecord

log = SqliteLog(Path(sys.argv[1]), SystemClock())
log.create({"t": 3, "c": 1}, frozenset({"c"}))
life, number = sys.argv[2], 0
while True:
    values = [f"{life} {number + i}" for i in range(1 + number % 50)]
    records = [NewRecord("t", value.encode(), value.encode() * 40) for value in values]
    offsets = log.append(records + [NewRecord("c", b"k", life.encode())] * 100)
    print(*(f"{value}={offset}" for value, offset in zip(values, offsets)), sep=",", flush=True)
    number += len(values)
"""

CONSUMER = """
import sys
from pathlib import Path
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import Position

log = SqliteLog(Path(sys.argv[1]), SystemClock())
member = log.join("g", ["t"])
print("joined", flush=True)
while True:
    batch = member.poll(7, 1.0)
    for partition, position in batch.assigned.items():
        member.seek(partition, position.offset if position else 0)
        print(f"assigned {partition.number}", flush=True)
    ends = {record.partition: Position(record.offset + 1, f"m{record.offset + 1}") for record in batch.records}
    member.commit(ends)
    for partition, position in ends.items():
        print(f"committed {partition.number} {position.offset}", flush=True)
"""

RECORDER = """
import sys
from pathlib import Path
import numpy as np
from anomaly.domain import Readings
from pipelines.adapters.sqlite_historian import SqliteHistorian

historian = SqliteHistorian(Path(sys.argv[1]))
first = int(sys.argv[2])
while True:
    times = np.arange(first, first + 100)
    for tag in ("a", "b"):
        block = Readings("p", (tag,), times, times[:, None] * 1.0, np.zeros((100, 1), np.uint8))
        historian.write([block])
        print(f"{tag} {first + 100}", flush=True)
    first += 100
"""


@contextmanager
def child(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def killed(script: str, *arguments: str, lines: int) -> list[str]:
    """Whole lines a process printed until it was killed, some time after its first `lines`."""
    with child(script, *arguments) as process:
        stdout = process.stdout
        assert stdout is not None
        printed = [stdout.readline() for _ in range(lines)]
        time.sleep(random.Random(lines).uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        printed += stdout.readlines()
        assert process.wait() == -signal.SIGKILL
    return [line.strip() for line in printed if line.endswith("\n")]


def test_ten_kills_in_the_middle_of_appends_lose_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    acknowledged: dict[str, int] = {}
    for life in range(KILLS):
        for line in killed(APPENDER, str(path), str(life), lines=3 + 2 * life):
            acknowledged |= {value: int(offset) for value, _, offset in (p.partition("=") for p in line.split(","))}
    log = SqliteLog(path, SystemClock())
    stored: dict[str, int] = {}
    for partition, (start, end) in log.ends("t").items():
        records = log.read(partition, 0, 10**6)
        assert [record.offset for record in records] == list(range(start, end))
        for record in records:
            key = (record.key or b"").decode()
            assert record.value == key.encode() * 40
            assert key not in stored
            stored[key] = record.offset
    log.close()
    assert len({value.split()[0] for value in acknowledged}) == KILLS
    assert acknowledged.items() <= stored.items()
    for life in range(KILLS):
        mine = sorted(int(value.split()[1]) for value in stored if value.split()[0] == str(life))
        assert mine == list(range(len(mine)))


def test_ten_kills_of_a_consumer_lose_no_commit_and_the_next_goes_on_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path, SystemClock())
    newest: dict[int, int] = {}
    killed(APPENDER, str(path), "first", lines=1)
    for life in range(KILLS):
        begin = time.monotonic()
        with child(APPENDER, str(path), str(life)):
            lines = killed(CONSUMER, str(path), lines=8 + life)
        assert time.monotonic() - begin < 30.0, "the session of the killed one is 60 s"
        words = [line.split() for line in lines]
        assert sum(word[0] == "assigned" for word in words) == 3
        for word in words:
            if word[0] == "committed":
                assert int(word[2]) > newest.get(int(word[1]), 0)
                newest[int(word[1])] = int(word[2])
        for number, offset in newest.items():
            position = log.committed("g", "t")[Partition("t", number)]
            assert position.offset >= offset
            assert position.metadata == f"m{position.offset}"
            newest[number] = position.offset
    assert newest
    log.close()


def test_a_living_member_takes_over_from_a_killed_process_within_seconds(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", SystemClock(), session_s=600.0)
    log.create({"t": 4})
    member = log.join("g", ["t"])
    held: set[Partition] = set()

    def poll_until(count: int) -> None:
        deadline = time.monotonic() + 30.0
        while len(held) != count:
            assert time.monotonic() < deadline
            batch = member.poll(10, 0.05)
            held.difference_update(batch.revoked)
            held.update(batch.assigned)

    poll_until(4)
    with child(CONSUMER, str(tmp_path / "log.db")):
        poll_until(2)
    poll_until(4)
    member.close()
    log.close()


def test_ten_kills_of_the_recorder_lose_no_row_and_readers_read_on(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    reader = SqliteHistorianReader(path)
    ends = {"a": 0, "b": 0}
    for life in range(KILLS):
        for line in killed(RECORDER, str(path), str(min(ends.values())), lines=2 + life):
            tag, end = line.split()
            ends[tag] = int(end)
        stored = reader.readings("p", *EVER)
        for column, tag in enumerate(stored.tags):
            seen = np.flatnonzero(stored.quality[:, column] == 0)
            assert len(seen) >= ends[tag]
            assert (stored.values[seen, column] == stored.times[seen]).all()
    reader.close()
    historian = SqliteHistorian(path)
    assert historian.span() == reader_span(ends, historian)
    historian.close()


def reader_span(ends: dict[str, int], historian: SqliteHistorian) -> tuple[int, int]:
    """From 0 to what was acknowledged, or to the one batch more that was stored before it could be said."""
    newest = len(historian.readings("p", *EVER)) - 1
    assert max(ends.values()) - 1 <= newest <= max(ends.values()) + 99
    return 0, newest
