"""The phases of `bench stream`: what is sent, and what is read off the meters and the topics afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pipelines import topics
from pipelines.bench.crew import ONE_AFTER_THE_OTHER, Crew
from pipelines.bench.latency import LOOKED_AT, Latency, latencies
from pipelines.bench.worker import Figures
from pipelines.bench.workload import Workload
from pipelines.embedded import lag
from pipelines.ports import Log, NewRecord

Kind = Literal["columns", "native"]
COLUMN_ROWS: Final = 60
"""Rows of one asset in a column batch."""
FAULT_PERIOD, FAULT_ROW = 600, 480
"""The workload's faults begin at this row of each period."""
_CHUNK: Final = 500
_IDLE_S: Final = 2.0
_UNSURE: Final = 10
"""Rows before an outage whose scores may have been held up by it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a row cost, CPU µs. `stages`: by service and stage of its thread; `services`: processes, with the model.

    `ours`: all services without the model: the figure of the goal. `servers`: broker and InfluxDB, where they run on
    this machine and can be seen. `rows_a_second`: wall time, with all processes on these cores. `idle`: share of one
    core that our services use for waiting, when nothing comes; it is part of all figures, the more the fewer rows.
    """

    kind: str
    rows: int
    rows_a_second: float
    stages: Mapping[str, Mapping[str, float]]
    services: Mapping[str, float]
    model: float
    ours: float
    servers: Mapping[str, float | None]
    idle: float


@dataclass(frozen=True, slots=True)
class Live:
    """A load of `rate` rows/s, an outage of `outage_s` in its midst, and how fast what had queued was worked off.

    `drain_ratio`: rows/s while draining (with the load going on) divided by `rate`. `wait_s`: how long alignment waits
    for stragglers; it is part of `to_score`, by design.
    """

    rate: float
    wait_s: float
    to_score: Latency
    to_alert: Latency
    outage_s: float
    drain_s: float
    drain_ratio: float


