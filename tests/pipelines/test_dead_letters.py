"""Messages that could not be read: listed as they are, sent again once, to where they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomaly.domain import Asset, Plant, Tag
from anomaly.errors import ConfigurationError, DataError, PlantwatchError, StorageLocked
from anomaly.registry import MemoryRegistry
from pipelines import cli, dead_letters, topics, wiring
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.ports import Log, NewRecord, Partition
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from pipelines.settings import Settings

WRONG = (b'{"nonsense": \x1b[31m 1}', b"\xff\xfe", b"{", b"")
UNKNOWN = b'{"asset": "s/new", "tag": "t", "ts": "2026-01-05T01:00:00Z", "value": 1.0}'
PLANT = Plant("w", (Asset("s/pump", "p", (Tag("t"),)),))


def score(log: Log, plant: Plant = PLANT) -> ScoreWorker:
    """All that is on the readings topic taken in."""
    worker = ScoreWorker(log, plant, MemoryRegistry())
    session = Session(worker, log.join("score", worker.topics), 64)
    for _ in range(4):
        session.step(0.0)
    session.close()
    return worker


def put(log: Log) -> None:
    for number, value in enumerate((*WRONG, UNKNOWN)):
        log.append([NewRecord(topics.READINGS, b"k%d" % number, value, partition=number % 2)])


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(MemoryClock(1_795_255_200 * 10**9))
    made.create(topics.partitions(2), topics.COMPACTED)
    put(made)
    score(made)
    return made


def on_readings(log: Log) -> list[tuple[int, bytes | None, bytes | None]]:
    ends = log.ends(topics.READINGS)
    return [(p.number, r.key, r.value) for p in ends for r in log.read(p, 0, 100)]


def test_each_letter_says_why_and_whence(log: MemoryLog) -> None:
    found = list(dead_letters.letters(log))
    assert {(one.origin, one.origin_offset, one.key, one.value) for one in found} == {
        (Partition(topics.READINGS, n % 2), n // 2, b"k%d" % n, v) for n, v in enumerate((*WRONG, UNKNOWN))
    }
    assert all(one.reason and one.exception and one.time for one in found)
    assert [one.value for one in dead_letters.letters(log, "unknown_asset")] == [UNKNOWN]


def test_what_is_replayed_comes_with_its_own_bytes_and_key_where_it_came_from_and_never_twice(log: MemoryLog) -> None:
    before = on_readings(log)
    assert dead_letters.replay(log) == 5
    assert sorted(on_readings(log), key=repr) == sorted(before * 2, key=repr)
    assert all(one.replayed for one in dead_letters.letters(log))
    assert dead_letters.replay(log) == 0
    score(log)
    assert [one.replayed for one in dead_letters.letters(log)] == [True] * 5 + [False] * 5


def test_one_reason_is_replayed_alone_and_the_others_stay(log: MemoryLog) -> None:
    assert dead_letters.replay(log, "unknown_asset") == 1
    assert dead_letters.replay(log, "unknown_asset") == 0
    assert [one.reason for one in dead_letters.letters(log) if one.replayed] == ["unknown_asset"]
    assert "unknown_asset" not in dead_letters.reasons(dead_letters.letters(log))
    assert dead_letters.replay(log) == 4
    assert dead_letters.reasons(dead_letters.letters(log)) == {}


def test_an_asset_that_was_described_meanwhile_takes_its_readings_from_the_replay(log: MemoryLog) -> None:
    dead_letters.replay(log, "unknown_asset")
    worker = score(log, Plant("w", (*PLANT.assets, Asset("s/new", "p", (Tag("t"),)))))
    assert worker.counts()["acknowledged"] - worker.counts()["dead_lettered"] == 1


def test_a_crash_before_the_commit_sends_again_and_loses_nothing(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_PAGE", 2)
    real, calls = dead_letters._note, []

    def note(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*given)

    monkeypatch.setattr(dead_letters, "_note", note)
    with pytest.raises(KeyboardInterrupt):
        dead_letters.replay(log)
    assert dead_letters.replay(log) == 3
    assert len(on_readings(log)) == 5 + 4 + 3
    assert dead_letters.replay(log) == 0


def test_headers_that_say_the_format_come_back_with_the_message() -> None:
    log = MemoryLog(MemoryClock(1_795_255_200 * 10**9))
    log.create(topics.partitions(1), topics.COMPACTED)
    event = (("ce_specversion", b"1.0"), ("ce_subject", b"s/new"), ("ce_time", b"2026-01-05T01:00:00Z"))
    log.append([NewRecord(topics.READINGS, None, b'{"values": {"t": 1.0}}', event)])
    score(log)
    assert [one.reason for one in dead_letters.letters(log)] == ["unknown_asset"]
    assert dead_letters.replay(log) == 1
    worker = score(log, Plant("w", (*PLANT.assets, Asset("s/new", "p", (Tag("t"),)))))
    assert worker.counts()["acknowledged"] - worker.counts()["dead_lettered"] == 1


def test_a_tombstone_is_counted_beside_the_readings_and_is_no_dead_letter() -> None:
    log = MemoryLog(MemoryClock(1_795_255_200 * 10**9))
    log.create(topics.partitions(1), topics.COMPACTED)
    deleted = b'{"before": {"asset": "s/pump"}, "after": null, "op": "d"}'
    log.append([NewRecord(topics.READINGS, b"s/pump", value) for value in (None, deleted, b"{")])
    counts = score(log).counts()
    assert (counts["tombstone"], counts["dead_lettered"], counts["acknowledged"]) == (2, 1, 1)
    assert [one.value for one in dead_letters.letters(log)] == [b"{"]


def test_two_at_once_are_refused(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_PATIENCE_S", 0.0)
    other = log.join(dead_letters.GROUP, [topics.DEAD_LETTERS])
    other.poll(1, 0.1)
    with pytest.raises(StorageLocked, match="another process"):
        dead_letters.replay(log)
    other.close()


def test_a_letter_without_an_origin_is_told(log: MemoryLog) -> None:
    log.append([NewRecord(topics.DEAD_LETTERS, None, b"x", (("x-reason", b"odd"),))])
    with pytest.raises(DataError, match="x-orig-topic"):
        list(dead_letters.letters(log))


@pytest.fixture
def run(tmp_path: Path) -> Any:
    log = wiring.open_log(Settings(data_dir=tmp_path))
    put(log)
    score(log)
    log.close()

    def invoke(*words: str, given: str | None = None, code: int = 0) -> str:
        done = CliRunner().invoke(cli.app, ["dead-letters", *words, "--data-dir", str(tmp_path)], input=given)
        if isinstance(done.exception, PlantwatchError):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return invoke


def test_the_commands_list_and_replay(run: Any, tmp_path: Path) -> None:
    listed = run("list")
    assert "5 dead letters: " in listed
    assert "\x1b" not in listed
    assert "plantwatch.readings.v1/0@0" in listed
    found = json.loads(run("list", "--json", "--limit", "2"))
    assert (found["count"], len(found["dead_letters"])) == (5, 2)
    assert found["dead_letters"][0]["origin"]["topic"] == topics.READINGS
    assert "Nothing to replay for reason 'unknown_aset'" in run("replay", "--reason", "unknown_aset")
    run("replay", given="n\n", code=1)
    assert "1 messages sent again (unknown_asset 1)" in run("replay", "--reason", "unknown_asset", "--yes")
    assert "4 messages sent again" in run("replay", given="y\n")
    assert "Nothing to replay." in run("replay", "--yes")
    assert run("list").count("  replayed") == 5


def test_a_folder_without_a_log_is_told_and_none_is_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["dead-letters", "list", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, ConfigurationError)
    assert not list(tmp_path.iterdir())
