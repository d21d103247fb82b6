"""The rows of the fault bench, and how they are run one after the other on one broker and one InfluxDB."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults import rows_alerts, rows_data, rows_processes, rows_security, rows_stores, special
from tests.faults.servers import Broker, Influx
from tests.faults.stage import Row, Stage
from tests.faults.table import Line


@dataclass(frozen=True, slots=True)
class Spec:
    """One row: its number in guarantees.md §3, in words, what it does, and how many machines it watches."""

    number: int
    fault: str
    run: Row
    in_subset: bool = False
    assets: int = 8
    servers: Literal["shared", "small", "secured"] = "shared"
    """On which servers."""


ROWS: tuple[Spec, ...] = (
    Spec(1, "kill -9 a random worker under load", rows_processes.kill_workers, in_subset=True),
    Spec(2, "historian away: refuses, hangs", rows_stores.historian_down, in_subset=True),
    Spec(3, "historian refuses some points", rows_stores.points_refused),
    Spec(4, "poison: first, middle, last, 1 000 in a row", rows_data.poison, in_subset=True),
    Spec(5, "rebalance storm 1→4→2→3→1", rows_processes.rebalance_storm, in_subset=True),
    Spec(6, "frozen past the session timeout", rows_processes.freeze),
    Spec(7, "receiver fails, hangs; alerter killed while telling", rows_alerts.receiver_fails),
    Spec(8, "versions swapped under load, killed while swapping", rows_alerts.swaps, in_subset=True),
    Spec(10, "disk full: historian's, broker's", rows_stores.disks_full, servers="small"),
    Spec(11, "kill -9 the broker", rows_stores.broker_dies, in_subset=True),
    Spec(14, "late, shuffled, duplicate, gaps", rows_data.disorder),
    Spec(15, "wrong clocks", rows_data.wrong_clocks),
    Spec(16, "parser fuzz", rows_data.fuzz),
    Spec(17, "overload, then recovery", rows_data.overload),
    Spec(18, "rolling restart by SIGTERM", rows_processes.rolling_restart),
    Spec(19, "wrong passwords, tokens, certificates", rows_security.wrong_secrets, servers="secured"),
    Spec(21, "kill -9 InfluxDB", rows_stores.historian_dies),
)


def run(specs: Sequence[Spec], folder: Path, *, full: bool, say: Callable[[str], None]) -> list[Line]:
    """Run rows on servers of their own; whatever happens in one, the others are run."""
    broker, influx = Broker(folder / "kafka"), Influx(folder / "influx")
    lines = []
    try:
        broker.start()
        influx.start()
        for spec in specs:
            say(f"row {spec.number}: {spec.fault} …")
            line = run_row(spec, broker, influx, folder, full=full)
            verdict = "skipped" if line.skipped else "sound" if line.sound else "FELL SHORT"
            say("\n  ".join((f"row {spec.number}: {verdict}, {line.seconds:.0f} s", *line.wrong)))
            lines.append(line)
    finally:
        influx.stop()
        broker.stop()
    return lines


def run_row(spec: Spec, broker: Broker, influx: Influx, folder: Path, *, full: bool) -> Line:
    """One row, and what it found; a row that breaks fell short."""
    line = Line(spec.number, spec.fault)
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            stage = stack.enter_context(_stage(spec, broker, influx, folder, full=full))
            try:
                spec.run(stage)
                _fill(line, stage)
            finally:
                line.notes = stage.notes
    except special.Skipped as why:
        line.skipped = str(why)
    except Exception as error:  # a row that breaks proves nothing: it fell short, and says where
        line.wrong.append(f"broke: {type(error).__name__}: {error}")
        line.notes.append(traceback.format_exc())
    line.seconds = time.monotonic() - began
    return line


@contextmanager
def _stage(spec: Spec, broker: Broker, influx: Influx, folder: Path, *, full: bool) -> Iterator[Stage]:
    """The row's stage, on the servers it wants."""
    with ExitStack() as stack:
        doors = None
        if spec.servers == "small":
            broker, influx = stack.enter_context(special.small_disks(folder / f"row{spec.number}-disks"))
        elif spec.servers == "secured":
            broker, doors = stack.enter_context(special.secured(folder / f"row{spec.number}-broker"))
        stage = Stage(f"row{spec.number}", broker, influx, folder, full=full, assets=spec.assets)
        stage.doors = doors
        yield stack.enter_context(stage)


def _fill(line: Line, stage: Stage) -> None:
    verdict = stage.judge()
    line.injected = stage.injected
    line.readings = verdict.readings
    line.missing, line.spurious, line.corrupted = verdict.missing, verdict.spurious, verdict.corrupted
    line.replays, line.wrong = verdict.replays, verdict.wrong
    times = [strike.recovery_s for strike in stage.strikes if strike.recovery_s is not None]
    line.recovery_s = max(times, default=None)
