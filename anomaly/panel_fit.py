"""Fitting a panel: every view's normal spread, and what unseen rows score, from rows that it was not fitted on.

The linear views are cheap: they are cross-fitted on contiguous blocks, so that every normal row is judged once by
models that never saw it. The net is trained once; it is judged on the rows that were held back from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from anomaly.cross_fit import MOST, enough
from anomaly.errors import TooFewRowsError
from anomaly.scaling import Scaler
from anomaly.scorers.daily import DAY, FEWEST_DAYS, fit_daily
from anomaly.scorers.forecast import fit_forecast
from anomaly.scorers.panel import AHEAD, DAILY, LENGTH, NET, NEXT, PCA, Models, Panel, fuse, net_residual, with_growth
from anomaly.scorers.reconstruction import Predict
from anomaly.scorers.scales import SHARES, Level, Scale, fit_scale, level_of
from anomaly.scorers.window_pca import EXPLAINED, SPAN, fit_window_pca_model
from anomaly.sensors import SensorLimits
from anomaly.training_set import TrainingSet, TrainingWindows

FOLDS: Final = 4
"""Contiguous blocks of each asset's rows, for the cross-fit."""
LAGS: Final = 3
HORIZONS: Final = {NEXT: 1, AHEAD: 10}
"""Rows ahead that each forecast looks."""
LEAST: Final = HORIZONS[AHEAD] + LAGS
"""Rows a window must have for every linear view to say something."""
QUICK_SHARES: Final = SHARES[:2]
"""Scales of the daily profile and of the far forecast: on the slowest, every cloudy day would count."""
GROWTH_WINDOWS: Final = 64
"""Windows on which it is measured what a missing tag costs."""
CHUNK: Final = 256
FEWEST_UNSEEN: Final = 500
"""Windows held back from a net below which its spread is not known: about 1 500 training rows."""
DOUBT: Final = 1.5
"""The net's spread is taken so many times larger: it is learned from two stretches beside the rows of its training,
those of the linear views from four over the whole span. Without it the net cries first wherever a plant drifts."""
HOPELESS: Final = 1e6
"""Error of a net that cannot be told from a forecast's, or of which too little is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """A trained net: `predict` takes `length` rows; `unseen` are normal rows it was not trained on."""

    predict: Predict
    length: int
    unseen: TrainingSet


class FittedPanel(NamedTuple):
    """A panel, and the raw scores that unseen rows got, by asset, oldest first. `net_error`: the net's squared error on
    unseen rows by that of the forecast, in the worst block; None without a net.
    """

    panel: Panel
    raws: dict[str, Float[np.ndarray, " _row"]]
    net_error: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Windows left out of a fit, and their smoothed residuals: by view, one level a scale."""

    windows: TrainingWindows
    levels: dict[str, list[Level]]


