"""The line of a control chart: so many deviations of ln(score) above the median of rows that were not fitted on.

For scores whose logarithm is nearly normal, as a panel's are. Median and 95 % quantile settle with a hundred rows; with
thousands, the fitted tail says whether three deviations keep the alert budget on this machine, or if it takes more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from jaxtyping import Float

from anomaly.errors import TooFewRowsError
from anomaly.thresholds import Threshold
from anomaly.thresholds.budget import OWN_ROWS, chance_of, rows_per_peak
from anomaly.thresholds.peaks_over_threshold import fit_tail
from anomaly.thresholds.quantile import log_scores, robust_line

DEVIATIONS: Final = 3.0
"""Distance of the line at a budget of one false alert an asset and week (Shewhart's three deviations)."""
PER_DECADE: Final = 0.5
"""A budget ten times smaller puts the line so much further out."""
BETWEEN: Final = (2.0, 6.0)
PEAKS: Final = 100.0
"""Independent peaks at which the fitted tail has half its say."""
STRETCH: Final = 1.4
"""The tail may move the line's distance from the median (in ln) by this factor at most."""


def deviations_for(budget_per_week: float) -> float:
    """How far out the line is for an alert budget; the raising rule (6 of 10 rows) does the rest.

    >>> deviations_for(1.0), deviations_for(0.1), deviations_for(100.0)
    (3.0, 3.5, 2.0)
    """
    return min(max(DEVIATIONS - PER_DECADE * math.log10(max(budget_per_week, 1e-9)), BETWEEN[0]), BETWEEN[1])


def control_line(raw: Float[np.ndarray, " _row"], budget_per_week: float, tick: int) -> float:
    """The line of one series of unseen normal raw scores, oldest first. `tick` in ns.

    So many deviations out; moved further, never nearer, towards what the fitted tail allows for the budget, the more
    the more independent peaks were seen: after days of rows a machine's own extremes are known.
    """
    length = rows_per_peak(raw)
    middle = float(np.median(log_scores(raw)))
    plain = float(np.log(robust_line(raw, deviations_for(budget_per_week)))) - middle
    tail = fit_tail(raw)
    fitted = float(np.log(tail.line(chance_of(budget_per_week, tick, length)))) - middle
    peaks = tail.excess / length
    trust = peaks / (peaks + PEAKS)
    return float(np.exp(middle + plain + trust * (float(np.clip(fitted, plain, plain * STRETCH)) - plain)))


def control_lines(raws: Mapping[str, Float[np.ndarray, " _row"]], budget_per_week: float, tick: int) -> Threshold:
    """The line of each asset from the raw scores of unseen normal rows, oldest first. `tick` in ns.

    Assets with few rows share the pooled line. Raises TooFewRowsError if no asset has a single finite score.
    """
    finite = {asset: raw[np.isfinite(raw)] for asset, raw in raws.items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    if not len(every):
        raise TooFewRowsError("No normal row could be scored, so there is no alert line. Give a longer normal period.")
    pooled = control_line(every, budget_per_week, tick)
    lines = {asset: control_line(raw, budget_per_week, tick) for asset, raw in finite.items() if len(raw) >= OWN_ROWS}
    typical = float(np.median(np.concatenate([raw / lines.get(asset, pooled) for asset, raw in finite.items()])))
    method = f"{deviations_for(budget_per_week):g} deviations of ln(score) on unseen rows, or their fitted tail"
    return Threshold(lines, pooled, method, typical if typical > 0 else None)
