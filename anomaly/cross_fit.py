"""Cross-fitting: every normal row gets a score from a model that was not fitted on it.

Training error flatters: a line drawn through it is too low, and the first unseen hour alarms. With few rows a separate
calibration block costs too much; so each contiguous block is scored once by a model fitted on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from anomaly.errors import TooFewRowsError
from anomaly.scaling import Scaler
from anomaly.scorers import Scorer, score_in_batches
from anomaly.scorers.residuals import fit_whitening
from anomaly.scorers.window_pca import SPAN, WindowPca, fit_window_pca_model
from anomaly.sensors import SensorLimits
from anomaly.training_set import FOLDS, TrainingSet, TrainingWindows

FEWEST = 60
"""Normal windows needed to fit anything."""
MOST = 20_000
"""Windows a window-PCA is fitted on; of more, evenly spaced ones are taken."""


def cross_fit_window_pca(
    training: TrainingSet, scaler: Scaler, sensors: SensorLimits, length: int, explained: float, most: int = MOST
) -> tuple[WindowPca, dict[str, Float[np.ndarray, " _row"]]]:
    """A window-PCA fitted on all normal rows, and the raw scores that unseen rows get, by asset.

    `most`: windows a model is fitted on, at most; as many of each block are scored.
    Raises TooFewRowsError if fewer than `FEWEST` windows are wholly normal.
    """
    enough(training.windows(scaler, sensors, length, most), training)
    rounds: list[tuple[WindowPca, TrainingWindows]] = []
    for fit, held_back in training.folds(_folds(training, length)):
        left_out = held_back.windows(scaler, sensors, length, most)
        if len(left_out.assets) and len((rows := fit.windows(scaler, sensors, SPAN, most)).assets):
            rounds.append((fit_window_pca_model(rows.values, rows.mask, length, explained), left_out))
    if not rounds:
        raise TooFewRowsError(f"Normal rows of group {training.group} lie in one short stretch. Wait for more.")
    seen = np.concatenate([left_out.mask[:, SPAN - 1 :] for _, left_out in rounds])
    whitening = fit_whitening(np.concatenate([_residual(*each) for each in rounds]), seen)
    raws = [raw_by_asset(model.whitened(whitening), left_out) for model, left_out in rounds]
    every = training.windows(scaler, sensors, SPAN, most)
    return fit_window_pca_model(every.values, every.mask, length, explained).whitened(whitening), _joined(raws)


def _folds(training: TrainingSet, length: int) -> int:
    """Blocks of a cross-fit: as many as leave each block a quarter more rows than a window has.

    Many short blocks are best: a model fitted on 7/8 of a slowly drifting history is nearer the final one.
    """
    assets = len({part.asset for part in training.samples})
    return min(max(training.rows // max(assets, 1) * 4 // (5 * length), 2), FOLDS)


def raw_by_asset(scorer: Scorer, windows: TrainingWindows) -> dict[str, Float[np.ndarray, " _row"]]:
    """Raw scores of each asset, oldest first."""
    raw = score_in_batches(scorer, windows.values, windows.mask, windows.times).raw
    assets = np.array(windows.assets, object)
    return {asset: raw[assets == asset] for asset in dict.fromkeys(windows.assets)}


def enough(windows: TrainingWindows, training: TrainingSet) -> TrainingWindows:
    """The windows, or TooFewRowsError if they are too few to fit anything."""
    if len(windows.assets) < FEWEST:
        raise TooFewRowsError(
            f"Group {training.group} has {len(windows.assets)} wholly normal windows in {training.rows} normal rows; "
            f"{FEWEST} are needed. Wait for more running time, or import its history."
        )
    return windows


def _residual(model: WindowPca, windows: TrainingWindows) -> Float[np.ndarray, "window step tag"]:
    """Errors of a model on windows it was not fitted on, some hundred at a time."""
    starts = range(0, len(windows.assets), 256)
    return np.concatenate([model.residual(windows.values[s : s + 256], windows.mask[s : s + 256])[0] for s in starts])


def _joined(raws: Sequence[Mapping[str, Float[np.ndarray, " _row"]]]) -> dict[str, Float[np.ndarray, " _row"]]:
    assets = dict.fromkeys(asset for raw in raws for asset in raw)
    return {asset: np.concatenate([raw[asset] for raw in raws if asset in raw]) for asset in assets}