def fit_panel(
    training: TrainingSet, scaler: Scaler, sensors: SensorLimits, net: Net | None, most: int = MOST
) -> FittedPanel:
    """A panel fitted on all normal rows.

    The net has a say only if enough rows were held back from it to know its errors, and if on every block of them it
    draws the last row better than the forecast foretells it: a net that errs more with the row before its eyes has
    learned nothing yet, and would only cry wolf.

    `most`: windows each model is fitted on, at most. Raises TooFewRowsError if fewer than `cross_fit.FEWEST` windows
    are wholly normal, or all lie in one short stretch.
    """
    every = enough(training.windows(scaler, sensors, LEAST, most), training)
    blocks = []
    for fit, held_back in training.folds(FOLDS):
        windows = held_back.windows(scaler, sensors, LENGTH, most // FOLDS, least=LEAST)
        if len(windows.assets) and len((rows := fit.windows(scaler, sensors, LEAST, most)).assets):
            blocks.append(_judged(_models(rows, training.tick, _days(training)), windows))
    if len(blocks) < 2:
        raise TooFewRowsError(f"Normal rows of group {training.group} lie in one short stretch. Wait for more.")
    models = _models(every, training.tick, _days(training))
    scales, deviations = _scales(blocks)
    worth = None
    if net is not None:
        models = replace(models, predict=net.predict, net_length=net.length)
        pieces = _net_pieces(net, scaler, sensors, most)
        worth = _net_error(pieces, blocks)
        if sum(len(windows.assets) for windows, _ in pieces) < FEWEST_UNSEEN:
            worth = HOPELESS
    if net is not None and worth is not None and worth < 1.0:
        scales[NET], found = _net_scales(net, pieces, blocks)
        deviations = [np.concatenate(pair) for pair in zip(deviations, found, strict=True)]
    gain = 0.5 * float(np.mean([scale.spread for found in scales.values() for scale in found]))
    sample = training.windows(scaler, sensors, LENGTH, GROWTH_WINDOWS)
    if len(sample.assets) < GROWTH_WINDOWS // 4:
        sample = training.windows(scaler, sensors, LENGTH, GROWTH_WINDOWS, least=LEAST)
    panel = with_growth(Panel(LENGTH, models, scales, gain), sample.values, sample.mask, sample.times)
    raws = _by_asset(blocks, [np.exp(gain * fuse(verdicts)[0]) for verdicts in deviations])
    return FittedPanel(panel, raws, worth)


def _days(training: TrainingSet) -> float:
    since, until = training.span
    return (until - since) / DAY


def _models(rows: TrainingWindows, tick: int, days: float) -> Models:
    """All linear views, fitted on windows of `LEAST` rows."""
    following, ahead = (fit_forecast(rows.values, rows.mask, HORIZONS[view], LAGS) for view in (NEXT, AHEAD))
    daily = None
    if days >= FEWEST_DAYS:
        daily = fit_daily(rows.values[:, -1], rows.mask[:, -1], rows.times, tick)
    pca = fit_window_pca_model(rows.values[:, -SPAN:], rows.mask[:, -SPAN:], LENGTH, EXPLAINED)
    return Models(pca, following, ahead, daily)


def _shares(view: str) -> Sequence[float]:
    return QUICK_SHARES if view in (DAILY, AHEAD) else SHARES


def _judged(models: Models, windows: TrainingWindows) -> _Block:
    """Levels of every view and scale, some windows at a time: residuals of all would not fit into memory."""
    parts: dict[str, list[list[Level]]] = {}
    for start in range(0, len(windows.assets), CHUNK):
        cut = slice(start, start + CHUNK)
        residuals, _ = models.residuals(windows.values[cut], windows.mask[cut], windows.times[cut])
        for view, (residual, seen) in residuals.items():
            found = [(level_of(residual, seen, share), seen[:, -1]) for share in _shares(view)]
            parts.setdefault(view, []).append(found)
    return _Block(windows, {view: _joined(found) for view, found in parts.items()})


def _joined(parts: Sequence[Sequence[Level]]) -> list[Level]:
    return [
        (np.concatenate([p[0] for p in each]), np.concatenate([p[1] for p in each]))
        for each in zip(*parts, strict=True)
    ]


def _steps(view: str, net_length: int = 0) -> int:
    """Residuals of a view in a window."""
    spans = {DAILY: 1, PCA: SPAN, NEXT: HORIZONS[NEXT] + LAGS, AHEAD: HORIZONS[AHEAD] + LAGS}
    return net_length if view == NET else LENGTH - spans[view] + 1


def _scales(
    blocks: Sequence[_Block],
) -> tuple[dict[str, tuple[Scale, ...]], list[Float[np.ndarray, "verdict _window"]]]:
    """The scales of the linear views, and each block's deviations: a row for each verdict, in order of the scales."""
    scales: dict[str, tuple[Scale, ...]] = {}
    rows: list[list[np.ndarray]] = [[] for _ in blocks]
    for view in blocks[0].levels:
        fitted = []
        for number, share in enumerate(_shares(view)):
            scale, found = fit_scale([block.levels[view][number] for block in blocks], share, _steps(view))
            fitted.append(scale)
            for row, deviations in zip(rows, found, strict=True):
                row.append(deviations)
        scales[view] = tuple(fitted)
    return scales, [np.stack(row) for row in rows]


_Piece = tuple[TrainingWindows, list[Level]]
"""Windows of one stretch held back from the net, and its smoothed residuals there."""


def _net_pieces(net: Net, scaler: Scaler, sensors: SensorLimits, most: int) -> list[_Piece]:
    pieces = []
    for part, normal in zip(net.unseen.samples, net.unseen.normal, strict=True):
        alone = replace(net.unseen, samples=(part,), normal=(normal,))
        windows = alone.windows(scaler, sensors, LENGTH, most, least=LEAST)
        if len(windows.assets):
            pieces.append((windows, _net_levels(net, windows)))
    if not pieces:
        raise TooFewRowsError(f"No normal row of group {net.unseen.group} was held back from the net. Wait for more.")
    return pieces


def _net_error(pieces: Sequence[_Piece], blocks: Sequence[_Block]) -> float:
    """The net's mean squared error of the last row by that of the one-row forecast, on the same windows: the worst of
    the stretches.
    """
    foretold = {
        key: (level, last)
        for block in blocks
        for key, level, last in zip(_keys(block.windows), *block.levels[NEXT][0], strict=True)
    }
    ratios = []
    for windows, levels in pieces:
        places = [(place, foretold[key]) for place, key in enumerate(_keys(windows)) if key in foretold]
        drawn = sum(float((levels[0][0][place] ** 2)[last].sum()) for place, (_, last) in places)
        told = sum(float((level**2)[last].sum()) for _, (level, last) in places)
        ratios.append(drawn / told if told > 0.0 else HOPELESS)
    return max(ratios)


def _net_scales(
    net: Net, pieces: Sequence[_Piece], blocks: Sequence[_Block]
) -> tuple[tuple[Scale, ...], list[Float[np.ndarray, "verdict _window"]]]:
    """The net's scales, from rows held back from it; and its deviations at the windows of the blocks, NaN elsewhere."""
    scales: list[Scale] = []
    known: list[dict[tuple[str, int], float]] = []
    for number, share in enumerate(SHARES):
        scale, deviations = fit_scale([levels[number] for _, levels in pieces], share, _steps(NET, net.length))
        scales.append(replace(scale, spread=scale.spread * DOUBT))
        known.append({})
        for (windows, _), found in zip(pieces, deviations, strict=True):
            known[-1] |= dict(zip(_keys(windows), (found / DOUBT).tolist(), strict=True))
    return tuple(scales), [
        np.array([[values.get(key, np.nan) for key in _keys(block.windows)] for values in known]) for block in blocks
    ]


def _net_levels(net: Net, windows: TrainingWindows) -> list[Level]:
    """The net's smoothed residuals, one level a scale."""
    parts = []
    for start in range(0, len(windows.assets), CHUNK):
        cut = slice(start, start + CHUNK)
        residual, seen = net_residual(net.predict, net.length, windows.values[cut], windows.mask[cut])
        parts.append([(level_of(residual, seen, share), seen[:, -1]) for share in SHARES])
    return _joined(parts)


def _keys(windows: TrainingWindows) -> list[tuple[str, int]]:
    """Asset and time of each window: no two are alike."""
    return list(zip(windows.assets, windows.times.tolist(), strict=True))


def _by_asset(
    blocks: Sequence[_Block], raws: Sequence[Float[np.ndarray, " _window"]]
) -> dict[str, Float[np.ndarray, " _row"]]:
    """Raw scores of all blocks, by asset, oldest first."""
    assets = np.concatenate([np.array(block.windows.assets, object) for block in blocks])
    times = np.concatenate([block.windows.times for block in blocks])
    raw = np.concatenate(raws)
    found = {}
    for asset in dict.fromkeys(assets.tolist()):
        mine = np.flatnonzero(assets == asset)
        found[asset] = raw[mine[np.argsort(times[mine], kind="stable")]]
    return found
