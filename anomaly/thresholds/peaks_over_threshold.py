"""Peaks over threshold: how high normal scores go once in a very long time (Siffer et al. 2017, "SPOT").

Excesses of ln(score) over a high level follow a generalised Pareto distribution (Pickands 1975). Its two numbers come
from probability-weighted moments (Hosking & Wallis 1987), which have an answer for every sample, small ones too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from anomaly.thresholds.quantile import log_scores

LEVEL = 0.9
"""Share of rows under the level that excesses are taken over."""
SHAPES = (-0.3, 0.3)
"""Shapes believed: below, the line would sit just over the largest row seen; above, it runs away."""
REACH = 100.0
"""No line further out than once in this many times the rows seen."""


class Tail(NamedTuple):
    """A fitted tail of ln(score): `excess` rows of `rows` were over `level`; Pareto `scale` and `shape`."""

    level: float
    scale: float
    shape: float
    excess: int
    rows: int

    def line(self, chance: float) -> float:
        """Score that a normal row exceeds with that chance (0..1); not extrapolated beyond `REACH × rows`.

        >>> tail = Tail(level=0.0, scale=0.5, shape=0.0, excess=100, rows=1000)
        >>> round(tail.line(0.001), 3)          # e^(0.5 · ln 100)
        10.0
        """
        ratio = (self.excess / self.rows) / max(chance, 1.0 / (REACH * self.rows))
        if abs(self.shape) < 1e-6:
            return float(np.exp(self.level + self.scale * np.log(ratio)))
        return float(np.exp(self.level + self.scale / self.shape * (ratio**self.shape - 1.0)))


def fit_tail(raw: Float[np.ndarray, " row"]) -> Tail:
    """The tail of finite raw scores over their `LEVEL` quantile; raises TooFewRowsError without any.

    >>> rows = np.exp(np.random.default_rng(0).exponential(0.2, 5000))
    >>> tail = fit_tail(rows)
    >>> abs(tail.scale - 0.2) < 0.05, abs(tail.shape) < 0.2
    (True, True)
    """
    logs = log_scores(raw)
    level = float(np.quantile(logs, LEVEL))
    excess = np.sort(logs[logs > level]) - level
    if len(excess) < 2 or excess[-1] <= 0:
        return Tail(level, 0.0, 0.0, max(len(excess), 1), len(logs))
    mean = float(excess.mean())
    rank = (np.arange(len(excess)) + 0.65) / len(excess)
    weighted = float(((1.0 - rank) * excess).mean())
    spread = mean - 2.0 * weighted
    shape = float(np.clip(2.0 - mean / spread, *SHAPES)) if spread > 0 else SHAPES[1]
    return Tail(level, mean * (1.0 - shape), shape, len(excess), len(logs))
