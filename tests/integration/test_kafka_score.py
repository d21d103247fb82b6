"""Score workers on a real broker, killed again and again at work: the same scores, byte for byte, as one left alone."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Tag
from anomaly.registry import Registry
from pipelines import codec, topics
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.memory import MemoryLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.plant_file import write_plant
from pipelines.ports import Log, NewRecord
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from tests.integration.processes import Served, until

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(290)]

WORKERS, KILLS, PARTITIONS = 3, 8, 4
TICK = 10 * SECOND
ASSETS = tuple(
    Asset(f"works/line/pump-{i}", "pumps", (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "l/s", 0.0, 50.0)), tick=TICK)
    for i in range(12)
)
PLANT = Plant("works", ASSETS)


class Feed:
    """Mints the same records for every log: two ticks of an asset a record, now and then poison."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.start = time.time_ns() // TICK * TICK - 6 * 3600 * SECOND
        self.tick = 0
        self.minted: list[NewRecord] = []

    def next(self) -> list[NewRecord]:
        times = np.array([self.start + (self.tick + i) * TICK for i in range(2)], dtype=np.int64)
        self.tick += 2
        records = []
        for number, asset in enumerate(ASSETS):
            values = np.column_stack([40 + self.rng.normal(0, 8, 2), 20 + self.rng.normal(0, 5, 2)])
            block = Readings(asset.path, ("temp", "flow"), times, values, np.full((2, 2), Quality.GOOD, np.uint8))
            home = number % PARTITIONS
            records.append(
                NewRecord(topics.READINGS, asset.path.encode(), codec.encode_readings(block), partition=home)
            )
            if self.rng.random() < 0.01:
                records.append(NewRecord(topics.READINGS, asset.path.encode(), b"{poison", partition=home))
        self.minted += records
        return records


def emitted(log: Log) -> dict[tuple[str, int], Counter[bytes]]:
    """Each row on the scores topic, with how often it is there in which bytes."""
    found: dict[tuple[str, int], Counter[bytes]] = defaultdict(Counter)
    for partition, (first, _) in log.ends(topics.SCORES).items():
        position = first
        while page := log.read(partition, position, 1000):
            for record in page:
                scores = codec.decode_scores(record.value or b"")
                for i, moment in enumerate(scores.times.tolist()):
                    columns = (scores.score, scores.contributions, scores.expected, scores.coverage, scores.faults)
                    row = b"|".join(column[i].tobytes() for column in columns) + scores.state[i].value.encode()
                    found[scores.assets[0], moment][row] += 1
            position = page[-1].offset + 1
    return found


def undisturbed(records: list[NewRecord], models: Path) -> tuple[dict[tuple[str, int], Counter[bytes]], Counter[str]]:
    log = MemoryLog(SystemClock())
    log.create(topics.partitions(PARTITIONS), topics.COMPACTED)
    log.append(records)
    worker = ScoreWorker(log, PLANT, Registry(models))
    session = Session(worker, log.join("score", worker.topics), 64)
    quiet = 0
    while quiet < 3:
        quiet = 0 if session.step(0.0) else quiet + 1
    return emitted(log), worker.counts()


@pytest.fixture
def workers() -> Iterator[list[Served]]:
    started: list[Served] = []
    yield started
    for one in started:
        one.kill()


def test_kills_in_the_middle_of_work_change_no_score(kafka: KafkaConfig, tmp_path: Path, workers: list[Served]) -> None:
    log = KafkaLog(kafka)
    log.create(topics.partitions(PARTITIONS), topics.COMPACTED)
    write_plant(PLANT, tmp_path / "plant.toml")
    settings = {"log": "kafka", "kafka_servers": kafka.servers[0], "topic_prefix": kafka.prefix, "data_dir": tmp_path}

    def start(number: int) -> Served:
        workers.append(Served("score", settings, tmp_path, "--member", f"w{number}"))
        return workers[-1]

    chance, feed = random.Random(3), Feed()
    alive = {number: start(number).await_ready() for number in range(WORKERS)}
    at_work = 0
    for _ in range(KILLS):
        for _ in range(10):
            log.append(feed.next())
            time.sleep(0.05)
        victim = chance.choice(sorted(alive))
        before = committed(log)
        alive[victim].kill()
        at_work += before < len(feed.minted)
        alive[victim] = start(victim)
    log.append(feed.next())
    until(lambda: committed(log) == len(feed.minted), "all records to be scored", 120.0)

    expected, counts = undisturbed(feed.minted, tmp_path / "models")
    found = emitted(log)
    assert at_work >= KILLS // 2, "too few kills struck while there was work"
    assert len(expected) > 1_500
    assert found.keys() == expected.keys()
    assert {key for key in expected if found[key].keys() != expected[key].keys()} == set()
    assert all(times == 1 for row in found.values() for times in row.values()), "scored twice"
    letters = sum(end for _, end in log.ends(topics.DEAD_LETTERS).values())
    assert letters == counts["dead_lettered"] > 0
    assert [worker.stop() for worker in alive.values()] == [0] * WORKERS
    log.close()


def committed(log: KafkaLog) -> int:
    """Records that the workers are through with."""
    return sum(at.offset for at in log.committed("score", topics.READINGS).values())
