"""Detectors to compare with: what others would have taken, fitted as well as we know how. None of them ever serves.

T² + Q and the isolation forest get what the default gets: robust scales, sensor checks, and an alert line from scores
of rows that were left out of the fit: T² + Q by the rule of the alert budget, the forest, whose score has an upper end
that this rule would put the line beyond, by a quantile. The naive LSTM autoencoder is built as it usually is, mistakes
and all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32

from anomaly.cross_fit import MOST, enough, raw_by_asset
from anomaly.detector import Detector
from anomaly.domain import Tag
from anomaly.errors import ConfigurationError, TooFewRowsError
from anomaly.scaling import fit_scaler
from anomaly.scorers import Scorer
from anomaly.scorers.hotelling import LENGTH, fit_hotelling_model
from anomaly.scorers.isolation_forest import fit_isolation_forest_model
from anomaly.scorers.mean_error import MeanError
from anomaly.scorers.reconstruction import Reconstruction
from anomaly.sensors import fit_limits
from anomaly.thresholds import Threshold
from anomaly.thresholds.budget import fit_threshold
from anomaly.thresholds.quantile import TINY, quantile_line
from anomaly.training import fit_lstm_autoencoder
from anomaly.training_set import FOLDS, TrainingSet
from anomaly.training_spec import TrainingSpec

NAIVE_QUANTILE: Final = 0.99
"""Of the errors on training rows, where the naive autoencoder has its line: what most notebooks take."""

FOREST_QUANTILE: Final = 0.999
"""Of the scores of left-out rows, where the forest has its line."""

Fit: TypeAlias = Callable[[Float32[np.ndarray, "window time tag"], Bool[np.ndarray, "window time tag"]], Scorer]
"""Scaled normal windows and their mask in, a scorer out."""
Raws: TypeAlias = dict[str, Float[np.ndarray, " _row"]]
"""Raw scores of rows left out of the fit, by asset."""


def fit_hotelling(
    training: TrainingSet, tags_info: Sequence[Tag], version: str, budget_per_week: float = 1.0
) -> Detector:
    """T² + Q of single rows. Raises TooFewRowsError."""

    def line(raws: Raws) -> Threshold:
        return fit_threshold(raws, budget_per_week, training.tick)

    return _cross_fitted(training, tags_info, version, fit_hotelling_model, line)


def fit_isolation_forest(training: TrainingSet, tags_info: Sequence[Tag], version: str, seed: int = 0) -> Detector:
    """Isolation forest on single rows. Raises TooFewRowsError; ConfigurationError without scikit-learn."""
    grow = functools.partial(fit_isolation_forest_model, seed=seed)

    def line(raws: Raws) -> Threshold:
        return _quantile_lines(raws, FOREST_QUANTILE, f"{FOREST_QUANTILE:.1%} quantile of left-out rows")

    return _cross_fitted(training, tags_info, version, grow, line)


def fit_lstm_naive(
    training: TrainingSet, tags_info: Sequence[Tag], spec: TrainingSpec, *, version: str, workdir: Path
) -> Detector:
    """The LSTM autoencoder as it is usually built: no linear path, every row of the window alike in loss and score, the
    line a quantile of the errors on the rows it was trained on. Raises TooFewRowsError, ModelRefused.

    It is given the same units, rows and early stopping as the default's net, so that the difference is the design.
    """
    plain = replace(spec, linear=0, focus=0.0, channel_dropout=0.0, panel=False)
    trained = fit_lstm_autoencoder(
        training, tags_info, plain, version=version, on_progress=lambda _: None, workdir=workdir
    ).detector
    if not isinstance(trained.scorer, Reconstruction):
        raise ConfigurationError(f"a net alone was asked for, {type(trained.scorer).__name__} came: this is a defect")
    scorer = MeanError(trained.length, trained.scorer.predict)
    learned = training.split().fit.windows(trained.scaler, trained.sensors, trained.length, MOST)
    errors = raw_by_asset(scorer, enough(learned, training))
    threshold = _quantile_lines(errors, NAIVE_QUANTILE, f"{NAIVE_QUANTILE:.0%} quantile of the rows it was trained on")
    return replace(trained, scorer=scorer, threshold=threshold)


def _quantile_lines(raws: Raws, share: float, method: str) -> Threshold:
    """The quantile of each asset's scores, and of all together."""
    lines = {asset: max(quantile_line(raw, share), TINY) for asset, raw in raws.items()}
    return Threshold(lines, max(quantile_line(np.concatenate(list(raws.values())), share), TINY), method)


def _cross_fitted(
    training: TrainingSet, tags_info: Sequence[Tag], version: str, fit: Fit, line: Callable[[Raws], Threshold]
) -> Detector:
    """A scorer of single rows fitted on all normal rows, its line from blocks that were left out of the fit in turn."""
    limits = fit_limits(training.samples, tags_info, training.keep)
    scaler = fit_scaler(training.samples, training.tags, training.keep)
    every = enough(training.windows(scaler, limits, LENGTH, MOST), training)
    raws: dict[str, list[np.ndarray]] = {}
    for rest, held_back in training.folds(FOLDS):
        rows, left_out = (part.windows(scaler, limits, LENGTH, MOST) for part in (rest, held_back))
        if len(rows.assets) and len(left_out.assets):
            for asset, raw in raw_by_asset(fit(rows.values, rows.mask), left_out).items():
                raws.setdefault(asset, []).append(raw)
    if not raws:
        raise TooFewRowsError(f"Normal rows of group {training.group} lie in one short stretch. Wait for more.")
    since, until = training.span
    return Detector(
        group=training.group,
        version=version,
        tags=training.tags,
        mode=training.mode,
        tick=training.tick,
        scaler=scaler,
        scorer=fit(every.values, every.mask),
        sensors=limits,
        threshold=line({asset: np.concatenate(found) for asset, found in raws.items()}),
        trained_from=since,
        trained_until=until,
    )
