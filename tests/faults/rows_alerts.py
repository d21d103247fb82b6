"""The row of alert delivery, and the row of model swaps."""

from __future__ import annotations

import threading
import time
from collections import Counter

from pipelines import topics
from tests.faults.receiver import Mode
from tests.faults.rows_processes import FIRST, RATE
from tests.faults.stage import Stage


def receiver_fails(stage: Stage) -> None:
    """The receiver of alerts fails, then hangs; then the alerter is killed between telling and noting that it told."""
    modes: tuple[Mode, ...] = ("fail", "hang")
    stage.must_replay = True
    stage.start()
    with stage.load(RATE * 2):
        time.sleep(4.0)
        for mode in modes * (2 if stage.full else 1):
            strike = stage.strike(f"receiver: {mode}", stage.at_work(*FIRST["alert"]))
            refused = stage.receiver.refused
            stage.receiver.mode = mode
            _wait(lambda refused=refused: stage.receiver.refused > refused, 60)
            time.sleep(10.0)
            stage.receiver.mode = "take"
            stage.over(strike)
            time.sleep(16.0)  # a receiver that failed is left alone for 15 s
        kills = 6 if stage.full else 2
        for _ in range(kills):
            _killed_between(stage)
    delivered = len(stage.receiver.told) - len(stage.receiver.keys())
    most = max(Counter(key for key, _ in stage.receiver.told).values())
    if most > 1 + kills:
        stage.complaints.append(f"a transition was told {most} times, with {kills} crashes: more than one copy a crash")
    if not delivered:
        stage.complaints.append("no transition was told twice: the kills did not strike between telling and noting")
    stage.notes.append(f"{delivered} of {len(stage.receiver.told)} deliveries were repetitions, each with its key")


def _killed_between(stage: Stage) -> None:
    """The receiver kills the alerter before it confirms: told, and not noted."""
    worker, struck = stage.workers["alert-1"], threading.Event()

    def kill() -> None:
        if not struck.is_set():
            worker.kill()
            struck.set()

    stage.expect_end(worker)
    stage.receiver.before_answer = kill
    if not struck.wait(90):
        stage.complaints.append("no alert came within 90 s: nothing to be killed at")
    stage.receiver.before_answer = None
    strike = stage.strike("kill -9 alerter between telling and noting", 1)
    worker.start()
    stage.unexpect_end(worker)
    stage.over(strike)
    stage.await_recovery(strike, 60)


def swaps(stage: Stage) -> None:
    """Versions are swapped under load; every other swap a scoring worker is killed in the midst of it."""
    count = 16 if stage.full else 4
    stage.start()
    with stage.load(RATE):
        time.sleep(2.0)
        for number in range(1, count + 1):
            strike = stage.strike("swap", stage.at_work())
            stage.wish(number % 2)
            if number % 2:
                time.sleep(stage.chance.uniform(0.0, 0.25))
                worker = stage.workers[stage.chance.choice(["score-1", "score-2"])]
                strike.what = f"swap, kill -9 {worker.name}"
                worker.kill()
                worker.start()
            stage.over(strike)
            time.sleep(stage.chance.uniform(2.0, 5.0))
    taken_up = [r for r in stage.view.records(topics.MODELS) if (r.key or b"").startswith(b"activation/")]
    if len(taken_up) < count:
        stage.complaints.append(f"{len(taken_up)} activations of {count} wishes: swaps did not strike under load")
    stage.must_replay = True


def _wait(until: object, patience_s: float) -> None:
    assert callable(until)
    deadline = time.monotonic() + patience_s
    while not until() and time.monotonic() < deadline:
        time.sleep(0.1)
