"""Rows of one asset in which all is as it should be, as Python's own numbers: few rows cost less so than as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from anomaly.blocks import join
from anomaly.domain import Readings, Samples


class PlainRow(NamedTuple):
    """A value of each tag at one time (ns), all good and finite."""

    asset: str
    tags: tuple[str, ...]
    time: int
    values: list[float]

    def rows(self) -> PlainRows:
        """A block that begins with this row."""
        return PlainRows(self.asset, self.tags, [self.time], [self.values])


@dataclass(slots=True, eq=False)
class PlainRows:
    """Rows as they came, at least one; every value is good and finite. Rows may be added, never changed."""

    asset: str
    tags: tuple[str, ...]
    times: list[int]
    values: list[list[float]]

    def __len__(self) -> int:
        """Rows."""
        return len(self.times)

    @property
    def count(self) -> int:
        """How many readings the block holds."""
        return len(self.times) * len(self.tags)

    def readings(self) -> Readings:
        """The same rows as arrays."""
        times, values = np.array(self.times, dtype=np.int64), np.array(self.values, dtype=np.float64)
        return Readings(self.asset, self.tags, times, values, all_good(len(times), len(self.tags)))


class Waiting(NamedTuple):
    """Rows that wait to be samples; `carry`: the newest that is one (time, values), None if it is kept elsewhere."""

    times: list[int]
    values: list[list[float]]
    carry: tuple[int, list[float]] | None


def one_a_tick(times: list[int], end: int, tick: int, count: int) -> bool:
    """Whether times (ns) rise, and the first `count` lie in the ticks after time `end`, one in each, the others later.

    >>> one_a_tick([11, 20, 29, 31], 10, 10, 2), one_a_tick([12, 18], 10, 10, 2)
    (False, False)
    >>> one_a_tick([12, 30, 31, 35], 10, 10, 2)
    True
    """
    if not 0 <= count <= len(times):
        return False
    for time in times[:count]:
        if not end < time <= end + tick:
            return False
        end += tick
    for time in times[count:]:
        if time <= end:
            return False
        end = time
    return True


def dense_samples(asset: str, tags: tuple[str, ...], ticks: range, tick: int, values: list[list[float]]) -> Samples:
    """Samples of ticks that hold one plain row each."""
    count, width = len(ticks), len(tags)
    ends = np.arange(ticks.start, ticks.stop, dtype=np.int64) * tick
    table = np.array(values, dtype=np.float64).reshape(count, width)
    seen, good = all_seen(count, width), all_good(count, width)
    return Samples(asset, tags, ends, table, seen, good, no_restart(count), each_of(count, width))


Rows = Readings | PlainRows
"""Readings of one asset, whichever way they came."""


def together(blocks: Sequence[Rows]) -> Rows:
    """Blocks of one asset with the same tags (at least one) as one, in order."""
    if len(blocks) == 1:
        return blocks[0]
    return join([as_readings(block) for block in blocks])


def as_readings(block: Rows) -> Readings:
    """The block as arrays."""
    return block.readings() if isinstance(block, PlainRows) else block


@lru_cache(maxsize=256)
def all_good(rows: int, tags: int) -> UInt8[np.ndarray, "row tag"]:
    """Quality of so many good rows. Shared, as those below: arrays of blocks are never written to."""
    return _kept(np.zeros((rows, tags), dtype=np.uint8))


@lru_cache(maxsize=256)
def all_seen(rows: int, tags: int) -> Bool[np.ndarray, "row tag"]:
    """Mask of so many rows in which every tag was seen."""
    return _kept(np.ones((rows, tags), dtype=bool))


@lru_cache(maxsize=256)
def no_restart(rows: int) -> Bool[np.ndarray, " row"]:
    """Where so many rows that follow each other begin anew: nowhere."""
    return _kept(np.zeros(rows, dtype=bool))


@lru_cache(maxsize=256)
def each_of(rows: int, count: int) -> Int64[np.ndarray, " row"]:
    """The same count for so many rows."""
    return _kept(np.full(rows, count, dtype=np.int64))


def _kept(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
