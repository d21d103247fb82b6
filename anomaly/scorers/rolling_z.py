"""Rolling z-score: the last row against median and spread of the rows before it. Needs next to no training.

Median and quartiles, not mean and sd: a step must not vanish by widening the spread it is measured by.

One tag at a time: it knows nothing of how tags belong together, so it cannot tell a sensor's fault from the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

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
    2.7
    """

    length: int
    floor: Float[np.ndarray, " tag"]

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.ROLLING_Z

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the root mean square of the tags' z; `expected` is their median so far.

        A tag counts if its last row and at least `ENOUGH` earlier ones (or half of them, if fewer) were seen; NaN if
        none does.
        """
        seen = mask[:, :-1]
        count = seen.sum(axis=1)
        enough = min(ENOUGH, max(seen.shape[1] // 2, 2))
        middle, width = _middle_and_width(values[:, :-1].astype(np.float64), seen)
        spread = np.maximum(width, self.floor)
        judged = mask[:, -1] & (count >= enough)
        energy = np.where(judged, ((values[:, -1] - middle) / spread) ** 2, 0.0)
        total, known = energy.sum(axis=1), judged.sum(axis=1)
        shares = (
            np.where((total > 0)[:, None], energy, judged) / np.where(total > 0, total, np.maximum(known, 1))[:, None]
        )
        raw = np.where(known > 0, np.sqrt(total / np.maximum(known, 1)), np.nan)
        return Raw(raw, shares, np.where(count >= enough, middle, np.nan))

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
    _, width = _middle_and_width(values.astype(np.float64), mask)
    floor = np.full(values.shape[2], FLOOR)
    for tag in range(values.shape[2]):
        usual = width[count[:, tag] > ENOUGH, tag]
        floor[tag] = max(float(np.quantile(usual, 0.1)), FLOOR) if len(usual) else FLOOR
    return RollingZ(values.shape[1], floor)


def _middle_and_width(
    values: Float[np.ndarray, "window time tag"], seen: Bool[np.ndarray, "window time tag"]
) -> tuple[Float[np.ndarray, "window tag"], Float[np.ndarray, "window tag"]]:
    """Median, and quartile distance as the sd of a normal distribution, of each tag's seen values (0 if none)."""
    count = seen.sum(axis=1)
    ordered = np.sort(np.where(seen, values, np.inf), axis=1)
    places = [np.round(share * np.maximum(count - 1, 0)).astype(int) for share in (0.25, 0.5, 0.75)]
    low, middle, high = (np.take_along_axis(ordered, place[:, None, :], axis=1)[:, 0] for place in places)
    some = count > 0
    return np.where(some, middle, 0.0), np.where(some, high, 0.0) / 1.349 - np.where(some, low, 0.0) / 1.349
