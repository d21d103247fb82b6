"""Rounding to decimal digits, so that a number is the same however it was come by, and its text is short."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def significant(values: Float[np.ndarray, "*shape"], digits: int) -> Float[np.ndarray, "*shape"]:
    """Round to so many significant decimal digits, each result being the double nearest to that decimal.

    An integer below 2**53 divided by a power of ten up to 1e22 is correctly rounded, so the shortest text of the result
    has at most `digits` digits. Magnitudes below 10**(digits - 23) lose digits, then become 0. NaN and ±Inf stay.

    >>> significant(np.array([0.1 + 0.2, 123456.7, -0.0, 2 / 3]), 6).tolist()
    [0.3, 123457.0, 0.0, 0.666667]
    """
    wide = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(wide) & (wide != 0.0)
    magnitude = np.floor(np.log10(np.abs(wide), where=finite, out=np.zeros_like(wide)))
    places = np.clip(digits - 1 - magnitude, -300, 22)
    up, down = 10.0 ** np.maximum(places, 0.0), 10.0 ** np.maximum(-places, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(wide / down * up) / up * down
    return np.asarray(np.where(finite & np.isfinite(rounded), rounded, np.where(finite, wide, wide + 0.0)))
