"""The services of a bench run, seen from the process that measures: start, ask, hold, stop."""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Final, Self

from anomaly.errors import DataError, Unreachable
from pipelines import topics
from pipelines.bench.meters import cpu_seconds, pid_listening
from pipelines.bench.places import Places
from pipelines.bench.worker import Figures, serve
from pipelines.embedded import lag
from pipelines.ports import Log

_START_S: Final = 120.0
_LOOK_S, _ASK_S = 0.2, 3.0
"""How often it is looked whether all is done, and asked how they are: both cost those that are measured."""
_WAYS: Final = {
    "score": (topics.READINGS,),
    "alert": (topics.SCORES,),
    "record": (topics.READINGS, topics.SCORES, topics.ALERTS),
}
"""What each service reads, in the order in which one alone can work it off."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process."""

    role: str
    process: SpawnProcess
    pipe: Connection

    def ask(self) -> Figures:
        """Its figures. Raises Unreachable if it is gone."""
        try:
            self.pipe.send("figures")
            found: Figures = self.pipe.recv()
        except (EOFError, OSError) as error:
            message = f"the bench's {self.role} process ended by itself; its error is above"
            raise Unreachable(message) from error
        return found


class Crew:
    """Processes of the services over some places. A context manager: they are stopped at the end."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.members: list[Member] = []
        self._servers = {name: pid_listening(port) for name, port in places.ports().items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            try:
                member.pipe.send("stop")
            except OSError:
                continue
        for member in self.members:
            member.process.join(20.0)
            if member.process.is_alive():
                member.process.kill()

    def start(self, role: str) -> None:
        """One more process of that service; returns when it has opened its stores. Raises what it raised."""
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        name = f"bench-{role}-{len(self.members)}"
        process = context.Process(target=serve, args=(role, name, self._places, its), name=name, daemon=True)
        process.start()
        its.close()
        self.members.append(Member(role, process, mine))
        if not mine.poll(_START_S):
            message = f"the bench's {role} process did not come up within {_START_S:g} s"
            raise Unreachable(message)
        try:
            said = mine.recv()
        except EOFError as error:
            message = f"the bench's {role} process ended by itself; its error is above"
            raise Unreachable(message) from error
        if said is not None:
            raise said

    def tell(self, word: str, role: str | None = None) -> None:
        """`pause` or `resume` to all, or to all of one service."""
        for member in self.members:
            if role in (None, member.role):
                member.pipe.send(word)

    def figures(self) -> list[tuple[str, Figures]]:
        """Of every process, with its service."""
        return [(member.role, member.ask()) for member in self.members]

    def servers(self) -> Mapping[str, float | None]:
        """CPU seconds that the servers on this machine have used; None where the process cannot be seen."""
        return {name: None if pid is None else cpu_seconds(pid) for name, pid in self._servers.items()}

    def balanced(self, patience_s: float = 60.0) -> None:
        """Wait until every process of a service holds a share of the partitions."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            held = defaultdict[str, list[int]](list)
            for role, found in self.figures():
                held[role].append(found.held)
            if all(min(shares) > 0 for shares in held.values()):
                return
            time.sleep(0.2)
        message = f"after {patience_s:g} s not every process of the bench holds a partition: {dict(held)}"
        raise Unreachable(message)

    def drain(self, log: Log, role: str | None = None, patience_s: float = 600.0) -> float:
        """Wait until what was appended has gone all the way (or through one service); returns the seconds it took."""
        ways = [(group, topic) for group, read in _WAYS.items() if role in (None, group) for topic in read]
        started = asked = time.monotonic()
        while any(lag(log, group, topic) for group, topic in ways):
            if time.monotonic() - asked > _ASK_S:
                self._refuse_trouble()
                asked = time.monotonic()
            if time.monotonic() - started > patience_s:
                message = f"after {patience_s:g} s the services have not worked off what was appended"
                raise Unreachable(message)
            time.sleep(_LOOK_S)
        return time.monotonic() - started

    def _refuse_trouble(self) -> None:
        for role, found in self.figures():
            if found.trouble:
                raise DataError(f"the bench's {role} process is in trouble: {found.trouble}")


ONE_AFTER_THE_OTHER: Final = tuple(_WAYS)
"""The services, each after those whose output it reads."""
