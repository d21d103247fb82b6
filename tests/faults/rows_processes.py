"""Rows in which processes suffer: killed, frozen, joined and left, asked to stop."""

from __future__ import annotations

import time

from pipelines import topics
from tests.faults.stage import Stage, Strike
from tests.faults.workers import Worker

FIRST = {
    "score": ("score", topics.READINGS),
    "record": ("record", topics.READINGS),
    "alert": ("alert", topics.SCORES),
}
"""Group and topic where each service has work first of all."""
RATE = 25.0
"""Records a second; a record holds five rows of four tags."""


def kill_workers(stage: Stage) -> None:
    """kill -9 a random worker, again and again, under load; a supervisor starts it again at once."""
    kills, pauses = (36, (0.5, 4.0)) if stage.full else (5, (1.0, 3.0))
    stage.must_replay = True
    stage.start()
    names = list(stage.workers)
    with stage.load(RATE):
        time.sleep(2.0)
        for number in range(kills):
            # The first kills take one of each; the scoring ones have the most to lose, so they die more often.
            name = names[number % len(names)] if number < len(names) else stage.chance.choice([*names, "score-1"])
            _kill(stage, stage.workers[name])
            time.sleep(stage.chance.uniform(*pauses))
        for worker in stage.workers.values():
            worker.await_ready()


def _kill(stage: Stage, worker: Worker) -> None:
    """A worker that is starting is not waited for: a crash then must harm nobody either."""
    running = worker.answer("/healthz")[0] == 200
    strike = stage.strike(f"kill -9 {worker.name}", stage.at_work(*FIRST[worker.service]) if running else 0)
    if not worker.kill():
        stage.complaints.append(f"{worker.name} had ended before it was killed: {worker.tail(2)}")
    worker.start()
    stage.over(strike)


def rebalance_storm(stage: Stage) -> None:
    """1 → 4 → 2 → 3 → 1 scoring workers under load: joined by starting, left by SIGTERM."""
    stage.must_replay = True
    stage.start(score=1)
    steps = [4, 2, 3, 1] * (3 if stage.full else 1)
    with stage.load(RATE):
        time.sleep(2.0)
        present = 1
        for wanted in steps:
            strike = stage.strike(f"{present} → {wanted} workers", stage.at_work())
            for number in range(present + 1, wanted + 1):
                stage.add("score", number)
            for number in range(wanted + 1, present + 1):
                _leave(stage, stage.workers[f"score-{number}"])
            for number in range(present + 1, wanted + 1):
                stage.workers[f"score-{number}"].await_ready()
            stage.over(strike)
            present = wanted
            time.sleep(4.0 if stage.full else 1.5)


def _leave(stage: Stage, worker: Worker) -> None:
    stage.expect_end(worker)
    code, seconds = worker.terminate()
    if code != 0:
        stage.complaints.append(f"{worker.name} left with {code} after {seconds:.1f} s, not 0: {worker.tail()}")


def freeze(stage: Stage) -> None:
    """SIGSTOP past the session timeout, SIGCONT: the others take over, and the one that wakes does no harm."""
    stage.must_replay = True
    stage.start()
    rounds = [*stage.workers] * 2 if stage.full else ["score-1"]
    with stage.load(RATE):
        time.sleep(2.0)
        for name in rounds:
            worker = stage.workers[name]
            strike = stage.strike(f"SIGSTOP {name}", stage.at_work(*FIRST[worker.service]))
            worker.freeze()
            time.sleep(17.0)
            worker.thaw()
            stage.over(strike)
            time.sleep(5.0)


def rolling_restart(stage: Stage) -> None:
    """SIGTERM to one worker after the other: each drains, commits and ends with 0 within 20 s; nothing comes twice."""
    stage.start()
    with stage.load(RATE):
        time.sleep(2.0)
        for worker in list(stage.workers.values()) * (2 if stage.full else 1):
            strike = stage.strike(f"SIGTERM {worker.name}", stage.at_work())
            _restart(stage, worker, strike)


def _restart(stage: Stage, worker: Worker, strike: Strike) -> None:
    stage.expect_end(worker)
    code, seconds = worker.terminate()
    if code != 0 or seconds > 20:
        stage.complaints.append(f"{worker.name} ended with {code} after {seconds:.1f} s: {worker.tail()}")
    worker.start()
    stage.unexpect_end(worker)
    worker.await_ready()
    stage.over(strike)
