"""Reconstruction: any compiled net that redraws a window, judged by how badly it redraws the last rows.

The mean error over the whole window is a poor score: it answers half a window late and drowns small faults. So the last
row counts (fast) and a weighted mean of the errors leading up to it (slow), both whitened by held-out errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64

from anomaly.domain import Rung
from anomaly.scorers import BATCH, Raw, State
from anomaly.scorers.residuals import Whitening, fit_whitening

Predict: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Scaled windows and mask `(window, time, tag)` in, the same windows as the net draws them out."""


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A net's reconstruction error as a score. `predict` is not part of `state`: it is loaded beside it.

    >>> import numpy as np
    >>> flat = Reconstruction(4, lambda values, mask: np.zeros_like(values), unit_whitening(4, 2))
    >>> window = np.zeros((1, 4, 2), np.float32); window[0, -1, 1] = 3.0
    >>> flat.score(window, np.ones((1, 4, 2), bool)).contributions.round(2).tolist()
    [[0.0, 1.0]]
    """

    length: int
    predict: Predict
    whitening: Whitening

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.LSTM_AUTOENCODER

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the whitened error of the last rows; `expected` is the net's last row. NaN if it draws NaN or ∞."""
        drawn = np.asarray(self.predict(values, mask), np.float64)
        sound = np.asarray(np.isfinite(drawn).all(axis=(1, 2)))
        residual = np.where(mask & sound[:, None, None], values - drawn, 0.0)
        raw, contributions = self.whitening.judge(residual, mask & sound[:, None, None])
        return Raw(raw, contributions, np.where(sound[:, None], drawn[:, -1], np.nan))

    def state(self) -> State:
        """Numbers and arrays that rebuild it, together with `predict`."""
        white = self.whitening
        return {"length": self.length, "fast": white.fast, "slow": white.slow, "weights": white.weights}

    @classmethod
    def from_state(cls, state: State, predict: Predict) -> Reconstruction:
        """The scorer of that state over that net."""
        whitening = Whitening(*(np.asarray(state[name], float) for name in ("fast", "slow", "weights")))
        return cls(int(np.asarray(state["length"])), predict, whitening)

    def whitened(self, whitening: Whitening) -> Reconstruction:
        """The same net, judged by another whitening."""
        return replace(self, whitening=whitening)


def fit_reconstruction(
    predict: Predict, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
) -> Reconstruction:
    """Weigh a net's errors by those it makes on scaled normal windows it has *not* been trained on."""
    residual = np.empty(values.shape, np.float64)
    for start in range(0, len(values), BATCH):
        part, seen = values[start : start + BATCH], mask[start : start + BATCH]
        filled, ones = np.zeros((BATCH, *values.shape[1:]), np.float32), np.ones((BATCH, *values.shape[1:]), bool)
        filled[: len(part)], ones[: len(part)] = part, seen
        residual[start : start + BATCH] = part - np.asarray(predict(filled, ones))[: len(part)]
    return Reconstruction(values.shape[1], predict, fit_whitening(np.where(mask, residual, 0.0), mask))


def unit_whitening(length: int, tags: int) -> Whitening:
    """The whitening of errors of size 1, independent of each other: for a net not yet calibrated."""
    return fit_whitening(np.zeros((1, length, tags)), np.zeros((1, length, tags), bool))
