"""One service of the bench as a process of its own, metered; it is asked for its figures over a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final, cast

from anomaly.detector import Detector
from anomaly.errors import PlantwatchError
from pipelines import service
from pipelines.alert_service import AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.bench.meters import Meter, MeteredHistorian, MeteredLog, MeteredScorer, MeteredWorker, hush, rss_bytes
from pipelines.bench.net import bench_detector
from pipelines.bench.places import Places
from pipelines.bench.workload import Workload
from pipelines.condition import Condition
from pipelines.processes import LOOK_S
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.service import Worker

ROLES: Final = ("score", "record", "alert")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one process has used so far. `seconds`: CPU of the service's thread by stage; `cpu`: of all its threads."""

    seconds: Mapping[str, float]
    cpu: float
    records: int
    rss: int
    held: int
    """Partitions it holds."""
    trouble: str = ""


class BenchModels:
    """The one version there is, its scorer metered."""

    def __init__(self, places: Places, meter: Meter) -> None:
        detector = bench_detector(Workload(places.plant, places.start))
        self._detector = replace(detector, scorer=MeteredScorer(detector.scorer, meter))

    def load(self, group: str, version: str) -> Detector:
        """See `ModelSource.load`."""
        return self._detector


def serve(role: str, member: str, places: Places, pipe: Connection) -> None:
    """Run one service until asked to stop. Entry of the process."""
    hush()
    meter, stop, condition = Meter(), threading.Event(), Condition()
    try:
        worker = MeteredWorker(_worker(role, member, places, meter), meter)
        log = MeteredLog(places.open_log(member), meter)
    except PlantwatchError as error:
        pipe.send(error)
        return
    pipe.send(None)
    answering = threading.Thread(target=_answer, args=(pipe, worker, meter, stop, condition), daemon=True)
    answering.start()
    try:
        service.run(cast("Worker", worker), cast("Any", log), stop, condition=condition)
    finally:
        log.close()


def _worker(role: str, member: str, places: Places, meter: Meter) -> Worker:
    log = cast("Any", MeteredLog(places.open_log(f"{member}-out"), meter))
    if role == "score":
        return ScoreWorker(log, places.plant, BenchModels(places, meter), look_s=LOOK_S)
    if role == "record":
        return RecordWorker(log, cast("Any", MeteredHistorian(places.open_historian(), meter)))
    return AlertWorker(log, AlertPolicy(plant=places.plant), [], look_s=LOOK_S)


def _answer(pipe: Connection, worker: MeteredWorker, meter: Meter, stop: threading.Event, condition: Condition) -> None:
    """`figures`, `pause`, `resume` or `stop`; whoever asks goes away: stop."""
    while not stop.is_set():
        try:
            asked = pipe.recv()
        except (EOFError, OSError):
            asked = "stop"
        if asked == "figures":
            found = dict(meter.seconds), time.process_time(), worker.records, rss_bytes()
            pipe.send(Figures(*found, held=len(condition.held), trouble=condition.degraded or condition.waiting))
        elif asked == "pause":
            meter.gate.clear()
        elif asked == "resume":
            meter.gate.set()
        else:
            meter.gate.set()
            stop.set()
