"""Historian rows as arrays: merging what came in pieces, and thinning what is too long to draw. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Quality, Readings


@dataclass(frozen=True, slots=True)
class HistorianRetention:
    """How long rows are kept, ns before the newest of the same asset; None: for ever. Alerts are always kept."""

    readings: int | None = 30 * 86_400_000_000_000
    scores: int | None = 90 * 86_400_000_000_000


def empty(asset: str, tags: tuple[str, ...], times: Int64[np.ndarray, " row"]) -> Readings:
    """Rows in which nothing came."""
    shape = (len(times), len(tags))
    return Readings(asset, tags, times, np.full(shape, np.nan), np.full(shape, Quality.MISSING, dtype=np.uint8))


def merge(asset: str, tags: tuple[str, ...], blocks: Sequence[Readings]) -> Readings:
    """One row a time, oldest first, of all blocks of one asset; of two readings of one (tag, time) the later block's,
    and the later row's, wins. `tags`: all tags of the blocks, in the order wanted.

    >>> first = Readings("p", ("a",), np.array([7]), np.array([[1.0]]), np.zeros((1, 1), np.uint8))
    >>> second = Readings("p", ("b",), np.array([7]), np.array([[2.0]]), np.zeros((1, 1), np.uint8))
    >>> merge("p", ("a", "b"), [first, second]).values.tolist()
    [[1.0, 2.0]]
    """
    column = {tag: i for i, tag in enumerate(tags)}
    times, place = np.unique(np.concatenate([block.times for block in blocks]), return_inverse=True)
    merged = empty(asset, tags, times)
    start = 0
    for block in blocks:
        rows, columns = np.nonzero(block.quality != Quality.MISSING)
        target = place[start : start + len(block)][rows], np.array([column[tag] for tag in block.tags], int)[columns]
        # A repeated index keeps the last value assigned, and rows come in order: the later row wins.
        merged.values[target] = block.values[rows, columns]
        merged.quality[target] = block.quality[rows, columns]
        start += len(block)
    return merged


def spread(readings: Readings, tags: Sequence[str], points: int) -> dict[str, Readings]:
    """Per tag its rows that came, thinned to at most `points` (taken as at least 2)."""
    found = {tag: i for i, tag in enumerate(readings.tags)}
    return {tag: _thin(_column(readings, tag, found.get(tag)), max(points, 2)) for tag in tags}


def _column(readings: Readings, tag: str, column: int | None) -> Readings:
    if column is None:
        return empty(readings.asset, (tag,), np.zeros(0, dtype=np.int64))
    came = readings.quality[:, column] != Quality.MISSING
    part = readings.times[came], readings.values[came, column, None], readings.quality[came, column, None]
    return Readings(readings.asset, (tag,), *part)


def _thin(readings: Readings, points: int) -> Readings:
    """Of each bucket of time the lowest and the highest value, or its first row where no value is known.

    Buckets begin at multiples of their width, so that the picture stands still while its span moves on.
    """
    if len(readings) <= points:
        return readings
    times = readings.times
    buckets = max(1, points // 2)
    width = int(times[-1] - times[0]) + 1 if buckets == 1 else -(-int(times[-1] - times[0]) // (buckets - 1)) or 1
    number = (times - times[0]) // width if buckets == 1 else times // width
    keep = extremes(readings.values[:, 0], number)
    return Readings(readings.asset, readings.tags, times[keep], readings.values[keep], readings.quality[keep])


def extremes(values: Float[np.ndarray, " row"], bucket: Int64[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Rows to keep: first lowest and first highest of each run of equal buckets; where no value is known, the first."""
    starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    run = np.cumsum(np.r_[True, bucket[1:] != bucket[:-1]]) - 1
    keep = np.zeros(len(values), dtype=bool)
    for filled, extreme in ((np.inf, np.minimum), (-np.inf, np.maximum)):
        known = np.where(np.isnan(values), filled, values)
        hits = np.flatnonzero(known == extreme.reduceat(known, starts)[run])
        first = hits[np.r_[True, run[hits][1:] != run[hits][:-1]]]
        keep[first] = True
    return keep


def pack_rows(*columns: np.ndarray) -> list[bytes]:
    """Each row's columns (2-D arrays, same rows) as bytes, one after the other."""
    rows = len(columns[0])
    bodies = [np.ascontiguousarray(column).view(np.uint8).reshape(rows, -1) for column in columns]
    body = np.concatenate(bodies, axis=1)
    width, whole = body.shape[1], body.tobytes()
    return [whole[i * width : (i + 1) * width] for i in range(rows)]


def unpack_rows(payloads: Sequence[bytes], *dtypes: str) -> list[np.ndarray]:
    """Inverse of `pack_rows` for rows of one length: one 2-D array a dtype, all with the same number of columns.

    Raises ValueError if they were not packed so.
    """
    sizes = [np.dtype(dtype).itemsize for dtype in dtypes]
    width, rest = divmod(len(payloads[0]), sum(sizes))
    if rest:
        message = f"a row of {len(payloads[0])} bytes is not made of columns of {sum(sizes)}"
        raise ValueError(message)
    body = np.frombuffer(b"".join(payloads), dtype=np.uint8).reshape(len(payloads), -1)
    arrays, start = [], 0
    for dtype, size in zip(dtypes, sizes, strict=True):
        part = np.ascontiguousarray(body[:, start : start + size * width])
        arrays.append(part.view(dtype) if width else np.zeros((len(payloads), 0), dtype=dtype))
        start += size * width
    return arrays


def unpack_readings(
    payloads: Sequence[bytes], count: int
) -> tuple[Float[np.ndarray, "row tag"], UInt8[np.ndarray, "row tag"]]:
    """Values and qualities of stored rows; rows stored before an asset had all its `count` tags are filled up."""
    values = np.full((len(payloads), count), np.nan)
    quality = np.full((len(payloads), count), Quality.MISSING, dtype=np.uint8)
    lengths = np.array([len(payload) for payload in payloads])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length).tolist()
        part_values, part_quality = unpack_rows([payloads[row] for row in rows], "<f8", "u1")
        values[rows, : part_values.shape[1]] = part_values
        quality[rows, : part_quality.shape[1]] = part_quality
    return values, quality
