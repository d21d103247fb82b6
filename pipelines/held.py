"""Readings of one asset that came in several records of one poll, kept to be aligned and judged together."""

from __future__ import annotations

from dataclasses import dataclass, field

from anomaly.domain import Readings
from pipelines.partition_state import IDLE_LIMIT, PartitionState
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
    blocks: list[Readings] = field(default_factory=list)

    def takes(self, readings: Readings, refilling: bool, append_time: int) -> bool:
        """Whether the next block of the asset may wait with these."""
        newest = self.blocks[-1]
        return (
            refilling == self.refilling
            and readings.tags == newest.tags
            and append_time - self.stream.last_append <= IDLE_LIMIT
            and self.stream.follows(readings, int(newest.times[-1]))
        )
