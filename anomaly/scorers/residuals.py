"""From residuals to one number: whitened, on two time scales. Shared by every scorer that expects something.

Fast: the last row's residual, each tag in units of its own normal error. Slow: an exponentially weighted mean of the
residuals inside the window, whitened by its full second moment, so that a small but steady deviation counts. Second
moments are *uncentred* and come from rows the model was not fitted on: a bias on unseen normal rows is normal error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int64

OFF_DIAGONAL = 0.2
"""Correlations of slow residuals are kept at this share (shrinkage towards the diagonal; Ledoit & Wolf 2004)."""
FAST_SHARE = 0.5
"""Weight of the fast scale in the geometric mean of both energies."""
FLOOR = 0.01
"""Smallest normal error believed, in scaled units: 1 % of a tag's normal spread."""

Follows: TypeAlias = Bool[np.ndarray, " window"]
"""Whether each window is the one before it, moved on by one row."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """How large residuals are when all is normal. Scaled units squared; `weights` (newest last) sum to 1.

    >>> import numpy as np
    >>> plain = Whitening(np.ones(2), np.eye(2), np.array([0.0, 1.0]))
    >>> raw, share = plain.judge(np.array([[[0.0, 0.0], [3.0, 0.0]]]), np.ones((1, 2, 2), bool))
    >>> [round(float(x), 3) for x in (raw[0], share[0, 0])]      # sqrt of the mean square of (3, 0)
    [2.121, 1.0]
    """

    fast: Float[np.ndarray, " tag"]
    slow: Float[np.ndarray, "tag tag"]
    weights: Float[np.ndarray, " time"]

    def judge(
        self, residual: Float[np.ndarray, "window time tag"], seen: Bool[np.ndarray, "window time tag"]
    ) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "window tag"]]:
        """Root of the geometric mean of both energies, and each tag's share in it. NaN and zeros if nothing was seen.

        About 1 on normal rows, however many tags are seen. Residuals of unseen cells are not looked at.
        """
        last = seen[:, -1]
        count = last.sum(axis=1)
        fast = np.where(last, residual[:, -1] ** 2 / self.fast, 0.0)
        drift = np.where(last, smoothed(residual, seen, self.weights), 0.0)
        slow = drift * self._whiten(drift, last)
        with np.errstate(invalid="ignore", divide="ignore"):
            sizes = fast.sum(axis=1) / count, np.maximum(slow.sum(axis=1), 0.0) / count
            energy = sizes[0] ** FAST_SHARE * sizes[1] ** (1.0 - FAST_SHARE)
        known = count > 0
        shares = FAST_SHARE * _shares(fast, last) + (1.0 - FAST_SHARE) * _shares(np.maximum(slow, 0.0), last)
        return np.where(known, np.sqrt(energy), np.nan), np.where(known[:, None], shares, 0.0)

    def _whiten(
        self, drift: Float[np.ndarray, "window tag"], last: Bool[np.ndarray, "window tag"]
    ) -> Float[np.ndarray, "window tag"]:
        """`M⁻¹ e` with M restricted to the tags seen: one inverse a pattern of missing tags."""
        out = np.zeros_like(drift)
        for pattern, rows in patterns(last):
            where = np.flatnonzero(pattern)
            if len(where):
                inverse = np.linalg.inv(self.slow[np.ix_(where, where)])
                out[np.ix_(rows, where)] = times(drift[np.ix_(rows, where)], inverse)
        return out


def ewma_weights(length: int) -> Float[np.ndarray, " time"]:
    """Weights of the slow scale: they halve every third of the window (at least one row), newest last, sum 1.

    >>> [round(float(w), 2) for w in ewma_weights(3)]
    [0.14, 0.29, 0.57]
    """
    age = np.arange(length - 1, -1, -1, dtype=float)
    weights = 0.5 ** (age / max(length / 3.0, 1.0))
    return np.asarray(weights / weights.sum())


def smoothed(
    residual: Float[np.ndarray, "window time tag"],
    seen: Bool[np.ndarray, "window time tag"],
    weights: Float[np.ndarray, " time"],
) -> Float[np.ndarray, "window tag"]:
    """Weighted mean of a window's residuals; where rows are unseen, scaled to keep its normal size.

    Fewer rows make a noisier mean: dividing by the root of the squared weights left keeps its variance for white
    residuals, so a tag that was away for some rows neither raises nor lowers the score.
    """
    kept = np.where(seen, weights[:, None], 0.0)
    total = (kept * np.where(seen, residual, 0.0)).sum(axis=1)
    size = np.sqrt((kept**2).sum(axis=1))
    return np.asarray(total * np.sqrt((weights**2).sum()) / np.where(size > 0, size, 1.0))


def fit_whitening(
    residual: Float[np.ndarray, "window time tag"], seen: Bool[np.ndarray, "window time tag"]
) -> Whitening:
    """Normal size of the residuals of windows the model was not fitted on; scaled units.

    A tag never seen, or whose residual was always exactly zero (a constant), is given the size 1: only a move of a
    whole normal spread counts then. Correlations are taken over rows where both tags were seen.
    """
    weights = ewma_weights(residual.shape[1])
    last = seen[:, -1]
    drift = np.where(last, smoothed(residual, seen, weights), 0.0)
    count = last.sum(axis=0)
    fast = _floored(np.where(last, residual[:, -1] ** 2, 0.0).sum(axis=0) / np.maximum(count, 1), 1.0)
    both = last.astype(float).T @ last.astype(float)
    slow = drift.T @ drift / np.maximum(both, 1.0)
    size = _floored(np.diagonal(slow), float((weights**2).sum()))
    root = np.sqrt(np.outer(size, size))
    related = np.clip(np.where(both > 0, slow / root, 0.0), -1.0, 1.0) * OFF_DIAGONAL
    np.fill_diagonal(related, 1.0)
    return Whitening(fast, related * root, weights)


def patterns(
    seen: Bool[np.ndarray, "window cell"],
) -> list[tuple[Bool[np.ndarray, " cell"], np.ndarray]]:
    """Which windows share one pattern of seen cells: (pattern, their positions), so that each is prepared once."""
    if len(seen) and (seen == seen[0]).all():
        return [(seen[0], np.arange(len(seen)))]
    groups: dict[bytes, list[int]] = {}
    for number, packed in enumerate(np.packbits(seen, axis=1)):
        groups.setdefault(packed.tobytes(), []).append(number)
    return [(seen[numbers[0]], np.array(numbers)) for numbers in groups.values()]


def follows(*parts: Float[np.ndarray, "window time tag"] | Bool[np.ndarray, "window time tag"]) -> Follows:
    """Which windows are, in all parts and to the bit, the window before them moved on by one row."""
    same = np.zeros(len(parts[0]), bool)
    if len(same) > 1:
        bits = [np.ascontiguousarray(part).view(f"u{part.itemsize}") for part in parts]
        same[1:] = np.logical_and.reduce([(one[1:, :-1] == one[:-1, 1:]).all(axis=(1, 2)) for one in bits])
    return same


class Places(NamedTuple):
    """Steps of windows that differ from each other: window and step of each; and of every step which of those it is."""

    window: Int64[np.ndarray, " different"]
    step: Int64[np.ndarray, " different"]
    where: Int64[np.ndarray, "window step"]


def places(same: Follows, steps: int) -> Places:
    """Where windows `follow` one another, only their last steps are new: each is reckoned once.

    >>> found = places(np.array([False, True, False]), 2)
    >>> found.where.tolist(), list(zip(found.window.tolist(), found.step.tolist(), strict=True))
    ([[0, 1], [1, 2], [3, 4]], [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)])
    """
    number = np.arange(len(same))
    new = np.where(same, 1, steps)
    first = np.cumsum(new) - new
    head = np.maximum.accumulate(np.where(same, 0, number)) if len(same) else number
    window = np.repeat(number, new)
    step = np.where(same[window], steps - 1, np.arange(len(window)) - first[window])
    return Places(window, step, (first[head] + number - head)[:, None] + np.arange(steps))


def times(rows: Float[np.ndarray, "window a"], matrix: Float[np.ndarray, "a b"]) -> Float[np.ndarray, "window b"]:
    """`rows @ matrix`, one row at a time: bit-equal whatever the other rows are and however many there are."""
    return np.asarray(np.matmul(rows[:, None, :], matrix)[:, 0, :])


def _floored(square: Float[np.ndarray, " tag"], unknown: float) -> Float[np.ndarray, " tag"]:
    return np.where(square > 1e-12, np.maximum(square, FLOOR**2 * unknown), unknown)


def _shares(
    energy: Float[np.ndarray, "window tag"], seen: Bool[np.ndarray, "window tag"]
) -> Float[np.ndarray, "window tag"]:
    """Rows divided by their sum; an all-zero row is shared equally by the tags seen."""
    total = energy.sum(axis=1, keepdims=True)
    equal = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    return np.where(total > 0, energy / np.where(total > 0, total, 1.0), equal)
