"""Mean error of a whole window as a net redraws it: what a naive autoencoder is judged by. A rival of the default.

Every tutorial does this (Malhotra et al., arXiv:1607.00148, and after it): it answers half a window late and drowns
small faults in the rows and tags that are well. It stands in the tables so that they show what the default is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from anomaly.domain import Rung
from anomaly.scorers import Raw, State
from anomaly.scorers.reconstruction import Predict


@dataclass(frozen=True, slots=True, eq=False)
class MeanError:
    """Mean squared error of a net over all cells of a window. `predict` is not part of `state`.

    >>> import numpy as np
    >>> flat = MeanError(2, lambda values, mask: np.zeros_like(values))
    >>> flat.score(np.float32([[[3.0], [1.0]]]), np.ones((1, 2, 1), bool)).raw.tolist()
    [5.0]
    """

    length: int
    predict: Predict

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder that it stands beside: it never serves."""
        return Rung.LSTM_AUTOENCODER

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the mean squared error of the cells seen, scaled units squared; each tag is blamed by its part.

        NaN if no tag of the last row was seen, or the net draws NaN or ∞.
        """
        del times
        drawn = np.asarray(self.predict(values, mask), np.float64)
        sound = np.asarray(np.isfinite(drawn).all(axis=(1, 2)))
        known = sound & mask[:, -1].any(axis=1)
        square = np.where(mask & sound[:, None, None], values - np.where(sound[:, None, None], drawn, 0.0), 0.0) ** 2
        raw = square.sum(axis=(1, 2)) / np.maximum(mask.sum(axis=(1, 2)), 1)
        blamed = np.where(mask[:, -1], square.sum(axis=1), 0.0)
        total = blamed.sum(axis=1, keepdims=True)
        equal = mask[:, -1] / np.maximum(mask[:, -1].sum(axis=1, keepdims=True), 1)
        shares = np.where(total > 0, blamed / np.where(total > 0, total, 1.0), equal)
        expected = np.where(sound[:, None], drawn[:, -1], np.nan)
        return Raw(np.where(known, raw, np.nan), np.where(known[:, None], shares, 0.0), expected)

    def state(self) -> State:
        """The number that rebuilds it, together with `predict`."""
        return {"length": self.length}

    @classmethod
    def from_state(cls, state: State, predict: Predict) -> MeanError:
        """The scorer of that state over that net."""
        return cls(int(np.asarray(state["length"])), predict)
