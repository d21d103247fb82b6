"""An activation of more assets than a record holds: whole or not there, the same for every reader (G8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import Rung
from anomaly.errors import ConfigurationError, StorageError
from pipelines import activations, topics
from pipelines.activations import Activation, Gathering
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.kafka_topics import BROKER_RECORD_BYTES
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.codec import Serving
from pipelines.ports import Log, NewRecord, Partition
from pipelines.serving import ServingTable, Wish, activate, promote

PLANT = {
    f"works/building-{i % 7}/line-{i % 50}/machine-number-{i}": 1_800_000_000_000_000_000 + i for i in range(20_000)
}


class TightLog(MemoryLog):
    """Takes records as large as a broker does by itself; dies after `lives` more of them, with those stored."""

    def __init__(self) -> None:
        super().__init__(MemoryClock())
        self.create(topics.partitions(2), topics.COMPACTED)
        self.lives: int | None = None

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        for record in records:
            if len(record.key or b"") + len(record.value or b"") > BROKER_RECORD_BYTES - 1000:
                raise ConfigurationError("a record is larger than its topic takes")
        if self.lives is None or len(records) <= self.lives:
            return super().append(records)
        super().append(records[: self.lives])
        self.lives = None
        raise StorageError("the worker died in between")


def wished(version: str) -> Serving:
    return Serving("g", version, 0, Rung.WINDOW_PCA)


def table(log: Log) -> ServingTable:
    found = ServingTable()
    found.refresh(log)
    return found


def open_wish(log: Log) -> Wish:
    wish = table(log).open_wish(0, "g")
    assert wish is not None
    return wish


def version(found: ServingTable, asset: str, time: int) -> str:
    [(names, _, _)] = found.runs(0, "g", asset, np.array([time], dtype=np.int64))
    return names[0]


def test_a_plant_of_twenty_thousand_machines_takes_up_a_version() -> None:
    log = TightLog()
    promote(log, wished("v1"))
    activate(log, 0, open_wish(log), PLANT)
    assert log.ends(topics.MODELS)[Partition(topics.MODELS, 0)][1] > 5
    found = table(log)
    [activation] = found.activations[0, "g"]
    assert activation.since == {asset: newest + 1 for asset, newest in PLANT.items()}
    assert found.open_wish(0, "g") is None
    asset, newest = next(iter(PLANT.items()))
    assert (version(found, asset, newest), version(found, asset, newest + 1)) == ("rules", "v1")


def test_a_small_plant_needs_one_record() -> None:
    log = TightLog()
    promote(log, wished("v1"))
    for emitted in ({}, {"s/a": 3}):
        before = log.ends(topics.MODELS)[Partition(topics.MODELS, 0)][1]
        activate(log, 0, open_wish(log), emitted)
        assert log.ends(topics.MODELS)[Partition(topics.MODELS, 0)][1] == before + 1
        promote(log, wished("v2"))


@pytest.mark.parametrize("lives", [0, 1, 5])
def test_after_a_crash_between_the_parts_the_old_version_serves_until_the_next_worker_took_it_up(lives: int) -> None:
    log = TightLog()
    promote(log, wished("v1"))
    asset, newest = next(iter(PLANT.items()))
    log.lives = lives
    with pytest.raises(StorageError):
        activate(log, 0, open_wish(log), PLANT)
    half = table(log)
    assert half.current(0, "g") == "rules"
    assert version(half, asset, newest + 1) == "rules"

    later = {name: time + 50 for name, time in PLANT.items()}  # scored by the rules meanwhile
    activate(log, 0, open_wish(log), later)
    for found in (half, table(log)):  # who read the halves, and who begins now
        found.refresh(log)
        assert found.activations[0, "g"][0].since == {name: time + 1 for name, time in later.items()}
        assert (version(found, asset, newest + 50), version(found, asset, newest + 51)) == ("rules", "v1")
    log.compact(topics.MODELS)
    assert table(log).activations == half.activations


def test_the_same_attempt_again_writes_the_same_records() -> None:
    one, other = (encoded({"s/a": 1, "s/b": 2, "s/c": 3}) for _ in range(2))
    assert one == other
    assert len(one) == 3
    changed = encoded({"s/a": 1, "s/b": 2, "s/c": 4})
    assert not {key for key, _ in one} & {key for key, _ in changed}


def encoded(since: dict[str, int]) -> list[tuple[bytes, bytes]]:
    return activations.encode(Activation(0, 7, "g", "v1", Rung.WINDOW_PCA, since, 0), part_bytes=1)


@given(attempts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=6))
def test_parts_of_different_attempts_never_mix(attempts: list[tuple[int, int]]) -> None:
    """Workers begin, each with other times, and die after some parts: the first that was said in full counts."""
    gathering, whole = Gathering(), []
    for number, lives in attempts:
        for _, value in encoded({f"s/{i}": number for i in range(4)})[:lives]:
            if (activation := gathering.take(value)) is not None:
                whole.append(activation)
    assert all(len(set(activation.since.values())) == 1 and len(activation.since) == 4 for activation in whole)
    assert (whole[0].since["s/0"] if whole else None) == _first_full(attempts)


def _first_full(attempts: list[tuple[int, int]]) -> int | None:
    """An attempt that says the same goes on where another like it died."""
    there: dict[int, int] = {}
    for number, lives in attempts:
        there[number] = max(there.get(number, 0), min(lives, 4))
        if there[number] == 4:
            return number
    return None


def test_a_worker_that_wakes_up_late_changes_nothing() -> None:
    """It was frozen with its answer to an old wish in hand; the partition has gone on to the next."""
    log = TightLog()
    promote(log, wished("v1"))
    old = open_wish(log)
    promote(log, wished("v2"))
    activate(log, 0, open_wish(log), {"s/a": 30})
    activate(log, 0, old, {"s/a": 10})
    found = table(log)
    assert [activation.version for activation in found.activations[0, "g"]] == ["v2"]
    assert found.open_wish(0, "g") is None


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.integration)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "memory":
        made: Log = MemoryLog(MemoryClock())
    elif request.param == "sqlite":
        made = SqliteLog(tmp_path / "log.db", SystemClock())
    else:
        made = KafkaLog(request.getfixturevalue("kafka"))
    with closing(made):
        made.create(topics.partitions(2), topics.COMPACTED)
        yield made


def test_a_replay_picks_the_same_versions_on_every_log(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swaps in many parts, one of them broken off: what was scored live is scored the same by whoever reads anew."""
    monkeypatch.setattr(activations, "encode", partial(activations.encode, part_bytes=100))
    live, emitted, scored = ServingTable(), dict.fromkeys((f"s/{i}" for i in range(40)), 0), {}
    for turn in range(6):
        promote(log, wished(f"v{turn}"))
        live.refresh(log)
        wish = live.open_wish(0, "g")
        assert wish is not None
        if turn == 3:
            broken = activations.encode(
                Activation(0, wish.offset, "g", "v3", Rung.WINDOW_PCA, {a: t - 5 for a, t in emitted.items()}, 0)
            )
            log.append([NewRecord(topics.MODELS, *part, partition=0) for part in broken[:-1]])
        else:
            activate(log, 0, wish, emitted)
        live.refresh(log)
        for number, asset in enumerate(emitted):
            for time in range(emitted[asset] + 1, emitted[asset] + 2 + number % 3):
                scored[asset, time] = version(live, asset, time)
                emitted[asset] = time
    assert set(scored.values()) == {"v0", "v1", "v2", "v4", "v5"}
    anew = table(log)
    assert {(asset, time): version(anew, asset, time) for asset, time in scored} == scored
