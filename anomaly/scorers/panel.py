"""Panel: several views of one window, each with what it expected, and one verdict.

A fault that one model takes for normal, another does not: a forecast one row ahead sees the smallest jolt, one of ten
rows ahead what creeps, the window-PCA a broken relation, the LSTM autoencoder what is bent, the daily profile what
comes at the wrong hour. Each is judged on three time scales in units of its own normal spread, on rows that it was not
fitted on, and a soft maximum of all is the score: one view that is sure is enough, several that wonder are as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Rung
from anomaly.scorers import Raw, State
from anomaly.scorers.daily import DailyProfile
from anomaly.scorers.forecast import Forecast
from anomaly.scorers.reconstruction import Predict
from anomaly.scorers.scales import Scale, growth_of
from anomaly.scorers.window_pca import WindowPca

LENGTH = 48
"""Rows in a window: the slowest scale forgets the rows before it."""
SHARPNESS = 3.0
"""Of the soft maximum: at 0 it is the mean of all views, at infinity the strangest one."""
NET, PCA, NEXT, AHEAD, DAILY = "net", "pca", "next", "ahead", "daily"
"""Names of the views: autoencoder, window-PCA, one row ahead, ten rows ahead, time of day."""
VIEWS = (NEXT, AHEAD, PCA, DAILY, NET)
"""All of them, in the order in which their verdicts are summed."""

Residual = tuple[Float[np.ndarray, "window step tag"], Bool[np.ndarray, "window step tag"]]
"""Errors of the last rows of each window, newest last, 0 where unknown; and where they are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What the views are made of. `net_length`: rows that `predict` takes."""

    pca: WindowPca
    following: Forecast
    ahead: Forecast
    daily: DailyProfile | None = None
    predict: Predict | None = None
    net_length: int = 0

    def residuals(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None,
        views: Collection[str] | None = None,
    ) -> tuple[dict[str, Residual], Float[np.ndarray, "window tag"]]:
        """Residuals by view, and the last row as the window-PCA expects it, every tag.

        `views`: those that have a say; a net that has none is not asked.
        """
        errors, expected = self.pca.residual(values, mask)
        found: dict[str, Residual] = {
            NEXT: self.following.residual(values, mask),
            AHEAD: self.ahead.residual(values, mask),
            PCA: (errors, mask[:, self.pca.span - 1 :]),
        }
        if self.daily is not None and times is not None:
            found[DAILY] = self.daily.residual(values, mask, times)
        if self.predict is not None and (views is None or NET in views):
            found[NET] = net_residual(self.predict, self.net_length, values, mask)
        return found, expected


def net_residual(
    predict: Predict,
    length: int,
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
) -> Residual:
    """What the net draws otherwise in the last `length` rows; nothing is known of a window it draws NaN or ∞ in."""
    shown, there = np.ascontiguousarray(values[:, -length:]), np.ascontiguousarray(mask[:, -length:])
    drawn = np.asarray(predict(shown, there), np.float64)
    sound = np.asarray(np.isfinite(drawn).all(axis=(1, 2)))
    seen = there & sound[:, None, None]
    return np.where(seen, shown - np.where(seen, drawn, 0.0), 0.0), seen


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Views and, for each, its scales. `gain` turns deviations of ln(energy) into ln(raw score)."""

    length: int
    models: Models
    scales: Mapping[str, tuple[Scale, ...]]
    gain: float

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder: the last one, with the net or while its rows are too few for one."""
        return Rung.LSTM_AUTOENCODER

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by all views; NaN where none knows a tag of the last row. Without `times` (event time of the last rows,
        ns) the daily profile has no say.

        `expected`: what was seen less the level by which it is off, as the views that cried loudest have it.
        """
        residuals, drawn = self.models.residuals(values, mask, times, self.scales)
        verdicts = [
            scale.judge(*residuals[view])
            for view, scales in self.scales.items()
            if view in residuals
            for scale in scales
        ]
        fused, weights = fuse(np.stack([verdict.deviations for verdict in verdicts]))
        last = mask[:, -1]
        shares = _blend(weights, [verdict.shares for verdict in verdicts])
        level = _blend(weights, [verdict.level for verdict in verdicts])
        expected = np.where(last, values[:, -1] - level, drawn)
        known = np.isfinite(fused)
        total = shares.sum(axis=1, keepdims=True)
        shares = np.where(known[:, None], shares / np.where(total > 0, total, 1.0), 0.0)
        raw = np.exp(np.clip(self.gain * np.where(known, fused, 0.0), -50.0, 50.0))
        return Raw(np.where(known, raw, np.nan), shares, np.where(known[:, None], expected, np.nan))

    def state(self) -> State:
        """Numbers and arrays that rebuild it, together with `predict` if it has a net."""
        models = self.models
        found: State = {"length": self.length, "gain": self.gain}
        found |= {f"pca.{name}": value for name, value in models.pca.state().items()}
        for name, forecast in ((NEXT, models.following), (AHEAD, models.ahead)):
            found |= {f"{name}.horizon": forecast.horizon, f"{name}.lags": forecast.lags}
            found |= {f"{name}.weights": forecast.weights}
        if models.daily is not None:
            found |= {"daily.tick": models.daily.tick, "daily.weights": models.daily.weights}
        found["net.length"] = models.net_length if models.predict is not None else 0
        for view, scales in self.scales.items():
            numbers = np.array([[scale.share, scale.middle, scale.spread] for scale in scales])
            found |= {f"{view}.scales": numbers, f"{view}.moments": np.stack([scale.moment for scale in scales])}
            found |= {f"{view}.growths": np.stack([scale.growth for scale in scales])}
        return found

    @classmethod
    def from_state(cls, state: State, predict: Predict | None) -> Panel:
        """The scorer of that state; `predict` for its net, which one without a net does not need."""

        def array(name: str) -> np.ndarray:
            return np.asarray(state[name], float)

        def whole(name: str) -> int:
            return int(np.asarray(state[name]))

        following, ahead = (
            Forecast(whole(f"{name}.horizon"), whole(f"{name}.lags"), array(f"{name}.weights"))
            for name in (NEXT, AHEAD)
        )
        pca = {name.removeprefix("pca."): value for name, value in state.items() if name.startswith("pca.")}
        daily = DailyProfile(whole("daily.tick"), array("daily.weights")) if "daily.tick" in state else None
        net = whole("net.length")
        models = Models(WindowPca.from_state(pca), following, ahead, daily, predict if net else None, net)
        scales = {
            view: tuple(
                Scale(share, moment, middle, spread, growth)
                for (share, middle, spread), moment, growth in zip(
                    array(f"{view}.scales").tolist(), array(f"{view}.moments"), array(f"{view}.growths"), strict=True
                )
            )
            for view in VIEWS
            if f"{view}.scales" in state
        }
        return cls(whole("length"), models, scales, float(np.asarray(state["gain"])))


