"""A rung by its name, fitted: what `evaluate` and `replay` learn with."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anomaly.detector import Detector, fit_rolling_z, fit_window_pca
from anomaly.domain import Tag
from anomaly.model_card import data_sha256
from anomaly.rivals import fit_hotelling, fit_isolation_forest, fit_lstm_naive
from anomaly.training import fit_lstm_autoencoder
from anomaly.training_set import TrainingSet
from anomaly.training_size import spec_for

DEFAULT = "default"
NET_ALONE = "lstm_autoencoder"
"""The net of the default detector, judged without the linear views."""
NAIVE = "lstm_naive"
"""The LSTM autoencoder as it is usually built: see `anomaly.rivals`."""
FOREST = "isolation_forest"
RIVALS = ("hotelling", FOREST, NAIVE)
"""What others would have taken; to compare with, never to serve."""
OWN_LINE = frozenset({FOREST, NAIVE})
"""Rivals whose line is not placed by the rule of production: a protocol's calibration rows do not move it."""
MODELS = (DEFAULT, NET_ALONE, "window_pca", "rolling_z", *RIVALS)
SEEDED = frozenset({DEFAULT, NET_ALONE, NAIVE, FOREST, "random"})
"""Models that another seed makes another one."""


def fit_model(training: TrainingSet, tags: Sequence[Tag], name: str, seed: int = 0) -> Detector:
    """A detector of that rung, its version called like the rung. Raises TooFewRowsError, ModelRefused, and
    ConfigurationError where the extra of a rival is not installed.
    """
    if name == "window_pca":
        return fit_window_pca(training, tags, name)
    if name == "rolling_z":
        return fit_rolling_z(training, tags, name)
    if name == "hotelling":
        return fit_hotelling(training, tags, name)
    if name == FOREST:
        return fit_isolation_forest(training, tags, name, seed)
    return _fit_net(training, tags, name, seed)


def _fit_net(training: TrainingSet, tags: Sequence[Tag], version: str, seed: int) -> Detector:
    """The LSTM autoencoder, with or without the panel; a net that was trained once in this process is not again."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    digest = data_sha256(training.samples, training.normal)
    spec, place = spec_for(training.rows, seed), f"{digest[:32]}-{seed}"
    if version == NAIVE:
        detector = fit_lstm_naive(training, tags, spec, version=version, workdir=_workshop() / f"{place}-naive")
    else:
        detector = fit_lstm_autoencoder(
            training,
            tags,
            replace(spec, panel=version != NET_ALONE),
            version=version,
            on_progress=lambda _: None,
            workdir=_workshop() / place,
        ).detector
    import keras  # noqa: PLC0415  (loaded already by the training)

    keras.utils.clear_session()
    return detector


@functools.cache
def _workshop() -> Path:
    """A folder for what trainings leave behind, removed with the process."""
    folder = tempfile.mkdtemp(prefix="plantwatch-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
