"""How strange residuals are, on one time scale: their whitened energy, against what normal rows have there.

The last row alone answers at once; a weighted mean of the last ten or thirty rows hears a small deviation that stays.
Second moments are *uncentred* and come from rows the model was not fitted on; energies are judged in their logarithm,
where they are nearly normal, by median and 95 % quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from anomaly.scorers.residuals import patterns, smoothed, times

SHARES = (1.0, 0.3, 0.1)
"""Weight of the newest row in the running mean of each scale: the last row, about five rows, about twenty."""
OFF_DIAGONAL = 0.2
"""Correlations of smoothed residuals are kept at this share (shrinkage towards the diagonal; Ledoit & Wolf 2004)."""
FLOOR = 0.01
"""Smallest normal error believed, in scaled units: 1 % of a tag's normal spread."""
QUANTILE, DEVIATIONS = 0.95, 1.645
"""Where the spread is taken, and how far out that is in a normal distribution."""
FEWEST = 20
"""Windows a block needs for a median and a quantile of its own."""
GROWTH = (0.1, 100.0)
"""How much smaller or larger a normal square may become for want of other tags."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """One time scale of one view. `moment`: second moment of normal residuals on it, scaled units squared; `middle`,
    `spread`: median and deviation of ln(energy) on normal rows; `growth[i, j]`: how many times larger the square of tag
    j is on normal rows while tag i is missing.
    """

    share: float
    moment: Float[np.ndarray, "tag tag"]
    middle: float
    spread: float
    growth: Float[np.ndarray, "tag tag"]

    def judge(
        self, residual: Float[np.ndarray, "window step tag"], seen: Bool[np.ndarray, "window step tag"]
    ) -> Judged:
        """Deviations from normal of each window; NaN where no tag of the last row is known."""
        level, last = level_of(residual, seen, self.share), seen[:, -1]
        energy, shares = log_energy(level / np.sqrt(self._size(last)), last, self.moment)
        return Judged((energy - self.middle) / self.spread, shares, level)

    def _size(self, last: Bool[np.ndarray, "window tag"]) -> Float[np.ndarray, "window tag"]:
        """How many times larger normal squares are for want of the tags missing in the last row."""
        size = np.ones(last.shape)
        for pattern, rows in patterns(last):
            if not pattern.all():
                size[rows] = np.clip(self.growth[~pattern].prod(axis=0), *GROWTH)
        return size


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """`deviations` of ln(energy) from its normal median; each tag's share in the energy (sum 1); the `level` by which
    each tag is off, as smoothed on the scale, scaled units.
    """

    deviations: Float[np.ndarray, " window"]
    shares: Float[np.ndarray, "window tag"]
    level: Float[np.ndarray, "window tag"]


def log_energy(
    level: Float[np.ndarray, "window tag"], last: Bool[np.ndarray, "window tag"], moment: Float[np.ndarray, "tag tag"]
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "window tag"]]:
    """Logarithm of the mean whitened square of the tags known (NaN if none is), and each tag's share in it."""
    parts = np.maximum(level * _whitened(level, last, moment), 0.0)
    count = last.sum(axis=1)
    total = parts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        energy = np.log(np.maximum(total / count, _TINY))
    equal = last / np.maximum(count, 1)[:, None]
    shares = np.where(total[:, None] > 0, parts / np.where(total > 0, total, 1.0)[:, None], equal)
    return np.where(count > 0, energy, np.nan), shares


def level_of(
    residual: Float[np.ndarray, "window step tag"], seen: Bool[np.ndarray, "window step tag"], share: float
) -> Float[np.ndarray, "window tag"]:
    """The running mean of a window's residuals; 0 for tags not seen in the last row."""
    if share >= 1.0:
        return np.where(seen[:, -1], residual[:, -1], 0.0)
    return np.where(seen[:, -1], smoothed(residual, seen, running(residual.shape[1], share)), 0.0)


def running(steps: int, share: float) -> Float[np.ndarray, " step"]:
    """Weights of an exponential running mean, newest last, sum 1.

    >>> running(3, 0.5).round(3).tolist()
    [0.143, 0.286, 0.571]
    """
    weights = (1.0 - share) ** np.arange(steps - 1, -1, -1, dtype=float)
    return np.asarray(weights / weights.sum())


