"""T² + Q: one row against the principal subspace of normal rows, inside it and outside. A rival of the default.

The oldest monitor of chemical plants (Hotelling 1947; Jackson & Mudholkar 1979; MacGregor & Kourti 1995): T² is the
Mahalanobis distance inside the subspace, Q the squared error outside it. They are joined as by Yue & Qin 2001 (their
"combined index"), each divided by what normal rows have. Tags not seen are set to their conditional mean given the seen
ones, and both parts are divided by what they are expected to be then. One row says nothing of how rows follow on rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Rung
from anomaly.scorers import Raw, State
from anomaly.scorers.residuals import patterns
from anomaly.scorers.residuals import times as row_by_row

LENGTH = 1
"""Rows in a window."""
EXPLAINED = 0.9
"""Share of the variance that the principal subspace keeps."""
FLOOR = 1e-4
"""Smallest normal variance believed of a tag, scaled units squared: 1 % of a normal spread, squared."""


class _Operators(NamedTuple):
    """For one pattern of seen tags: centred row → every tag imputed, inside (sum of squares T²), outside (Q)."""

    imputed: Float[np.ndarray, "tag tag"]
    inside: Float[np.ndarray, "tag tag"]
    outside: Float[np.ndarray, "tag tag"]
    usual: tuple[float, float]
    """What T² and Q are on normal rows seen so; 0: there is no such part."""


@dataclass(frozen=True, slots=True, eq=False)
class Hotelling:
    """Mean and covariance of normal rows, scaled units; `loadings`: orthonormal columns of the subspace, `variances`
    along them.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 1)) * [1.0, 1.0] + 0.1
    >>> model = fit_hotelling_model(rows[:, None].astype(np.float32), np.ones((500, 1, 2), bool))
    >>> both = model.score(np.float32([[[0.5, 0.5]], [[1.0, -1.0]]]), np.ones((2, 1, 2), bool))
    >>> bool(both.raw[1] > 10 * both.raw[0])      # neither value is strange by itself
    True
    """

    mean: Float[np.ndarray, " tag"]
    covariance: Float[np.ndarray, "tag tag"]
    loadings: Float[np.ndarray, "tag component"]
    variances: Float[np.ndarray, " component"]

    @property
    def rung(self) -> Rung:
        """The step of the cold-start ladder that it stands beside: it never serves."""
        return Rung.WINDOW_PCA

    @property
    def length(self) -> int:
        """Rows in a window."""
        return LENGTH

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the root of the mean of T² and Q, each in units of its normal size; NaN where no tag is seen.

        Contributions are the complete decomposition of both (Alcala & Qin 2009); `expected` is the row's projection.
        """
        del times
        seen = mask[:, -1]
        centred = np.where(seen, np.asarray(values[:, -1], np.float64) - self.mean, 0.0)
        parts, expected = np.zeros(seen.shape), np.empty(seen.shape)
        for pattern, rows in patterns(seen):
            found = self._operators(pattern)
            inside, outside = (row_by_row(centred[rows], one) ** 2 for one in (found.inside, found.outside))
            shares = [part / size for part, size in zip((inside, outside), found.usual, strict=True) if size > 0]
            parts[rows] = sum(shares, np.zeros(inside.shape)) / max(len(shares), 1)
            expected[rows] = self.mean + row_by_row(centred[rows], found.imputed - found.outside)
        known = seen.any(axis=1)
        energy = parts.sum(axis=1)
        blamed = np.where(seen, parts, 0.0)
        total = blamed.sum(axis=1, keepdims=True)
        equal = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
        contributions = np.where(total > 0, blamed / np.where(total > 0, total, 1.0), equal)
        return Raw(np.where(known, np.sqrt(energy), np.nan), contributions, expected)

    def _operators(self, pattern: Bool[np.ndarray, " tag"]) -> _Operators:
        """What turns a centred row (0 where unseen) into its parts. Rows of the matrices are the tags put in."""
        seen = np.where(pattern)[0]
        within = self.covariance[np.ix_(seen, seen)]
        impute = np.zeros(self.covariance.shape)
        impute[seen] = np.linalg.solve(within, self.covariance[seen]) if len(seen) else 0.0
        impute[np.ix_(seen, seen)] = np.eye(len(seen))
        root = (self.loadings / np.sqrt(self.variances)) @ self.loadings.T
        inside = impute @ root
        outside = impute - impute @ self.loadings @ self.loadings.T
        sizes = [float(np.einsum("ij,ik,kj->", one[seen], within, one[seen])) for one in (inside, outside)]
        least = FLOOR * len(seen)
        return _Operators(impute, inside, outside, (sizes[0] if len(self.variances) else 0.0, max(sizes[1], least)))

    def state(self) -> State:
        """Arrays that rebuild it."""
        return {
            "mean": self.mean,
            "covariance": self.covariance,
            "loadings": self.loadings,
            "variances": self.variances,
        }

    @classmethod
    def from_state(cls, state: State) -> Hotelling:
        """The scorer of that state."""
        return cls(*(np.asarray(state[name], float) for name in ("mean", "covariance", "loadings", "variances")))


def fit_hotelling_model(
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
    explained: float = EXPLAINED,
) -> Hotelling:
    """Fit to the last rows of scaled normal windows. Covariances are taken over the rows that saw both tags.

    At least one direction is left outside the subspace, and one that never moved is never inside it.
    """
    seen = mask[:, -1].astype(float)
    cells = np.where(mask[:, -1], values[:, -1].astype(np.float64), 0.0)
    mean = cells.sum(axis=0) / np.maximum(seen.sum(axis=0), 1.0)
    centred = np.where(mask[:, -1], cells - mean, 0.0)
    spread, axes = np.linalg.eigh(centred.T @ centred / np.maximum(seen.T @ seen, 1.0))
    spread, axes = np.maximum(spread[::-1], 0.0), axes[:, ::-1]
    enough = int(np.searchsorted(np.cumsum(spread) / max(float(spread.sum()), 1e-12), explained)) + 1
    kept = min(enough, len(spread) - 1, int((spread > FLOOR).sum()))
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))] < 0, -1.0, 1.0)
    covariance = (axes * np.maximum(spread, FLOOR)) @ axes.T
    return Hotelling(mean, covariance, np.ascontiguousarray((axes * signs)[:, :kept]), spread[:kept].copy())
