"""Sudden moves of a signal; and sensors that all at once speak another unit: °F for °C, psi for bar, a lost decimal."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from anomaly import rolling
from anomaly.sensor_limits import Features, SensorLimits

TOGETHER = 3
"""Rows within which strange moves of several tags are one event, and so the machine's, not a sensor's."""
LEAP = 0.5
"""Share of the largest plausible step that will do for a jump if another unit explains it."""
REMEMBER = 36
"""Rows for which a jump explains what follows it."""
LASTING = 24
"""Rows a value must keep to another unit's normal range to be told without having seen the jump."""
ROUGH_ROWS, ROUGH_RECENT = 26, 16
"""Rows over which roughness is averaged, and in how many of the last rows it may have fitted the other unit."""


class Conversion(NamedTuple):
    """wrong = factor · right + offset. `lasting`: unlikely enough for a process to be told from the level alone."""

    factor: float
    offset: float = 0.0
    lasting: bool = True

    def undo(self, wrong: Float[np.ndarray, "row 1"]) -> Float[np.ndarray, "row 1"]:
        """Values in the right unit."""
        right: np.ndarray = (wrong - self.offset) / self.factor
        return right

    def tells_apart(self, low: float, high: float) -> bool:
        """Whether the normal range is narrow, and too far from itself in the other unit for a process to get there.

        >>> Conversion(1.8, 32.0).tells_apart(65.0, 75.0), Conversion(10.0).tells_apart(0.0, 75.0)
        (True, False)
        """
        width = high - low
        there = (self.factor * low + self.offset, self.factor * high + self.offset)
        apart = max(there[0] - high, low - there[1])
        by_width = apart > width and apart > 0.4 * abs(low)
        by_ratio = low > 0 and (there[0] > 3 * high or there[1] < low / 3)
        return self.lasting and width < 0.6 * max(abs(low), abs(high)) and (by_width or by_ratio)


def _linear(*factors: float) -> tuple[Conversion, ...]:
    return tuple(Conversion(factor) for factor in factors)


_DECIMAL = _linear(10.0, 0.1, 100.0, 0.01, 1000.0, 0.001)
_TEMPERATURE = (
    Conversion(1.8, 32.0),
    Conversion(1 / 1.8, -32 / 1.8),
    Conversion(1.0, 273.15),
    Conversion(1.0, -273.15),
)
_PRESSURE = _linear(14.5038, 1 / 14.5038, 6.89476, 1 / 6.89476, 1e5, 1e-5, 1e6, 1e-6)
_VIBRATION = (
    *_linear(25.4, 1 / 25.4, 1000.0, 0.001),
    *(Conversion(factor, lasting=False) for factor in (9.80665, 1 / 9.80665, 10.0, 0.1, 100.0, 0.01)),
)
"""A failing machine really shakes ten times as much, and a stopped one a hundredth."""
_FLOW = (60.0, 1 / 60, 3.6, 1 / 3.6, 16.6667, 0.06, 3.78541, 0.264172, 4.40287, 0.227125)
_SPEED = (196.85, 1 / 196.85, 3.28084, 0.3048, 3.6, 1 / 3.6)
_FORCE = (224.809, 1 / 224.809, 4.44822, 0.224809, 9.80665, 0.101972)
_FAMILIES: dict[tuple[str, ...], tuple[Conversion, ...]] = {
    ("°c", "c", "degc", "°f", "f", "degf", "k"): _TEMPERATURE + _DECIMAL,
    ("bar", "mbar", "pa", "kpa", "mpa", "psi", "barg", "bara"): _PRESSURE + _DECIMAL,
    ("mm/s", "in/s", "g", "m/s²", "m/s2", "mm", "µm", "um"): _VIBRATION,
    ("l/min", "l/s", "m³/h", "m3/h", "m³/min", "m3/min", "gpm", "l/h", "m³/s", "m3/s"): _linear(*_FLOW) + _DECIMAL,
    ("m/s", "m/min", "ft/min", "km/h"): _linear(*_SPEED) + _DECIMAL,
    ("n", "kn", "lbf", "kgf"): _linear(*_FORCE) + _DECIMAL,
}


