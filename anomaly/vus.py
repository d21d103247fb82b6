"""VUS-PR: volume under the surface of precision and recall with tolerant labels, as TSB-AD 1.5 reckons it.

Paparrizos et al., *Volume Under the Surface* (VLDB 2022). Around each event the label falls off along √(1 - d/w), d
rows away, for w/2 rows on each side; recall is damped by the share of events that were touched at all. The area under
precision over recall, at 250 thresholds, is averaged over w = 0, 1, …, `window`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

THRESHOLDS = 250
"""Thresholds, evenly spaced over the ranks of the scores."""


class _Ranked(NamedTuple):
    """Rows by falling score. `taken[k]`: how many rows are at or over threshold k."""

    order: Int64[np.ndarray, " row"]
    levels: Float[np.ndarray, " threshold"]
    taken: Int64[np.ndarray, " threshold"]


def runs(flags: Bool[np.ndarray, " row"]) -> tuple[tuple[int, int], ...]:
    """First row and row after the last of each unbroken run.

    >>> runs(np.array([True, False, True, True]))
    ((0, 1), (2, 4))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple((int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True))


def vus_pr(labels: Bool[np.ndarray, " row"], score: Float[np.ndarray, " row"], window: int) -> float:
    """Volume under the precision-recall surface, 0..1; NaN if no row, or no row but anomalous ones, is labelled.

    `window`: longest buffer, rows ≥ 0. Scores that are NaN (not known) rank below all others.

    >>> labels = np.array([False] * 8 + [True] * 2)
    >>> round(vus_pr(labels, np.arange(10.0), 0), 2)
    1.0
    """
    if window < 0:
        raise ValueError(f"window {window}: expected a number of rows ≥ 0")
    events = runs(labels)
    if not events or bool(labels.all()):
        return float("nan")
    finite = np.isfinite(score)
    low = float(score[finite].min()) - 1.0 if finite.any() else 0.0
    filled = np.where(np.isnan(score), low, score)
    ranked = _rank(filled)
    return float(np.mean([_area(labels, filled, events, ranked, width) for width in range(window + 1)]))


def soft_labels(labels: Bool[np.ndarray, " row"], width: int) -> Float[np.ndarray, " row"]:
    """Labels with sloped buffers of `width // 2` rows on each side of every event, at most 1.

    >>> soft_labels(np.array([False, False, True, False]), 2).round(2).tolist()
    [0.0, 0.71, 1.0, 0.71]
    """
    soft = labels.astype(float)
    reach = width // 2
    slope = np.sqrt(1.0 - np.arange(1, reach + 1) / max(width, 1))
    for start, stop in runs(labels):
        after = soft[stop : stop + reach]
        after += slope[: len(after)]
        before = soft[max(start - reach, 0) : start]
        before += slope[: len(before)][::-1]
    return np.asarray(np.minimum(soft, 1.0))


def _rank(score: Float[np.ndarray, " row"]) -> _Ranked:
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    levels = falling[np.linspace(0, len(score) - 1, THRESHOLDS).astype(int)]
    return _Ranked(order, levels, np.searchsorted(-falling, -levels, side="right").astype(np.int64))


def _area(
    labels: Bool[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    events: tuple[tuple[int, int], ...],
    ranked: _Ranked,
    width: int,
) -> float:
    """Area under precision over recall at one buffer width."""
    soft = soft_labels(labels, width)[ranked.order]
    hits = np.cumsum(soft)[ranked.taken - 1]
    buffers = np.cumsum(np.where(labels[ranked.order], 0.0, soft))[ranked.taken - 1]
    positives = float(labels.sum())
    recall = np.minimum(hits / (positives + buffers / 2), 1.0)
    tops = np.array([score[start:stop].max() for start, stop in _segments(events, width, len(score))])
    touched = (tops[None, :] >= ranked.levels[:, None]).mean(axis=1)
    reached = recall * touched
    return float(np.dot(np.diff(reached, prepend=0.0), hits / ranked.taken))


def _segments(events: tuple[tuple[int, int], ...], width: int, rows: int) -> list[tuple[int, int]]:
    """Events with their buffers; those whose buffers touch are one."""
    reach = width // 2
    found: list[tuple[int, int]] = []
    for start, stop in events:
        begin, end = max(start - reach, 0), min(stop + reach, rows)
        if found and begin < found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found
