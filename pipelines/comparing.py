"""Two versions over the same stored rows: how often each would have alarmed, and whether the challenger may serve."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anomaly.detector import Detector
from anomaly.domain import SECOND, Kind, Samples
from anomaly.episodes import episodes
from anomaly.training_set import TrainingSet

WEEK_NS = 7 * 86_400 * SECOND
BUDGET_SLACK = 1.0
"""False alerts that chance may add to the budget over the span compared."""
LEAST_COVERED = 0.9
"""Share of the champion's known rows that the challenger must know too."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one version did over normal rows. `weeks`: asset-weeks of rows with a score."""

    version: str
    rung: str
    rows: int = 0
    over: int = 0
    alerts: int = 0
    weeks: float = 0.0

    @property
    def over_share(self) -> float:
        """Share of known rows over the line; NaN if none is known."""
        return self.over / self.rows if self.rows else float("nan")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger beside champion. `agreement`: share of rows known to both that both judge alike (NaN if none).

    `objections`: why the challenger should not serve; empty if nothing speaks against it.
    """

    champion: Behaviour | None
    challenger: Behaviour
    agreement: float = float("nan")
    objections: tuple[str, ...] = field(default=())


def compare(champion: Detector | None, challenger: Detector, normal: TrainingSet, budget_per_week: float) -> Comparison:
    """Both over the rows of a cleaned set: alerts there are false ones. `champion` None: the challenger alone."""
    new = _judge(challenger, normal)
    behaviour = _behaviour(challenger, new)
    if champion is None:
        return Comparison(None, behaviour, objections=_objections(None, behaviour, budget_per_week))
    old = _judge(champion, normal)
    before = _behaviour(champion, old)
    known = np.isfinite(new.score) & np.isfinite(old.score)
    alike = (new.score > 1.0) == (old.score > 1.0)
    agreement = float(alike[known].mean()) if known.any() else float("nan")
    return Comparison(before, behaviour, agreement, _objections(before, behaviour, budget_per_week))


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    score: np.ndarray
    """Scores at the normal rows of all segments; NaN where unknown."""
    alerts: int
    tick: int


def _judge(detector: Detector, normal: TrainingSet) -> _Judged:
    """Every row is scored, as live; counted are those that were normal."""
    scores, alerts = [np.zeros(0)], 0
    for samples, keep in zip(normal.samples, normal.keep, strict=True):
        judged = detector.detect(detector.windows(samples, 0))
        scores.append(judged.score[keep])
        found = [anomaly for anomaly in episodes(judged) if anomaly.kind is Kind.PROCESS]
        alerts += sum(_is_normal(samples, keep, anomaly.onset) for anomaly in found)
    return _Judged(np.concatenate(scores), alerts, detector.tick)


def _is_normal(samples: Samples, keep: np.ndarray, time: int) -> bool:
    """Whether the row at that time was normal."""
    row = int(np.searchsorted(samples.times, time))
    return row < len(keep) and bool(keep[row])


def _behaviour(detector: Detector, judged: _Judged) -> Behaviour:
    known = np.isfinite(judged.score)
    rows = int(known.sum())
    over = int((judged.score[known] > 1.0).sum())
    return Behaviour(detector.version, detector.rung.value, rows, over, judged.alerts, rows * judged.tick / WEEK_NS)


def _objections(before: Behaviour | None, after: Behaviour, budget_per_week: float) -> tuple[str, ...]:
    """Reasons not to promote, in words."""
    found: list[str] = []
    if not after.rows:
        return ("it knows no row of the span",)
    allowed = budget_per_week * after.weeks + BUDGET_SLACK
    if after.alerts > max(allowed, before.alerts if before else 0):
        found.append(
            f"too many false alarms: {after.alerts} on normal rows, the budget allows {allowed:.1f} "
            f"in {after.weeks:.2f} asset-weeks"
        )
    if before is not None and after.rows < LEAST_COVERED * before.rows:
        found.append(f"it knows {after.rows} rows, the champion {before.rows}")
    return tuple(found)
