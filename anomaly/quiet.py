"""Which machines have, without doubt, no sensor fault in their newest rows: it spares nearly all of them a full check.

Every test here is *necessary* for a fault of `sensors.check`, on numbers that are cheap for many machines at once: the
extremes of each tag, how often it stood still, how often it moved roughly. Where none is met the verdict is `NONE` to
the bit; where one is, `check` decides. So the answer is never other than `check`'s, only sooner.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Quality
from anomaly.jumps import beyond_usual
from anomaly.sensor_limits import FLAT_ROWS, NOISE_COUNT, SensorLimits

BLOCK: Final = FLAT_ROWS // 2
"""Any 24 rows in a row hold 12 rows that begin at a multiple of 12: a signal flat over the first is flat over those."""


def surely_healthy(
    values: Float[np.ndarray, "row tag"],
    mask: Bool[np.ndarray, "row tag"],
    quality: UInt8[np.ndarray, "row tag"],
    starts: Int64[np.ndarray, " part"],
    limits: SensorLimits,
) -> Bool[np.ndarray, " part"]:
    """For each part of the rows (each begins at one of `starts` and is never empty): no fault at any of its rows.

    A part holds consecutive rows of one machine, tags in the limits' order. Its verdicts are meant for rows with at
    least `sensors.HORIZON` - 1 rows before them in the part, or all there ever were. False says nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        seen = mask & np.isfinite(values) & (quality < Quality.BAD)
        whole = np.logical_and.reduceat(seen.all(axis=1), starts)
        low, high, flat = _extremes(values, starts, limits)
        strange = flat | beyond_usual(high, limits) | beyond_usual(low, limits)
        strange |= (low < limits.low) | (high > limits.high) | (high - low > limits.step)
        strange |= _still(values, starts, limits) | _rough(values, starts, limits)
    return np.asarray(whole & ~strange.any(axis=1))


def _extremes(
    values: Float[np.ndarray, "row tag"], starts: Int64[np.ndarray, " part"], limits: SensorLimits
) -> tuple[Float[np.ndarray, "part tag"], Float[np.ndarray, "part tag"], Bool[np.ndarray, "part tag"]]:
    """Lowest and highest value of each part, and whether a whole block of it moved less than is usual."""
    lengths = np.diff(starts, append=len(values))
    counts = -(-lengths // BLOCK)
    first = np.cumsum(counts) - counts
    number = np.arange(counts.sum()) - np.repeat(first, counts)
    cuts = np.repeat(starts, counts) + number * BLOCK
    lows, highs = np.minimum.reduceat(values, cuts), np.maximum.reduceat(values, cuts)
    full = (number + 1) * BLOCK <= np.repeat(lengths, counts)
    flat = (highs - lows < limits.flat) & full[:, None]
    return np.minimum.reduceat(lows, first), np.maximum.reduceat(highs, first), np.logical_or.reduceat(flat, first)


def _still(
    values: Float[np.ndarray, "row tag"], starts: Int64[np.ndarray, " part"], limits: SensorLimits
) -> Bool[np.ndarray, "part tag"]:
    """Where so many rows repeat the one before that together they could make a stuck run."""
    same = np.zeros(values.shape, dtype=np.int64)
    np.equal(values[1:], values[:-1], out=same[1:], casting="unsafe")
    repeats: np.ndarray = np.add.reduceat(same, starts)
    return np.asarray((limits.stuck_rows > 0) & (repeats >= limits.stuck_rows - 1))


def _rough(
    values: Float[np.ndarray, "row tag"], starts: Int64[np.ndarray, " part"], limits: SensorLimits
) -> Bool[np.ndarray, "part tag"]:
    """Where so many second differences are large that together they could make noise."""
    rough = np.zeros(values.shape, dtype=np.int64)
    curvature = np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
    np.greater(curvature, limits.noise, out=rough[2:], casting="unsafe")
    return np.asarray(np.add.reduceat(rough, starts) >= NOISE_COUNT)
