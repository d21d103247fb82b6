"""Where CPU time and memory go: of a thread by stage, of this process, of a server on this machine.

CPU time and not wall time: on shared cores it says what the work costs, not who else was working.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from anomaly.domain import Readings, Rung, Scores
from anomaly.scorers import Raw, Scorer, State
from pipelines.ports import AlertEvent, Batch, Consumer, Historian, Log, NewRecord, Partition, Position, Record
from pipelines.service import Metadata, Worker

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


def hush() -> None:
    """In a process of the bench: nothing on standard output or error but what goes wrong."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))


class Meter:
    """CPU seconds of one thread by stage. A stage inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.gate = threading.Event()
        """Shut by `clear()`: the metered consumers give out nothing."""
        self.gate.set()
        self._inside = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the CPU time of this block for `name`."""
        outer, self._inside = self._inside, 0.0
        started = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - started
            self.seconds[name] += spent - self._inside
            self._inside = outer + spent


class MeteredScorer:
    """A scorer whose calls are the stage `model`. What the rest costs is then known without it."""

    def __init__(self, inner: Scorer, meter: Meter) -> None:
        self._inner: Any = inner
        self._meter = meter

    @property
    def rung(self) -> Rung:
        """Of the scorer inside."""
        return Rung(self._inner.rung)

    @property
    def length(self) -> int:
        """Of the scorer inside."""
        return int(self._inner.length)

    def score(self, values: Any, mask: Any, times: Any = None) -> Raw:
        """What the scorer inside says."""
        with self._meter.stage("model"):
            found: Raw = self._inner.score(values, mask, *(() if times is None else (times,)))
            return found

    def state(self) -> State:
        """Of the scorer inside."""
        found: State = self._inner.state()
        return found


class MeteredConsumer:
    """A consumer whose polls are the stage `poll`, commits `commit`."""

    def __init__(self, inner: Consumer, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def poll(self, limit: int, timeout_s: float) -> Batch:
        """See `Consumer.poll`. While the meter's gate is shut: nothing comes, as if this service stood still."""
        if not self._meter.gate.wait(timeout_s):
            return Batch()
        with self._meter.stage("poll"):
            return self._inner.poll(limit, timeout_s)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """See `Consumer.commit`."""
        with self._meter.stage("commit"):
            self._inner.commit(positions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MeteredLog:
    """A log whose appends are the stage `append`, and whose members are metered."""

    def __init__(self, inner: Log, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """See `Log.append`."""
        with self._meter.stage("append"):
            return self._inner.append(records)

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """See `Log.read`."""
        with self._meter.stage("read"):
            return self._inner.read(partition, offset, limit)

    def join(self, group: str, topics: Sequence[str]) -> Consumer:
        """See `Log.join`."""
        return MeteredConsumer(self._inner.join(group, topics), self._meter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MeteredHistorian:
    """A historian whose writes are the stage `sink`."""

    def __init__(self, inner: Historian, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def write(
        self, readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        """See `HistorianWriter.write`."""
        with self._meter.stage("sink"):
            self._inner.write(readings, scores, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MeteredWorker:
    """A worker whose `process` and `write` are stages; `records` counts what it took in."""

    def __init__(self, inner: Worker, meter: Meter) -> None:
        self._inner, self._meter = inner, meter
        self.records = 0

    def process(self, records: Sequence[Record]) -> None:
        """See `Worker.process`."""
        self.records += len(records)
        with self._meter.stage("process"):
            self._inner.process(records)

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """See `Worker.write`."""
        with self._meter.stage("write"):
            return self._inner.write()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def rss_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process."""
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads; 0 when it is gone."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pid_listening(port: int) -> int | None:
    """The process that listens on a TCP port of this machine, if it is ours to see."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return next((pid for pid in _pids() if _holds(pid, inodes)), None) if inodes else None


def _pids() -> Iterator[int]:
    yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in inodes for link in (_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
