"""The line of a control chart: so many deviations of ln(score) above the median of rows that were not fitted on.

For scores whose logarithm is nearly normal, as a panel's are, and for any number of rows: median and 95 % quantile
settle with a hundred, where the extremes that a fitted tail needs come once a month.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from jaxtyping import Float

from anomaly.errors import TooFewRowsError
from anomaly.thresholds import Threshold
from anomaly.thresholds.budget import OWN_ROWS
from anomaly.thresholds.quantile import robust_line

DEVIATIONS: Final = 3.0
"""Distance of the line at a budget of one false alert an asset and week (Shewhart's three deviations)."""
PER_DECADE: Final = 0.5
"""A budget ten times smaller puts the line so much further out."""
BETWEEN: Final = (2.0, 6.0)


def deviations_for(budget_per_week: float) -> float:
    """How far out the line is for an alert budget; the raising rule (6 of 10 rows) does the rest.

    >>> deviations_for(1.0), deviations_for(0.1), deviations_for(100.0)
    (3.0, 3.5, 2.0)
    """
    return min(max(DEVIATIONS - PER_DECADE * math.log10(max(budget_per_week, 1e-9)), BETWEEN[0]), BETWEEN[1])


def control_lines(raws: Mapping[str, Float[np.ndarray, " _row"]], budget_per_week: float = 1.0) -> Threshold:
    """The line of each asset from the raw scores of unseen normal rows; assets with few of them share the pooled line.

    Raises TooFewRowsError if no asset has a single finite score.
    """
    finite = {asset: raw[np.isfinite(raw)] for asset, raw in raws.items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    if not len(every):
        raise TooFewRowsError("No normal row could be scored, so there is no alert line. Give a longer normal period.")
    out = deviations_for(budget_per_week)
    pooled = robust_line(every, out)
    lines = {asset: robust_line(raw, out) for asset, raw in finite.items() if len(raw) >= OWN_ROWS}
    typical = float(np.median(np.concatenate([raw / lines.get(asset, pooled) for asset, raw in finite.items()])))
    return Threshold(lines, pooled, f"{out:g} deviations of ln(score) on unseen rows", typical if typical > 0 else None)
