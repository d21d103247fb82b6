"""Forecast: each tag's next value as a linear function of the rows before it (ridge vector autoregression).

What a plant does from one row to the next is mostly linear. Two horizons are used: one row ahead, where the smallest
change of behaviour shows at once, and some rows ahead, where a slow fault cannot hide behind its own recent past.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from anomaly.scorers.residuals import follows, patterns, places, times

PENALTIES = 10.0 ** np.arange(-5.0, 3.1)
"""Ridge penalties tried for each tag, as multiples of the number of rows."""
BLOCKS = 4
"""Contiguous blocks of the cross-validation that chooses among them."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """`lags` rows, the newest of them `horizon` rows back, foretell a row. Scaled units.

    `weights`: rows are lag by lag, newest first, the tags of each, and a constant.
    """

    horizon: int
    lags: int
    weights: Float[np.ndarray, "lag_tag tag"]

    @property
    def span(self) -> int:
        """Rows needed to foretell one row, itself included."""
        return self.horizon + self.lags

    def residual(
        self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
    ) -> tuple[Float[np.ndarray, "window step tag"], Bool[np.ndarray, "window step tag"]]:
        """Errors of the rows from `span` on (0 where unseen), and where they are known.

        A cell not seen is taken as last seen in the window, else as usual (0). A row is known if all rows it needs had
        some tag.
        """
        steps = values.shape[1] - self.span + 1
        cells = held(values, mask)
        window, step, where = places(follows(cells), steps)
        inputs = [cells[window, self.lags - 1 - lag + step] for lag in range(self.lags)]
        rows = np.concatenate([*inputs, np.ones((len(window), 1))], axis=1)
        expected = times(rows, self.weights)[where]
        errors = np.asarray(values[:, self.span - 1 :], np.float64) - expected
        seen = mask[:, self.span - 1 :] & _supported(mask, self.span, steps)[:, :, None]
        return np.where(seen, errors, 0.0), seen


def held(
    values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
) -> Float[np.ndarray, "window time tag"]:
    """Unseen cells filled with the value last seen in the window, 0 before any.

    >>> held(np.float32([[[1.0], [0.0], [3.0]]]), np.array([[[True], [False], [True]]]))[0, :, 0].tolist()
    [1.0, 1.0, 3.0]
    """
    cells = np.asarray(values, np.float64)
    if mask.all():
        return cells
    row = np.arange(values.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(mask, row, -1), axis=1)
    filled = np.take_along_axis(cells, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, filled, 0.0)


def fit_forecast(
    values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"], horizon: int, lags: int
) -> Forecast:
    """Fit to scaled normal windows of at least `horizon` + `lags` rows, oldest first: each foretells its last row.

    The penalty of each tag is the one that foretells blocks left out best. Unseen cells as in `Forecast.residual`; a
    tag learns from the windows that saw it last.
    """
    span, tags = horizon + lags, values.shape[2]
    cells = held(values[:, -span:], mask[:, -span:])
    rows = np.concatenate([cells[:, lags - 1 - lag] for lag in range(lags)], axis=1)
    seen = mask[:, -1]
    weights = np.zeros((lags * tags + 1, tags))
    for pattern, columns in patterns(np.ascontiguousarray(seen.T)):
        if pattern.any():
            weights[:, columns] = _ridge(rows[pattern], cells[pattern, -1][:, columns])
    return Forecast(horizon, lags, weights)


def _supported(mask: Bool[np.ndarray, "window time tag"], span: int, steps: int) -> Bool[np.ndarray, "window step"]:
    """Rows of which every row they need had at least one tag."""
    there = np.asarray(mask.any(axis=2))
    blank = np.cumsum(np.concatenate([np.zeros((len(there), 1), int), ~there], axis=1), axis=1)
    return np.asarray(blank[:, span - 1 : span - 1 + steps] == blank[:, :steps])


def _ridge(
    rows: Float[np.ndarray, "row input"], targets: Float[np.ndarray, "row tag"]
) -> Float[np.ndarray, "inputs tag"]:
    """Ridge regression with a constant (last row of the result, not penalised), penalty by blocked cross-validation."""
    middle, level = rows.mean(axis=0), targets.mean(axis=0)
    x, y = rows - middle, targets - level
    gram, cross = x.T @ x, x.T @ y
    loss = np.zeros((len(PENALTIES), y.shape[1]))
    for block in np.array_split(np.arange(len(x)), BLOCKS):
        values, axes = np.linalg.eigh(gram - x[block].T @ x[block])
        turned, inside = axes.T @ (cross - x[block].T @ y[block]), x[block] @ axes
        for number, penalty in enumerate(PENALTIES):
            shrunk = turned / (np.maximum(values, 0.0) + penalty * len(x))[:, None]
            loss[number] += ((y[block] - inside @ shrunk) ** 2).sum(axis=0)
    values, axes = np.linalg.eigh(gram)
    strength = PENALTIES[loss.argmin(axis=0)] * len(x)
    weights = axes @ ((axes.T @ cross) / (np.maximum(values, 0.0)[:, None] + strength[None, :]))
    return np.vstack([weights, level - middle @ weights])
