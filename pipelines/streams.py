"""What the score service remembers of one asset: a function of its records since `rewind` (guarantee G4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from anomaly.alignment import NEVER, Aligned, Aligner, AlignmentPolicy
from anomaly.domain import Asset, Samples
from anomaly.newest_faults import Known
from anomaly.plain_rows import PlainRows, Rows, as_readings
from anomaly.sensors import HORIZON
from anomaly.windows import WindowBuffer

LONGEST_WINDOW: Final = 128
"""Rows a model's window may have at most; longer ones cannot be rebuilt from the rewind offset and are refused."""
MEMORY: Final = HORIZON + LONGEST_WINDOW
"""Rows that are kept, since they may still influence a score."""


class Pushed(NamedTuple):
    """What one block of readings did: rows kept and new (from `first` on), and readings that ended elsewhere."""

    samples: Samples
    first: int
    late: int
    duplicates: int
    ignored: int


MERGED: Final = 8
"""So many records share a mark: a restart reads a few more than it must, and an asset remembers tens, not hundreds."""


@dataclass(slots=True)
class _Mark:
    """Up to `MERGED` records that came one after the other: offset of the first, newest event time (ns) of all."""

    offset: int
    newest: int
    records: int = 1


class AssetStream:
    """Alignment, recent samples and the records they came from, of one asset."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self._mode = asset.mode
        self._policy = AlignmentPolicy.of(asset.tick)
        self._aligner = Aligner(asset.path, tuple(tag.name for tag in asset.tags), self._policy)
        self._buffer = WindowBuffer(MEMORY)
        self._marks: deque[_Mark] = deque()
        self._newest_mark = NEVER
        self.known: Known | None = None
        """Sensor faults of the rows that are kept, by the limits of the detector that judged them last."""
        self._oldest_kept: int | None = None
        self.last_append = 0
        """Append time of the newest record, ns."""
        self.newest = 0
        """Event time of the newest reading, ns."""
        self.off = False
        """Whether the machine was off by its newest sample: then nobody expects it to send."""

    @property
    def watermark(self) -> int | None:
        """Event time (ns) up to which samples were made; None before the first reading."""
        return self._aligner.watermark

    @property
    def pending(self) -> int:
        """Readings held that are in no sample yet."""
        return self._aligner.pending

    def push(self, readings: Rows, offset: int, append_time: int) -> Pushed:
        """Take in one block that came with the record at `offset`."""
        self.note(readings, offset, append_time)
        return self.take(readings)

    def follows(self, readings: Rows, newest: int | None = None) -> bool:
        """Whether the readings are newer than all before (or than `newest`, ns) and in order: they may be taken later,
        together with those that follow them, and end as if they had been taken one by one.
        """
        return self._aligner.follows(readings, newest)

    def note(self, readings: Rows, offset: int, append_time: int) -> None:
        """The readings of the record at `offset` came; `take` is to follow."""
        self.last_append = append_time
        if len(readings):
            newest = int(readings.times[0] if len(readings) == 1 else np.max(readings.times))
            self.note_time(newest, offset, append_time)

    def note_time(self, newest: int, offset: int, append_time: int) -> None:
        """The same, of readings of which the newest is of time `newest` (ns)."""
        self.last_append = append_time
        self.newest = max(self.newest, newest)
        self._newest_mark = max(self._newest_mark, newest)
        if self._marks and (mark := self._marks[-1]).records < MERGED:
            mark.records += 1
            mark.newest = max(mark.newest, newest)
        else:
            self._marks.append(_Mark(offset, newest))

    def take(self, readings: Rows) -> Pushed:
        """Take in readings that were noted, of one record or of several that follow each other."""
        plain = self._aligner.push_plain(readings) if isinstance(readings, PlainRows) else None
        if plain is not None:
            return self._keep(Aligned(plain, 0, 0), 0)
        ignored = self._aligner.ignored
        aligned = self._aligner.push(as_readings(readings))
        return self._keep(aligned, self._aligner.ignored - ignored)

    def _keep(self, aligned: Aligned, ignored: int) -> Pushed:
        samples, first = self._buffer.push(aligned.samples)
        if first < (rows := len(samples)):
            self._oldest_kept = int(samples.times[max(0, rows - MEMORY)])
            self.off = self._is_off(samples)
        self._forget()
        return Pushed(samples, first, aligned.late, aligned.duplicates, ignored)

    def _is_off(self, samples: Samples) -> bool:
        mode = self._mode
        if mode is None or not mode.running:
            return False
        column = samples.tags.index(mode.name)
        if not samples.mask[-1, column]:
            return self.off
        return float(samples.values[-1, column]) not in mode.running

    def _forget(self) -> None:
        """Drop marks of records that can no longer influence a sample that is kept."""
        if self._oldest_kept is None:
            return
        needed = self._oldest_kept - self._policy.hold - 2 * self._policy.tick
        while len(self._marks) > 1 and self._marks[0].newest < min(needed, self._newest_mark):
            self._marks.popleft()

    @property
    def rewind(self) -> int | None:
        """Offset from which this state can be rebuilt; None if no record was needed yet."""
        return self._marks[0].offset if self._marks else None
