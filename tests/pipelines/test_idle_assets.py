"""An asset that was silent for more than a day is still scored by one version only (guarantee G8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from anomaly.detector import Detector, rules_detector
from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Rung, Tag
from pipelines import codec, feeding, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.codec import Serving
from pipelines.ports import NewRecord, Partition
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from pipelines.serving import ServingTable, let_go, promote

TICK = 10 * SECOND
START = 1_800_000_000 * SECOND
HOUR = 3600 * SECOND
SILENT, BUSY = (Asset(f"s/{name}", "g", (Tag("temp", "°C", 0.0, 100.0),), TICK) for name in ("silent", "busy"))
PLANT = Plant("test", (SILENT, BUSY))


class Versions:
    """Every version judges by the rules, under its own name."""

    def load(self, group: str, version: str) -> Detector:
        return replace(rules_detector(group, PLANT.assets), version=version)


class Bench:
    """A log of one partition, a clock, and the score service."""

    def __init__(self) -> None:
        self.clock = MemoryClock(START)
        self.log = MemoryLog(self.clock)
        self.log.create(topics.partitions(1), topics.COMPACTED)

    def send(self, asset: Asset, hours: float, count: int = 20) -> None:
        """So many rows that begin `hours` after the start, appended as they come."""
        begin = START + round(hours * HOUR)
        self.clock.sleep(max(0.0, (begin + count * TICK - self.clock.now()) / 1e9))
        times = np.arange(begin, begin + count * TICK, TICK, dtype=np.int64)
        values = np.full((count, 1), 20.0)
        block = Readings(asset.path, ("temp",), times, values, np.full(values.shape, Quality.GOOD, np.uint8))
        feeding.append(self.log, [block])

    def score(self, log: MemoryLog | None = None) -> None:
        """One process of the score service, from its start to its end."""
        worker = ScoreWorker(log or self.log, PLANT, Versions())
        session = Session(worker, (log or self.log).join("score", [topics.READINGS]), 5)
        for _ in range(40):
            session.step(0.0)
        session.close()

    def promote(self, version: str) -> None:
        promote(self.log, Serving("g", version, 0, Rung.RULES, "ann", "better"))


def versions(log: MemoryLog, asset: Asset) -> Mapping[int, str]:
    """The version that scored each window of the asset."""
    found: dict[int, str] = {}
    for record in log.read(Partition(topics.SCORES, 0), 0, 10_000):
        scores = codec.decode_scores(record.value or b"")
        if scores.assets[0] == asset.path:
            found |= dict.fromkeys(scores.times.tolist(), scores.version)
    return found


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_replay_after_a_promotion_scores_a_silent_asset_by_the_version_of_its_time(restarts: int) -> None:
    bench = Bench()
    bench.send(SILENT, 0)
    bench.send(BUSY, 0)
    bench.score()
    for hour in (12, 24, 25, 25.5):
        bench.send(BUSY, hour)
        bench.score()
    for _ in range(restarts):
        bench.send(BUSY, 26)
        bench.score()
    bench.promote("v1")
    bench.score()
    bench.send(SILENT, 27)
    bench.send(BUSY, 27)
    bench.score()
    live = {asset.path: versions(bench.log, asset) for asset in PLANT.assets}
    assert set(live[SILENT.path].values()) == {"rules", "v1"}

    clock = MemoryClock(START)
    again = MemoryLog(clock)
    again.create(topics.partitions(1), topics.COMPACTED)
    for topic in (topics.MODELS, topics.READINGS):
        for record in bench.log.read(Partition(topic, 0), 0, 10_000):
            clock.sleep((record.time - clock.now()) / 1e9 if topic == topics.READINGS else 0.0)
            again.append([NewRecord(topic, record.key, record.value, record.headers, partition=0)])
    bench.score(again)
    replayed = versions(again, SILENT)
    assert replayed == {time: live[SILENT.path][time] for time in replayed}
    assert set(replayed.values()) == {"rules", "v1"}


def test_an_idle_record_outlives_compaction_and_the_newest_counts() -> None:
    bench = Bench()
    let_go(bench.log, 0, {SILENT.path: 5})
    let_go(bench.log, 0, {SILENT.path: 9})
    bench.log.compact(topics.MODELS)
    table = ServingTable()
    table.refresh(bench.log)
    assert table.emitted(0, {BUSY.path: 7}) == {SILENT.path: 9, BUSY.path: 7}
    assert table.emitted(0, {SILENT.path: 12}) == {SILENT.path: 12}
    assert table.emitted(1, {}) == {}
