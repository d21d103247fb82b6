"""A simulated plant as a process of its own, in place of a real plant's gateways: `plantwatch serve simulator`.

The log's clock is the broker's, and readings from the future are refused. So the simulated life begins `backlog` hours
ago, runs `speed` times faster than the wall until it has caught up, and then as fast as that.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from anomaly.errors import StorageError, Unreachable
from pipelines import metrics, starting, topics, wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.condition import Condition
from pipelines.demo import DemoPlant
from pipelines.health import Health, answering
from pipelines.heartbeats import Heartbeats
from pipelines.only_one import only_one
from pipelines.patience import wait_s
from pipelines.plant_file import write_plant
from pipelines.ports import Log
from pipelines.settings import Settings
from pipelines.signals import until_asked
from pipelines.starting import Starter

_HOUR: Final = 3600 * 1_000_000_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Life:
    """How the plant is to live: times real time, hours behind the wall at its birth, and which life."""

    speed: float
    backlog_hours: float
    seed: int | None
    plant_file: Path | None = None
    """Where the other services look for the plant."""


def simulate(settings: Settings, life: Life, *, patience_s: float) -> None:
    """Feed the log until SIGTERM or Ctrl-C; trouble with it is waited out. Raises PlantwatchError at the start."""
    stop, condition = threading.Event(), Condition()
    health = Health("simulator", condition, consumes=False)
    with ExitStack() as stack:
        stack.enter_context(until_asked(stop.set))
        if settings.metrics_port is not None:
            stack.enter_context(answering(health, settings.metrics_host, settings.metrics_port))
        stack.enter_context(only_one(wiring.data_file(settings, "")))
        box = [_born(settings, life)]
        if life.plant_file is not None:
            write_plant(box[0].plant, life.plant_file)
        try:
            log = Starter(stop, condition, patience_s).open(
                "log", lambda: starting.open_log(settings, (topics.READINGS,))
            )
        except starting.Stopped:
            return
        stack.callback(log.close)
        beats = _beats(settings, box)
        stack.callback(beats.stop)
        _log.info("started", machines=len(box[0].plant.assets), resumed=box[0].resumed, speed=life.speed)
        _live(settings, life, box, log, stop, condition)
        _log.info("stopped")


def _born(settings: Settings, life: Life) -> DemoPlant:
    now = time.time_ns() - int(life.backlog_hours * _HOUR)
    return DemoPlant(settings.data_dir, life.seed, life.speed, now, limit=time.time_ns)


class _PlantClock(SystemClock):
    """What time it is in the plant of the box."""

    def __init__(self, box: list[DemoPlant]) -> None:
        self._box = box

    def now(self) -> int:
        return self._box[0].clock.now()

    def status(self) -> dict[str, str | int | float]:
        return self._box[0].status()


def _beats(settings: Settings, box: list[DemoPlant]) -> Heartbeats:
    """The word `plant`: what time it is there."""
    clock = _PlantClock(box)
    beats = Heartbeats(lambda: wiring.open_historian(settings), clock, lambda: "plant", clock.status)
    beats.start()
    return beats


def _live(
    settings: Settings, life: Life, box: list[DemoPlant], log: Log, stop: threading.Event, condition: Condition
) -> None:
    failures = 0
    while not stop.is_set():
        plant = box[0]

        def turned() -> None:
            condition.turned()
            condition.waiting = ""
            if stop.is_set():
                box[0].stop()

        try:
            plant.run(log, turned)
        except (StorageError, Unreachable) as error:
            metrics.consumer_rebuilt("simulator", type(error).__name__)
            _log.warning("not_appended", reason=str(error), retry_in_s=wait_s(failures))
            condition.ended(str(error))
            stop.wait(wait_s(failures))
            failures += 1
            box[0] = _born(settings, life)
