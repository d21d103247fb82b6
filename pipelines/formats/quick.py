"""The short way for our own rows and column batches, as nearly all of them come: plain numbers, nothing odd.

What is odd in any way (text or true among the numbers, another shape, NaN, a mistake) is left to the long way, which
reads it or says what is wrong; on what both read they agree (a property test holds it).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from jaxtyping import Int64, UInt8

from anomaly.domain import Readings
from anomaly.errors import DecodeError
from anomaly.plain_rows import PlainRow
from pipelines.formats.cells import BAD, MISSING
from pipelines.formats.context import Context
from pipelines.formats.naming import asset_name, tag_names
from pipelines.formats.native import said_quality
from pipelines.formats.trees import ABSENT
from pipelines.times import parse_time, parse_times


class _Native(msgspec.Struct, gc=False):
    """A row or a batch of columns; msgspec makes sure that `values` are numbers or columns of numbers and null."""

    asset: Any = ABSENT
    ts: Any = ABSENT
    timestamp: Any = ABSENT
    values: dict[str, float | list[float | None] | None] | msgspec.UnsetType = ABSENT
    quality: Any = ABSENT
    q: Any = ABSENT


class _Plain(msgspec.Struct, gc=False):
    """A row in which every value is a number."""

    values: dict[str, float]
    asset: Any = ABSENT
    ts: str | int | float | msgspec.UnsetType = ABSENT
    timestamp: str | int | float | msgspec.UnsetType = ABSENT
    quality: Any = ABSENT
    q: Any = ABSENT


_DECODER: Final = msgspec.json.Decoder(_Native)
_PLAIN: Final = msgspec.json.Decoder(_Plain)
_ODD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DecodeError, TypeError, ValueError)
"""ValueError and TypeError: NumPy's, of columns that are no table."""


def read(value: bytes, key: bytes | None) -> tuple[Readings, int] | None:
    """The block and its newest time (ns), or None: go the long way. Raises nothing."""
    try:
        found = _DECODER.decode(value)
        time = found.timestamp if found.ts is ABSENT else found.ts
        if time is ABSENT or not found.values:
            return None
        asset = asset_name(found.asset) if type(found.asset) is str else Context(key).asset_of(found.asset)
        said = found.q if found.quality is ABSENT else found.quality
        read_values = _columns if type(time) is list else _row
        return read_values(asset, time, found.values, said)
    except _ODD:
        return None


def read_row(value: bytes, key: bytes | None) -> PlainRow | None:
    """The row, if it is one and all of it is good; None: ask `read`. Raises nothing."""
    try:
        found = _PLAIN.decode(value)
        if not found.values or found.quality is not ABSENT or found.q is not ABSENT:
            return None
        time = parse_time(found.timestamp if found.ts is ABSENT else found.ts)
        asset = asset_name(found.asset) if type(found.asset) is str else Context(key).asset_of(found.asset)
        return PlainRow(asset, tag_names(found.values), time, list(found.values.values()))
    except _ODD:
        return None


def _row(asset: str, time: Any, values: dict[str, Any], said: Any) -> tuple[Readings, int] | None:
    if said is not ABSENT:
        return None
    table = np.array([list(values.values())], dtype=np.float64)
    if table.ndim != 2:  # a column, though there is one time only
        return None
    moment = parse_time(time)
    quality = _good(len(values))
    if None in values.values():
        quality = np.where(np.isnan(table), np.uint8(BAD), np.uint8(0))
    return Readings(asset, tag_names(values), np.array([moment], dtype=np.int64), table, quality), moment


@lru_cache(maxsize=256)
def _good(tags: int) -> UInt8[np.ndarray, "1 tag"]:
    """All is good in a row of so many tags. Shared, since arrays of readings are never written to."""
    quality = np.zeros((1, tags), dtype=np.uint8)
    quality.flags.writeable = False
    return quality


def _columns(asset: str, written: list[Any], values: dict[str, Any], said: Any) -> tuple[Readings, int] | None:
    times: Int64[np.ndarray, " row"] = parse_times(written)
    table = np.array(list(values.values()), dtype=np.float64)
    if table.shape != (len(values), len(times)) or not len(times):
        return None
    table = table.T.copy()
    tags = tag_names(values)
    quality = said_quality(said, tags, len(times))
    holes = np.isnan(table)
    if holes.any() or said is not ABSENT:
        quality[holes & (quality != MISSING)] = BAD
        table[quality >= BAD] = np.nan
        if (quality == MISSING).all():
            return None
    return Readings(asset, tags, times, table, quality), int(times.max())
