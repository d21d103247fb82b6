"""A process that fits versions for the train service: jobs come as JSON lines, progress and results go as JSON lines.

Training must neither hold the interpreter that scores nor share its memory, and must be killable at any moment. One
process serves many jobs, since importing TensorFlow takes 10 s and more; it ends with its standard input.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from anomaly.cross_fit import MOST
from anomaly.domain import Rung
from anomaly.errors import ModelRefused, PlantwatchError
from anomaly.training import Progress, TrainingSpec
from anomaly.training_size import spec_for
from pipelines import comparing, wiring
from pipelines.fitting import fit_version
from pipelines.settings import Settings
from pipelines.training_service import group_assets, group_tags, training_set_from_historian

WORK_FOLDER = "training"
"""Where nets are made, inside the data folder."""


ENOUGH_ROWS: Final = 12_000
"""Normal rows from which on a first net learns enough from a part of them."""
BRIEF_WINDOWS: Final = 2_500
"""Windows a first window-PCA is fitted on: three seconds instead of seven, the same line within a tenth."""


def brief_spec(rows: int) -> TrainingSpec:
    """A training that takes some ten seconds on 2 cores, whatever the amount of data; few rows get all they need.

    >>> brief_spec(50_000).epochs, brief_spec(400).epochs
    (4, 30)
    """
    usual = spec_for(rows)
    return usual if rows < ENOUGH_ROWS else replace(usual, epochs=4, windows_per_epoch=8_192)


class Job(msgspec.Struct, frozen=True):
    """Fit `rung` for `group` on what is stored of [since, until), ns. `now`: time for the version's name, ns."""

    group: str
    rung: Rung
    since: int
    until: int
    now: int
    actor: str
    reason: str
    champion: str | None = None
    brief: bool = False
    """A first version, wanted soon: less training; the ladder fits a better one when the data have grown."""


class Word(msgspec.Struct, frozen=True):
    """One line of what the process says: progress of a job until `stage` is `fitted` or `failed`."""

    group: str
    rung: Rung
    stage: str
    done: float = 0.0
    version: str = ""
    rows: int = 0
    summary: str = ""
    objections: tuple[str, ...] = ()
    """Why the version should not serve; empty if nothing speaks against it."""
    reason: str = ""
    """Why the job failed."""
    seconds: float = 0.0


def work(settings: Settings, job: Job, say: Callable[[Word], None]) -> Word:
    """Do one job. Raises PlantwatchError."""
    started = time.monotonic()
    plant, registry = wiring.open_plant(settings), wiring.open_registry(settings)
    budget = plant.alert_budget_per_week
    historian = wiring.open_historian_reader(settings)
    cleaned = training_set_from_historian(historian, plant, job.group, None, job.since, job.until)
    tags = group_tags(group_assets(plant, job.group, None))

    def progress(step: Progress) -> None:
        say(Word(job.group, job.rung, "compare" if step.stage == "done" else step.stage, step.share))

    fitted = fit_version(
        cleaned,
        tags,
        job.rung,
        registry,
        now=job.now,
        workdir=settings.data_dir / WORK_FOLDER,
        spec=brief_spec(cleaned.training.rows) if job.brief else None,
        most=BRIEF_WINDOWS if job.brief else MOST,
        budget_per_week=budget,
        source="stored",
        actor=job.actor,
        on_progress=progress,
    )
    try:
        champion = registry.load(job.group, job.champion) if job.champion else None
    except ModelRefused:
        champion = None
    comparison = comparing.compare(champion, fitted.detector, cleaned.training.split().calibration, budget)
    return Word(
        job.group,
        job.rung,
        "fitted",
        1.0,
        fitted.version,
        fitted.card.rows,
        fitted.card.summary(fitted.detector.tick),
        comparison.objections,
        seconds=time.monotonic() - started,
    )


def main() -> None:
    """Serve jobs from standard input until it ends; the one argument is the data folder."""
    settings = Settings(data_dir=Path(sys.argv[1]))
    out = sys.stdout.buffer

    def say(word: Word) -> None:
        out.write(msgspec.json.encode(word) + b"\n")
        out.flush()

    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        try:
            say(work(settings, job, say))
        except PlantwatchError as error:
            say(Word(job.group, job.rung, "failed", reason=str(error)))


if __name__ == "__main__":
    main()
