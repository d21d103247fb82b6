"""`simulate --live`: the simulated plant as a producer never runs ahead of the wall, and goes on where it stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from anomaly.errors import ConfigurationError
from pipelines import topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.commands.simulate import simulate
from pipelines.decoding import decode
from pipelines.demo import DemoPlant
from pipelines.live_demo import live_plant
from pipelines.ports import Partition

WALL = 1_767_571_500_000_000_000
"""Five minutes past the hour at which the history then ends, ns."""
JITTER = 10**9
"""Simulated devices stamp up to a second beside the tick."""


def newest(log: MemoryLog) -> int:
    """Newest event time on the readings topic, ns."""
    times = [0]
    for partition, (_, end) in log.ends(topics.READINGS).items():
        for record in log.read(partition, max(0, end - 20), 20):
            times += [int(block.times[-1]) for block in decode(record.value, record.key, WALL + 10**18)]
    return max(times)


def until_loaded(plant: DemoPlant, log: MemoryLog, more_s: float) -> None:
    """Run the plant until its history is there and some time more."""
    thread = threading.Thread(target=plant.run, args=(log,), daemon=True)
    thread.start()
    assert plant.history_loaded.wait(60)
    time.sleep(more_s)
    plant.stop()
    thread.join(20)
    assert not thread.is_alive()


def a_log() -> MemoryLog:
    log = MemoryLog(MemoryClock(WALL))
    log.create(topics.partitions(2), topics.COMPACTED)
    return log


@pytest.mark.slow
def test_the_simulated_plant_catches_up_with_the_wall_never_passes_it_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    wall, log = MemoryClock(WALL), a_log()
    plant = live_plant(tmp_path, 3, 600.0, wall, behind_s=0)
    until_loaded(plant, log, 1.5)  # 1.5 s at 600 × are 15 min, but the wall stood still
    behind = WALL - 30 * 10**9
    assert behind < newest(log) <= WALL + JITTER
    count = sum(end for _, end in log.ends(topics.READINGS).values())

    wall.sleep(120)
    again = live_plant(tmp_path, 3, 600.0, wall, behind_s=0)
    assert again.resumed
    until_loaded(again, log, 1.5)
    assert WALL + JITTER < newest(log) <= WALL + 120 * 10**9 + JITTER
    first = Partition(topics.READINGS, 0)
    assert sum(end for _, end in log.ends(topics.READINGS).values()) > count
    assert log.read(first, 0, 1)


@pytest.mark.parametrize("arguments", [[], ["--live", "--out", "x"]])
def test_exactly_one_of_files_and_log_is_asked_for(arguments: list[str]) -> None:
    app = typer.Typer()
    app.command()(simulate)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigurationError)
    assert "either --out FOLDER" in str(result.exception)
