"""Readings of one time → column blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from anomaly.domain import Readings
from pipelines.blocks import Item, blocks
from pipelines.formats.naming import TAG_LIMIT, too_many


class Row(NamedTuple):
    """Readings of one asset at one time (ns). `values`: NaN wherever `quality` ≥ BAD; as many as `tags`."""

    asset: str
    time: int
    tags: tuple[str, ...]
    values: Sequence[float]
    quality: Sequence[int]


def joined(found: Iterable[Row]) -> list[Readings]:
    """The blocks of these rows, assets in order of first appearance. Raises DecodeError(`too_many_tags`)."""
    rows = list(found)
    if len(rows) == 1:
        return [_table(rows)]
    by_asset: dict[str, list[Row]] = {}
    for row in rows:
        by_asset.setdefault(row.asset, []).append(row)
    kinds = {row.tags for group in by_asset.values() for row in group}
    if len(kinds) > 1:
        _refuse_too_many({tag for tags in kinds for tag in tags})
    return [block for group in by_asset.values() for block in _blocks(group)]


def _blocks(rows: list[Row]) -> list[Readings]:
    """Rows of the same tags are a table already; others are put together by time."""
    tags = rows[0].tags
    if all(row.tags == tags for row in rows):
        return [_table(rows)]
    return blocks(
        Item(row.asset, row.time, tag, value, quality)
        for row in rows
        for tag, value, quality in zip(row.tags, row.values, row.quality, strict=True)
    )


def _table(rows: list[Row]) -> Readings:
    """Rows of one asset and the same tags."""
    asset, _, tags, _, _ = rows[0]
    times = np.array([row.time for row in rows], dtype=np.int64)
    values = np.array([row.values for row in rows], dtype=np.float64).reshape(len(rows), len(tags))
    quality = np.array([row.quality for row in rows], dtype=np.uint8).reshape(len(rows), len(tags))
    return Readings(asset, tags, times, values, quality)


def _refuse_too_many(tags: set[str]) -> None:
    if len(tags) > TAG_LIMIT:
        raise too_many(len(tags))
