"""Training windows without copies: rows are kept once, windows are gathered batch by batch, sensors dropped at random.

Everything is a pure function of the seed and the epoch, so a training that was killed goes on with the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64


class Batch(NamedTuple):
    """Input cells as the net sees them, and the cells it should tell: `target` where `known`."""

    values: Float32[np.ndarray, "window time tag"]
    mask: Bool[np.ndarray, "window time tag"]
    target: Float32[np.ndarray, "window time tag"]
    known: Bool[np.ndarray, "window time tag"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Scaled rows of many segments, one after the other, and the rows at which a whole window of `length` ends."""

    values: Float32[np.ndarray, "row tag"]
    mask: Bool[np.ndarray, "row tag"]
    ends: Int64[np.ndarray, " window"]
    length: int

    def gather(
        self, ends: Int64[np.ndarray, " chosen"]
    ) -> tuple[Float32[np.ndarray, "chosen time tag"], Bool[np.ndarray, "chosen time tag"]]:
        """Values and mask of the windows that end at `ends`."""
        rows = ends[:, None] + np.arange(1 - self.length, 1)[None, :]
        return self.values[rows], self.mask[rows]

    def thinned(self, limit: int) -> Int64[np.ndarray, " chosen"]:
        """At most `limit` ends, evenly spread over all."""
        if len(self.ends) <= limit:
            return self.ends
        return self.ends[np.linspace(0, len(self.ends) - 1, limit).astype(np.int64)]


def window_ends(
    normal: Bool[np.ndarray, " row"], restart: Bool[np.ndarray, " row"], length: int
) -> Int64[np.ndarray, " window"]:
    """Rows whose last `length` rows are all normal and of one unbroken run.

    >>> flags = np.array([True, True, True, False, True, True, True])
    >>> window_ends(flags, np.array([True, False, False, False, False, False, True]), 2).tolist()
    [1, 2, 5]
    """
    row = np.arange(len(normal))
    broken = np.where(~normal, row + 1, np.where(restart, row, 0))  # first row that a window may hold, seen from here
    first = np.maximum.accumulate(broken) if len(row) else broken
    return np.flatnonzero(row - first + 1 >= length).astype(np.int64)


def join_rows(
    parts: Sequence[
        tuple[Float32[np.ndarray, "_row tag"], Bool[np.ndarray, "_row tag"], Int64[np.ndarray, " _window"]]
    ],
    length: int,
) -> Rows:
    """Segments (values, mask, ends) behind one another; windows never cross from one to the next."""
    offsets = np.cumsum([0] + [len(values) for values, _, _ in parts])
    ends = [part_ends + offset for (_, _, part_ends), offset in zip(parts, offsets, strict=False)]
    return Rows(
        values=np.concatenate([values for values, _, _ in parts]),
        mask=np.concatenate([mask for _, mask, _ in parts]),
        ends=np.concatenate(ends).astype(np.int64),
        length=length,
    )


def epoch_batches(rows: Rows, *, batch: int, limit: int, dropout: float, seed: int, epoch: int) -> Iterator[Batch]:
    """Batches of exactly `batch` windows: at most `limit` windows drawn anew each epoch, sensors dropped at random.

    With fewer windows than one batch, some are drawn more than once. Equal seed and epoch give equal batches.
    """
    chance = np.random.default_rng((seed, epoch))
    order = chance.permutation(rows.ends)[:limit]
    count = max(len(order) // batch, 1) * batch
    order = np.resize(order, count)
    for first in range(0, count, batch):
        target, known = rows.gather(order[first : first + batch])
        mask = known & drop_channels(chance, known.shape, dropout)
        yield Batch(np.where(mask, target, np.float32(0.0)), mask, target, known)


def drop_channels(
    chance: np.random.Generator, shape: tuple[int, int, int], share: float
) -> Bool[np.ndarray, "window time tag"]:
    """What stays when each tag of each window is lost with probability `share`, half of them from a random row on.

    A window never loses all its tags: a net cannot learn from nothing.
    """
    windows, length, tags = shape
    lost = chance.random((windows, tags)) < share
    lost[lost.all(axis=1)] = False
    start = np.where(chance.random((windows, tags)) < 0.5, 0, chance.integers(0, length, (windows, tags)))
    since = np.arange(length)[None, :, None] >= start[:, None, :]
    return ~(lost[:, None, :] & since)
