"""One machine over a span of time: signals, what was expected of them, scores, and which tags are strange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.domain import Alert, Asset, Readings, Scores, SensorFault, State, Tag
from pipelines.ports import HistorianReader

POINTS: Final = 320
"""Most points of a measured line or of the score: more cannot be seen and would cost on every refresh."""
EXPECTED_POINTS: Final = 120
"""Most points of what was expected, and of the band around it."""
BAND_ROWS: Final = 30
"""Rows under the line needed before a usual spread is drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One tag over the span. Times in ns; NaN where not known. `spread`: usual distance from expected, NaN unknown."""

    tag: Tag
    times: Int64[np.ndarray, " point"]
    values: Float[np.ndarray, " point"]
    expected_times: Int64[np.ndarray, " row"]
    expected: Float[np.ndarray, " row"]
    spread: float
    fault: str
    """Sensor fault at the newest row, empty when healthy."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time [since, until) in ns with one word for it."""

    since: int
    until: int
    word: str


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why the score is what it is at one time: per tag its share (0..1), the actual and the expected value."""

    time: int
    score: float
    state: State
    coverage: float
    version: str
    rung: str
    tags: tuple[str, ...]
    shares: Float[np.ndarray, " tag"]
    actual: Float[np.ndarray, " tag"]
    expected: Float[np.ndarray, " tag"]
    faults: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class MachineView:
    """What the Machine page shows for one span [since, until)."""

    since: int
    until: int
    times: Int64[np.ndarray, " row"]
    score: Float[np.ndarray, " row"]
    tracks: tuple[Track, ...]
    alerts: tuple[Alert, ...]
    """Alerts whose trouble touches the span, newest first."""
    unknown: tuple[Stretch, ...]
    """Where the machine could not be judged, and why."""
    blocks: tuple[Scores, ...]


def machine_view(reader: HistorianReader, asset: Asset, since: int, until: int) -> MachineView:
    """Everything about one machine in a span. Tags blamed by an open alert come first, then plant-file order."""
    blocks = tuple(block for block in reader.scores(asset.path, since, until) if len(block))
    alerts = tuple(
        alert
        for alert in reader.alerts()
        if alert.anomaly.asset == asset.path
        and alert.anomaly.onset < until
        and (alert.anomaly.end is None or alert.anomaly.end >= since)
    )
    times = np.concatenate([block.times for block in blocks]) if blocks else np.empty(0, np.int64)
    score = np.concatenate([block.score for block in blocks]) if blocks else np.empty(0)
    tags = _in_order(asset, alerts)
    drawn = reader.chart(asset.path, tuple(tag.name for tag in tags), since, until, POINTS)
    kept = _thin(score)
    return MachineView(
        since=since,
        until=until,
        times=times[kept],
        score=score[kept],
        tracks=tuple(_track(tag, drawn.get(tag.name), blocks) for tag in tags),
        alerts=alerts,
        unknown=_unknown(blocks),
        blocks=blocks,
    )


def _in_order(asset: Asset, alerts: Sequence[Alert]) -> list[Tag]:
    blamed = list(dict.fromkeys(name for alert in alerts if alert.anomaly.end is None for name in alert.anomaly.tags))
    rank = {name: place for place, name in enumerate(blamed)}
    return sorted(asset.tags, key=lambda tag: rank.get(tag.name, len(rank)))


def _track(tag: Tag, drawn: Readings | None, blocks: Sequence[Scores]) -> Track:
    times, expected, actual, calm, fault = _column(tag.name, blocks)
    kept = np.arange(0, len(times), max(1, -(-len(times) // EXPECTED_POINTS)))
    column = drawn.tags.index(tag.name) if drawn is not None and tag.name in drawn.tags else None
    return Track(
        tag=tag,
        times=drawn.times if drawn is not None and column is not None else np.empty(0, np.int64),
        values=drawn.values[:, column] if drawn is not None and column is not None else np.empty(0),
        expected_times=times[kept],
        expected=expected[kept],
        spread=usual_spread(actual - expected, calm),
        fault=fault,
    )


def _column(
    name: str, blocks: Sequence[Scores]
) -> tuple[
    Int64[np.ndarray, " row"],
    Float[np.ndarray, " row"],
    Float[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    str,
]:
    """Times, expected, actual and calm rows (known, not over the line) of one tag, and its newest fault in words."""
    having = [(block, block.tags.index(name)) for block in blocks if name in block.tags]
    if not having:
        empty = np.empty(0)
        return np.empty(0, np.int64), empty, empty, np.empty(0, np.bool_), ""
    newest, last = having[-1]
    fault = SensorFault(int(newest.faults[-1, last]))
    return (
        np.concatenate([block.times for block, _ in having]),
        np.concatenate([block.expected[:, i] for block, i in having]),
        np.concatenate([block.actual[:, i] for block, i in having]),
        np.concatenate([np.isfinite(block.score) & ~block.anomalous for block, _ in having]),
        "" if fault is SensorFault.NONE else fault.name.lower(),
    )


def usual_spread(errors: Float[np.ndarray, " row"], calm: Bool[np.ndarray, " row"]) -> float:
    """Half width of the band a tag usually keeps to around its expected value: 3 robust standard deviations.

    1.4826 times the median absolute deviation estimates the standard deviation (Rousseeuw & Croux 1993). NaN with fewer
    than `BAND_ROWS` calm rows.

    >>> usual_spread(np.zeros(5), np.ones(5, bool))
    nan
    """
    usable = errors[calm & np.isfinite(errors)]
    if len(usable) < BAND_ROWS:
        return float("nan")
    return 3 * 1.4826 * float(np.median(np.abs(usable))) + 1e-12


def _thin(values: Float[np.ndarray, " row"]) -> Int64[np.ndarray, " kept"]:
    """Row numbers of at most `POINTS` rows that keep the minimum and maximum of each bucket."""
    rows = len(values)
    if rows <= POINTS:
        return np.arange(rows)
    edges = np.linspace(0, rows, POINTS // 2 + 1).astype(np.int64)
    kept = []
    for first, last in pairwise(edges):
        part = values[first:last]
        if np.isnan(part).all():
            kept.append(int(first))
        else:
            kept += [int(first + np.nanargmin(part)), int(first + np.nanargmax(part))]
    return np.unique(np.array(kept, np.int64))


def _unknown(blocks: Sequence[Scores]) -> tuple[Stretch, ...]:
    """Stretches of rows without a score, joined while the reason stays the same."""
    found: list[Stretch] = []
    for block in blocks:
        times = block.times.tolist()
        step = min((b - a for a, b in pairwise(times)), default=0)
        for time, state in zip(times, block.state, strict=True):
            if state is State.OK:
                continue
            if found and found[-1].word == state and time - found[-1].until <= step:
                found[-1] = Stretch(found[-1].since, time, state)
            else:
                found.append(Stretch(time - step, time, state))
    return tuple(found)


def explain(blocks: Sequence[Scores], at: int | None = None) -> Explanation | None:
    """The newest row at or before `at` (the newest of all if None); None if there is none. Strongest tags first."""
    for block in reversed(blocks):
        rows = np.flatnonzero(block.times <= at) if at is not None else np.arange(len(block))
        if len(rows):
            return _explanation(block, int(rows[-1]))
    return None


def _explanation(block: Scores, row: int) -> Explanation:
    shares = np.nan_to_num(block.contributions[row])
    order = np.argsort(-shares, kind="stable")
    named = zip(block.tags, block.faults[row].tolist(), strict=True)
    return Explanation(
        time=int(block.times[row]),
        score=float(block.score[row]),
        state=block.state[row],
        coverage=float(block.coverage[row]),
        version=block.version,
        rung=block.rung.value,
        tags=tuple(block.tags[i] for i in order),
        shares=shares[order],
        actual=block.actual[row][order],
        expected=block.expected[row][order],
        faults={tag: SensorFault(code).name.lower() for tag, code in named if code},
    )


def peak_time(view: MachineView) -> int | None:
    """When the score was highest in the span; None if it never was known."""
    known = np.isfinite(view.score)
    return int(view.times[known][np.argmax(view.score[known])]) if known.any() else None
