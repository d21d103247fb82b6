"""`plantwatch bench stream`: the whole run, phase by phase, and its result."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anomaly.domain import SECOND, Rung
from anomaly.errors import Unreachable
from pipelines import topics
from pipelines.bench import memory, rival
from pipelines.bench.crew import Crew
from pipelines.bench.memory import Memory
from pipelines.bench.net import VERSION
from pipelines.bench.phases import Cost, Feed, Live, balance, live, measure
from pipelines.bench.places import Places
from pipelines.bench.rival import Rival
from pipelines.bench.worker import ROLES
from pipelines.bench.workload import GROUP, Workload
from pipelines.codec import Serving
from pipelines.ports import Log
from pipelines.serving import promote
from pipelines.streams import MEMORY

Say = Callable[[str], None]
_CHILD_S = 900.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Rows are of each asset."""

    assets: int
    column_rows: int
    native_rows: int
    live_s: float
    outage_s: float
    memory: tuple[int, ...]
    later_rows: int
    rival_native: int
    rival_columns: int
    """Messages the rival is given."""


QUICK = Plan(100, 360, 120, 8.0, 3.0, (100, 1_000, 10_000), 120, 40, 5)
FULL = Plan(200, 1800, 600, 30.0, 10.0, (100, 1_000, 10_000), 1200, 300, 40)


@dataclass(frozen=True, slots=True)
class Workers:
    """CPU seconds of score processes for the same number of rows: one alone, and two that share them.

    `speed_up`: how much sooner two are done where each has a core: what one takes, divided by what the busier of the
    two takes.
    """

    one: float
    two: tuple[float, ...]
    speed_up: float


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `bench stream` found out, in the order it is told."""

    machine: str
    cores: int
    places: str
    assets: int
    costs: tuple[Cost, ...]
    live: Live
    workers: Workers
    memory: Memory
    rivals: tuple[Rival, ...]
    counted: dict[str, int]
    """Rows sent and rows judged: they must be equal, but for those that still wait for stragglers."""

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return dataclasses.asdict(self) | {"memory_per_asset": self.memory.per_asset}


def run(places: Places, plan: Plan, say: Say) -> Result:
    """Measure. The places are made by the caller. Raises Unreachable, StorageError, ConfigurationError."""
    log = places.open_log("bench-feed")
    try:
        promote(log, Serving(GROUP, VERSION, 0, Rung.LSTM_AUTOENCODER, reason="bench"))
        feed = Feed(log, Workload(places.plant, places.start, faulty=places.faulty))
        with Crew(places) as crew:
            costs, lived, workers = _services(crew, log, feed, plan, say, places.tick / SECOND)
        counted = {"sent": feed.row * feed.assets, "judged": judged(log)}
    finally:
        log.close()
    say("the plain loop")
    rivals = _child(rival.run, places, {"native": plan.rival_native, "columns": plan.rival_columns})
    say(f"memory of {plan.memory[-1]:,} assets")
    many = dataclasses.replace(places, assets=plan.memory[-1])
    remembered = _child(memory.run, many, plan.memory, plan.later_rows)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    cores = len(os.sched_getaffinity(0))
    return Result(
        machine, cores, places.names, places.assets, costs, lived, workers, remembered, tuple(rivals), counted
    )


def _services(
    crew: Crew, log: Log, feed: Feed, plan: Plan, say: Say, tick_s: float
) -> tuple[tuple[Cost, ...], Live, Workers]:
    say("services start")
    for role in ROLES:
        crew.start(role)
    crew.balanced()
    say("windows are filled")
    feed.send("columns", MEMORY + 4)
    crew.drain(log)
    say("column batches")
    columns = measure(crew, log, feed, "columns", plan.column_rows)
    say("native rows")
    native = measure(crew, log, feed, "native", plan.native_rows)
    say("half load, an outage, recovery")
    lived = live(crew, log, feed, native.rows_a_second / 2, plan.live_s, plan.outage_s, tick_s)
    say("one score worker, then two")
    one = balance(crew, log, feed, plan.column_rows)
    crew.start("score")
    crew.balanced()
    two = balance(crew, log, feed, plan.column_rows)
    return (columns, native), lived, Workers(sum(one), tuple(two), sum(one) / max(*two, 1e-9))


def judged(log: Log) -> int:
    """Rows of scores on the topic."""
    from pipelines.codec import decode_scores  # noqa: PLC0415

    total = 0
    for partition in log.ends(topics.SCORES):
        position = 0
        while records := log.read(partition, position, 2000):
            total += sum(len(decode_scores(record.value or b"")) for record in records)
            position = records[-1].offset + 1
    return total


def _child(target: Callable[..., None], *given: Any) -> Any:
    """What `target` sends, from a process of its own. Raises Unreachable if it ends without a word."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=target, args=(*given, its), daemon=True)
    process.start()
    its.close()
    try:
        if mine.poll(_CHILD_S):
            return mine.recv()
        message = f"a process of the bench took more than {_CHILD_S:g} s"
        raise Unreachable(message)
    except EOFError as error:
        message = "a process of the bench ended by itself; its error is above"
        raise Unreachable(message) from error
    finally:
        process.join(5.0)
        if process.is_alive():
            process.kill()
