"""How long to train on how much: few rows need small batches and many epochs, or the net takes a few steps only."""

from __future__ import annotations

import math

from anomaly.training_spec import TrainingSpec

SHARE = 0.65
"""Part of the rows that a net learns from (see `TrainingSet.split`)."""
STEPS = 240
"""Gradient steps to aim at: below about 200 the error is still that of the first weights."""
BATCHES = 8
"""Batches an epoch should have, so that the held-back loss is looked at often enough, and no oftener."""
SMALLEST = 32
MOST_EPOCHS = 40


def spec_for(rows: int, seed: int = 0) -> TrainingSpec:
    """The usual spec, with batch, epochs and patience to fit `rows` normal rows. Depends on nothing else.

    >>> small, large = spec_for(400), spec_for(100_000)
    >>> (small.batch, small.epochs), (large.batch, large.epochs) == (TrainingSpec().batch, TrainingSpec().epochs)
    ((32, 30), True)
    """
    usual = TrainingSpec(seed=seed)
    windows = min(max(round(SHARE * rows), 1), usual.windows_per_epoch)
    batch = min(max(2 ** int(math.log2(max(windows / BATCHES, 1))), SMALLEST), usual.batch)
    epochs = min(max(math.ceil(STEPS / max(windows // batch, 1)), usual.epochs), MOST_EPOCHS)
    plain = {"epochs": epochs, "batch": batch, "patience": max(usual.patience, epochs // 4)}
    return TrainingSpec(seed=seed, **plain)
