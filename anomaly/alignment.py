"""Readings → samples: one row per tick of event time, the same for a live stream and for a training file.

Tick i covers event times (i - 1)·tick < t ≤ i·tick and its sample stands at i·tick. The watermark is the newest event
time less `lateness`; it depends only on this asset's own readings, so one wrong clock harms nobody else (guarantee G10;
the scheme is that of Akidau et al., The Dataflow Model, VLDB 2015). What comes out does not depend on how the readings
were cut into blocks: each is judged as if they had come one row at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Quality, Readings, Samples
from anomaly.errors import ConfigurationError, DataError
from anomaly.plain_rows import PlainRows, Waiting, all_good, dense_samples, one_a_tick

NEVER = -(2**62)
"""An event time (ns) before all others, far enough from the edge of int64 to subtract from."""


@dataclass(frozen=True, slots=True)
class AlignmentPolicy:
    """Times in ns. `lateness`: how long to wait for stragglers; `hold`: how long the last value of a tag stands for the
    present one; `gap`: how long without any reading until history is forgotten (at least `hold`).
    """

    tick: int
    lateness: int
    hold: int
    gap: int

    def __post_init__(self) -> None:
        if self.tick < 1 or self.lateness < 0 or not 0 <= self.hold <= self.gap:
            raise ConfigurationError(
                f"alignment needs tick ≥ 1, lateness ≥ 0 and 0 ≤ hold ≤ gap (ns), not tick={self.tick}, "
                f"lateness={self.lateness}, hold={self.hold}, gap={self.gap}"
            )

    @classmethod
    def of(cls, tick: int) -> AlignmentPolicy:
        """The usual policy for a tick (ns): wait 2 ticks, hold 5, forget after 30."""
        return cls(tick=tick, lateness=2 * tick, hold=5 * tick, gap=30 * tick)


class Aligned(NamedTuple):
    """What came out of some readings. `late` and `duplicates` count readings that were not used."""

    samples: Samples
    late: int
    duplicates: int


class _Rows(NamedTuple):
    """Readings of one asset, tag order of the aligner; quality MISSING where nothing came."""

    times: Int64[np.ndarray, " row"]
    values: Float[np.ndarray, "row tag"]
    quality: UInt8[np.ndarray, "row tag"]

    @property
    def present(self) -> Bool[np.ndarray, "row tag"]:
        here: np.ndarray = self.quality != Quality.MISSING
        return here

    def take(self, rows: slice | np.ndarray) -> _Rows:
        return _Rows(self.times[rows], self.values[rows], self.quality[rows])

    def then(self, other: _Rows) -> _Rows:
        return _Rows(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Aligner:
    """Alignment of one asset, stateful: push readings as they come, get the samples that are finished.

    A tag's value at a tick is its newest reading not after the tick's time and not older than `hold` before the tick
    begins; if that reading is BAD or not finite, the value is missing with quality BAD. A tick is finished when the
    watermark reaches it; a reading not after a finished tick is late. Of readings of one tag and time the first that
    came counts, the others are duplicates. If no reading fell into the ticks between two for longer than `gap`, those
    ticks are left out and the next sample restarts; shorter holes are samples like any other.

    Conservation (guarantee G1): readings pushed = Σ samples.readings + late + duplicates + ignored + pending.
    Memory: samples at ticks ≥ t depend only on readings after t - hold - 2·tick; only `restart`, and whether the ticks
    of a hole are given out at all, depend on when the reading before the hole was.
    """

    def __init__(self, asset: str, tags: tuple[str, ...], policy: AlignmentPolicy) -> None:
        if len(set(tags)) != len(tags):
            raise DataError(f"{asset}: a tag is named twice in {tags}")
        self._asset = asset
        self._tags = tags
        self._policy = policy
        self._newest = NEVER
        self._closed: int | None = None  # last finished tick; readings up to it are late
        self._emitted = 0  # last tick given out or left out; meaningless until `_last` is known
        self._last: int | None = None  # newest finished tick that held a reading
        self._waiting = _blank(0, len(tags))  # sorted by time, one row per time
        self._plain: Waiting | None = None  # if not None: what waits instead, and the row to carry
        self._carry = _blank(1, len(tags))
        self._carry_times = np.full(len(tags), NEVER, dtype=np.int64)
        self.ignored = 0
        """Readings of tags that are not this aligner's."""

    @property
    def pending(self) -> int:
        """Readings held that are in no sample yet."""
        if self._plain is not None:
            return len(self._plain.times) * len(self._tags)
        return int(np.count_nonzero(self._waiting.present))

    @property
    def watermark(self) -> int | None:
        """Newest event time less lateness, ns; None before the first reading."""
        return None if self._newest == NEVER else self._newest - self._policy.lateness

    def push(self, readings: Readings) -> Aligned:
        """Take readings in the order they came; give the samples they finish.

        Fails with DataError if they are of another asset.
        """
        self._settle()
        late, duplicates = (0, 0) if self._follows_on(readings) else self._accept(readings)
        return Aligned(self._emit(self._finished()), late, duplicates)

    def push_plain(self, rows: PlainRows) -> Samples | None:
        """What `push` gives, where the rows follow on and every tick since the last sample holds just one; else None.

        Then nothing was done: push them as readings. It is the quick way for a few rows.
        """
        if self._last is None or self._closed is None or self._emitted != self._last:
            return None
        if rows.tags != self._tags or rows.asset != self._asset or self._policy.gap < self._policy.tick:
            return None
        waiting = self._plain or self._as_plain()
        if waiting is None or rows.times[0] <= self._newest or self._is_closed(rows.times[0]):
            return None
        times, last, tick = waiting.times + rows.times, self._last, self._policy.tick
        through = max((times[-1] - self._policy.lateness) // tick, self._closed)
        count = through - last
        if not one_a_tick(times, last * tick, tick, count):
            return None
        values = waiting.values + rows.values
        carry = (times[count - 1], values[count - 1]) if count else waiting.carry
        self._plain = Waiting(times[count:], values[count:], carry)
        self._newest, self._closed, self._last, self._emitted = times[-1], through, through, through
        return dense_samples(self._asset, self._tags, range(last + 1, through + 1), tick, values[:count])

    def _as_plain(self) -> Waiting | None:
        """What waits as plain rows, if it is such."""
        if self._waiting.quality.any() or not np.isfinite(self._waiting.values).all():
            return None
        return Waiting(self._waiting.times.tolist(), self._waiting.values.tolist(), None)

    def _settle(self) -> None:
        """What waits as arrays again."""
        plain, self._plain = self._plain, None
        if plain is None:
            return
        rows, tags = len(plain.times), len(self._tags)
        values = np.array(plain.values, dtype=np.float64).reshape(rows, tags)
        self._waiting = _Rows(np.array(plain.times, dtype=np.int64), values, all_good(rows, tags))
        if plain.carry is not None:
            time, row = plain.carry
            self._carry = _Rows(self._carry.times, np.array([row], dtype=np.float64), all_good(1, tags))
            self._carry_times = np.full(tags, time, dtype=np.int64)

    def follows(self, readings: Readings | PlainRows, newest: int | None = None) -> bool:
        """Whether all readings are newer than all before (or than `newest`, ns), and in time order."""
        times = readings.times
        if not len(times):
            return False
        if int(times[0]) <= (self._newest if newest is None else newest) or self._is_closed(int(times[0])):
            return False
        return len(times) == 1 or bool((np.diff(times) > 0).all())

    def _is_closed(self, time: int) -> bool:
        return self._closed is not None and time <= self._closed * self._policy.tick

    def _follows_on(self, readings: Readings) -> bool:
        """Take in readings of which none can be late, duplicate or unknown, and say whether they were such.

        The quick way through `_accept`, which would do the same with them.
        """
        if readings.asset != self._asset or readings.tags != self._tags or not self.follows(readings):
            return False
        good = readings.quality < Quality.BAD
        if not (good.all() and np.isfinite(readings.values).all()):
            return False
        rows = _Rows(readings.times, readings.values, readings.quality)
        self._waiting = self._waiting.then(rows)
        self._newest = int(readings.times[-1])
        return True

    def flush(self) -> Aligned:
        """End of input: give all samples up to the newest reading. What comes later and is not newer is late."""
        self._settle()
        newest = None if self._newest == NEVER else -(-self._newest // self._policy.tick)
        return Aligned(self._emit(newest), 0, 0)

    def _finished(self) -> int | None:
        """The last tick the watermark has reached."""
        watermark = self.watermark
        if watermark is None:
            return None
        reached = watermark // self._policy.tick
        return reached if self._closed is None else max(reached, self._closed)

    def _accept(self, readings: Readings) -> tuple[int, int]:
        """Sort readings into waiting, late, duplicate and ignored; returns the counts of late and duplicate."""
        if readings.asset != self._asset:
            raise DataError(f"readings of {readings.asset} came to the aligner of {self._asset}")
        rows = self._choose(readings)
        present = rows.present
        counts = present.sum(axis=1)
        known = np.where(counts > 0, rows.times, NEVER)
        before = np.maximum.accumulate(np.concatenate([[self._newest], known]))
        tick = self._policy.tick
        finished = (before[:-1] - self._policy.lateness) // tick
        if self._closed is not None:
            finished = np.maximum(finished, self._closed)
        late = (rows.times <= finished * tick) & (before[:-1] > NEVER)
        self._newest = int(before[-1])
        fresh = rows.take(~late & (counts > 0))
        self._waiting, duplicates = _merge(self._waiting.then(fresh))
        return int(counts[late].sum()), duplicates

    def _choose(self, readings: Readings) -> _Rows:
        """The readings of our tags in our order; unknown tags are counted as ignored, non-finite values are BAD."""
        present = readings.quality != Quality.MISSING
        unknown = [tag not in self._tags for tag in readings.tags]
        self.ignored += int(np.count_nonzero(present[:, unknown]))
        rows = _blank(len(readings), len(self._tags))
        rows.times[:] = readings.times
        target = [self._tags.index(tag) for tag in readings.tags if tag in self._tags]
        source = [column for column, is_unknown in enumerate(unknown) if not is_unknown]
        values, quality = readings.values[:, source], readings.quality[:, source]
        bad = (quality != Quality.MISSING) & ((quality > Quality.UNCERTAIN) | ~np.isfinite(values))
        rows.values[:, target] = np.where(bad | ~present[:, source], np.nan, values)
        rows.quality[:, target] = np.where(bad, np.uint8(Quality.BAD), quality)
        return rows

    def _emit(self, through: int | None) -> Samples:
        """Samples of the ticks up to `through` that are certain, and forget the readings they hold."""
        if through is None:
            return _samples(self._asset, self._tags, 0)
        self._closed = through
        count = int(np.searchsorted(self._waiting.times, through * self._policy.tick, side="right"))
        ready, rest = self._waiting.take(slice(count)), self._waiting.take(slice(count, None))
        self._waiting = _Rows(*(column.copy() for column in rest)) if count else rest  # not a view of all that came
        row_ticks = _tick_of(ready.times, self._policy.tick)
        if count and self._is_dense(row_ticks, through):
            return self._pass(row_ticks, ready)
        ticks, restart = self._ticks(np.unique(row_ticks), through)
        samples = self._fill(ticks, restart, ready)
        np.add.at(samples.readings, np.searchsorted(ticks, row_ticks), ready.present.sum(axis=1))
        return samples

    def _is_dense(self, row_ticks: Int64[np.ndarray, " row"], through: int) -> bool:
        """Whether every tick since the last given out, and none beyond `through`, holds exactly one of the rows."""
        first, last = int(row_ticks[0]), int(row_ticks[-1])
        if self._last is None or first != self._last + 1 or self._emitted != self._last or last != through:
            return False
        if self._policy.gap < self._policy.tick:  # then even a tick is a gap
            return False
        return last - first + 1 == len(row_ticks) and bool((row_ticks[1:] > row_ticks[:-1]).all())

    def _pass(self, row_ticks: Int64[np.ndarray, " row"], ready: _Rows) -> Samples:
        """What `_ticks` and `_fill` give for dense rows: every row is a sample, as far as all its tags came."""
        restart = np.zeros(len(row_ticks), dtype=bool)
        present = ready.present
        counts = present.sum(axis=1, dtype=np.int64)
        if not bool(present.all()):
            samples = self._fill(row_ticks, restart, ready)
            samples.readings[:] = counts
        else:
            mask = ready.quality < Quality.BAD
            values = ready.values if mask.all() else np.where(mask, ready.values, np.nan)
            ends = row_ticks * self._policy.tick
            samples = Samples(self._asset, self._tags, ends, values, mask, ready.quality, restart, counts)
            self._carry = _Rows(self._carry.times, ready.values[-1:].copy(), ready.quality[-1:].copy())
            self._carry_times = np.full(len(self._tags), ready.times[-1], dtype=np.int64)
        self._last = self._emitted = int(row_ticks[-1])
        return samples

    def _ticks(
        self, filled: Int64[np.ndarray, " filled"], through: int
    ) -> tuple[Int64[np.ndarray, " tick"], Bool[np.ndarray, " tick"]]:
        """Ticks to give out, given those that hold readings; and where history restarts."""
        longest = self._policy.gap // self._policy.tick
        last, first = self._last, len(filled) > 0 and self._last is None
        if first:
            last, self._emitted = int(filled[0]), int(filled[0]) - 1
        if last is None:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)
        steps = np.diff(filled, prepend=last)
        gaps = steps > longest
        lengths = np.where(gaps | (steps == 0), 1, steps)
        stop = np.repeat(filled, lengths)
        offset = np.arange(len(stop)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        ticks = stop - np.repeat(lengths, lengths) + 1 + offset
        restart = np.repeat(gaps, lengths)
        restart[:1] |= first
        self._last = int(filled[-1]) if len(filled) else last
        tail = np.arange(self._last + 1, self._tail_end(through, longest) + 1)
        fresh = np.concatenate([ticks, tail]) > self._emitted
        ticks = np.concatenate([ticks, tail])[fresh]
        self._emitted = int(ticks[-1]) if len(ticks) else self._emitted
        return ticks, np.concatenate([restart, np.zeros(len(tail), dtype=bool)])[fresh]

    def _tail_end(self, through: int, longest: int) -> int:
        """Last tick after the newest reading given out that is certain to be no part of a gap."""
        assert self._last is not None
        if not len(self._waiting.times):
            return self._last
        following = int(_tick_of(self._waiting.times[:1], self._policy.tick)[0])
        return through if following - self._last <= longest else self._last

    def _fill(self, ticks: Int64[np.ndarray, " tick"], restart: Bool[np.ndarray, " tick"], ready: _Rows) -> Samples:
        """The samples of those ticks: newest reading of each tag, unless too old or bad."""
        present = ready.present
        number = np.arange(1, len(ready.times) + 1)[:, None]
        newest = np.zeros((len(ready.times) + 1, len(self._tags)), dtype=np.intp)
        newest[1:] = np.maximum.accumulate(np.where(present, number, 0), axis=0)
        rows = self._carry.then(ready)
        times = np.concatenate([self._carry_times[None], np.repeat(ready.times[:, None], len(self._tags), axis=1)])
        ends = ticks * self._policy.tick
        source = newest[np.searchsorted(ready.times, ends, side="right")]
        young = np.take_along_axis(times, source, 0) > (ends - self._policy.hold - self._policy.tick)[:, None]
        quality = np.where(young, np.take_along_axis(rows.quality, source, 0), np.uint8(Quality.MISSING))
        mask = quality < Quality.BAD
        last = newest[-1:]
        self._carry = _Rows(
            self._carry.times, np.take_along_axis(rows.values, last, 0), np.take_along_axis(rows.quality, last, 0)
        )
        self._carry_times = np.take_along_axis(times, last, 0)[0]
        values = np.where(mask, np.take_along_axis(rows.values, source, 0), np.nan)
        return Samples(self._asset, self._tags, ends, values, mask, quality, restart, np.zeros(len(ticks), np.int64))


def align(readings: Readings, tags: tuple[str, ...], policy: AlignmentPolicy) -> Aligned:
    """All readings of one asset as samples, for training and evaluation; equal to pushing them and flushing.

    >>> second = 1_000_000_000
    >>> values = np.array([[5.0], [6.0], [7.0]])
    >>> seen = Readings("a", ("t",), np.array([1, 2, 2]) * second, values, np.zeros((3, 1), np.uint8))
    >>> samples, late, duplicates = align(seen, ("t",), AlignmentPolicy.of(second))
    >>> samples.values.ravel().tolist(), late, duplicates
    ([5.0, 6.0], 0, 1)
    """
    aligner = Aligner(readings.asset, tags, policy)
    late, duplicates = aligner._accept(readings)
    return Aligned(aligner.flush().samples, late, duplicates)


def _tick_of(times: Int64[np.ndarray, " row"], tick: int) -> Int64[np.ndarray, " row"]:
    """Number of the tick that covers each time."""
    return -((-times) // tick)


def _blank(rows: int, tags: int) -> _Rows:
    """Rows in which nothing came."""
    return _Rows(
        np.zeros(rows, dtype=np.int64),
        np.full((rows, tags), np.nan),
        np.full((rows, tags), Quality.MISSING, dtype=np.uint8),
    )


def _samples(asset: str, tags: tuple[str, ...], rows: int) -> Samples:
    """No samples yet."""
    blank = _blank(rows, len(tags))
    return Samples(
        asset,
        tags,
        *blank[:2],
        np.zeros((rows, len(tags)), bool),
        blank.quality,
        np.zeros(rows, bool),
        blank.times.copy(),
    )


def _merge(rows: _Rows) -> tuple[_Rows, int]:
    """One row per time, sorted; of readings of one tag and time the first stays. Also counts the ones dropped."""
    if len(rows.times) < 2 or bool(np.all(rows.times[1:] > rows.times[:-1])):
        return rows, 0
    rows = rows.take(np.argsort(rows.times, kind="stable"))
    starts = np.flatnonzero(np.concatenate([[True], rows.times[1:] != rows.times[:-1]]))
    present = rows.present
    number = np.where(present, np.arange(len(rows.times))[:, None], len(rows.times))
    winner = np.minimum.reduceat(number, starts, axis=0)
    duplicates = int(np.count_nonzero(present) - np.count_nonzero(winner < len(rows.times)))
    padded = rows.then(_blank(1, rows.values.shape[1]))
    values, quality = (np.take_along_axis(column, winner, 0) for column in (padded.values, padded.quality))
    return _Rows(rows.times[starts], values, quality), duplicates
