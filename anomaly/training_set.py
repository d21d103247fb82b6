"""What a model is fitted on: rows of one group's assets, which of them are normal, and how they are split in time.

Splits are contiguous blocks: neighbouring rows are too alike for a random split to tell anything. Every block begins
with `restart`, so that no window reaches from one block into another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from anomaly.blocks import rows as rows_of
from anomaly.domain import Samples, State, Tag
from anomaly.errors import DataError, TooFewRowsError
from anomaly.scaling import Scaler
from anomaly.sensors import SensorLimits
from anomaly.windows import mode_rows, sliding

STOPPING = (0.45, 0.60)
"""Part of each asset's rows held back for early stopping."""
CALIBRATION = (0.80, 1.00)
"""Part of each asset's rows held back for the alert line: the newest, which are most like what comes."""
FOLDS = 8
"""Blocks of a cross-fit, where there are rows enough."""


class TrainingWindows(NamedTuple):
    """Scaled windows that are wholly normal and running, of all assets, each asset's oldest first."""

    values: Float32[np.ndarray, "window time tag"]
    mask: Bool[np.ndarray, "window time tag"]
    assets: tuple[str, ...]
    times: Int64[np.ndarray, " window"]
    """Event time of the last rows, ns."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Normal rows of a group. `tags`: the modelled signals; `samples`: one or more segments an asset, in order of time.

    `normal[i][j]`: row j of `samples[i]` may be learned from. Raises DataError if the pieces do not fit together.
    """

    group: str
    tags: tuple[str, ...]
    samples: tuple[Samples, ...]
    normal: tuple[Bool[np.ndarray, " _row"], ...]
    mode: Tag | None = None

    def __post_init__(self) -> None:
        """Check that every segment has its `normal` and at least one of the tags."""
        if len(self.samples) != len(self.normal):
            raise DataError(f"{len(self.samples)} segments but {len(self.normal)} normal masks; give one for each.")
        for part, normal in zip(self.samples, self.normal, strict=True):
            if len(part) != len(normal):
                raise DataError(f"A segment of {part.asset} has {len(part)} rows, its normal mask {len(normal)}.")
            if not set(self.tags) & set(part.tags):
                raise DataError(f"{part.asset} has none of the signals {', '.join(self.tags)}.")

    @property
    def keep(self) -> tuple[Bool[np.ndarray, " _row"], ...]:
        """Rows of each segment to learn from: normal, and the machine running (an unknown mode counts as running)."""
        return tuple(n & _running(part, self.mode) for part, n in zip(self.samples, self.normal, strict=True))

    @property
    def rows(self) -> int:
        """Rows to learn from, of all assets."""
        return int(sum(int(keep.sum()) for keep in self.keep))

    @property
    def span(self) -> tuple[int, int]:
        """Times of the oldest and the newest row, ns; raises TooFewRowsError if there is none."""
        ends = [int(t) for part in self.samples if len(part) for t in (part.times[0], part.times[-1])]
        if not ends:
            raise TooFewRowsError(f"Group {self.group} has no rows to learn from. Wait, or import its history.")
        return min(ends), max(ends)

    @property
    def tick(self) -> int:
        """Commonest step between rows, ns; raises TooFewRowsError if no segment has two rows."""
        steps = [np.diff(part.times) for part in self.samples if len(part) > 1]
        if not steps:
            raise TooFewRowsError(f"Group {self.group} has no two rows in a line. Wait, or import its history.")
        return int(np.median(np.concatenate(steps)))

    def windows(
        self, scaler: Scaler, limits: SensorLimits, length: int, most: int | None = None, least: int | None = None
    ) -> TrainingWindows:
        """All wholly normal windows of `length` rows, scaled, sensor faults masked. May be empty.

        `most`: about so many at most, evenly spaced. `least`: a window with so many normal rows at its end will do, the
        rows before them masked: short stretches then lose few windows.
        """
        needed = length if least is None else least
        step = 1 if most is None else -(-sum(map(len, self.samples)) // most) or 1
        values: list[np.ndarray] = [np.empty((0, length, len(self.tags)), np.float32)]
        assets: list[str] = []
        masks = [np.empty((0, length, len(self.tags)), bool)]
        times = [np.empty(0, np.int64)]
        for part, normal in zip(self.samples, self.normal, strict=True):
            found = sliding(part, 0, length, self.tags, limits, self.mode)
            changed = mode_rows(part, self.mode).back > 0
            run = _run(normal & _running(part, self.mode), part.restart | changed)
            good = (run >= needed) & found.mask[:, -1].any(axis=1)
            if least is None:
                good &= np.array([state is State.OK for state in found.state], bool)
            picked = np.flatnonzero(good)[::step]
            chosen = rows_of(found, picked)
            inside = np.arange(length)[None, :] >= length - run[picked][:, None]
            masks.append(chosen.mask & inside[:, :, None])
            values.append(np.where(masks[-1], scaler.scale_windows(chosen), np.float32(0.0)))
            assets += chosen.assets
            times.append(part.times[picked])
        return TrainingWindows(np.concatenate(values), np.concatenate(masks), tuple(assets), np.concatenate(times))

    def split(self) -> Split:
        """Rows to fit on (65 %), for early stopping (15 %, from the middle) and for the alert line (20 %, the newest).

        Shares are of each asset's rows. Nothing is thrown away: every row lands in exactly one part.
        """
        rest = ((0.0, STOPPING[0]), (STOPPING[1], CALIBRATION[0]))
        return Split(self._part(rest), self._part((STOPPING,)), self._part((CALIBRATION,)))

    def folds(self, count: int = FOLDS) -> tuple[Fold, ...]:
        """Cut each asset's rows into contiguous blocks; each block is once held back while the others are fitted on."""
        blocks = [(number / count, (number + 1) / count) for number in range(count)]
        return tuple(Fold(self._part([b for b in blocks if b != block]), self._part((block,))) for block in blocks)

    def joined(self, other: TrainingSet) -> TrainingSet:
        """Both sets' segments, as one set of this group."""
        return replace(self, samples=self.samples + other.samples, normal=self.normal + other.normal)

    def _part(self, shares: Sequence[tuple[float, float]]) -> TrainingSet:
        """The rows whose place among their asset's rows is in one of the shares (0..1), as segments of their own."""
        samples: list[Samples] = []
        normal: list[Bool[np.ndarray, " _row"]] = []
        before = dict.fromkeys((part.asset for part in self.samples), 0)
        total = {a: sum(len(part) for part in self.samples if part.asset == a) for a in before}
        for part, good in zip(self.samples, self.normal, strict=True):
            for low, high in shares:
                start, stop = (round(share * total[part.asset]) - before[part.asset] for share in (low, high))
                start, stop = max(start, 0), min(stop, len(part))
                if start < stop:
                    samples.append(_begun(rows_of(part, slice(start, stop))))
                    normal.append(good[start:stop])
            before[part.asset] += len(part)
        return replace(self, samples=tuple(samples), normal=tuple(normal))


class Fold(NamedTuple):
    """One round of a cross-fit: fit on the one, judge the other."""

    fit: TrainingSet
    held_back: TrainingSet


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows a net is trained on, and two sorts of rows it never sees. Unpacks as `fit, held_back`."""

    fit: TrainingSet
    stopping: TrainingSet
    calibration: TrainingSet

    @property
    def held_back(self) -> TrainingSet:
        """Rows the net is not trained on: early stopping and calibration together."""
        return self.stopping.joined(self.calibration)

    def __iter__(self) -> Iterator[TrainingSet]:
        """`fit, held_back = training.split()`."""
        return iter((self.fit, self.held_back))


def _run(good: Bool[np.ndarray, " row"], restart: Bool[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """How many good rows in a line end at each row, since the last restart.

    >>> _run(np.array([True, True, False, True, True]), np.array([True, False, False, False, True])).tolist()
    [1, 2, 0, 1, 1]
    """
    row = np.arange(len(good), dtype=np.int64)
    broken = np.where(~good, row + 1, np.where(restart, row, 0))
    return np.asarray(row + 1 - np.maximum.accumulate(broken)) if len(row) else row


def _begun(samples: Samples) -> Samples:
    """The same rows, with history forgotten before the first."""
    restart = samples.restart.copy()
    restart[:1] = True
    return replace(samples, restart=restart)


def _running(samples: Samples, mode: Tag | None) -> Bool[np.ndarray, " row"]:
    """Where the machine is not known to be stopped."""
    if mode is None or not mode.running or mode.name not in samples.tags:
        return np.ones(len(samples), bool)
    column = samples.tags.index(mode.name)
    return ~samples.mask[:, column] | np.isin(samples.values[:, column], mode.running)
