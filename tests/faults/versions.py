"""Fitted versions for the bench: learned from minted healthy rows, stored where the workers load them from."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from anomaly.alignment import AlignmentPolicy, align
from anomaly.detector import Detector, fit_rolling_z, fit_window_pca, rules_detector
from anomaly.domain import Plant, Quality, Readings
from anomaly.registry import Registry
from anomaly.training import card_of
from anomaly.training_set import TrainingSet
from tests.faults.minting import GROUP, NAMES, TAGS, TICK, values_of

_ROWS = 1500
_ASSETS = 3


def fit(plant: Plant, registry: Registry, start: int) -> tuple[str, str]:
    """A window-PCA and a rolling z-score for the group, stored; their names. `start`: event time of row 0, ns."""
    samples = []
    for asset in plant.assets[:_ASSETS]:
        times = start + np.arange(_ROWS, dtype=np.int64) * TICK
        rows = [values_of(asset.path, row, healthy=True) for row in range(_ROWS)]
        values = np.array([[row[name] for name in NAMES] for row in rows])
        readings = Readings(asset.path, NAMES, times, values, np.full(values.shape, Quality.GOOD, dtype=np.uint8))
        samples.append(align(readings, NAMES, AlignmentPolicy.of(TICK)).samples)
    training = TrainingSet(GROUP, NAMES, tuple(samples), tuple(np.ones(len(s), dtype=bool) for s in samples), None)
    made = []
    for number, fitting in enumerate((fit_window_pca, fit_rolling_z)):
        detector = fitting(training, TAGS, "unnamed")
        made.append(registry.add(detector, card_of(detector, training, {}), now=start + number * TICK))
    return made[0], made[1]


def loader(plant: Plant, folder: Path) -> Callable[[str], Detector]:
    """Detectors by version, each loaded once."""
    registry = Registry(folder)

    @cache
    def load(version: str) -> Detector:
        return rules_detector(GROUP, plant.assets) if version == "rules" else registry.load(GROUP, version)

    return load
