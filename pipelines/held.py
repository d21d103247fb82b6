"""Readings of one asset that came in several records of one poll, kept to be aligned and judged together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from anomaly.domain import SECOND, Asset
from anomaly.plain_rows import PlainRow, PlainRows, Rows, together
from pipelines.partition_state import IDLE_LIMIT, PartitionState
from pipelines.ports import Record
from pipelines.streams import AssetStream, Pushed

CLOCK_TOLERANCE: Final = 300 * SECOND
"""Readings so much behind the asset's newest are the device's clock, not the network's delay, ns."""


@dataclass(slots=True)
class Held:
    """Blocks of readings that simply follow each other: what comes of them is what comes of one after the other."""

    state: PartitionState
    stream: AssetStream
    refilling: bool
    """Whether what comes of them is out already."""
    offset: int
    """Of the newest record."""
    blocks: list[Rows] = field(default_factory=list)

    def takes(self, readings: Rows, refilling: bool, append_time: int) -> bool:
        """Whether the next block of the asset may wait with these."""
        newest = self.blocks[-1]
        return (
            refilling == self.refilling
            and readings.tags == newest.tags
            and append_time - self.stream.last_append <= IDLE_LIMIT
            and self.stream.follows(readings, int(newest.times[-1]))
        )

    def take_row(self, row: PlainRow, record: Record) -> bool:
        """Add the row, if it is yet another that may wait with plain ones; else nothing is done.

        It is newer than what waits, and so as surely in time as that was: `takes` would say the same.
        """
        newest = self.blocks[-1]
        if type(newest) is not PlainRows or row.time <= newest.times[-1] or row.tags != newest.tags:
            return False
        if (record.offset < self.state.next_offset) is not self.refilling:
            return False
        if record.time - self.stream.last_append > IDLE_LIMIT:
            return False
        newest.times.append(row.time)
        newest.values.append(row.values)
        self.offset = record.offset
        self.stream.note_time(row.time, record.offset, record.time)
        return True


class Intake:
    """Readings of one poll on their way into the windows. `done` is told what came of those that waited together."""

    def __init__(self, done: Callable[[Held, Rows, Pushed], None]) -> None:
        self._done = done
        self._held: dict[tuple[int, str], Held] = {}

    def take_row(self, number: int, record: Record, row: PlainRow) -> bool:
        """Let the row wait with those before it, if it simply follows; else nothing is done."""
        held = self._held.get((number, row.asset))
        return held is not None and held.take_row(row, record)

    def take(self, state: PartitionState, record: Record, asset: Asset, readings: Rows) -> bool:
        """Let the readings wait for those that follow them; what does not simply follow on is taken in by itself.

        Returns whether they came so late, all of them, that the device's clock must be wrong.
        """
        refilling = record.offset < state.next_offset  # what came of it is out already
        held = self._held.get((state.number, asset.path))
        if held is not None and not held.takes(readings, refilling, record.time):
            self._let_in(self._held.pop((state.number, asset.path)))
            held = None
        stream = held.stream if held is not None else state.stream(asset, record.time)
        follows = held is not None or stream.follows(readings)
        ahead = None if follows else stream.watermark
        stream.note(readings, record.offset, record.time)
        state.silent.pop(asset.path, None)
        if held is None:
            held = Held(state, stream, refilling, record.offset)
        held.blocks.append(readings)
        held.offset = record.offset
        if follows:
            self._held[state.number, asset.path] = held
            return False
        late = self._let_in(held).late
        return ahead is not None and late == readings.count and not refilling and _behind(readings, ahead)

    def release(self) -> None:
        """Take in all readings that wait."""
        held, self._held = self._held, {}
        for one in held.values():
            self._let_in(one)

    def _let_in(self, held: Held) -> Pushed:
        readings = together(held.blocks)
        pushed = held.stream.take(readings)
        self._done(held, readings, pushed)
        return pushed


def _behind(readings: Rows, watermark: int) -> bool:
    return len(readings) > 0 and int(np.max(readings.times)) < watermark - CLOCK_TOLERANCE
