"""A benchmark through the production path: align, clean, fit, windows, detect; then the figures.

    for run in evaluate(bench, "window_pca", seed=0, on_step=print):
        ...

Learning sees training rows only; the alert line comes from rows of theirs (or those that the protocol names). A score
of row t depends on rows up to t. Rows of the input that are no tick of their own get the sample of their tick.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from anomaly.detector import Detector, calibrate
from anomaly.domain import Asset, Plant, Readings, State, Tag
from anomaly.errors import TooFewRowsError
from anomaly.evaluation import CONTROLS
from anomaly.training_set import TrainingSet
from pipelines.breaking import Breakage, Broken, broken
from pipelines.datasets.bench import Bench, Series, Task
from pipelines.figures import Figures, Judged, figures_of, judged, summary_of
from pipelines.instruments import Instruments, instruments_of, summary_of_instruments
from pipelines.row_scores import TRAINING, RowScores, as_asset, hit_rates_of, place_scores, rows_of_series
from pipelines.rungs import OWN_LINE, fit_model
from pipelines.training_service import training_set_from_readings

OnStep = Callable[[str, float], None]
"""Called with what is being done and the share done of this model and seed, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One model with one seed over one data set: a row a series, the summary, the scores, and what went wrong.

    `instruments`: where sensors were broken on purpose, a row a series and the summary.
    """

    model: str
    seed: int
    rows: tuple[Figures, ...]
    summary: Figures
    scores: tuple[RowScores, ...]
    notes: tuple[str, ...] = ()
    instruments: tuple[Instruments, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What else is wanted of a run: sensors broken in the rows judged, contributions in all anomalous rows."""

    breakage: Breakage | None = None
    explain: bool = False


def evaluate(bench: Bench, model: str, seed: int, on_step: OnStep, asked: Asked = Asked()) -> Run:
    """Fit and judge one model on every task; where too few rows are there to fit it, none is in alarm (see `notes`).

    Raises TooFewRowsError if it can be fitted on no task at all.
    """
    every: list[Judged] = []
    scores: list[RowScores] = []
    notes: list[str] = []
    instruments: list[Instruments] = []
    for number, task in enumerate(bench.tasks):
        on_step(task.name, number / len(bench.tasks))
        started = time.perf_counter()
        try:
            detector = None if model in CONTROLS else fit(task, model, seed)
        except TooFewRowsError as error:
            notes.append(f"{model} on {task.name}: {error}")
            if len(notes) == len(bench.tasks):
                raise
            detector = None
        share = (time.perf_counter() - started) / len(task.series)
        for series in task.series:
            started = time.perf_counter()
            if detector is None:
                found = _controlled(task, series, model, seed)
            else:
                altered = _altered(task, series, asked, seed)
                placed = place_scores(detector, task, altered.series)
                found = rows_of_series(series, placed, _worth_explaining(series, asked))
                if asked.breakage is not None:
                    instruments.append(instruments_of(altered, placed, _blank(bench, model, seed, asked.breakage)))
            scores.append(found)
            every.append(_judge(bench, task, series, found, share + time.perf_counter() - started))
    blank = Figures(bench.name, "", model, seed)
    rows = tuple(figures_of(found, blank, bench.protocol) for found in every)
    if instruments and asked.breakage is not None:
        instruments.append(summary_of_instruments(instruments, _blank(bench, model, seed, asked.breakage)))
    summary = summary_of(every, rows, blank, bench.protocol)
    return Run(model, seed, rows, summary, tuple(scores), tuple(notes), tuple(instruments))


def _altered(task: Task, series: Series, asked: Asked, seed: int) -> Broken:
    """The series with its sensors broken, if that was asked for."""
    if asked.breakage is None:
        return Broken(series, (), 0)
    return broken(series, asked.breakage, task.train, seed)


def _blank(bench: Bench, model: str, seed: int, how: Breakage) -> Instruments:
    return Instruments(bench.name, "", model, seed, str(how))


def _worth_explaining(series: Series, asked: Asked) -> Bool[np.ndarray, " row"]:
    """Rows whose contributions are kept: those with known causes, or all anomalous ones."""
    rows = np.zeros(len(series.rows), bool)
    for start, stop, _ in series.interpreted:
        rows[start:stop] = True
    return rows | series.labels if asked.explain and series.labels is not None else rows


def fit(task: Task, model: str, seed: int) -> Detector:
    """The detector that production would learn from the task's training rows. Raises TooFewRowsError."""
    detector = fit_model(_cleaned(task, task.train), _asset(task).tags, model, seed)
    if task.calibration is None or model in OWN_LINE:
        return detector
    held_back = _cleaned(task, task.calibration)
    return replace(detector, threshold=calibrate(detector.scorer, detector.scaler, detector.sensors, held_back))


def _controlled(task: Task, series: Series, model: str, seed: int) -> RowScores:
    """What a control says; a model that could not be fitted says nothing."""
    score = np.full(len(series.rows), np.nan)
    fresh = ~series.learned
    own = zlib.crc32(f"{seed} {series.name}".encode())  # chance must not be the same chance in every series
    if model in CONTROLS:
        score[fresh] = CONTROLS[model](int(fresh.sum()), len(task.train), own)
    state = [TRAINING if known else str(State.OK) for known in series.learned.tolist()]
    if model not in CONTROLS:
        state = [TRAINING if text == TRAINING else str(State.INSUFFICIENT_COVERAGE) for text in state]
    return RowScores(series.name, series.stamps, score, tuple(state))


def _judge(bench: Bench, task: Task, series: Series, found: RowScores, seconds: float) -> Judged:
    """The rows that count: those with a label and not learned from."""
    rows = ~series.learned if series.labels is not None else np.zeros(len(found.score), bool)
    labels = np.zeros(len(rows), bool) if series.labels is None else series.labels
    return judged(
        series.name,
        labels[rows],
        found.score[rows],
        series.rows.times[rows],
        task.tick,
        bench.protocol,
        seconds=seconds,
        apart=series.apart or series.labels is None,
        hit_rates=hit_rates_of(series, found),
    )


def _asset(task: Task) -> Asset:
    return Asset(task.name, task.name, tuple(Tag(name) for name in task.tags), task.tick)


def _cleaned(task: Task, readings: Readings) -> TrainingSet:
    """Rows as `plantwatch train` would take them from files."""
    whole = as_asset(task, readings)
    since, until = int(whole.times.min()), int(whole.times.max()) + 1
    plant = Plant(task.name, (_asset(task),))
    return training_set_from_readings(plant, task.name, None, [whole], since, until).training
