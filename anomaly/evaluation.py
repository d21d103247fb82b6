"""How good scores are, measured honestly: causal rows, no point-adjustment, the line from training rows only.

Point-adjusted F1 gives a random score 0.88 on SMD, so it is not here (Kim et al., AAAI 2022). Beside every F1 stand the
false-alarm figures and trivial controls (`random`, `constant`, `row_number`), which must look as bad as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.domain import SECOND
from anomaly.vus import runs, vus_pr

__all__ = [
    "CONTROLS",
    "Counts",
    "blame",
    "constant",
    "count",
    "delays",
    "events_hit",
    "false_onsets",
    "hit_rate",
    "oracle_f1",
    "per_day",
    "random",
    "row_number",
    "runs",
    "tradeoff",
    "vus_pr",
]

DAY = 86_400 * SECOND
"""A day, ns."""
HEAVIEST = 10.0
"""A row's blame counts by its score, up to this many lines, as it does for an alert."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The confusion of rows. Counts of several series may be added; a share without a denominator is NaN.

    >>> Counts(hits=8, false=2, missed=2, quiet=88).f1
    0.8
    """

    hits: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits, self.false + other.false, self.missed + other.missed, self.quiet + other.quiet
        )

    @property
    def precision(self) -> float:
        """Share of alarm rows that are anomalous."""
        return _share(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of anomalous rows in alarm."""
        return _share(self.hits, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where no row is anomalous."""
        return _share(2 * self.hits, 2 * self.hits + self.false + self.missed) if self.hits + self.missed else np.nan

    @property
    def far(self) -> float:
        """False-alarm rate: share of normal rows in alarm."""
        return _share(self.false, self.false + self.quiet)

    @property
    def mar(self) -> float:
        """Missed-alarm rate: share of anomalous rows without alarm."""
        return _share(self.missed, self.hits + self.missed)


def count(labels: Bool[np.ndarray, " row"], alarms: Bool[np.ndarray, " row"]) -> Counts:
    """The confusion of one series, row by row."""
    return Counts(
        hits=int((labels & alarms).sum()),
        false=int((~labels & alarms).sum()),
        missed=int((labels & ~alarms).sum()),
        quiet=int((~labels & ~alarms).sum()),
    )


def events_hit(labels: Bool[np.ndarray, " row"], alarms: Bool[np.ndarray, " row"]) -> int:
    """Events with at least one row in alarm. The events are `runs(labels)`."""
    return sum(bool(alarms[start:stop].any()) for start, stop in runs(labels))


def delays(
    labels: Bool[np.ndarray, " row"],
    alarms: Bool[np.ndarray, " row"],
    times: Int64[np.ndarray, " row"],
    consecutive: int = 1,
) -> tuple[float, ...]:
    """Seconds from the begin of each event to the first of `consecutive` alarm rows in it; events not hit are left out.

    >>> labels, alarms = np.array([0, 1, 1, 1], bool), np.array([1, 0, 0, 1], bool)
    >>> delays(labels, alarms, np.arange(4) * 60 * SECOND)
    (120.0,)
    """
    found = []
    for start, stop in runs(labels):
        long = [begin for begin, end in runs(alarms[start:stop]) if end - begin >= consecutive]
        if long:
            found.append(float(times[start + long[0]] - times[start]) / SECOND)
    return tuple(found)


def false_onsets(
    labels: Bool[np.ndarray, " row"],
    alarms: Bool[np.ndarray, " row"],
    times: Int64[np.ndarray, " row"],
    merge: int = 0,
) -> int:
    """Alarms that begin in a normal row. Alarms less than `merge` ns apart (last row to first) are one.

    >>> alarms = np.array([1, 0, 1, 0, 0, 1], bool)
    >>> false_onsets(np.zeros(6, bool), alarms, np.arange(6) * SECOND, merge=3 * SECOND)
    2
    """
    onsets, last = 0, None
    for start, stop in runs(alarms):
        if last is None or times[start] - last >= merge:
            onsets += not labels[start]
        last = times[stop - 1]
    return onsets


def per_day(onsets: int, normal_rows: int, tick: int) -> float:
    """Onsets a day of normal rows (each `tick` ns long); NaN if there are none."""
    return _share(onsets * DAY, normal_rows * tick)


def oracle_f1(labels: Bool[np.ndarray, " row"], score: Float[np.ndarray, " row"]) -> float:
    """The best F1 that any line through these scores could reach, chosen with the labels in hand: a bound, no result.

    Scores that are NaN are never over a line. NaN where no row is anomalous.

    >>> oracle_f1(np.array([False, True, True]), np.array([0.1, 0.9, np.nan])).__round__(3)
    0.667
    """
    if not labels.any():
        return float("nan")
    known = np.isfinite(score)
    order = np.argsort(-score[known], kind="stable")
    falling, truth = score[known][order], labels[known][order]
    last = np.append(falling[1:] != falling[:-1], True)[: len(falling)]
    hits = np.cumsum(truth)
    f1 = 2.0 * hits / (np.arange(1, len(falling) + 1) + labels.sum())
    return float(f1[last].max(initial=0.0))


def blame(contributions: Float[np.ndarray, "row tag"], score: Float[np.ndarray, " row"]) -> Float[np.ndarray, " tag"]:
    """How much each tag is to blame for an event: its contributions in all its rows, weighed by the score (NaN: 0)."""
    weights = np.minimum(np.nan_to_num(score, nan=0.0), HEAVIEST)
    return np.asarray((np.nan_to_num(contributions, nan=0.0) * weights[:, None]).sum(axis=0))


def hit_rate(found: Float[np.ndarray, " tag"], labelled: Bool[np.ndarray, " tag"], reach: float = 1.0) -> float:
    """HitRate@P% (Su et al., KDD 2019): share of the labelled tags among the ⌊P% × their number⌋ that are blamed most.

    `reach`: P / 100. A tag without any blame is not among them; of equal blame the first counts. NaN if no tag is
    labelled.

    >>> found, labelled = np.array([0.5, 0.1, 0.3, 0.1]), np.array([True, True, False, False])
    >>> hit_rate(found, labelled), hit_rate(found, labelled, 1.5)
    (0.5, 1.0)
    """
    wanted = int(labelled.sum())
    if not wanted:
        return float("nan")
    top = np.argsort(-found, kind="stable")[: int(reach * wanted)]
    return float((labelled[top] & (found[top] > 0)).sum() / wanted)


def tradeoff(
    labels: Bool[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    times: Int64[np.ndarray, " row"],
    tick: int,
    lines: Float[np.ndarray, " line"],
    merge: int = 0,
) -> tuple[Float[np.ndarray, " line"], Float[np.ndarray, " line"]]:
    """For each alert line: false alarms a day of normal rows, and the share of events with a row over the line.

    >>> labels, score = np.array([0, 0, 1, 1, 0], bool), np.array([0.1, 2.0, 0.5, 3.0, 0.2])
    >>> daily, recall = tradeoff(labels, score, np.arange(5) * DAY, DAY, np.array([1.0, 2.5]))
    >>> daily.round(2).tolist(), recall.tolist()
    ([0.33, 0.0], [1.0, 1.0])
    """
    daily, recall = np.empty(len(lines)), np.empty(len(lines))
    events, normal = len(runs(labels)), int((~labels).sum())
    for number, line in enumerate(lines.tolist()):
        alarms = np.isfinite(score) & (score > line)
        daily[number] = per_day(false_onsets(labels, alarms, times, merge), normal, tick)
        recall[number] = _share(events_hit(labels, alarms), events)
    return daily, recall


def random(rows: int, trained: int, seed: int) -> Float[np.ndarray, " row"]:
    """Control: chance. Uniform over 0..2, so half of all rows are in alarm."""
    return np.random.default_rng((seed, rows, trained)).uniform(0.0, 2.0, rows)


def constant(rows: int, trained: int, seed: int) -> Float[np.ndarray, " row"]:
    """Control: always alarm. Arguments but `rows` are ignored."""
    del trained, seed
    return np.full(rows, 2.0)


def row_number(rows: int, trained: int, seed: int) -> Float[np.ndarray, " row"]:
    """Control: how far into the series, in training lengths; over the line from the first row after training."""
    del seed
    return (trained + 1.0 + np.arange(rows)) / max(trained, 1)


CONTROLS: Mapping[str, Callable[[int, int, int], Float[np.ndarray, " row"]]] = {
    "random": random,
    "constant": constant,
    "row_number": row_number,
}
"""Scores that know nothing of the machine: (rows, training rows, seed) → score, 1.0 is the line."""


def _share(part: int | float, whole: int | float) -> float:
    return float(part / whole) if whole else float("nan")
