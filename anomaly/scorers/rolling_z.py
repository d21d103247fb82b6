"""Rolling z-score: the last row against mean and spread of the rows before it. Needs next to no training.

One tag at a time: it knows nothing of how tags belong together, so it cannot tell a sensor's fault from the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from anomaly.domain import Rung
from anomaly.scorers import Raw, State

LENGTH = 60
"""Rows in a window."""
ENOUGH = 10
"""Earlier rows of a tag that must have been seen to judge its last one."""
FLOOR = 0.1
"""Smallest spread believed where nothing was learned, in scaled units: a tenth of a tag's normal spread."""


@dataclass(frozen=True, slots=True, eq=False)
class RollingZ:
    """Rolling z over `length` rows. `floor`: smallest spread believed of each tag, scaled units > 0.

    >>> import numpy as np
    >>> scorer = RollingZ(12, np.array([0.1]))
    >>> window = np.tile([1.0, -1.0], 6).reshape(1, 12, 1).astype(np.float32)
    >>> window[0, -1, 0] = 5.0
    >>> round(float(scorer.score(window, np.ones((1, 12, 1), bool)).raw[0]), 1)
    4.5
    """

    length: int
    floor: Float[np.ndarray, " tag"]

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.ROLLING_Z

    def score(self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]) -> Raw:
        """Score by the root mean square of the tags' z; `expected` is their mean so far.

        A tag counts if its last row and at least `ENOUGH` earlier ones (or half of them, if fewer) were seen; NaN if
        none does.
        """
        before, seen = np.where(mask, values, 0.0)[:, :-1].astype(np.float64), mask[:, :-1]
        count = seen.sum(axis=1)
        enough = min(ENOUGH, max(before.shape[1] // 2, 2))
        mean = before.sum(axis=1) / np.maximum(count, 1)
        square = np.where(seen, (before - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count - 1, 1)
        spread = np.maximum(np.sqrt(square), self.floor) * np.sqrt(1.0 + 1.0 / np.maximum(count, 1))
        judged = mask[:, -1] & (count >= enough)
        energy = np.where(judged, ((values[:, -1] - mean) / spread) ** 2, 0.0)
        total, known = energy.sum(axis=1), judged.sum(axis=1)
        shares = (
            np.where((total > 0)[:, None], energy, judged) / np.where(total > 0, total, np.maximum(known, 1))[:, None]
        )
        raw = np.where(known > 0, np.sqrt(total / np.maximum(known, 1)), np.nan)
        return Raw(raw, shares, np.where(count >= enough, mean, np.nan))

    def state(self) -> State:
        """Numbers and arrays that rebuild it."""
        return {"length": self.length, "floor": self.floor}

    @classmethod
    def from_state(cls, state: State) -> RollingZ:
        """The scorer of that state."""
        return cls(int(np.asarray(state["length"])), np.asarray(state["floor"], float))


def fit_rolling_z_scorer(
    values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
) -> RollingZ:
    """Learn from scaled normal windows how quiet each tag may be: the tenth percentile of its spread in a window.

    Without it the first small step after a quiet hour would look enormous.
    """
    count = mask.sum(axis=1)
    mean = np.where(mask, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    square = np.where(mask, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count - 1, 1)
    floor = np.full(values.shape[2], FLOOR)
    for tag in range(values.shape[2]):
        usual = np.sqrt(square[count[:, tag] > ENOUGH, tag])
        floor[tag] = max(float(np.quantile(usual, 0.1)), FLOOR) if len(usual) else FLOOR
    return RollingZ(values.shape[1], floor)
