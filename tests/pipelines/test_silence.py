"""A machine that sends nothing at all is told as data loss, if others on its partition do send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from anomaly.detector import Detector
from anomaly.domain import SECOND, Alert, Asset, Kind, Plant, Quality, Readings, Role, SensorFault, Tag
from anomaly.errors import ModelRefused
from pipelines import codec, feeding, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog, MemoryNotifier
from pipelines.alert_service import AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.notices import SILENCE_VERSION, patience
from pipelines.ports import Partition, Record
from pipelines.scoring import ScoreWorker
from pipelines.service import Session, Worker

TICK = 10 * SECOND
START = 1_800_000_000 * SECOND
MINUTE = 60 * SECOND
MODE = Tag("mode", role=Role.MODE, running=(1.0,))
TAGS = (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "m³/h", 0.0, 50.0))
MUTE, BUSY = (Asset(f"s/{name}", "g", TAGS, TICK) for name in ("mute", "busy"))


class Nothing:
    """No version was ever fitted: the rules serve."""

    def load(self, group: str, version: str) -> Detector:
        raise ModelRefused("there is none")


class Bench:
    """Readings, score service and alert service over one partition of a log in memory."""

    def __init__(self, assets: Sequence[Asset] = (MUTE, BUSY)) -> None:
        self.plant = Plant("test", tuple(assets))
        self.clock = MemoryClock(START)
        self.log = MemoryLog(self.clock)
        self.log.create(topics.partitions(1), topics.COMPACTED)
        self.told = MemoryNotifier()

    def send(self, asset: Asset, first: int, until: int, mode: float = 1.0) -> None:
        """A row each tick of [first, until) minutes, appended when it is made."""
        for minute in range(first, until):
            self.clock.sleep(max(0.0, (START + (minute + 1) * MINUTE - self.clock.now()) / 1e9))
            times = START + minute * MINUTE + np.arange(6, dtype=np.int64) * TICK
            names = tuple(tag.name for tag in asset.tags)
            values = np.column_stack([np.full(6, mode if name == "mode" else 20.0) for name in names])
            block = Readings(asset.path, names, times, values, np.full(values.shape, Quality.GOOD, np.uint8))
            feeding.append(self.log, [block])

    def both(self, first: int, until: int) -> None:
        for minute in range(first, until):
            self.send(MUTE, minute, minute + 1)
            self.send(BUSY, minute, minute + 1)

    def settle(self) -> None:
        """Both services, as new processes, until nothing is left to do."""
        policy = replace(AlertPolicy(), plant=self.plant, receivers=(self.told.name,))
        workers: list[Worker] = [ScoreWorker(self.log, self.plant, Nothing())]
        workers.append(AlertWorker(self.log, policy, [self.told]))
        for worker in workers:
            session = Session(worker, self.log.join(worker.name, worker.topics), 7)
            idle = 0
            while idle < 3:
                idle = 0 if session.step(0.0) else idle + 1
            session.close()

    def notices(self) -> list[Record]:
        found = self.log.read(Partition(topics.SCORES, 0), 0, 10_000)
        return [record for record in found if codec.decode_scores(record.value or b"").version == SILENCE_VERSION]

    def alerts(self) -> dict[str, list[tuple[str, Alert]]]:
        """What receivers were told, by asset."""
        told: dict[str, list[tuple[str, Alert]]] = {}
        for event, _ in self.told.sent:
            told.setdefault(event.alert.anomaly.asset, []).append((event.event, event.alert))
        return told


def test_a_machine_that_stops_sending_is_told_as_data_loss_and_cleared_when_it_returns() -> None:
    bench = Bench()
    bench.both(0, 20)
    bench.send(BUSY, 20, 40)
    bench.settle()
    ((event, alert),) = bench.alerts()[MUTE.path]
    assert (event, alert.anomaly.kind, alert.anomaly.fault) == ("raised", Kind.DATA_LOSS, SensorFault.MISSING.name)
    assert 20 * MINUTE <= alert.anomaly.onset - START <= 20 * MINUTE + 2 * TICK
    assert BUSY.path not in bench.alerts()
    bench.both(40, 50)
    bench.settle()
    assert [event for event, _ in bench.alerts()[MUTE.path]] == ["raised", "cleared"]


def test_restarts_tell_it_once_and_a_second_silence_is_a_second_notice() -> None:
    bench = Bench()
    bench.both(0, 20)
    for minute in range(20, 60, 4):
        bench.send(BUSY, minute, minute + 4)
        bench.settle()
    assert len(bench.notices()) == 1
    bench.both(60, 80)
    bench.send(BUSY, 80, 100)
    bench.settle()
    assert len(bench.notices()) == 2
    assert [event for event, _ in bench.alerts()[MUTE.path]] == ["raised", "cleared", "raised"]


def test_the_notice_says_the_same_whatever_the_batches_were() -> None:
    values = set()
    for stops in ((), (5, 30, 31)):
        bench = Bench()
        bench.both(0, 20)
        for minute in range(20, 45):
            bench.send(BUSY, minute, minute + 1)
            if minute - 20 in stops:
                bench.settle()
        bench.settle()
        (notice,) = bench.notices()
        values.add(notice.value)
    assert len(values) == 1


def test_nobody_is_silent_while_the_whole_plant_pauses_or_just_after() -> None:
    bench = Bench()
    bench.both(0, 10)
    bench.send(BUSY, 200, 205)  # the services or the network were down for hours; one machine is back a little sooner
    bench.both(205, 215)
    bench.settle()
    assert bench.notices() == []


def test_files_that_are_read_one_after_the_other_make_nobody_silent() -> None:
    bench = Bench()
    bench.send(MUTE, 0, 60)
    for minute in range(60):  # appended an hour later, but of the same event times
        bench.clock.sleep(60)
        bench.send(BUSY, minute, minute + 1)
    bench.settle()
    assert bench.notices() == []


@pytest.mark.parametrize(("mode", "told"), [(0.0, 0), (1.0, 1)])
def test_a_machine_that_was_off_may_be_silent(mode: float, told: int) -> None:
    mute = replace(MUTE, tags=(*TAGS, MODE))
    bench = Bench((mute, BUSY))
    for minute in range(20):
        bench.send(mute, minute, minute + 1, mode)
        bench.send(BUSY, minute, minute + 1)
    bench.send(BUSY, 20, 40)
    bench.settle()
    assert len(bench.notices()) == told


def test_slow_machines_are_waited_for_longer() -> None:
    assert patience(MUTE) == 10 * MINUTE
    assert patience(replace(MUTE, tick=MINUTE)) == 30 * MINUTE
