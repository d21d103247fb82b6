"""Versions are loaded once, refused for ever, and replaced by the one before (guarantee G9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from anomaly.detector import Detector, rules_detector
from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Rung, Tag
from anomaly.errors import ModelRefused, StorageError
from anomaly.scorers.rolling_z import RollingZ
from pipelines import codec, feeding, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.codec import Serving
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from pipelines.serving import ServingTable, promote
from pipelines.streams import LONGEST_WINDOW
from pipelines.versions import Versions

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
ASSET = Asset("s/a", "g", (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "", 0.0, 9.0)), TICK)
GROUPS: Mapping[str, tuple[Asset, ...]] = {"g": (ASSET,)}


class Source:
    """Versions of a rolling z-score over so many rows; `damaged` ones are refused, while `away` none can be read."""

    def __init__(self, **lengths: int) -> None:
        self.lengths = lengths
        self.damaged: set[str] = set()
        self.away = False
        self.loads: list[str] = []

    def load(self, group: str, version: str) -> Detector:
        self.loads.append(version)
        if self.away:
            raise StorageError("disk gone")
        if version in self.damaged:
            raise ModelRefused(f"{version}: a bit flipped")
        base = rules_detector(group, GROUPS[group], version)
        return replace(base, scorer=RollingZ(self.lengths[version], np.array([0.1, 0.1])))


def versions(source: Source) -> Versions:
    return Versions(source, GROUPS, LONGEST_WINDOW)


def test_a_version_is_loaded_once_and_a_refused_one_is_asked_for_once() -> None:
    source = Source(v1=4, v2=4)
    source.damaged.add("v2")
    found = versions(source)
    assert found.get("g", "v1") is found.get("g", "v1")
    assert found.get("g", "v2") is None
    source.damaged.clear()
    assert found.get("g", "v2") is None
    assert source.loads == ["v1", "v2"]
    assert found.refused == {("g", "v2"): "v2: a bit flipped"}


def test_the_rules_need_no_file() -> None:
    source = Source()
    rules = versions(source).get("g", "rules")
    assert rules is not None
    assert (rules.rung, rules.version, source.loads) == (Rung.RULES, "rules", [])


def test_a_window_that_could_not_be_rebuilt_after_a_crash_is_refused_with_the_reason() -> None:
    found = versions(Source(longest=LONGEST_WINDOW, longer=LONGEST_WINDOW + 1))
    assert found.get("g", "longest") is not None
    assert found.get("g", "longer") is None
    assert "129 rows, at most 128" in found.refused["g", "longer"]


def test_the_newest_that_is_not_refused_stands_in_and_the_rules_at_last() -> None:
    source = Source(v1=4, v2=4, v3=4)
    source.damaged = {"v2", "v3"}
    assert versions(source).first_usable("g", ["v3", "v2", "v1", "rules"]).version == "v1"
    source.damaged.add("v1")
    assert versions(source).first_usable("g", ["v3", "v2", "v1"]).version == "rules"


def test_a_store_that_cannot_be_read_refuses_nothing() -> None:
    source = Source(v1=4)
    source.away = True
    found = versions(source)
    with pytest.raises(StorageError):
        found.get("g", "v1")
    source.away = False
    assert found.get("g", "v1") is not None
    assert found.refused == {}


# ------------------------------------------------------------------------------------- through the score service (G9)


class Bench:
    """A score worker over a log in memory, a second of rows at a time."""

    def __init__(self, source: Source) -> None:
        self.log = MemoryLog(MemoryClock(START + 10**6 * SECOND))
        self.log.create(topics.partitions(1), topics.COMPACTED)
        self.source = source
        self.sent = 0
        self.restart()

    def restart(self) -> None:
        self.worker = ScoreWorker(self.log, Plant("p", (ASSET,)), self.source)
        self.session = Session(self.worker, self.log.join("score", self.worker.topics), 64)

    def rows(self, count: int) -> None:
        times = START + TICK * np.arange(self.sent + 1, self.sent + count + 1)
        values = np.tile([50.0, 5.0], (count, 1)) + 0.1 * (np.arange(count) % 3)[:, None]
        self.sent += count
        block = Readings(ASSET.path, ("temp", "flow"), times, values, np.full((count, 2), Quality.GOOD, np.uint8))
        feeding.append(self.log, [block])
        self.turn()

    def turn(self) -> None:
        for _ in range(3):
            self.session.step(0.0)

    def wish(self, version: str) -> None:
        promote(self.log, Serving("g", version, 0, Rung.ROLLING_Z))
        self.turn()

    def scored(self) -> list[tuple[int, str]]:
        """Row number (from 1) and version of every score."""
        found = []
        for ends in self.log.ends(topics.SCORES):
            for record in self.log.read(ends, 0, 10**6):
                scores = codec.decode_scores(record.value or b"")
                found += [((int(time) - START) // TICK, scores.version) for time in scores.times]
        return found


def test_a_swap_drops_no_window_and_scores_none_twice() -> None:
    bench = Bench(Source(v1=4, v2=6))
    bench.rows(20)
    bench.wish("v1")
    bench.rows(20)
    bench.wish("v2")
    bench.rows(20)
    assert bench.scored() == [
        *((row, "rules") for row in range(1, 19)),
        *((row, "v1") for row in range(19, 39)),
        *((row, "v2") for row in range(39, 59)),
    ]


def test_a_damaged_version_is_never_taken_up_and_the_old_one_goes_on_and_the_reason_is_told() -> None:
    source = Source(v1=4)
    source.damaged.add("v2")
    bench = Bench(source)
    bench.wish("v1")
    bench.wish("v2")
    bench.rows(10)
    assert {version for _, version in bench.scored()} == {"v1"}
    assert bench.worker.refusals() == {"g/v2": "v2: a bit flipped"}
    assert bench.worker.serving() == {"g": "v1"}
    table = ServingTable()
    table.refresh(bench.log)
    assert [a.version for a in table.activations[0, "g"]] == ["v1"]


def test_a_version_damaged_after_it_served_is_replaced_by_the_one_before_under_its_own_name() -> None:
    source = Source(v1=4, v2=6)
    bench = Bench(source)
    bench.wish("v1")
    bench.rows(10)
    bench.wish("v2")
    bench.rows(10)
    source.damaged.add("v2")
    bench.session.close()
    bench.restart()
    bench.turn()
    bench.rows(10)
    assert bench.scored() == [
        *((row, "v1") for row in range(1, 9)),
        *((row, "v2") for row in range(9, 19)),
        *((row, "v1") for row in range(19, 29)),
    ]
    assert "g/v2" in bench.worker.refusals()


def test_a_new_wish_after_a_refused_one_is_taken_up() -> None:
    source = Source(v1=4)
    source.damaged.add("v0")
    bench = Bench(source)
    bench.wish("v0")
    bench.rows(10)
    bench.wish("v1")
    bench.rows(10)
    assert [version for _, version in bench.scored()] == ["rules"] * 8 + ["v1"] * 10