class Feed:
    """Sends a workload's rows, in order, and knows how many."""

    def __init__(self, log: Log, workload: Workload) -> None:
        self._log = log
        self._workload = workload
        self.assets = len(workload.plant.assets)
        self.row = 0
        """First row not sent."""

    def send(self, kind: Kind, rows: int) -> int:
        """Append the next `rows` of every asset; returns how many that are in all."""
        step = COLUMN_ROWS if kind == "columns" else rows
        for first in range(self.row, self.row + rows, step):
            count = min(step, self.row + rows - first)
            make = self._workload.columns if kind == "columns" else self._workload.natives
            self._append(make(first, count))
        self.row += rows
        return rows * self.assets

    def time_of(self, row: int) -> int:
        """Event time of a row, ns."""
        return self._workload.start + (row + 1) * self._workload.plant.assets[0].tick

    def _append(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        records = [NewRecord(topics.READINGS, key, value) for key, value in messages]
        for start in range(0, len(records), _CHUNK):
            self._log.append(records[start : start + _CHUNK])


def measure(crew: Crew, log: Log, feed: Feed, kind: Kind, rows: int) -> Cost:
    """Let `rows` an asset queue up, then work them off twice: service by service, and (as many again) all at once.

    Alone a service is never waiting for another one, so its CPU time is that of the work; together they show how fast
    the whole is on these cores.
    """
    idle = _idle(crew)
    crew.tell("pause")
    sent = feed.send(kind, rows)
    servers = crew.servers()
    spent = _Spent(1e6 / sent)
    for role in ONE_AFTER_THE_OTHER:
        before = crew.figures()
        crew.tell("resume", role)
        crew.drain(log, role)
        spent.add(role, before, crew.figures())
        crew.tell("pause", role)
    used = {name: _difference(old, crew.servers()[name], 1e6 / sent) for name, old in servers.items()}
    feed.send(kind, rows)
    crew.tell("resume")
    took = crew.drain(log)
    model = sum(found.get("model", 0.0) for found in spent.stages.values())
    ours = sum(spent.services.values()) - model
    return Cost(kind, sent, sent / max(took, 1e-9), spent.stages, spent.services, model, ours, used, idle)


class _Spent:
    """CPU time by service and stage, times `scale`."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.stages: dict[str, dict[str, float]] = {}
        self.services: dict[str, float] = {}

    def add(self, role: str, before: list[tuple[str, Figures]], after: list[tuple[str, Figures]]) -> None:
        """What the processes of one service used in between."""
        pairs = [(old, new) for (name, old), (_, new) in zip(before, after, strict=True) if name == role]
        stages = self.stages.setdefault(role, {})
        for old, new in pairs:
            for stage, seconds in new.seconds.items():
                used = (seconds - old.seconds.get(stage, 0.0)) * self._scale
                stages[stage] = stages.get(stage, 0.0) + used
        self.services[role] = sum(new.cpu - old.cpu for old, new in pairs) * self._scale
        stages["other threads"] = max(0.0, self.services[role] - sum(stages.values()))


def _difference(old: float | None, new: float | None, scale: float) -> float | None:
    return None if old is None or new is None else (new - old) * scale


def _idle(crew: Crew) -> float:
    """Share of a core that the services use while there is nothing to do."""
    before, began = sum(found.cpu for _, found in crew.figures()), time.monotonic()
    time.sleep(_IDLE_S)
    return (sum(found.cpu for _, found in crew.figures()) - before) / (time.monotonic() - began)


def balance(crew: Crew, log: Log, feed: Feed, rows: int) -> list[float]:
    """CPU seconds of each score process for the same kind of work: `rows` an asset, in column batches."""
    before = [found.cpu for role, found in crew.figures() if role == "score"]
    crew.tell("pause")
    feed.send("columns", rows)
    crew.tell("resume")
    crew.drain(log)
    after = [found.cpu for role, found in crew.figures() if role == "score"]
    return [new - old for old, new in zip(before, after, strict=True)]


def live(crew: Crew, log: Log, feed: Feed, wanted: float, seconds: float, outage_s: float, tick_s: float) -> Live:
    """Native rows at a steady rate near `wanted` rows/s; after `seconds` of it an outage of the services."""
    ahead = (FAULT_ROW - 10 - feed.row) % FAULT_PERIOD
    feed.send("columns", ahead)
    crew.drain(log)
    starts = {partition: ends[1] for topic in LOOKED_AT for partition, ends in log.ends(topic).items()}
    sender = _Sender(feed, wanted)
    sender.start()
    time.sleep(seconds / 2)
    usual = _usually_waiting(log, seconds / 2)
    calm = feed.time_of(feed.row - _UNSURE)
    crew.tell("pause")
    time.sleep(outage_s)
    queued, began = _waiting(log), time.monotonic()
    crew.tell("resume")
    already = sender.sent
    while _waiting(log) > usual and time.monotonic() - began < 20 * outage_s:
        time.sleep(0.02)
    drained, came = time.monotonic() - began, sender.sent - already
    sender.stop()
    crew.drain(log)
    to_score, to_alert = latencies(log, starts, calm)
    ratio = (queued + came) / max(drained, 1e-9) / sender.rate
    return Live(sender.rate, 2 * tick_s, to_score, to_alert, outage_s, drained, ratio)


class _Sender:
    """A thread that sends one row of every asset at a time, as evenly as `wanted` rows/s asks for."""

    def __init__(self, feed: Feed, wanted: float) -> None:
        self._feed = feed
        self._pause = feed.assets / wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-sender", daemon=True)
        self._began = self._ended = 0.0
        self.sent = 0
        self.failure: BaseException | None = None

    @property
    def rate(self) -> float:
        """Rows a second that were really sent."""
        return self.sent / max((self._ended or time.monotonic()) - self._began, 1e-9)

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End. Raises what ended the thread before."""
        self._stop.set()
        self._thread.join()
        self._ended = time.monotonic()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        due = self._began
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self.sent += self._feed.send("native", 1)
                due += self._pause
        except BaseException as error:  # kept for the thread that measures
            self.failure = error


def _usually_waiting(log: Log, seconds: float) -> int:
    """Most records that were on their way at once while all was well."""
    until, most = time.monotonic() + seconds, 64
    while time.monotonic() < until:
        most = max(most, _waiting(log))
        time.sleep(0.25)
    return most


def _waiting(log: Log) -> int:
    return lag(log, "score", topics.READINGS)
