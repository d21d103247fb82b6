"""Single readings → column blocks, in the order they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from anomaly.domain import Quality, Readings

_DENSE_CELLS: Final = 1 << 16
_CHUNK: Final = 64


class Item(NamedTuple):
    """One reading on its way into a block. `time`: ns; `value`: NaN wherever quality ≥ BAD."""

    asset: str
    time: int
    tag: str
    value: float
    quality: int


def blocks(items: Iterable[Item]) -> list[Readings]:
    """The readings of each asset as one block (assets in order of first appearance), or several of mostly holes.

    Within a block readings of one time share a row; a tag that comes again at that time starts a new row: it is a
    duplicate, and counted as such later. Nothing is dropped.
    """
    by_asset: dict[str, list[Item]] = {}
    for item in items:
        by_asset.setdefault(item.asset, []).append(item)
    return [block for asset, group in by_asset.items() for block in _of_asset(asset, group)]


def _of_asset(asset: str, items: list[Item]) -> Iterator[Readings]:
    """Memory stays in proportion to the readings: many times of many tags are cut into small blocks."""
    cells = len({item.tag for item in items}) * len({item.time for item in items})
    step = len(items) if cells <= max(_DENSE_CELLS, 64 * len(items)) else _CHUNK
    for start in range(0, len(items), step):
        yield _block(asset, items[start : start + step])


def _block(asset: str, items: list[Item]) -> Readings:
    tags = {tag: i for i, tag in enumerate(dict.fromkeys(item.tag for item in items))}
    newest: dict[int, int] = {}
    times: list[int] = []
    cells: dict[tuple[int, int], Item] = {}
    for item in items:
        row, column = newest.get(item.time, -1), tags[item.tag]
        if row < 0 or (row, column) in cells:
            row = newest[item.time] = len(times)
            times.append(item.time)
        cells[row, column] = item
    values = np.full((len(times), len(tags)), np.nan)
    quality = np.full((len(times), len(tags)), int(Quality.MISSING), dtype=np.uint8)
    for (row, column), item in cells.items():
        values[row, column], quality[row, column] = item.value, item.quality
    return Readings(asset, tuple(tags), np.array(times, dtype=np.int64), values, quality)