Level = tuple[Float[np.ndarray, "_window tag"], Bool[np.ndarray, "_window tag"]]
"""Smoothed residuals of some windows on one scale, and which tags of their last rows are known."""


def fit_scale(blocks: Sequence[Level], share: float, steps: int) -> tuple[Scale, list[Float[np.ndarray, " _window"]]]:
    """The scale from the levels of blocks left out of the fit, and the deviations of each block's windows.

    A block's energies are taken with the moment of the *other* blocks, as those of rows to come will be: with the
    moment of the same few rows they would look smaller than they are. Median and quantile are those of the worst block:
    hours differ, and the next may be like any of them. `steps`: residuals in a window.
    """
    logs = []
    for number, (level, last) in enumerate(blocks):
        others = [*blocks[:number], *blocks[number + 1 :]] or blocks
        logs.append(log_energy(level, last, _moment(others, share, steps))[0])
    middle, high = _worst(logs)
    spread = max(float(high - middle) / DEVIATIONS, 1e-3)
    moment = _moment(blocks, share, steps)
    scale = Scale(share, moment, float(middle), spread, np.ones(moment.shape))
    return scale, [(log - scale.middle) / spread for log in logs]


def _worst(logs: Sequence[Float[np.ndarray, " _window"]]) -> tuple[float, float]:
    """The highest median and the highest `QUANTILE` of any block; short blocks are taken together."""
    known = [log[np.isfinite(log)] for log in logs]
    whole = np.concatenate(known)
    if not len(whole):
        return 0.0, DEVIATIONS
    blocks = [log for log in known if len(log) >= FEWEST] or [whole]
    pairs = np.array([np.quantile(log, [0.5, QUANTILE]) for log in blocks])
    return float(pairs[:, 0].max()), float(pairs[:, 1].max())


def growth_of(
    usual: tuple[Float[np.ndarray, "window step tag"], Bool[np.ndarray, "window step tag"]],
    without: tuple[Float[np.ndarray, "window step tag"], Bool[np.ndarray, "window step tag"]],
    share: float,
) -> Float[np.ndarray, " tag"]:
    """How many times larger the squares on a scale are without some tag than with it (1 for that tag itself)."""
    squares = [
        ((level_of(residual, seen, share) ** 2).sum(axis=0), seen[:, -1].sum(axis=0))
        for residual, seen in (usual, without)
    ]
    (with_it, counted), (left, there) = squares
    ratio = (left / np.maximum(there, 1)) / np.maximum(with_it / np.maximum(counted, 1), _TINY)
    return np.where((there > 0) & (with_it > _TINY), np.clip(ratio, *GROWTH), 1.0)


def _moment(levels: Sequence[Level], share: float, steps: int) -> Float[np.ndarray, "tag tag"]:
    """Shrunk second moment. A tag never seen, or never wrong, is given the size 1: only a whole spread counts then."""
    level = np.concatenate([part for part, _ in levels])
    seen = np.concatenate([there for _, there in levels]).astype(float)
    both = seen.T @ seen
    moment = level.T @ level / np.maximum(both, 1.0)
    unknown = 1.0 if share >= 1.0 else float((running(steps, share) ** 2).sum())
    square = np.diagonal(moment)
    size = np.where(square > _TINY, np.maximum(square, FLOOR**2 * unknown), unknown)
    if share >= 1.0:
        return np.diag(size)
    root = np.sqrt(np.outer(size, size))
    related = np.clip(np.where(both > 0, moment / root, 0.0), -1.0, 1.0) * OFF_DIAGONAL
    np.fill_diagonal(related, 1.0)
    return np.asarray(related * root)


def _whitened(
    level: Float[np.ndarray, "window tag"], last: Bool[np.ndarray, "window tag"], moment: Float[np.ndarray, "tag tag"]
) -> Float[np.ndarray, "window tag"]:
    """`M⁻¹ e` with M restricted to the tags seen: one inverse a pattern of missing tags."""
    out = np.zeros_like(level)
    for pattern, rows in patterns(last):
        where = np.flatnonzero(pattern)
        if len(where):
            inverse = np.linalg.inv(moment[np.ix_(where, where)])
            out[np.ix_(rows, where)] = times(level[np.ix_(rows, where)], inverse)
    return out
