"""Daily profile: what a tag usually is at this time of day, for plants that follow it, where some days were seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import SECOND

DAY = 24 * 3600 * SECOND
"""A day, ns."""
HARMONICS = 4
"""Sines and cosines, down to a quarter of a day."""
FEWEST_DAYS = 3
"""Days that the training rows must span: fewer do not tell a habit from a coincidence."""
PENALTY = 1e-3
"""Ridge penalty, as a multiple of the number of rows."""


@dataclass(frozen=True, slots=True, eq=False)
class DailyProfile:
    """Usual value of each tag over the day, scaled units. `weights`: constant, then sine, cosine of each harmonic."""

    tick: int
    weights: Float[np.ndarray, "wave tag"]

    def residual(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"],
    ) -> tuple[Float[np.ndarray, "window time tag"], Bool[np.ndarray, "window time tag"]]:
        """What each row differs by from its time of day (0 where unseen). `times`: event time of the last rows, ns."""
        length = values.shape[1]
        every = times[:, None] - np.arange(length - 1, -1, -1, dtype=np.int64)[None, :] * self.tick
        expected = np.einsum("wrc,ct->wrt", _waves(every, (len(self.weights) - 1) // 2), self.weights)
        return np.where(mask, values - expected, 0.0), mask


def fit_daily(
    values: Float32[np.ndarray, "window tag"],
    mask: Bool[np.ndarray, "window tag"],
    times: Int64[np.ndarray, " window"],
    tick: int,
) -> DailyProfile:
    """Fit to scaled normal rows and their event times (ns)."""
    waves = _waves(times, HARMONICS)
    weights = np.zeros((waves.shape[1], values.shape[1]))
    shrink = np.diag([0.0] + [PENALTY] * (waves.shape[1] - 1))
    for tag in range(values.shape[1]):
        rows = waves[mask[:, tag]]
        if len(rows) > waves.shape[1]:
            gram = rows.T @ rows + shrink * len(rows)
            weights[:, tag] = np.linalg.solve(gram, rows.T @ values[mask[:, tag], tag].astype(np.float64))
    return DailyProfile(tick, weights)


def _waves(times: Int64[np.ndarray, "*shape"], harmonics: int) -> Float[np.ndarray, "*shape wave"]:
    """1, sin, cos, sin 2, cos 2 … of the time of day."""
    phase = 2.0 * np.pi * (times % DAY) / DAY
    waves = [np.ones(phase.shape)]
    for number in range(1, harmonics + 1):
        waves += [np.sin(number * phase), np.cos(number * phase)]
    return np.stack(waves, axis=-1)
