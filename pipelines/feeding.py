"""Sources → readings topic: what stands in for the plant's own producers when we run embedded."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Iterator, Sequence

from anomaly.blocks import rows
from anomaly.domain import SECOND, Readings
from pipelines import codec, topics
from pipelines.ports import Clock, Log, NewRecord


def append(log: Log, blocks: Sequence[Readings]) -> int:
    """Append blocks as column batches keyed by asset, durably; returns how many readings they hold. Rows of empty cells
    alone are no readings, and are not sent.

    Raises StorageError.
    """
    log.append(
        [
            NewRecord(topics.READINGS, block.asset.encode(), value)
            for block in blocks
            if block.count
            for value in codec.split_readings(block)
        ]
    )
    return sum(block.count for block in blocks)


def interleaved(streams: Sequence[Iterable[Readings]], span: int) -> Iterator[Readings]:
    """Blocks of many assets in order of their first time, none spanning more than `span` ns."""

    def cut(stream: Iterable[Readings]) -> Iterator[tuple[int, Readings]]:
        for block in stream:
            yield from ((int(part.times[0]), part) for part in pieces(block, span))

    for _, block in heapq.merge(*(cut(stream) for stream in streams), key=lambda item: item[0]):
        yield block


def pieces(block: Readings, span: int) -> Iterator[Readings]:
    """The block cut, in its own order, wherever its times leave the span that a piece began."""
    first = 0
    for row in range(1, len(block) + 1):
        if row == len(block) or abs(int(block.times[row]) - int(block.times[first])) >= span:
            yield rows(block, slice(first, row))
            first = row


def feed(
    log: Log, blocks: Iterable[Readings], stop: threading.Event, *, clock: Clock, speed: float | None = None
) -> int:
    """Append all blocks, at `speed` times event time (None: as fast as the log takes them); returns the readings.

    Stops early, between two blocks, when `stop` is set. Raises StorageError.
    """
    readings, started, origin = 0, clock.now(), None
    for block in blocks:
        if stop.is_set():
            break
        if speed is not None and len(block):
            origin = int(block.times[0]) if origin is None else origin
            due = (int(block.times[-1]) - origin) / speed - (clock.now() - started)
            if stop.wait(max(0.0, due / SECOND)):
                break
        readings += append(log, [block])
    return readings
