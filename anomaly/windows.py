"""Samples → windows: `sliding` over arrays for training and evaluation, `WindowBuffer` in front of it when live."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Quality, Samples, SensorFault, State, Tag, Windows
from anomaly.errors import DataError
from anomaly.sensors import SensorLimits, check

BEFORE = np.iinfo(np.int64).min
"""Index of a row before every row: never seen."""
_SPARE = 32
"""Rows that a window buffer has room for before it must move what it keeps."""


class WindowBuffer:
    """The last `memory` samples of one asset: all that windows yet to come can need.

    With `memory` ≥ `sensors.HORIZON` + window length, `sliding` over what `push` returns gives, for the new rows,
    exactly the windows it would give over everything ever pushed.

    New rows are written behind the kept ones, where there is room, so what was returned before never changes.
    """

    def __init__(self, memory: int) -> None:
        if memory < 1:
            raise DataError(f"a window buffer must keep at least 1 row, not {memory}")
        self._memory = memory
        self._columns: tuple[np.ndarray, ...] = ()
        self._first = self._stop = 0
        self._of: tuple[str, tuple[str, ...]] = "", ()

    def push(self, samples: Samples) -> tuple[Samples, int]:
        """Kept rows followed by the new ones, and the index of the first new row.

        Fails with DataError if they are of another asset or of other tags than those before.
        """
        new, count = _columns_of(samples), len(samples)
        if not self._columns:
            self._of = samples.asset, samples.tags
        elif self._of != (samples.asset, samples.tags):
            raise DataError(f"samples of {samples.asset} {samples.tags} came to the buffer of {self._of}")
        if not self._columns or self._stop + count > len(self._columns[0]):
            self._move(new, count)
        start, stop = self._stop, self._stop + count
        for column, rows in zip(self._columns, new, strict=True):
            column[start:stop] = rows
        first, self._stop = self._first, stop
        self._first = max(first, stop - self._memory)
        together = Samples(*self._of, *[column[first:stop] for column in self._columns])
        if self._first > self._memory // 2 + _SPARE:  # so much more is not to be kept alive
            self._move(new, 0)
        return together, start - first

    def _move(self, like: tuple[np.ndarray, ...], count: int) -> None:
        """Other arrays, that hold the kept rows and have room for `count` more and some to spare."""
        kept = slice(self._first, self._stop)
        old = [column[kept] for column in self._columns or [rows[:0] for rows in like]]
        size = len(old[0]) + count + _SPARE
        self._columns = tuple([np.empty((size, *rows.shape[1:]), rows.dtype) for rows in like])
        for column, rows in zip(self._columns, old, strict=True):
            column[: len(rows)] = rows
        self._first, self._stop = 0, len(old[0])


def _columns_of(samples: Samples) -> tuple[np.ndarray, ...]:
    """What a row of samples has, in the order of the fields."""
    return samples.times, samples.values, samples.mask, samples.quality, samples.restart, samples.readings


def sliding(
    samples: Samples, first: int, length: int, tags: tuple[str, ...], limits: SensorLimits, mode: Tag | None
) -> Windows:
    """The window of `length` rows ending at each row ≥ `first`, of the given tags; one with a sensor fault is masked.

    Rows before a restart belong to no later window: such windows are padded on the left with masked rows and are
    `WARMING_UP`. The machine is `OFF` if the last known value of `mode` in the window is not one of `mode.running`;
    if any row of the window was not running, it is `WARMING_UP` too, and so it is if `mode.regimes` and two rows ran in
    different modes. A mode not known yet counts as running. Values are 0 where masked. A tag the samples do not have is
    masked, with fault `MISSING`. The arrays may be read-only views.
    """
    if length < 1 or not 0 <= first <= len(samples):
        raise DataError(f"windows of {length} rows from row {first} of {len(samples)}: length ≥ 1, 0 ≤ first ≤ rows")
    values, mask, faults = _believed(samples, tags, limits)
    begin = samples.restart.copy()
    begin[:1] = True
    ends = np.arange(len(samples)) + np.cumsum(begin) * (length - 1)
    return Windows(
        tags=tags,
        assets=(samples.asset,) * (len(samples) - first),
        times=samples.times[first:],
        values=_cut(_spread(values, ends), ends[first:], length),
        mask=_cut(_spread(mask, ends), ends[first:], length),
        faults=faults[first:],
        state=_states(samples, begin, first, length, mode),
        readings=samples.readings[first:],
    )


def _believed(
    samples: Samples, tags: tuple[str, ...], limits: SensorLimits
) -> tuple[Float[np.ndarray, "row tag"], Bool[np.ndarray, "row tag"], UInt8[np.ndarray, "row tag"]]:
    """Values (0 where masked), mask and faults of the wanted tags."""
    verdicts = check(samples, limits)
    values = np.zeros((len(samples), len(tags)))
    mask = np.zeros(values.shape, dtype=bool)
    faults = np.full(values.shape, SensorFault.MISSING, dtype=np.uint8)
    wanted = [column for column, tag in enumerate(tags) if tag in samples.tags]
    source = [samples.tags.index(tags[column]) for column in wanted]
    faults[:, wanted] = verdicts[:, source]
    mask[:, wanted] = (
        samples.mask[:, source] & (verdicts[:, source] == SensorFault.NONE) & np.isfinite(samples.values[:, source])
    )
    values[:, wanted] = samples.values[:, source]
    return np.where(mask, values, 0.0), mask, faults


def _spread(rows: np.ndarray, ends: Int64[np.ndarray, " row"]) -> np.ndarray:
    """Rows at their `ends` in a longer array, blank (0, False) rows before each restart."""
    out = np.zeros((int(ends[-1]) + 1 if len(ends) else 0, rows.shape[1]), dtype=rows.dtype)
    out[ends] = rows
    return out


def _cut(rows: np.ndarray, ends: Int64[np.ndarray, " window"], length: int) -> np.ndarray:
    """The `length` rows up to each of `ends`: (window, time, tag). No copy if the ends follow one another."""
    if not len(ends):
        return np.zeros((0, length, rows.shape[1]), dtype=rows.dtype)
    views = np.moveaxis(np.lib.stride_tricks.sliding_window_view(rows, length, axis=0), 2, 1)
    starts = ends - (length - 1)
    if starts[-1] - starts[0] == len(starts) - 1:
        return views[starts[0] : starts[-1] + 1]
    picked: np.ndarray = views[starts]
    return picked


def _states(
    samples: Samples, begin: Bool[np.ndarray, " row"], first: int, length: int, mode: Tag | None
) -> tuple[State, ...]:
    """State of the window ending at each row ≥ `first`."""
    rows = np.arange(len(samples))
    since = np.maximum.accumulate(np.where(begin, rows, 0))
    start = np.maximum(rows - (length - 1), since)
    modes = mode_rows(samples, mode)
    last_known = np.maximum.accumulate(np.where(modes.known, rows, BEFORE))
    last_stopped = np.maximum.accumulate(np.where(modes.stopped, rows, BEFORE))
    off = (last_known >= start) & (last_known == last_stopped)
    warming = (rows - since < length - 1) | (last_stopped >= start) | (other_mode(modes.back, rows) >= start)
    return tuple(
        State.OFF if is_off else State.WARMING_UP if is_warming else State.OK
        for is_off, is_warming in zip(off[first:].tolist(), warming[first:].tolist(), strict=True)
    )


class ModeRows(NamedTuple):
    """What the mode tag says of each row. `known`: it has a value; `stopped`: it is not a running one.

    `back`: where the machine runs in another regime than when that was last known: so many rows ago that was; else 0.
    """

    known: Bool[np.ndarray, " row"]
    stopped: Bool[np.ndarray, " row"]
    back: Int64[np.ndarray, " row"]


def mode_rows(samples: Samples, mode: Tag | None) -> ModeRows:
    """The mode of each row; without a mode tag it is known nowhere."""
    if mode is None or mode.name not in samples.tags or not mode.running:
        nowhere = np.zeros(len(samples), dtype=bool)
        return ModeRows(nowhere, nowhere, np.zeros(len(samples), dtype=np.int64))
    column = samples.tags.index(mode.name)
    known = samples.mask[:, column] & (samples.quality[:, column] < Quality.BAD)
    stopped = known & ~np.isin(samples.values[:, column], mode.running)
    back = np.zeros(len(samples), dtype=np.int64)
    if mode.regimes:
        rows = np.flatnonzero(known)
        values, runs = samples.values[rows, column], ~stopped[rows]
        changed = (values[1:] != values[:-1]) & runs[1:] & runs[:-1]
        back[rows[1:]] = np.where(changed, np.diff(rows), 0)
    return ModeRows(known, stopped, back)


def other_mode(back: Int64[np.ndarray, " row"], rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """The newest row, up to each, of another regime than a later one: a window that holds it holds two regimes.

    >>> other_mode(np.array([0, 0, 1, 0, 2]), np.arange(5)).tolist()[2:]
    [1, 1, 2]
    """
    return np.asarray(np.maximum.accumulate(np.where(back > 0, rows - back, BEFORE)))
