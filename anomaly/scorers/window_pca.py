"""Window-PCA: the linear model of what a normal window looks like, flattened to one vector of `time × tag` cells.

Probabilistic PCA (Tipping & Bishop 1999): x = mean + W z + noise. The residual of the window against the principal
subspace is judged on its last rows. Cells not seen are imputed by their conditional mean given the seen ones, so any
sensor may be missing or masked, and the model knows how much worse it expects then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32

from anomaly.domain import Rung
from anomaly.scorers import Raw, State
from anomaly.scorers.residuals import Whitening, ewma_weights, patterns, times

LENGTH = 10
"""Rows in a window."""
EXPLAINED = 0.9
"""Share of the variance that the principal subspace keeps."""
ROUNDS = 5
"""Rounds of imputing training cells that were not seen."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowPca:
    """A fitted window-PCA. `loadings` are orthonormal columns; `variances` their variance, `noise` that of the rest.

    >>> import numpy as np
    >>> wave = np.sin(np.arange(400) / 5.0)[:, None] * [1.0, -1.0] + np.random.default_rng(0).normal(0, 0.1, (400, 2))
    >>> windows = np.stack([wave[i : i + 10] for i in range(390)]).astype(np.float32)
    >>> model = fit_window_pca_model(windows, np.ones_like(windows, bool))
    >>> broken = windows[:1].copy()
    >>> broken[0, -1, 0] += 1.0
    >>> seen = np.ones_like(broken, bool)
    >>> bool(model.score(broken, seen).raw[0] > 2 * model.score(windows[:1], seen).raw[0])
    True
    """

    length: int
    mean: Float[np.ndarray, " cell"]
    loadings: Float[np.ndarray, "cell component"]
    variances: Float[np.ndarray, " component"]
    noise: float
    whitening: Whitening

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.WINDOW_PCA

    def score(self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]) -> Raw:
        """Score by the whitened residual of the last rows (see `Whitening`); `expected` is the last row's projection.

        NaN where no tag of the last row was seen. `expected` is known for every tag, seen or not.
        """
        residual, variance, expected = self.residual(values, mask)
        raw, contributions = self.whitening.judge(residual, mask, variance)
        return Raw(raw, contributions, expected)

    def residual(
        self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
    ) -> tuple[Float[np.ndarray, "window time tag"], Float[np.ndarray, "window tag"], Float[np.ndarray, "window tag"]]:
        """Residuals (0 where unseen), the factor on their normal variance in the last row, the last row expected."""
        count, _, tags = values.shape
        seen = mask.reshape(count, -1)
        centred = np.where(seen, values.reshape(count, -1).astype(np.float64) - self.mean, 0.0)
        filled = centred.copy()
        variance = np.ones((count, tags))
        for pattern, rows in patterns(seen):
            if not pattern.all():
                gain = self._gain(pattern)
                latent = times(centred[np.ix_(rows, np.flatnonzero(pattern))], gain.T)
                guess = times(latent, self._mixing().T)
                filled[rows] = np.where(pattern, centred[rows], guess)
                variance[rows] = self._variance(pattern, gain)
        projected = times(times(filled, self.loadings), self.loadings.T)
        residual = np.where(seen, centred - projected, 0.0).reshape(values.shape)
        return residual, variance, (projected + self.mean)[:, -tags:]

    def _mixing(self) -> Float[np.ndarray, "cell component"]:
        """W of x = mean + W z + noise, z of unit variance."""
        return np.asarray(self.loadings * np.sqrt(np.maximum(self.variances - self.noise, 0.0)))

    def _gain(self, pattern: Bool[np.ndarray, " cell"]) -> Float[np.ndarray, "component seen"]:
        """What turns the seen cells into the latent z's conditional mean."""
        mixing = self._mixing()[pattern]
        gram = mixing.T @ mixing + self.noise * np.eye(mixing.shape[1])
        return np.asarray(np.linalg.solve(gram, mixing.T))

    def _variance(
        self, pattern: Bool[np.ndarray, " cell"], gain: Float[np.ndarray, "component seen"]
    ) -> Float[np.ndarray, " tag"]:
        """How much larger (or smaller) the last row's squared residuals normally are under this pattern."""
        tags = len(self.mean) // self.length
        mixing = self._mixing()
        fill = mixing @ gain
        fill[pattern] = np.eye(int(pattern.sum()))
        operator = fill[-tags:] - self.loadings[-tags:] @ (self.loadings.T @ fill)
        here = self.noise * (operator**2).sum(axis=1) + ((operator @ mixing[pattern]) ** 2).sum(axis=1)
        usual = self.noise * (1.0 - (self.loadings[-tags:] ** 2).sum(axis=1))
        return np.where(
            pattern[-tags:] & (usual > 1e-9 * self.noise), np.clip(here / np.maximum(usual, 1e-300), 0.1, 100.0), 1.0
        )

    def state(self) -> State:
        """Numbers and arrays that rebuild it."""
        return {
            "length": self.length,
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
    explained: float = EXPLAINED,
) -> WindowPca:
    """Fit to scaled normal windows. Unseen cells are imputed in a few rounds (Raiko, Ilin & Karhunen 2008).

    Its whitening is the unit one: judge only after `whitened`, with moments of windows left out here.
    """
    count, length, tags = values.shape
    seen = mask.reshape(count, -1)
    cells = np.where(seen, values.reshape(count, -1).astype(np.float64), 0.0)
    mean = cells.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    centred = np.where(seen, cells - mean, 0.0)
    for _ in range(1 if seen.all() else ROUNDS):
        loadings, variances, noise = _principal(centred, explained)
        centred = np.where(seen, centred, centred @ loadings @ loadings.T)
    unit = Whitening(np.ones(tags), np.eye(tags), ewma_weights(length))
    return WindowPca(length, mean, loadings, variances, noise, unit)


def _principal(
    centred: Float[np.ndarray, "window cell"], explained: float
) -> tuple[Float[np.ndarray, "cell component"], Float[np.ndarray, " component"], float]:
    """Principal axes that explain the share wanted, their variances and the mean variance of the rest (never 0)."""
    variances, axes = np.linalg.eigh(centred.T @ centred / max(len(centred), 1))
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    total = max(float(variances.sum()), 1e-12)
    kept = min(int(np.searchsorted(np.cumsum(variances) / total, explained)) + 1, len(variances) - 1)
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    noise = max(float(variances[kept:].mean()), 1e-6 * total / len(variances), 1e-12)
    return np.ascontiguousarray((axes * signs)[:, :kept]), variances[:kept].copy(), noise
