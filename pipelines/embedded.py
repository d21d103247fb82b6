"""All services in one process, a thread each, over the embedded log and historian. What `run` and `demo` start."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from anomaly.domain import Plant
from anomaly.errors import PlantwatchError
from anomaly.registry import Registry
from pipelines import part_status, service, topics
from pipelines.alert_service import AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.condition import Condition
from pipelines.ports import Clock, Historian, Log, Notifier
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.trainer import TrainWorker

_PULSE_S = 1.0
FEW_RECORDS = 3
"""Records an asset may have waiting while the services count as caught up."""

_log = structlog.get_logger(__name__)

Status = Mapping[str, str | int | float]


class Embedded:
    """The services of one plant. `failure` holds what ended one of them; then all are stopping.

    `extra` adds parts of the caller to the heartbeats (the demo's plant, say): name → status.
    """

    def __init__(
        self,
        *,
        log: Log,
        historian: Historian,
        registry: Registry,
        plant: Plant,
        clock: Clock,
        alerts: AlertPolicy,
        notifiers: Sequence[Notifier],
        trainer: TrainWorker | None,
        extra: Mapping[str, Callable[[], Status]] | None = None,
        readings_format: str = "auto",
    ) -> None:
        self.score = ScoreWorker(log, plant, registry, readings_format=readings_format)
        self.record = RecordWorker(
            log, historian, is_empty=lambda: historian.span() is None, clock=clock, readings_format=readings_format
        )
        names = tuple(notifier.name for notifier in notifiers)
        self.alert = AlertWorker(log, replace(alerts, plant=plant, receivers=names), notifiers)
        self.trainer = trainer
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._log = log
        self._historian = historian
        self._clock = clock
        self._extra = dict(extra or {})
        self._threads: list[threading.Thread] = []
        self.conditions: dict[str, Condition] = {}
        """How each service stands, from `start` on."""

    def start(self) -> None:
        """Start every service and the pulse; returns at once."""
        workers: list[service.Worker] = [self.score, self.record, self.alert]
        if self.trainer is not None:
            workers.append(self.trainer)
        for worker in workers:
            seen = self.conditions[worker.name] = Condition()
            self.spawn(worker.name, functools.partial(service.run, worker, self._log, self.stopping, condition=seen))
        self.spawn("pulse", self._pulse)

    def spawn(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` in a thread of this system: if it fails, everything stops and `failure` says why."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # kept for the main thread, which reports it
                self.failure = self.failure or error
                if not isinstance(error, PlantwatchError):
                    _log.exception("service_died", service=name)
                self.stopping.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, patience_s: float = 20.0) -> None:
        """Let every service finish its batch and commit; raises the failure of one that died."""
        self.stopping.set()
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        if self.failure is not None:
            raise self.failure

    def drained(self) -> bool:
        """Whether every record that was appended has gone all the way to the historian."""
        ways = [("score", topics.READINGS), ("record", topics.READINGS), ("alert", topics.SCORES)]
        ways += [("record", topics.SCORES), ("record", topics.ALERTS)]
        return all(lag(self._log, group, topic) == 0 for group, topic in ways)

    # ------------------------------------------------------------------- pulse

    def _pulse(self) -> None:
        """Newest word of every part into the historian, once a second and at the end. Trouble there harms nobody."""
        stopped = False
        while not stopped:
            stopped = self.stopping.wait(_PULSE_S)
            try:
                for part, status in self.status().items():
                    self._historian.heartbeat(part, self._clock.now(), {**status, "wall": time.time_ns()})
            except PlantwatchError as error:
                _log.warning("pulse_failed", reason=str(error))

    def status(self) -> dict[str, Status]:
        """Figures of each part for the System page."""
        parts: dict[str, Status] = {
            "score": {"lag": self._lag("score", topics.READINGS), **part_status.of_score(self.score)},
            "record": {"lag": self._lag("record", topics.READINGS, topics.SCORES), **self.record.status()},
            "alert": {"lag": self._lag("alert", topics.SCORES), **self.alert.status()},
        }
        if self.trainer is not None:
            parts["train"] = self.trainer.status()
        parts = {name: {**self._figures(name), **status} for name, status in parts.items()}
        return parts | {name: status() for name, status in self._extra.items()}

    def _lag(self, group: str, *names: str) -> int:
        return sum(lag(self._log, group, topic) for topic in names)

    def _figures(self, name: str) -> Status:
        condition = self.conditions.get(name)
        return condition.figures() if condition else {}


def caught_up(log: Log, plant: Plant) -> bool:
    """Whether next to nothing waits to be scored or recorded: only then is what is stored worth learning from.

    A version fitted on the first half of a history that is still being loaded would judge, and misjudge, the other.
    """
    few = FEW_RECORDS * len(plant.assets)
    return all(lag(log, group, topics.READINGS) <= few for group in ("score", "record"))


def lag(log: Log, group: str, topic: str) -> int:
    """Records of `topic` that `group` has not committed yet."""
    committed = log.committed(group, topic)
    ends = log.ends(topic)
    return sum(end - (committed[p].offset if p in committed else start) for p, (start, end) in ends.items())