def with_growth(
    panel: Panel,
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
    times: Int64[np.ndarray, " window"] | None,
) -> Panel:
    """The panel, having measured on some normal windows how its errors grow when one tag after the other is missing."""
    tags = values.shape[2]
    usual, _ = panel.models.residuals(values, mask, times, panel.scales)
    growths = {view: np.ones((len(scales), tags, tags)) for view, scales in panel.scales.items()}
    for tag in range(tags if tags > 1 else 0):
        there, left = values.copy(), mask.copy()
        there[:, :, tag], left[:, :, tag] = 0.0, False
        without, _ = panel.models.residuals(there, left, times, panel.scales)
        for view in usual.keys() & panel.scales.keys():
            for number, scale in enumerate(panel.scales[view]):
                growths[view][number, tag] = growth_of(usual[view], without[view], scale.share)
    grown = {
        view: tuple(replace(scale, growth=growth) for scale, growth in zip(scales, growths[view], strict=True))
        for view, scales in panel.scales.items()
    }
    return replace(panel, scales=grown)


def fuse(
    deviations: Float[np.ndarray, "verdict window"], sharpness: float = SHARPNESS
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "verdict window"]]:
    """The soft maximum of the verdicts that are known (log of the mean exponential), and the weight of each in it.

    >>> fused, weights = fuse(np.array([[0.0, 5.0, np.nan], [0.0, 0.0, np.nan]]))
    >>> fused.round(2).tolist(), weights.round(2).tolist()
    ([0.0, 4.77, nan], [[0.5, 1.0, 0.0], [0.5, 0.0, 0.0]])
    """
    known = np.isfinite(deviations)
    highest = np.where(known, deviations, -np.inf).max(axis=0)
    base = np.where(np.isfinite(highest), highest, 0.0)
    powers = np.where(known, np.exp(sharpness * (np.where(known, deviations, 0.0) - base)), 0.0)
    total, count = powers.sum(axis=0), known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fused = base + np.log(total / count) / sharpness
    return np.where(count > 0, fused, np.nan), powers / np.where(total > 0, total, 1.0)


def _blend(weights: Float[np.ndarray, "verdict window"], parts: list[np.ndarray]) -> Float[np.ndarray, "window tag"]:
    """The weighted mean of the verdicts' parts, one after the other: the same sum whatever the batch."""
    total = np.zeros(parts[0].shape)
    for weight, part in zip(weights, parts, strict=True):
        total += weight[:, None] * part
    return total
