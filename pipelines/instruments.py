"""What a detector made of sensors that were broken on purpose: the figures beside those of quality.

Counted are rows that are normal by their label and come after the sensors broke, and the anomalies that the alert
service would have opened there (the same rule, `anomaly.episodes`). Shares are fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from anomaly.domain import Anomaly, Kind, Scores, State
from anomaly.episodes import episodes
from pipelines.breaking import Broken
from pipelines.row_scores import Placed

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Instruments:
    """One row of the table.

    `coverage`: mean share of window cells seen and believed; `insufficient`: share of rows too little was seen of;
    `flagged`: share of the broken sensors' cells that the sensor checks did not believe; `healthy_flagged`: the same of
    the others' cells; `found`: broken tags that an instrument anomaly accused, of `broken`; `wrongly_accused`:
    instrument anomalies of other tags; `process_rows`: share of normal rows over the line and not explained by one
    sensor; `process_alerts`: process anomalies that began in normal rows.
    """

    dataset: str
    series: str
    model: str
    seed: int
    how: str
    tags: tuple[str, ...] = ()
    broken: int = 0
    found: int = 0
    coverage: float = NAN
    insufficient: float = NAN
    flagged: float = NAN
    healthy_flagged: float = NAN
    wrongly_accused: int = 0
    process_rows: float = NAN
    process_alerts: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values; `None` where a figure does not apply."""
        plain = asdict(self) | {"tags": list(self.tags)}
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in plain.items()}


def instruments_of(found: Broken, placed: Placed, blank: Instruments) -> Instruments:
    """The figures of one series. `blank` says of what data set, model, seed and breakage."""
    series, scores = found.series, placed.scores
    judged = ~series.learned & (np.arange(len(series.learned)) >= found.since)
    rows = placed.place[judged & (placed.place >= 0)]
    labels = np.zeros(len(series.learned), bool) if series.labels is None else series.labels
    normal = placed.place[judged & (placed.place >= 0) & ~labels]
    faulty = scores.faults[rows] > 0
    ours = np.isin(scores.tags, found.tags)
    anomalies = _since(episodes(scores), scores, rows)
    accused = {one.tags[0] for one in anomalies if one.kind is Kind.INSTRUMENT}
    quiet = set(scores.times[normal].tolist())
    return replace(
        blank,
        series=series.name,
        tags=found.tags,
        broken=len(found.tags),
        found=len(accused & set(found.tags)),
        coverage=_mean(scores.coverage[rows]),
        insufficient=_mean(np.array([scores.state[row] is State.INSUFFICIENT_COVERAGE for row in rows.tolist()])),
        flagged=_mean(faulty[:, ours]),
        healthy_flagged=_mean(faulty[:, ~ours]),
        wrongly_accused=sum(one.kind is Kind.INSTRUMENT and one.tags[0] not in found.tags for one in anomalies),
        process_rows=_mean(_of_the_machine(scores)[normal]),
        process_alerts=sum(one.kind is Kind.PROCESS and one.onset in quiet for one in anomalies),
    )


def summary_of_instruments(rows: Sequence[Instruments], blank: Instruments) -> Instruments:
    """All series as one: counts are summed, shares are the mean of the series'."""
    shares = ("coverage", "insufficient", "flagged", "healthy_flagged", "process_rows")
    counts = ("broken", "found", "wrongly_accused", "process_alerts")
    means: dict[str, Any] = {name: _mean_known([getattr(row, name) for row in rows]) for name in shares}
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in rows) for name in counts}
    return replace(blank, series="all", **means, **sums)


def _of_the_machine(scores: Scores) -> Bool[np.ndarray, " window"]:
    """Rows over the line that are not normal again once their strongest tag is left out."""
    return np.asarray(scores.anomalous & ~(scores.isolated < 1.0))


def _since(found: Sequence[Anomaly], scores: Scores, rows: Int64[np.ndarray, " judged"]) -> list[Anomaly]:
    """Anomalies that began in the rows looked at."""
    if not len(rows):
        return []
    first = int(scores.times[rows[0]])
    return [one for one in found if one.onset >= first]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else NAN


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else NAN
