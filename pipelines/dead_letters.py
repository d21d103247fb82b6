"""Messages that could not be read: what they are, and sending them again once the cause is mended.

What was sent again is known by committed positions of the group `dead-letters-replay`: everything below the offset, and
beyond it, per reason, everything below the offset that the commit's metadata names for the reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from anomaly.errors import DataError, StorageLocked
from pipelines import topics
from pipelines.codec import SIZE_LIMIT
from pipelines.ports import Consumer, Log, NewRecord, Partition, Position, Record

GROUP: Final = "dead-letters-replay"
OURS: Final = frozenset(
    {"x-reason", "x-exception", "x-orig-topic", "x-orig-partition", "x-orig-offset", "x-orig-ts", "x-cut-from"}
)
"""Headers of a dead letter that say why and where from; all others came with the message."""
_PAGE: Final = 200
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that was set aside. `offset`: on the dead-letters topic; `origin` and `origin_offset`: where it came
    from; `replayed`: whether it was sent again.
    """

    partition: Partition
    offset: int
    time: int
    """Append time of the log when it was set aside, ns."""
    reason: str
    exception: str
    origin: Partition
    origin_offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    """The message's own: they may say its format."""
    replayed: bool

    @property
    def too_large(self) -> bool:
        """Whether it is never sent again: it would be refused again, and its topic may not even take it unpacked."""
        return len(self.value or b"") > SIZE_LIMIT

    @property
    def waits(self) -> bool:
        """Whether it can be sent again and was not."""
        return not self.replayed and not self.too_large


@dataclass(slots=True)
class _Done:
    """How far one partition was sent again: all below `offset`, and below `reasons[reason]` those of the reason."""

    offset: int
    reasons: dict[str, int]

    def has(self, offset: int, reason: str) -> bool:
        return offset < max(self.offset, self.reasons.get(reason, 0))

    def position(self) -> Position:
        kept = {reason: at for reason, at in self.reasons.items() if at > self.offset}
        return Position(self.offset, json.dumps(kept, separators=(",", ":"), sort_keys=True) if kept else "")


def letters(log: Log, reason: str | None = None) -> Iterator[DeadLetter]:
    """Every dead letter still on the log (of that reason), oldest first within its partition. Raises StorageError."""
    committed = log.committed(GROUP, topics.DEAD_LETTERS)
    for partition, (start, end) in log.ends(topics.DEAD_LETTERS).items():
        done = _done(committed.get(partition))
        for record in _records(log, partition, start, end):
            letter = _letter(record, done)
            if reason is None or letter.reason == reason:
                yield letter


def replay(log: Log, reason: str | None = None) -> int:
    """Append what was set aside (for that reason) and not yet sent again, with its own bytes, key and headers, to the
    topic and partition it came from; returns how many. What is refused again becomes a new dead letter, which is not
    sent again by this call. What is larger than may be read is passed over.

    Pages of messages are appended, then committed: a crash in between sends a page twice, which harms nobody. Raises
    StorageLocked if another process is at it, StorageError, DataError for a message that does not say its origin.
    """
    count = 0
    ends = log.ends(topics.DEAD_LETTERS)
    with _member(log) as (consumer, positions):
        for partition, (start, end) in ends.items():
            done = _done(positions.get(partition))
            first = max(start, done.offset if reason is None else max(done.offset, done.reasons.get(reason, 0)))
            for page in _pages(log, partition, first, end):
                found = [_letter(record, done) for record in page]
                wanted = [one for one in found if one.waits and reason in (None, one.reason)]
                log.append(
                    [NewRecord(one.origin.topic, one.key, one.value, one.headers, one.origin.number) for one in wanted]
                )
                count += len(wanted)
                _note(done, reason, page[-1].offset + 1)
                consumer.commit({partition: done.position()})
    return count


def _note(done: _Done, reason: str | None, until: int) -> None:
    if reason is None:
        done.offset = max(done.offset, until)
    else:
        done.reasons[reason] = max(done.reasons.get(reason, 0), until)


def _done(position: Position | None) -> _Done:
    if position is None:
        return _Done(0, {})
    return _Done(position.offset, json.loads(position.metadata) if position.metadata else {})


@contextmanager
def _member(log: Log) -> Iterator[tuple[Consumer, Mapping[Partition, Position]]]:
    """The one member of the group, and its positions. Raises StorageLocked if another process has them."""
    consumer = log.join(GROUP, [topics.DEAD_LETTERS])
    positions: dict[Partition, Position] = {}
    mine: set[Partition] = set()
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while mine != set(log.ends(topics.DEAD_LETTERS)):
            if time.monotonic() > deadline:
                raise StorageLocked("another process is replaying the dead letters; expected none; wait until it ends")
            for partition, position in dict(consumer.poll(1, 0.2).assigned).items():
                mine.add(partition)
                if position is not None:
                    positions[partition] = position
        yield consumer, positions
    finally:
        consumer.close()


def _records(log: Log, partition: Partition, start: int, end: int) -> Iterator[Record]:
    for page in _pages(log, partition, start, end):
        yield from page


def _pages(log: Log, partition: Partition, start: int, end: int) -> Iterator[tuple[Record, ...]]:
    """Records in [start, end), some at a time."""
    while start < end:
        page = tuple(record for record in log.read(partition, start, _PAGE) if record.offset < end)
        if not page:
            return
        yield page
        start = page[-1].offset + 1


def _letter(record: Record, done: _Done) -> DeadLetter:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    reason = headers.get("x-reason", "unknown")
    try:
        origin = Partition(headers["x-orig-topic"], int(headers["x-orig-partition"]))
        offset = int(headers["x-orig-offset"])
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{record.partition.topic} at {record.offset}: no origin in the headers ({', '.join(headers) or 'none'}); "
            "expected x-orig-topic, x-orig-partition and x-orig-offset, as plantwatch writes them"
        ) from error
    exception, replayed = headers.get("x-exception", ""), done.has(record.offset, reason)
    return DeadLetter(
        record.partition,
        record.offset,
        record.time,
        reason,
        exception,
        origin,
        offset,
        record.key,
        record.value,
        tuple(header for header in record.headers if header[0] not in OURS),
        replayed,
    )


def reasons(found: Iterable[DeadLetter]) -> dict[str, int]:
    """How many of each reason wait to be sent again, most first."""
    counts: dict[str, int] = {}
    for letter in found:
        if letter.waits:
            counts[letter.reason] = counts.get(letter.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
