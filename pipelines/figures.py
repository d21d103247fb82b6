"""The figures of one series, and of a whole data set, under its protocol. Shares are fractions of 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.domain import SECOND
from anomaly.evaluation import (
    Counts,
    count,
    delays,
    events_hit,
    false_onsets,
    oracle_f1,
    per_day,
    runs,
    vus_pr,
)
from pipelines.datasets.bench import Protocol, Summary

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of the table; NaN: does not apply. `false_onsets_per_day` is per day of normal rows; `hit_rate` and
    `hit_rate_150` are HitRate@100 % and @150 % of the events whose causes are known, as a mean.
    """

    dataset: str
    series: str
    model: str
    seed: int
    f1: float = NAN
    precision: float = NAN
    recall: float = NAN
    far: float = NAN
    mar: float = NAN
    events: int = 0
    events_hit: int = 0
    false_onsets_per_day: float = NAN
    alarm_share: float = NAN
    median_delay_s: float = NAN
    vus_pr: float = NAN
    f1_oracle: float = NAN
    threshold_ratio: float = NAN
    hit_rate: float = NAN
    hit_rate_150: float = NAN
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values; `None` where a figure does not apply."""
        plain = asdict(self)
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in plain.items()
        }


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows of one series with truth, score (NaN: unknown) and what was counted. `tick` in ns. `hit_rates`: HitRate
    @100 % and @150 % of each event whose causes are known.
    """

    name: str
    labels: Bool[np.ndarray, " row"]
    score: Float[np.ndarray, " row"]
    times: Int64[np.ndarray, " row"]
    tick: int
    seconds: float = 0.0
    apart: bool = False
    counts: Counts = field(default_factory=Counts)
    onsets: int = 0
    delays: tuple[float, ...] = ()
    hit_rates: tuple[tuple[float, float], ...] = ()


def judged(
    name: str,
    labels: Bool[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    times: Int64[np.ndarray, " row"],
    tick: int,
    protocol: Protocol,
    *,
    seconds: float = 0.0,
    apart: bool = False,
    hit_rates: tuple[tuple[float, float], ...] = (),
) -> Judged:
    """Count everything that figures are made of. A row without a score is no alarm."""
    alarms = np.isfinite(score) & (score > 1.0)
    return Judged(
        name, labels, score, times, tick, seconds, apart,
        counts=count(labels, alarms),
        onsets=false_onsets(labels, alarms, times, protocol.merge),
        delays=delays(labels, alarms, times, protocol.consecutive),
        hit_rates=hit_rates,
    )  # fmt: skip


def figures_of(found: Judged, blank: Figures, protocol: Protocol) -> Figures:
    """The figures of one series. `blank` says of what data set, model and seed."""
    alarms = np.isfinite(found.score) & (found.score > 1.0)
    return _with_ratio(
        replace(
            _of_counts(replace(blank, series=found.name), found.counts),
            events=len(runs(found.labels)),
            events_hit=events_hit(found.labels, alarms),
            false_onsets_per_day=per_day(found.onsets, found.counts.false + found.counts.quiet, found.tick),
            median_delay_s=_median(found.delays),
            vus_pr=vus_pr(found.labels, found.score, protocol.vus_window),
            f1_oracle=oracle_f1(found.labels, found.score),
            hit_rate=_mean(one for one, _ in found.hit_rates),
            hit_rate_150=_mean(other for _, other in found.hit_rates),
            seconds=round(found.seconds, 2),
        )
    )


def summary_of(every: Sequence[Judged], rows: Sequence[Figures], blank: Figures, protocol: Protocol) -> Figures:
    """The row that stands for the data set; series that are apart add nothing but, if so ruled, their normal rows."""
    pairs = [(found, row) for found, row in zip(every, rows, strict=True) if not found.apart]
    inside, chosen = [found for found, _ in pairs], [row for _, row in pairs]
    blank = replace(
        blank,
        series=str(protocol.summary),
        events=sum(row.events for row in chosen),
        events_hit=sum(row.events_hit for row in chosen),
        median_delay_s=_median([delay for found in inside for delay in found.delays]),
        vus_pr=_mean(row.vus_pr for row in chosen),
        hit_rate=_mean(row.hit_rate for row in chosen),
        hit_rate_150=_mean(row.hit_rate_150 for row in chosen),
        seconds=round(sum(row.seconds for row in rows), 2),
    )
    if protocol.summary is Summary.POOLED:
        return _with_ratio(_pooled(inside, blank))
    means: dict[str, Any] = {name: _mean(getattr(row, name) for row in chosen) for name in _MEANS}
    found = replace(blank, **means)
    return _with_ratio(_normal_pooled(every, found) if protocol.pool_normal else found)


_MEANS = ("f1", "precision", "recall", "far", "mar", "false_onsets_per_day", "alarm_share", "f1_oracle")


def _pooled(inside: Sequence[Judged], blank: Figures) -> Figures:
    """All rows as one confusion; the oracle too has one line for all."""
    counts = sum((found.counts for found in inside), Counts())
    labels = np.concatenate([np.zeros(0, bool), *(found.labels for found in inside)])
    score = np.concatenate([np.zeros(0), *(found.score for found in inside)])
    return replace(
        _of_counts(blank, counts),
        false_onsets_per_day=_pooled_per_day(inside),
        f1_oracle=oracle_f1(labels, score),
    )


def _normal_pooled(every: Sequence[Judged], found: Figures) -> Figures:
    counts = sum((one.counts for one in every), Counts())
    return replace(found, far=counts.far, alarm_share=counts.far, false_onsets_per_day=_pooled_per_day(every))


def _pooled_per_day(every: Sequence[Judged]) -> float:
    """False onsets of all series, per day of all their normal rows."""
    normal = sum((found.counts.false + found.counts.quiet) * found.tick for found in every)
    return per_day(sum(found.onsets for found in every), 1, normal)


def _of_counts(row: Figures, counts: Counts) -> Figures:
    return replace(
        row,
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        far=counts.far,
        mar=counts.mar,
        alarm_share=counts.far,
    )


def _with_ratio(row: Figures) -> Figures:
    """F1 at the line from training rows, divided by the best F1 of any line."""
    return replace(row, threshold_ratio=row.f1 / row.f1_oracle if row.f1_oracle > 0 else NAN)


def _mean(values: Any) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else NAN


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else NAN


def worst(rows: Sequence[Figures]) -> Figures:
    """Of one summary row a seed, the one with the lowest F1 (then VUS-PR; unknown is worst)."""
    key: Callable[[Figures], tuple[float, ...]] = lambda row: tuple(  # noqa: E731
        value if math.isfinite(value) else -1.0 for value in (row.f1, row.vus_pr)
    )
    return min(rows, key=key)


def per_hour(row: Figures) -> float:
    """False onsets an hour, as SKAB's protocol asks."""
    return row.false_onsets_per_day * 3600 * SECOND / (86_400 * SECOND)
