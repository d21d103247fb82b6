"""Readings → samples once more, the slow and obvious way: all readings of an asset at hand, no state, no blocks.

Written from the words of the rule (watermark, lateness 2 ticks, hold 5, gap 30), not from the aligner under test.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anomaly.domain import Quality, Samples
from tests.faults.minting import Row

LATENESS, HOLD, GAP = 2, 5, 30
"""In ticks."""


class Aligned(NamedTuple):
    """Samples of one asset, and where the readings that are in none of them ended."""

    samples: Samples
    late: int
    duplicate: int
    unknown_tag: int
    pending: int


class _Accepted(NamedTuple):
    """Readings that were neither late nor seen before: per tag, value by time."""

    readings: dict[str, dict[int, float | None]]
    newest: int | None
    late: int
    duplicate: int
    unknown_tag: int


def align(asset: str, rows: Sequence[Row], tags: tuple[str, ...], tick: int) -> Aligned:
    """All samples that are certain once the last of `rows`, in the order they came, is in."""
    accepted = _accept(rows, tags, tick)
    if accepted.newest is None:
        return Aligned(_samples(asset, tags, [], [], {}), 0, accepted.duplicate, accepted.unknown_tag, 0)
    closed = (accepted.newest - LATENESS * tick) // tick
    counts: dict[int, int] = {}
    for times in accepted.readings.values():
        for time in times:
            counts[-(-time // tick)] = counts.get(-(-time // tick), 0) + 1
    ticks, restarts = _ticks(sorted(counts), closed)
    cells = {tag: _column(accepted.readings[tag], ticks, tick) for tag in tags}
    samples = _samples(asset, tags, ticks, restarts, cells)
    samples.readings[:] = [counts.get(number, 0) for number in ticks]
    samples.times[:] = np.array(ticks, dtype=np.int64) * tick
    pending = sum(count for number, count in counts.items() if number > closed)
    return Aligned(samples, accepted.late, accepted.duplicate, accepted.unknown_tag, pending)


def _accept(rows: Sequence[Row], tags: tuple[str, ...], tick: int) -> _Accepted:
    readings: dict[str, dict[int, float | None]] = {tag: {} for tag in tags}
    newest: int | None = None
    late = duplicate = unknown = 0
    for row in rows:
        known = {tag: value for tag, value in row.values.items() if tag in readings}
        unknown += len(row.values) - len(known)
        if not known:
            continue
        if newest is not None and row.time <= (newest - LATENESS * tick) // tick * tick:
            late += len(known)
        else:
            for tag, value in known.items():
                duplicate += row.time in readings[tag]
                readings[tag].setdefault(row.time, value)
        newest = row.time if newest is None else max(newest, row.time)
    return _Accepted(readings, newest, late, duplicate, unknown)


def _ticks(filled: Sequence[int], closed: int) -> tuple[list[int], list[bool]]:
    """Ticks to give out, and where history restarts, given the ticks that hold readings."""
    ticks: list[int] = []
    restarts: list[bool] = []
    for place, number in enumerate(filled):
        before = filled[place - 1] if place else None
        if before is None or number - before > GAP:
            between, restart = [number], True
        else:
            between, restart = list(range(before + 1, number + 1)), False
        certain = [t for t in between if t <= closed]
        ticks += certain
        restarts += [restart] * len(certain)
    return ticks, restarts


def _column(readings: dict[int, float | None], ticks: Sequence[int], tick: int) -> list[tuple[float, Quality]]:
    """Value and quality of one tag at each tick: its newest reading, unless that is too old."""
    times = sorted(readings)
    cells = []
    for number in ticks:
        place = bisect_right(times, number * tick)
        newest = times[place - 1] if place else None
        if newest is None or newest <= (number - HOLD - 1) * tick:
            cells.append((np.nan, Quality.MISSING))
        else:
            value = readings[newest]
            cells.append((np.nan, Quality.BAD) if value is None else (value, Quality.GOOD))
    return cells


def _samples(
    asset: str,
    tags: tuple[str, ...],
    ticks: Sequence[int],
    restarts: Sequence[bool],
    cells: dict[str, list[tuple[float, Quality]]],
) -> Samples:
    shape = (len(ticks), len(tags))
    values = np.full(shape, np.nan)
    quality = np.full(shape, Quality.MISSING, dtype=np.uint8)
    for column, tag in enumerate(tags):
        for line, (value, verdict) in enumerate(cells.get(tag, [])):
            values[line, column], quality[line, column] = value, verdict
    numbers = np.zeros(len(ticks), dtype=np.int64)
    return Samples(
        asset, tags, numbers, values, quality < Quality.BAD, quality, np.array(restarts, dtype=bool), numbers.copy()
    )
