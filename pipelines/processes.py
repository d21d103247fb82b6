"""One service as one process: `plantwatch serve …`. Opens what it needs, answers for its health, ends in order.

    serve("score", settings)        # until SIGTERM; raises what ended it, with its exit code

The order at the end (SIGTERM, Ctrl-C): the batch under way is written and committed, the group is left, the stores are
closed. If a store hangs, the process ends anyway after 18 s (`signals`): what was not committed, the next one redoes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from pipelines import part_status, service, starting, topics, wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.alert_service import AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.condition import Condition
from pipelines.embedded import caught_up
from pipelines.fit_client import FitClient
from pipelines.health import Health, answering
from pipelines.heartbeats import MEMBER_MARK, Heartbeats
from pipelines.ports import HistorianWriter, Log
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.settings import Settings
from pipelines.signals import until_asked
from pipelines.starting import Starter
from pipelines.trainer import TrainWorker
from pipelines.wiring_servers import member_of

LOOK_S: Final = 0.2
"""Commands and wished versions are asked for so often: each time is a question to the broker."""
LADDER_S: Final = 10.0
"""The trainer looks so often whether there is enough to learn from: it asks the historian and the log for it."""

_log = structlog.get_logger(__name__)

Status = part_status.Status


@dataclass(frozen=True, slots=True)
class Built:
    """A service ready to run. `notes`: what is worth a word in /readyz though it works."""

    worker: service.Worker
    log: Log
    status: Callable[[], Status]
    notes: Callable[[], Sequence[str]] = tuple
    writer: HistorianWriter | None = None
    """The historian, where the service has it open anyway."""


@dataclass(slots=True)
class Opened:
    """What a builder is given: settings, patience, and a stack that closes what it opens, last first."""

    settings: Settings
    starter: Starter
    stack: ExitStack
    stop: threading.Event
    clock: SystemClock = field(default_factory=SystemClock)

    def log(self, *needed: str) -> Log:
        """The log with those topics."""
        log = self.starter.open("log", lambda: starting.open_log(self.settings, needed))
        self.stack.callback(log.close)
        return log


def _score(given: Opened) -> Built:
    plant = given.starter.open("plant file", lambda: starting.open_plant(given.settings))
    log = given.log(topics.READINGS, topics.SCORES, topics.MODELS, topics.DEAD_LETTERS)
    worker = ScoreWorker(
        log,
        plant,
        wiring.open_registry(given.settings),
        readings_format=given.settings.readings_format,
        look_s=LOOK_S,
    )

    def notes() -> list[str]:
        return [f"version {version} is refused: {why}" for version, why in worker.refusals().items()]

    return Built(worker, log, lambda: part_status.of_score(worker), notes)


def _record(given: Opened) -> Built:
    log = given.log(topics.READINGS, topics.SCORES, topics.ALERTS)
    historian = given.starter.open("historian", lambda: wiring.open_historian(given.settings))
    given.stack.callback(historian.close)

    def say_hello() -> None:
        """A first word proves that we may write, before anything is read."""
        historian.heartbeat("record", given.clock.now(), {"state": "starting", "wall": given.clock.now()})

    given.starter.open("historian", say_hello)
    worker = RecordWorker(
        log,
        historian,
        is_empty=lambda: historian.span() is None,
        clock=given.clock,
        readings_format=given.settings.readings_format,
    )
    return Built(worker, log, worker.status, writer=historian)


def _alert(given: Opened) -> Built:
    settings = given.settings
    plant = given.starter.open("plant file", lambda: starting.open_plant(settings))
    log = given.log(topics.SCORES, topics.ALERTS, topics.ALERT_STATE, topics.COMMANDS)
    for place in settings.critical_assets:
        if not any(AlertPolicy(critical=(place,)).is_critical(asset.path) for asset in plant.assets):
            _log.warning("no_such_place", critical_assets=place)
    notifiers = wiring.open_notifiers(
        settings, lambda text: _log.info("told", text=text), settings.timezone or plant.timezone
    )
    policy = AlertPolicy(episodes=settings.episode_policy(), critical=settings.critical_assets)
    names = tuple(notifier.name for notifier in notifiers)
    worker = AlertWorker(log, replace(policy, plant=plant, receivers=names), notifiers, look_s=LOOK_S)

    def notes() -> list[str]:
        failing = worker.status().get("failing")
        return [f"receivers that fail: {failing}"] if failing else []

    return Built(worker, log, worker.status, notes)


def _train(given: Opened) -> Built:
    settings = given.settings
    plant = given.starter.open("plant file", lambda: starting.open_plant(settings))
    log = given.log(topics.COMMANDS, topics.MODELS, topics.READINGS)
    reader = given.starter.open("historian", lambda: wiring.open_historian_reader(settings))
    given.starter.open("historian", reader.heartbeats)
    wiring.data_file(settings, "")
    fits = FitClient(settings.data_dir, environment=settings.environment())
    worker = TrainWorker(
        log,
        reader,
        wiring.open_registry(settings),
        plant,
        given.clock,
        fits,
        ready=lambda: caught_up(log, plant),
        look_s=LADDER_S,
    )
    given.stack.callback(worker.close)
    return Built(worker, log, worker.status)


SERVICES: Final[Mapping[str, Callable[[Opened], Built]]] = {
    "score": _score,
    "record": _record,
    "alert": _alert,
    "train": _train,
}


def serve(name: str, settings: Settings, *, patience_s: float = starting.START_PATIENCE_S) -> None:
    """Run one service until SIGTERM or Ctrl-C. Raises PlantwatchError with the exit code of what ended it."""
    stop, condition = threading.Event(), Condition()
    health = Health(name, condition)

    def end() -> None:
        health.stopping = True
        _log.info("stopping")
        stop.set()

    with ExitStack() as stack:
        stack.enter_context(until_asked(end))
        if settings.metrics_port is not None:
            stack.enter_context(answering(health, settings.metrics_host, settings.metrics_port))
        given = Opened(settings, Starter(stop, condition, patience_s), stack, stop)
        try:
            built = SERVICES[name](given)
        except starting.Stopped:
            return
        health.notes = built.notes
        _log.info("started", log=settings.log, historian=settings.historian)
        with _beating(name, built, given, condition):
            service.run(built.worker, built.log, stop, condition=condition)
        _log.info("stopped")


@contextmanager
def _beating(name: str, built: Built, given: Opened, condition: Condition) -> Iterator[None]:
    """Heartbeats while inside."""
    member = member_of(given.settings)

    def part() -> str:
        """The holder of partition 0 speaks for the service; other members under their own names."""
        first = any(p.number == 0 for p in condition.held) or not condition.held
        return name if first else f"{name}{MEMBER_MARK}{member}"

    def status() -> Status:
        return {**condition.figures(), **built.status()}

    beats = Heartbeats(lambda: wiring.open_historian(given.settings), given.clock, part, status, writer=built.writer)
    beats.start()
    try:
        yield
    finally:
        beats.stop()
