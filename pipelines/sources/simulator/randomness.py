"""Random numbers by key: the same seed and key give the same numbers, whatever was drawn before."""

from __future__ import annotations

import numpy as np

TRAITS, HOUR, SETPOINT, PAUSE, AMBIENT, DECK, CYCLE = range(7)
"""First key of each independent family of streams."""


def stream(seed: int, family: int, *key: int) -> np.random.Generator:
    """An independent generator for (seed, family, key); all are ≥ 0.

    >>> stream(1, HOUR, 3, 4).integers(1000) == stream(1, HOUR, 3, 4).integers(1000)
    np.True_
    """
    return np.random.default_rng([seed, family, *key])
