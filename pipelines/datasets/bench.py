"""What every data set becomes: tasks (learn once) with series (score each), and the rules its protocol lays down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from anomaly.domain import SECOND, Quality, Readings

EPOCH = 946_684_800 * SECOND
"""2000-01-01T00:00:00Z, ns: where series without times begin."""


class Summary(StrEnum):
    """How one row stands for all series: one confusion of all rows, or the mean of the series' figures."""

    POOLED = "pooled"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a data set is judged. `merge` (ns): alarms less apart are one; `vus_window`: rows; `consecutive`: alarm rows
    that make a detection, for the delay; `pool_normal`: false alarms in the summary are of all normal rows as one.
    """

    summary: Summary
    vus_window: int
    merge: int = 0
    consecutive: int = 1
    pool_normal: bool = False
    why: str = ""
    """What the summary row holds, in words."""


class Interpretation(NamedTuple):
    """Rows `start` to `stop` - 1 are anomalous because of `tags`, somebody said."""

    start: int
    stop: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Rows to score, as in the file. `labels`: where anomalous, None if nobody said; `learned`: rows that the model or
    its line was fitted on, which are not scored. `before`: readings of the same run that came before the first row.
    `stamps`: times as the file has them. `apart`: the summary leaves its anomalies out. `interpreted`: what is
    known of the causes.
    """

    name: str
    rows: Readings
    stamps: tuple[str, ...]
    labels: Bool[np.ndarray, " row"] | None
    learned: Bool[np.ndarray, " row"]
    before: Readings | None = None
    apart: bool = False
    interpreted: tuple[Interpretation, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is learned from (`train`), where the line is placed if the protocol says so (`calibration`), what is scored.

    `tick` in ns. Without `calibration` the detector places its line on rows of `train` that it holds back itself.
    """

    name: str
    tags: tuple[str, ...]
    tick: int
    train: Readings
    series: tuple[Series, ...]
    calibration: Readings | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """One data set, loaded."""

    name: str
    protocol: Protocol
    tasks: tuple[Task, ...]


def readings_of(
    asset: str,
    tags: tuple[str, ...],
    times: Int64[np.ndarray, " row"],
    values: np.ndarray,
    wrong: np.ndarray | None = None,
) -> Readings:
    """Rows as readings: NaN did not come, unless `wrong` says that something came that is no number."""
    quality = np.where(np.isfinite(values), np.uint8(Quality.GOOD), np.uint8(Quality.MISSING))
    bad = np.isinf(values) if wrong is None else np.isinf(values) | wrong
    quality[bad] = Quality.BAD
    return Readings(asset, tags, times.astype(np.int64), np.where(quality == 0, values, np.nan), quality)


def part(readings: Readings, rows: slice) -> Readings:
    """Some of the rows."""
    return Readings(readings.asset, readings.tags, readings.times[rows], readings.values[rows], readings.quality[rows])


def clock(rows: int, tick: int, first: int = 0) -> Int64[np.ndarray, " row"]:
    """Times of a series that has none: one row a tick from `EPOCH` on, starting at row `first`."""
    return EPOCH + (first + np.arange(rows, dtype=np.int64)) * tick


def stamps_of(times: Int64[np.ndarray, " row"]) -> tuple[str, ...]:
    """Times as ISO-8601 UTC, whole seconds."""
    return tuple(f"{text}Z" for text in np.datetime_as_string(times.astype("datetime64[ns]"), unit="s").tolist())
