"""A series' rows through the production path: align, clean, windows, detect; then what is said of each input row.

A score of row t depends on rows up to t. Rows of the input that are no tick of their own get the sample of their tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.alignment import AlignmentPolicy, align
from anomaly.blocks import join
from anomaly.detector import Detector
from anomaly.domain import Readings, Samples, Scores, State
from anomaly.evaluation import blame, hit_rate
from anomaly.judging import judge
from anomaly.sensors import check
from anomaly.strips import Piece, lay
from pipelines.datasets.bench import Series, Task

TRAINING = "training"
"""State of a row that the model or its line was fitted on."""
CHUNK = 4096
"""Windows judged at once."""


@dataclass(frozen=True, slots=True, eq=False)
class RowScores:
    """One score, NaN if unknown, and one state for each input row of a series. `contributions` are kept of the rows
    that were asked for, by number; they are large.
    """

    series: str
    stamps: tuple[str, ...]
    score: Float[np.ndarray, " row"]
    state: tuple[str, ...]
    explained: Explained | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """Contributions of some rows of a series: all 0 where there is no score."""

    tags: tuple[str, ...]
    rows: Int64[np.ndarray, " some"]
    contributions: Float32[np.ndarray, "some tag"]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Scores of a series' samples. `place`: of each input row, the row of `scores`; -1 where it has none."""

    scores: Scores
    place: Int64[np.ndarray, " row"]


def score_rows(detector: Detector, task: Task, series: Series) -> RowScores:
    """A score for each input row that was not learned from: that of the sample its tick became."""
    return rows_of_series(series, place_scores(detector, task, series), np.zeros(len(series.rows), bool))


def place_scores(detector: Detector, task: Task, series: Series) -> Placed:
    """The scores of all samples of a series, the way of production, and which of them is each input row's."""
    history = [] if series.before is None else [series.before]
    samples = align(as_asset(task, *history, series.rows), task.tags, AlignmentPolicy.of(task.tick)).samples
    ends = -(-series.rows.times // task.tick) * task.tick
    fresh = ends[~series.learned]
    first = int(np.searchsorted(samples.times, fresh.min())) if len(fresh) else len(samples)
    found = detect(detector, samples, first)
    place = np.clip(np.searchsorted(found.times, ends), 0, max(len(found) - 1, 0))
    there = (found.times[place] == ends) & ~series.learned if len(found) else np.zeros(len(ends), bool)
    return Placed(found, np.where(there, place, -1).astype(np.int64))


def rows_of_series(series: Series, placed: Placed, explain: Bool[np.ndarray, " row"]) -> RowScores:
    """What the placed scores say of each input row; contributions are kept of the rows in `explain`."""
    found, place = placed.scores, placed.place
    there = place >= 0
    score = np.full(len(place), np.nan)
    score[there] = found.score[place[there]]
    state = [str(found.state[i]) if i >= 0 else str(State.INSUFFICIENT_COVERAGE) for i in place.tolist()]
    learned = series.learned.tolist()
    states = tuple(TRAINING if known else text for known, text in zip(learned, state, strict=True))
    explained = None
    if explain.any():
        rows = np.flatnonzero(explain & there)
        explained = Explained(found.tags, rows, found.contributions[place[rows]].astype(np.float32))
    return RowScores(series.name, series.stamps, score, states, explained)


def detect(detector: Detector, samples: Samples, first: int) -> Scores:
    """Scores of the windows that end at each row ≥ `first`, some thousand at a time, as live rows are judged."""
    faults = check(samples, detector.sensors)
    ends = [(start, min(start + CHUNK, len(samples))) for start in range(first, max(len(samples), first + 1), CHUNK)]
    strips = (lay([Piece(samples, *cut, faults)], detector.length, detector.tags, detector.mode) for cut in ends)
    return join([judge(detector, strip) for strip in strips])


def hit_rates_of(series: Series, found: RowScores) -> tuple[tuple[float, float], ...]:
    """HitRate@100 % and @150 % of each event whose causes are known; none for scores that do not explain themselves."""
    if found.explained is None:
        return ()
    told, rates = found.explained, []
    for start, stop, causes in series.interpreted:
        inside = (told.rows >= start) & (told.rows < stop)
        blamed = blame(told.contributions[inside].astype(np.float64), found.score[told.rows[inside]])
        labelled = np.isin(told.tags, causes)
        rates.append((hit_rate(blamed, labelled), hit_rate(blamed, labelled, 1.5)))
    return tuple(rates)


def as_asset(task: Task, *parts: Readings) -> Readings:
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
