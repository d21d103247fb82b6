"""A benchmark through the production path: align, clean, fit, windows, detect; then the figures.

    for run in evaluate(bench, "window_pca", seed=0, on_step=print):
        ...

Learning sees training rows only; the alert line comes from rows of theirs (or those that the protocol names). A score
of row t depends on rows up to t. Rows of the input that are no tick of their own get the sample of their tick.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from anomaly.alignment import AlignmentPolicy, align
from anomaly.blocks import join
from anomaly.blocks import rows as rows_of
from anomaly.detector import Detector, calibrate
from anomaly.domain import Asset, Plant, Readings, Samples, Scores, State, Tag
from anomaly.errors import TooFewRowsError
from anomaly.evaluation import CONTROLS
from anomaly.training_set import TrainingSet
from pipelines.datasets.bench import Bench, Series, Task
from pipelines.figures import Figures, Judged, figures_of, judged, summary_of
from pipelines.rungs import fit_model
from pipelines.training_service import training_set_from_readings

TRAINING = "training"
"""State of a row that the model or its line was fitted on."""
CHUNK = 4096
"""Windows judged at once."""

OnStep = Callable[[str, float], None]
"""Called with what is being done and the share done of this model and seed, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class RowScores:
    """One score, NaN if unknown, and one state for each input row of a series."""

    series: str
    stamps: tuple[str, ...]
    score: Float[np.ndarray, " row"]
    state: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One model with one seed over one data set: a row a series, the summary, the scores, and what went wrong."""

    model: str
    seed: int
    rows: tuple[Figures, ...]
    summary: Figures
    scores: tuple[RowScores, ...]
    notes: tuple[str, ...] = ()


def evaluate(bench: Bench, model: str, seed: int, on_step: OnStep) -> Run:
    """Fit and judge one model on every task; where too few rows are there to fit it, none is in alarm (see `notes`).

    Raises TooFewRowsError if it can be fitted on no task at all.
    """
    every: list[Judged] = []
    scores: list[RowScores] = []
    notes: list[str] = []
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
            found = _controlled(task, series, model, seed) if detector is None else score_rows(detector, task, series)
            scores.append(found)
            every.append(_judge(bench, task, series, found, share + time.perf_counter() - started))
    blank = Figures(bench.name, "", model, seed)
    rows = tuple(figures_of(found, blank, bench.protocol) for found in every)
    return Run(model, seed, rows, summary_of(every, rows, blank, bench.protocol), tuple(scores), tuple(notes))


def fit(task: Task, model: str, seed: int) -> Detector:
    """The detector that production would learn from the task's training rows. Raises TooFewRowsError."""
    detector = fit_model(_cleaned(task, task.train), _asset(task).tags, model, seed)
    if task.calibration is None:
        return detector
    held_back = _cleaned(task, task.calibration)
    return replace(detector, threshold=calibrate(detector.scorer, detector.scaler, detector.sensors, held_back))


def score_rows(detector: Detector, task: Task, series: Series) -> RowScores:
    """A score for each input row that was not learned from: that of the sample its tick became."""
    history = [] if series.before is None else [series.before]
    samples = align(_as_asset(task, *history, series.rows), task.tags, AlignmentPolicy.of(task.tick)).samples
    ends = -(-series.rows.times // task.tick) * task.tick
    fresh = ends[~series.learned]
    first = int(np.searchsorted(samples.times, fresh.min())) if len(fresh) else len(samples)
    found = detect(detector, samples, first)
    place = np.clip(np.searchsorted(found.times, ends), 0, max(len(found) - 1, 0))
    there = (found.times[place] == ends) & ~series.learned if len(found) else np.zeros(len(ends), bool)
    score = np.where(there, found.score[place] if len(found) else np.nan, np.nan)
    state = [
        str(found.state[i]) if known else str(State.INSUFFICIENT_COVERAGE)
        for i, known in zip(place, there, strict=True)
    ]
    learned = series.learned.tolist()
    return RowScores(
        series.name,
        series.stamps,
        score,
        tuple(TRAINING if known else text for known, text in zip(learned, state, strict=True)),
    )


def detect(detector: Detector, samples: Samples, first: int) -> Scores:
    """Scores of the windows that end at each row ≥ `first`, some thousand at a time."""
    windows = detector.windows(samples, first)
    starts = range(0, max(len(windows), 1), CHUNK)
    return join([detector.detect(rows_of(windows, slice(start, start + CHUNK))) for start in starts])


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
    )


def _asset(task: Task) -> Asset:
    return Asset(task.name, task.name, tuple(Tag(name) for name in task.tags), task.tick)


def _cleaned(task: Task, readings: Readings) -> TrainingSet:
    """Rows as `plantwatch train` would take them from files."""
    whole = _as_asset(task, readings)
    since, until = int(whole.times.min()), int(whole.times.max()) + 1
    plant = Plant(task.name, (_asset(task),))
    return training_set_from_readings(plant, task.name, None, [whole], since, until).training


def _as_asset(task: Task, *parts: Readings) -> Readings:
    """Readings one after the other, as of the task's one asset: its alert line is the one that counts."""
    wide = [_widened(part, task.tags) for part in parts]
    return Readings(
        task.name,
        task.tags,
        np.concatenate([part.times for part in wide]),
        np.concatenate([part.values for part in wide]),
        np.concatenate([part.quality for part in wide]),
    )


def _widened(part: Readings, tags: Sequence[str]) -> Readings:
    """The same rows with these tags; one that is not there did not come."""
    if part.tags == tuple(tags):
        return part
    values = np.full((len(part), len(tags)), np.nan)
    quality = np.full(values.shape, 3, np.uint8)
    for column, tag in enumerate(tags):
        if tag in part.tags:
            source = part.tags.index(tag)
            values[:, column], quality[:, column] = part.values[:, source], part.quality[:, source]
    return Readings(part.asset, tuple(tags), part.times, values, quality)
