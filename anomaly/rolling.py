"""Trailing-window arithmetic on rows × tags: row j of a result depends on the last `rows` (or `limit`) rows up to j.

NaN stands for not seen. All loops are over window lengths or powers of two of them, never over rows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64


def back(values: Float[np.ndarray, "row tag"], rows: int) -> Float[np.ndarray, "row tag"]:
    """Each row's value `rows` rows earlier; NaN before the first.

    >>> back(np.array([[1.0], [2.0], [3.0]]), 1).ravel().tolist()
    [nan, 1.0, 2.0]
    """
    out = np.full(values.shape, np.nan)
    if rows < len(values):
        out[rows:] = values[: len(values) - rows]
    return out


def hold_fill(values: Float[np.ndarray, "row tag"], limit: int) -> Float[np.ndarray, "row tag"]:
    """Missing values replaced by the last seen one, if that is at most `limit` rows old.

    >>> hold_fill(np.array([[1.0], [np.nan], [np.nan]]), 1).ravel().tolist()
    [1.0, 1.0, nan]
    """
    out = values
    for _ in range(limit):
        holes = np.isnan(out)
        if not holes.any():
            break
        out = np.where(holes, back(out, 1), out)
    return out


def median_of_five(values: Float[np.ndarray, "row tag"]) -> Float[np.ndarray, "row tag"]:
    """Median of this row and the four before; NaN if one of them is.

    >>> median_of_five(np.array([[1.0], [9.0], [2.0], [3.0], [2.5]]))[-1].tolist()
    [2.5]
    """
    a, b, c, d = (back(values, rows) for rows in range(1, 5))
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    small, large = np.minimum(low, high), np.maximum(low, high)
    out: np.ndarray = np.maximum(small, np.minimum(large, values))
    return out


def trailing_sum(values: Float[np.ndarray, "row tag"], rows: int) -> Float[np.ndarray, "row tag"]:
    """Sum over the last `rows` rows, unseen ones as 0. Added in an order that depends on nothing before them.

    >>> trailing_sum(np.array([[1.0], [2.0], [np.nan], [4.0]]), 3).ravel().tolist()
    [1.0, 3.0, 3.0, 6.0]
    """
    power, length = np.nan_to_num(values), 1
    out, covered = np.zeros(values.shape), 0
    while True:
        if rows & length:
            out = out + (np.nan_to_num(back(power, covered)) if covered else power)
            covered += length
        length *= 2
        if length > rows:
            return out
        power = power + np.nan_to_num(back(power, length // 2))


def trailing_count(flags: Bool[np.ndarray, "row tag"], rows: int) -> Int64[np.ndarray, "row tag"]:
    """How often it was so in the last `rows` rows.

    >>> trailing_count(np.array([[True], [False], [True]]), 2).ravel().tolist()
    [1, 1, 1]
    """
    total = np.cumsum(flags, axis=0, dtype=np.int64)
    out = total.copy()
    out[rows:] -= total[: max(0, len(flags) - rows)]
    return out


def trailing_max(values: Float[np.ndarray, "row tag"], rows: int) -> Float[np.ndarray, "row tag"]:
    """Largest seen value of the last `rows` rows, fewer at the beginning; NaN if none was seen.

    >>> trailing_max(np.array([[3.0], [1.0], [2.0]]), 2).ravel().tolist()
    [3.0, 3.0, 2.0]
    """
    out, covered = values, 1
    while covered < rows:
        step = min(covered, rows - covered)
        out = np.fmax(out, back(out, step))
        covered += step
    return out


def trailing_min(values: Float[np.ndarray, "row tag"], rows: int) -> Float[np.ndarray, "row tag"]:
    """Smallest seen value of the last `rows` rows, fewer at the beginning; NaN if none was seen."""
    return -trailing_max(-values, rows)


def run_length(values: Float[np.ndarray, "row tag"]) -> Int64[np.ndarray, "row tag"]:
    """For how many rows up to this one the value has been exactly the same; 0 where not seen.

    >>> run_length(np.array([[1.0], [1.0], [2.0], [np.nan], [2.0]])).ravel().tolist()
    [1, 2, 1, 0, 1]
    """
    row = np.arange(len(values))[:, None]
    changed = values != back(values, 1)  # NaN differs from all
    begun = np.maximum.accumulate(np.where(changed, row, 0), axis=0)
    return np.where(np.isnan(values), 0, row - begun + 1)


def last_row(flags: Bool[np.ndarray, "row tag"]) -> Int64[np.ndarray, "row tag"]:
    """Index of the last row, up to this one, where it was so; far below zero if never."""
    row = np.arange(len(flags))[:, None]
    return np.maximum.accumulate(np.where(flags, row, np.int64(-(2**40))), axis=0)
