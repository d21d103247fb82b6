"""One row of a block of scores, read the way `episodes` asks; and which rows are worth a look at all."""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool

from anomaly.domain import Anomaly, Rung, Scores, SensorFault, State
from anomaly.episode_policy import Change

AWAY: Final = (State.OFF, State.MAINTENANCE)
"""States in which nobody expects the machine to run."""
RELATING: Final = (Rung.WINDOW_PCA, Rung.LSTM_AUTOENCODER)
"""Rungs that hold each tag against the others. The rungs below judge tags one by one: there, that all is normal without
the strangest tag says nothing about its sensor."""


class Row:
    """Row `index` of `scores`, as plain Python values."""

    __slots__ = ("codes", "index", "isolated", "score", "scores", "state", "time")

    def __init__(self, scores: Scores, index: int) -> None:
        self.scores = scores
        self.index = index
        self.time = int(scores.times[index])
        self.state = scores.state[index]
        score = float(scores.score[index])
        if self.state is State.OK and not math.isfinite(score):
            self.state = State.INSUFFICIENT_COVERAGE
        self.score = score
        self.isolated = float(scores.isolated[index]) if scores.rung in RELATING else math.nan
        faulty = scores.faults[index].nonzero()[0].tolist()
        self.codes = {scores.tags[column]: int(scores.faults[index, column]) for column in faulty}
        """Fault code of each tag that has one."""

    @property
    def top(self) -> str:
        """The tag that contributes most, or an empty text where none does."""
        shares = np.nan_to_num(self.scores.contributions[self.index])
        column = int(shares.argmax()) if len(shares) else 0
        return self.scores.tags[column] if len(shares) and shares[column] > 0.0 else ""

    @property
    def all_missing(self) -> bool:
        """Whether every tag, of two or more, is missing: no sensor fails like that."""
        missing = sum(code == SensorFault.MISSING for code in self.codes.values())
        return 2 <= missing == len(self.scores.tags)

    def shares(self) -> dict[str, float]:
        """Contribution of each tag that has one."""
        shares = self.scores.contributions[self.index].tolist()
        return {tag: share for tag, share in zip(self.scores.tags, shares, strict=True) if share > 0.0}

    def change(self, event: Literal["opened", "extended", "closed"], anomaly: Anomaly, reason: str = "") -> Change:
        """What this row did to `anomaly`, with what the blamed tags read and should have read."""
        columns = {tag: column for column, tag in enumerate(self.scores.tags)}
        actual, expected = self.scores.actual[self.index], self.scores.expected[self.index]
        pairs = {t: (float(actual[columns[t]]), float(expected[columns[t]])) for t in anomaly.tags if t in columns}
        values = {tag: pair for tag, pair in pairs.items() if math.isfinite(pair[0]) and math.isfinite(pair[1])}
        coverage = float(self.scores.coverage[self.index])
        return Change(event, anomaly, self.time, coverage, values, reason, self.scores.rung)


def fresh(scores: Scores, asset: str, last: int) -> list[int]:
    """Rows of `asset` that are later than `last` and than every row of it before them."""
    mine = np.array([name == asset for name in scores.assets], dtype=bool)
    rows = np.flatnonzero(mine)
    times = scores.times[rows]
    before = np.maximum.accumulate(np.concatenate([np.array([last], dtype=np.int64), times]))[:-1]
    return [int(row) for row in rows[times > before]]


def notable(scores: Scores, line: float) -> Bool[np.ndarray, " window"]:
    """Rows that matter to an asset of which nothing is remembered: over the line, or with a sensor fault."""
    over = np.nan_to_num(scores.score, nan=0.0) > line
    return np.asarray(over | scores.faults.any(axis=1), dtype=bool)
