"""Readings of one asset that came in several records of one poll, kept to be aligned and judged together."""

from __future__ import annotations

from dataclasses import dataclass, field

from anomaly.plain_rows import PlainRow, PlainRows, Rows
from pipelines.partition_state import IDLE_LIMIT, PartitionState
from pipelines.ports import Record
from pipelines.streams import AssetStream


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
