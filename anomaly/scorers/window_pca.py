"""Window-PCA: the linear model of what a few normal rows look like, flattened to one vector of `time × tag` cells.

Probabilistic PCA (Tipping & Bishop 1999): x = mean + W z + noise. It is slid over the window; each place gives the
residual of its last row against the principal subspace, and the series of these is judged (see `Whitening`). Cells
not seen are imputed by their conditional mean given the seen ones, so any sensor may be missing or masked, and the
model knows how much worse it expects then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Rung
from anomaly.scorers import Raw, State
from anomaly.scorers.residuals import Whitening, ewma_weights, follows, patterns, places
from anomaly.scorers.residuals import times as row_by_row

LENGTH = 30
"""Rows in a window: errors are tracked over the last 21 of them, each from the ten rows before it and itself."""
SPAN = 10
"""Rows that the model looks at, at once."""
EXPLAINED = 0.9
"""Share of the variance that the principal subspace keeps."""
FACTORS = (0.1, 100.0)
"""How much smaller or larger a normal squared residual can become for want of other sensors."""
ROUNDS = 5
"""Rounds of imputing training cells that were not seen."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowPca:
    """A fitted window-PCA of `span` rows, slid over windows of `length`.

    `loadings` are orthonormal columns; `variances` their variance, `noise` that of the rest, scaled units squared.

    >>> import numpy as np
    >>> wave = np.sin(np.arange(400) / 5.0)[:, None] * [1.0, -1.0] + np.random.default_rng(0).normal(0, 0.1, (400, 2))
    >>> rows = np.stack([wave[i : i + 10] for i in range(390)]).astype(np.float32)
    >>> model = fit_window_pca_model(rows, np.ones_like(rows, bool), length=30)
    >>> healthy = wave[None, :30].astype(np.float32)
    >>> broken, seen = healthy.copy(), np.ones_like(healthy, bool)
    >>> broken[0, -1, 0] += 1.0
    >>> bool(model.score(broken, seen).raw[0] > 2 * model.score(healthy, seen).raw[0])
    True
    """

    length: int
    span: int
    mean: Float[np.ndarray, " cell"]
    loadings: Float[np.ndarray, "cell component"]
    variances: Float[np.ndarray, " component"]
    noise: float
    whitening: Whitening

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.WINDOW_PCA

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the whitened residuals of the last rows; `expected` is the last row's projection, of every tag.

        NaN where no tag of the last row was seen.
        """
        residual, expected = self.residual(values, mask)
        raw, contributions = self.whitening.judge(residual, mask[:, self.span - 1 :])
        return Raw(raw, contributions, expected)

    def residual(
        self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
    ) -> tuple[Float[np.ndarray, "window step tag"], Float[np.ndarray, "window tag"]]:
        """Residuals of the rows from `span` on (0 where unseen), and the last row expected; scaled units.

        Where cells are missing the model expects worse, or hugs the few it has: residuals are put to the size they have
        when nothing is missing, so that a missing tag moves the score neither up nor down.
        """
        size = self.span * values.shape[2]
        view = np.lib.stride_tricks.sliding_window_view(values, self.span, axis=1).transpose(0, 1, 3, 2)
        seen = np.lib.stride_tricks.sliding_window_view(mask, self.span, axis=1).transpose(0, 1, 3, 2)
        window, step, where = places(follows(values, mask), view.shape[1])
        residual, expected = self._residual_of(
            view[window, step].reshape(len(window), size), seen[window, step].reshape(len(window), size)
        )
        return residual[where], expected[where[:, -1]]

    def _residual_of(
        self, cells: Float32[np.ndarray, "place cell"], seen: Bool[np.ndarray, "place cell"]
    ) -> tuple[Float[np.ndarray, "place tag"], Float[np.ndarray, "place tag"]]:
        """Residual of the last row and what was expected of it, at places of `span` rows each."""
        tags = len(self.mean) // self.span
        centred = np.where(seen, cells.astype(np.float64) - self.mean, 0.0)
        projected, size = np.empty((len(cells), tags)), np.ones((len(cells), tags))
        for pattern, rows in patterns(seen):
            operator, size[rows] = self._project(pattern)
            projected[rows] = row_by_row(centred[rows], operator)
        residual = np.where(seen[:, -tags:], (centred[:, -tags:] - projected) / np.sqrt(size), 0.0)
        return residual, projected + self.mean[-tags:]

    def _project(
        self, pattern: Bool[np.ndarray, " cell"]
    ) -> tuple[Float[np.ndarray, "cell tag"], Float[np.ndarray, " tag"]]:
        """What turns centred cells (0 where unseen) into the projected last row, and the factor on residual variances.

        Unseen cells are set to their conditional mean first. The factor is the residuals' variance under this pattern
        divided by that with everything seen, by the model's own covariance W W' + noise.
        """
        tags = len(self.mean) // self.span
        tail = self.loadings[-tags:]
        if pattern.all():
            return np.ascontiguousarray(self.loadings @ tail.T), np.ones(tags)
        mixing = self.loadings * np.sqrt(np.maximum(self.variances - self.noise, 0.0))
        seen = np.where(pattern[:, None], mixing, 0.0)
        gram = seen.T @ seen + self.noise * np.eye(seen.shape[1])
        lost = (tail @ self.loadings[~pattern].T) @ mixing[~pattern]
        operator = tail @ np.where(pattern, self.loadings.T, 0.0) + np.linalg.solve(gram, lost.T).T @ seen.T
        error = -operator
        error[:, -tags:] += np.eye(tags) * pattern[-tags:]
        here = self.noise * (error**2).sum(axis=1) + ((error @ seen) ** 2).sum(axis=1)
        usual = self.noise * (1.0 - (tail**2).sum(axis=1))
        factor = np.clip(here / np.maximum(usual, 1e-9 * self.noise), *FACTORS)
        return np.ascontiguousarray(operator.T), np.where(pattern[-tags:], factor, 1.0)

    def state(self) -> State:
        """Numbers and arrays that rebuild it."""
        return {
            "length": self.length,
            "span": self.span,
            "noise": self.noise,
            "mean": self.mean,
            "loadings": self.loadings,
            "variances": self.variances,
            "fast": self.whitening.fast,
            "slow": self.whitening.slow,
            "weights": self.whitening.weights,
        }

    @classmethod
    def from_state(cls, state: State) -> WindowPca:
        """The scorer of that state."""
        array = {name: np.asarray(state[name], float) for name in ("mean", "loadings", "variances")}
        whitening = Whitening(*(np.asarray(state[name], float) for name in ("fast", "slow", "weights")))
        return cls(
            length=int(np.asarray(state["length"])),
            span=int(np.asarray(state["span"])),
            noise=float(np.asarray(state["noise"])),
            whitening=whitening,
            **array,
        )

    def whitened(self, whitening: Whitening) -> WindowPca:
        """The same model, judged by another whitening."""
        return replace(self, whitening=whitening)


def fit_window_pca_model(
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
    length: int = LENGTH,
    explained: float = EXPLAINED,
) -> WindowPca:
    """Fit to scaled normal windows of `span` rows. Unseen cells are imputed in a few rounds (Raiko et al. 2008).

    Its whitening is the unit one: judge only after `whitened`, with errors on windows left out here.
    """
    count, span, tags = values.shape
    seen = mask.reshape(count, -1)
    cells = np.where(seen, values.reshape(count, -1).astype(np.float64), 0.0)
    mean = cells.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    centred = np.where(seen, cells - mean, 0.0)
    for _ in range(1 if seen.all() else ROUNDS):
        loadings, variances, noise = _principal(centred, explained)
        centred = np.where(seen, centred, centred @ loadings @ loadings.T)
    unit = Whitening(np.ones(tags), np.eye(tags), ewma_weights(length - span + 1))
    return WindowPca(length, span, mean, loadings, variances, noise, unit)


def _principal(
    centred: Float[np.ndarray, "window cell"], explained: float
) -> tuple[Float[np.ndarray, "cell component"], Float[np.ndarray, " component"], float]:
    """Principal axes that explain the share wanted, their variances and the mean variance of the rest (never 0)."""
    variances, axes = np.linalg.eigh(centred.T @ centred / max(len(centred), 1))
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    total = max(float(variances.sum()), 1e-12)
    enough = int(np.searchsorted(np.cumsum(variances) / total, explained)) + 1
    kept = min(enough, len(variances) - 1, int((variances > 1e-9).sum()))  # an axis that never moved explains nothing
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    noise = max(float(variances[kept:].mean()), 1e-6 * total / len(variances), 1e-12)
    return np.ascontiguousarray((axes * signs)[:, :kept]), variances[:kept].copy(), noise
