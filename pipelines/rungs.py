"""A rung by its name, fitted: what `evaluate` and `replay` learn with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from anomaly.detector import Detector, fit_rolling_z, fit_window_pca
from anomaly.domain import Tag
from anomaly.training import fit_lstm_autoencoder
from anomaly.training_set import TrainingSet
from anomaly.training_size import spec_for

DEFAULT = "default"
SAME_AS = {DEFAULT: "lstm_autoencoder"}
"""What the default detector is for now."""
MODELS = (DEFAULT, "lstm_autoencoder", "window_pca", "rolling_z")
SEEDED = frozenset({"lstm_autoencoder", "random"})
"""Models that another seed makes another one."""


def fit_model(training: TrainingSet, tags: Sequence[Tag], name: str, seed: int = 0) -> Detector:
    """A detector of that rung, its version called like the rung. Raises TooFewRowsError, ModelRefused."""
    if name == "window_pca":
        return fit_window_pca(training, tags, name)
    if name == "rolling_z":
        return fit_rolling_z(training, tags, name)
    return _fit_net(training, tags, name, seed)


def _fit_net(training: TrainingSet, tags: Sequence[Tag], version: str, seed: int) -> Detector:
    """The LSTM autoencoder, trained in a folder that is thrown away."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with tempfile.TemporaryDirectory(prefix="plantwatch-") as work:
        detector = fit_lstm_autoencoder(
            training,
            tags,
            spec_for(training.rows, seed),
            version=version,
            on_progress=lambda _: None,
            workdir=Path(work),
        ).detector
    import keras  # noqa: PLC0415  (loaded already by the training)

    keras.utils.clear_session()
    return detector