@lru_cache(maxsize=256)
def conversions(unit: str) -> tuple[Conversion, ...]:
    """Mistakes that happen with values of a unit; decimal ones for any.

    >>> conversions("°C")[0]
    Conversion(factor=1.8, offset=32.0, lasting=True)
    """
    return next((found for units, found in _FAMILIES.items() if unit.strip().lower() in units), _DECIMAL)


def jumps(found: Features, limits: SensorLimits, share: float = 1.0) -> Bool[np.ndarray, "row tag"]:
    """Farther from a usual level than `share` of the plausible step, and all at once: a fast ramp takes its time."""
    margin = 0.25 * (limits.usual_high - limits.usual_low)
    strange = (found.level > limits.usual_high + margin) | (found.level < limits.usual_low - margin)
    far: np.ndarray = (found.jump > share * limits.step) & ~strange
    if far.any():
        far &= rolling.trailing_count(found.change > share * limits.step, TOGETHER) > 0
    return far


def alone(strange: Bool[np.ndarray, "row tag"]) -> Bool[np.ndarray, "row tag"]:
    """Strange where, in these three rows, hardly another tag is: one of up to 15, two of up to 31, …"""
    together = (rolling.trailing_count(strange, TOGETHER) > 0).sum(axis=1)
    verdict: np.ndarray = strange & (together <= 1 + strange.shape[1] // 16)[:, None]
    return verdict


def unit_jumps(found: Features, limits: SensorLimits) -> Bool[np.ndarray, "row tag"]:
    """Where values outside the learned range are normal ones in another unit.

    Told either from a jump of this tag alone (at most 36 rows back) that took the level before it to its value in that
    unit, or from the level: the last 24 rows keep to the normal range in that unit, with the noise that goes with it
    (without any noise to tell by, a slow change to just that level passes for the other unit).
    """
    far = beyond_usual(found.seen, limits)
    out = np.zeros(far.shape, dtype=bool)
    tags = np.flatnonzero(far.any(axis=0)).tolist()
    fitting = {tag: _fitting(found.seen[far[:, tag], tag], limits, tag) for tag in tags}
    if not any(fitting.values()):
        return out
    jumped = alone(jumps(found, limits, LEAP))
    for tag, possible in fitting.items():
        if possible:
            out[:, tag] = far[:, tag] & _tag_jumps(found, jumped, limits, tag, possible)
    return out


def _fitting(wrong: Float[np.ndarray, " row"], limits: SensorLimits, tag: int) -> tuple[Conversion, ...]:
    """The conversions that take at least one of the values to where `_tag_jumps` could believe it: hardly ever any."""
    known = conversions(limits.units[tag])
    low, high = float(limits.usual_low[tag]), float(limits.usual_high[tag])
    slack = 0.25 * (high - low)
    factors, offsets = np.array([(each.factor, each.offset) for each in known]).T
    right = (wrong[:, None] - offsets) / factors
    fits = ((right >= low - slack) & (right <= high + slack)) | ~np.isfinite(right)
    return tuple([each for each, fit in zip(known, fits.any(axis=0).tolist(), strict=True) if fit])


def beyond_usual(values: Float[np.ndarray, "row tag"], limits: SensorLimits) -> Bool[np.ndarray, "row tag"]:
    """Clearly beyond the normal range: by half its width, or (where the range is positive) by a third below it."""
    low, high = limits.usual_low, limits.usual_high
    margin = 0.5 * (high - low)
    below = np.where(low > 0, np.maximum(low - margin, low / 1.5), low - margin)
    verdict: np.ndarray = (values > high + margin) | (values < below)
    return verdict


def _tag_jumps(
    found: Features,
    jumped: Bool[np.ndarray, "row tag"],
    limits: SensorLimits,
    tag: int,
    possible: tuple[Conversion, ...],
) -> Bool[np.ndarray, " row"]:
    """The verdict of one tag, for those conversions."""
    one = slice(tag, tag + 1)
    seen, noise = found.seen[:, one], float(np.nan_to_num(limits.usual_noise[tag]))
    low, high = float(limits.usual_low[tag]), float(limits.usual_high[tag])
    slack = 0.25 * (high - low)
    last = rolling.last_row(jumped[:, one])
    recent = np.arange(len(seen))[:, None] - last <= REMEMBER
    arrived, left = (np.take_along_axis(x, np.maximum(last, 0), 0) for x in (seen, found.level[:, one]))
    recent &= (left >= low - slack) & (left <= high + slack)
    roughness = _roughness(found.curvature[:, one]) / noise if noise > 0 else None
    out = np.zeros(seen.shape, dtype=bool)
    for conversion in possible:
        right = conversion.undo(seen)
        explained = recent & _explains(conversion, left, arrived, noise)
        out |= explained & (right >= low - slack) & (right <= high + slack)
        if conversion.tells_apart(low, high):
            fits = True if roughness is None else _as_rough(roughness, conversion.factor)
            out |= _keeps(right, low, high) & fits
    return out[:, 0]


def _explains(
    conversion: Conversion, left: Float[np.ndarray, "row 1"], arrived: Float[np.ndarray, "row 1"], noise: float
) -> Bool[np.ndarray, "row 1"]:
    """Where a jump from the level left arrived at the same level in the other unit, within 5 % or the noise."""
    right = conversion.undo(arrived)
    tolerance = np.maximum(0.05 * np.abs(left), 1.25 * noise)
    verdict: np.ndarray = (np.abs(right - left) <= tolerance) & (
        np.abs(arrived - right) > 4 * tolerance * max(conversion.factor, 1.0)
    )
    return verdict


def _keeps(right: Float[np.ndarray, "row 1"], low: float, high: float) -> Bool[np.ndarray, "row 1"]:
    """Where the last 24 rows, read in the other unit, are all normal."""
    slack = 0.1 * (high - low)
    inside = (right >= low - slack) & (right <= high + slack)
    verdict: np.ndarray = (rolling.trailing_count(inside, LASTING) >= LASTING // 2) & (
        rolling.trailing_count(np.isfinite(right) & ~inside, LASTING) == 0
    )
    return verdict


def _roughness(curvature: Float[np.ndarray, "row 1"]) -> Float[np.ndarray, "row 1"]:
    """Mean |second difference| of the last rows; NaN if none is known."""
    count = rolling.trailing_count(np.isfinite(curvature), ROUGH_ROWS)
    return rolling.trailing_sum(curvature, ROUGH_ROWS) / np.where(count > 0, count, np.nan)


def _as_rough(roughness: Float[np.ndarray, "row 1"], factor: float) -> Bool[np.ndarray, "row 1"]:
    """Whether noise has grown with the values (`roughness`: times its usual size) rather than stayed what it was.

    What crept up to the same level keeps its noise: that is how an overheated bearing differs from one read in °F. The
    line is a little beyond half way (as ratios), but never farther from `factor` than threefold.
    """
    if factor == 1:  # an offset leaves the noise as it is: nothing to tell by
        return np.ones(roughness.shape, dtype=bool)
    if factor > 1:
        line = max(factor**0.55, factor / 3)
        verdict: np.ndarray = (rolling.trailing_max(roughness, ROUGH_RECENT) >= line) & (roughness < 3 * factor)
    else:
        line = min(factor**0.55, factor * 3)
        verdict = (rolling.trailing_min(roughness, ROUGH_RECENT) <= line) & (roughness > factor / 3)
    return verdict
