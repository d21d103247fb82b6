"""Lines from quantiles: the empirical one, and one that extrapolates a robust spread. Both in raw score units."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from anomaly.errors import TooFewRowsError

TINY = 1e-6
"""Raw scores below this are taken as this, so that a machine that stands perfectly still has a logarithm."""


def quantile_line(raw: Float[np.ndarray, " row"], share: float) -> float:
    """The score that the given share (0..1) of normal rows stays under. Cannot see beyond the largest row.

    >>> quantile_line(np.arange(101.0), 0.95)
    95.0
    """
    return float(np.quantile(_finite(raw, 1), share))


def robust_line(raw: Float[np.ndarray, " row"], deviations: float) -> float:
    """Line `deviations` standard deviations above the median of ln(score), spread taken between median and 95 %.

    Up to 5 % of the rows may be contaminated without moving it. 1.645 is the 95 % point of the normal distribution.

    >>> round(robust_line(np.exp(np.linspace(-1.645, 1.645, 2001) * 1.0), 1.645 / 0.9), 3)   # flat tails: just the end
    5.181
    """
    logs = log_scores(raw)
    middle, high = np.quantile(logs, [0.5, 0.95])
    return float(np.exp(middle + deviations * (high - middle) / 1.645))


def log_scores(raw: Float[np.ndarray, " row"]) -> Float[np.ndarray, " known"]:
    """Logarithms of the finite scores; raises TooFewRowsError if there is none."""
    return np.asarray(np.log(np.maximum(_finite(raw, 1), TINY)))


def _finite(raw: Float[np.ndarray, " row"], least: int) -> Float[np.ndarray, " known"]:
    finite = np.asarray(raw[np.isfinite(raw)])
    if len(finite) < least:
        raise TooFewRowsError(
            f"{len(finite)} normal rows could be scored to set the alert line, {least} are needed at least. "
            "Give a longer normal period."
        )
    return finite
