"""From an alert budget (false alerts an asset and week may cost) to the alert line. The default rule.

The budget and the tick give the chance a normal row may have of being over the line. Two estimates of the line for that
chance are blended by how many independent peaks were seen: few (a hundred rows) → the robust log-spread, which needs
only median and 95 %; many (days of rows) → the fitted tail, which knows the machine's own extremes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from anomaly.domain import SECOND
from anomaly.errors import TooFewRowsError
from anomaly.thresholds import Threshold
from anomaly.thresholds.peaks_over_threshold import LEVEL, fit_tail
from anomaly.thresholds.quantile import log_scores, robust_line

WEEK = 7 * 24 * 3600 * SECOND
"""A week, ns."""
OWN_ROWS = 200
"""Calibration rows an asset needs for a line of its own; with fewer it is given the pooled one."""
PEAKS = 25.0
"""Independent peaks at which the fitted tail counts as much as the robust spread."""
DEVIATIONS = (3.0, 4.0)
"""The robust line is this many deviations out, at least and at most, whatever the budget."""
STRETCH = 1.3
"""The tail may move the robust line's distance from the median (in ln) by this factor, up or down: one unnoticed
fault among the calibration rows must not deafen the detector."""
LEAST_LINE = 1.0
"""Lowest line: raw scores are about 1 on normal rows, so nothing below is strange, however still the machine stood."""


def chance_of(budget_per_week: float, tick: int, rows_per_peak: float = 1.0) -> float:
    """Chance per row that spends the budget: alerts a week × rows each lasts / rows in a week. `tick` in ns.

    >>> chance_of(1.0, 10 * SECOND) * 60480
    1.0
    """
    return float(np.clip(budget_per_week * rows_per_peak * tick / WEEK, 1e-8, 0.05))


def rows_per_peak(raw: Float[np.ndarray, " row"]) -> float:
    """Mean rows of an excursion over the 90 % level; two rows or more lie between excursions (runs estimator).

    The inverse of the extremal index: consecutive scores are alike, so one bad minute is one alert and not six.

    >>> rows_per_peak(np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0.0]))
    2.0
    """
    logs = log_scores(raw)
    over = np.flatnonzero(logs > np.quantile(logs, LEVEL))
    return len(over) / (1 + int((np.diff(over) > 2).sum())) if len(over) else 1.0


def budget_line(raw: Float[np.ndarray, " row"], budget_per_week: float, tick: int) -> float:
    """The alert line of one series of normal raw scores, oldest first; see the module. `tick` in ns.

    Raises TooFewRowsError if no row is finite. Stable from about 100 rows on.
    """
    from scipy.special import ndtri  # noqa: PLC0415  (only who fits a line pays: who scores carries no SciPy)

    length = rows_per_peak(raw)
    chance = chance_of(budget_per_week, tick, length)
    deviations = float(np.clip(-ndtri(chance), *DEVIATIONS))
    middle = float(np.median(log_scores(raw)))
    robust = float(np.log(robust_line(raw, deviations))) - middle
    tail = fit_tail(raw)
    fitted = float(np.log(tail.line(chance))) - middle
    peaks = tail.excess / length
    trust = peaks / (peaks + PEAKS)
    distance = robust + trust * (float(np.clip(fitted, robust / STRETCH, robust * STRETCH)) - robust)
    return max(float(np.exp(middle + distance)), LEAST_LINE)


def fit_threshold(
    raws: Mapping[str, Float[np.ndarray, " _row"]], budget_per_week: float, tick: int, own_rows: int = OWN_ROWS
) -> Threshold:
    """The line of each asset from its normal raw scores (oldest first); assets with few rows share the pooled line.

    Raises TooFewRowsError if no asset has a single finite score.
    """
    finite = {asset: raw[np.isfinite(raw)] for asset, raw in raws.items()}
    if not sum(map(len, finite.values())):
        raise TooFewRowsError("No normal row could be scored, so there is no alert line. Give a longer normal period.")
    pooled = budget_line(np.concatenate(list(finite.values())), budget_per_week, tick)
    lines = {a: budget_line(raw, budget_per_week, tick) for a, raw in finite.items() if len(raw) >= own_rows}
    typical = float(np.median(np.concatenate([raw / lines.get(asset, pooled) for asset, raw in finite.items()])))
    method = f"budget of {budget_per_week:g} a week, tail blended with robust spread"
    return Threshold(lines, pooled, method, typical if typical > 0 else None)
