"""Whatever fails between the log and the historian, and whenever, each reading is stored once and nothing is lost (G7).

A Hypothesis state machine lets record workers join, leave, die and poll while the historian and the log come and go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anomaly.domain import SECOND, Quality, Readings, Scores
from anomaly.errors import StorageError, Unreachable
from pipelines import feeding, topics
from pipelines.adapters.memory import MemoryHistorian
from pipelines.adapters.memory_log import MemoryLog
from pipelines.patience import GROWTH, Patience
from pipelines.ports import AlertEvent
from pipelines.recording import RecordWorker
from pipelines.service import Session

LIMIT = 2
START = 1_800_000_000 * SECOND
ASSETS = tuple(f"s/pump-{n}" for n in range(6))


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time

    def seconds(self) -> float:
        return self.time / SECOND

    def sleep(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)


class Moody(MemoryHistorian):
    """Down when it is told to be; then it may have taken what it says it did not. Notes the largest write."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.takes = False
        self.largest = 0

    def write(
        self, readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        self.largest = max(self.largest, len(readings))
        if not self.down or self.takes:
            super().write(readings, scores, events)
        if self.down:
            raise Unreachable("the historian does not answer")

    def span(self, asset: str | None = None) -> tuple[int, int] | None:
        if self.down:
            raise Unreachable("the historian does not answer")
        return super().span(asset)


class PatienceMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.log = MemoryLog(self.clock, session_s=30.0, timer=self.clock.now)
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.historian = Moody()
        self.sessions: list[Session] = []
        self.sent: dict[str, int] = dict.fromkeys(ASSETS, 0)
        self.join()

    @rule()
    def join(self) -> None:
        if len(self.sessions) < 3:
            worker = RecordWorker(self.log, self.historian, is_empty=lambda: self.historian.span() is None)
            consumer = self.log.join(worker.name, worker.topics)
            self.sessions.append(Session(worker, consumer, LIMIT, patience=Patience(self.clock.seconds)))

    @rule(asset=st.sampled_from(ASSETS), count=st.integers(1, 30))
    def send(self, asset: str, count: int) -> None:
        for _ in range(count):
            time = np.array([START + self.sent[asset] * SECOND], dtype=np.int64)
            value = np.array([[float(self.sent[asset])]])
            good = np.full((1, 1), Quality.GOOD, np.uint8)
            feeding.append(self.log, [Readings(asset, ("t",), time, value, good)])
            self.sent[asset] += 1

    @rule(turns=st.integers(1, 20), seconds=st.sampled_from([0.0, 0.3, 2.0]))
    def turn(self, turns: int, seconds: float) -> None:
        for _ in range(turns):
            self.clock.sleep(seconds)
            for session in list(self.sessions):
                try:
                    session.step(0.0)
                except StorageError:  # of the log; what the sink says must not come out
                    session.close()
                    self.sessions.remove(session)
        if not self.sessions:
            self.join()

    @rule(takes=st.booleans())
    def historian_goes(self, takes: bool) -> None:
        self.historian.down, self.historian.takes = True, takes

    @rule()
    def historian_comes(self) -> None:
        self.historian.down = False

    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        if len(self.sessions) > 1:
            self.sessions.pop(which % len(self.sessions)).close()

    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        """As after kill -9: nothing is closed, the group finds out by itself."""
        if self.sessions:
            self.sessions.pop(which % len(self.sessions))
            self.clock.sleep(31.0)
            self.join()

    @invariant()
    def memory_is_flat(self) -> None:
        if hasattr(self, "historian"):
            # what a revoked partition left in a worker's hands is written with its next batch
            assert self.historian.largest <= 3 * LIMIT * GROWTH

    def teardown(self) -> None:
        if not hasattr(self, "historian"):
            return
        self.historian.down = False
        for _ in range(40):
            self.turn(10, 1.0)
            if self._stored() == self.sent:
                break
        assert self._stored() == self.sent
        for asset, count in self.sent.items():
            block = self.historian.readings(asset, 0, 2**62)
            assert block.values[:, 0].tolist() == [float(i) for i in range(count)] if count else True

    def _stored(self) -> dict[str, int]:
        return {asset: len(self.historian.readings(asset, 0, 2**62)) for asset in ASSETS}


TestPatience = PatienceMachine.TestCase
TestPatience.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
