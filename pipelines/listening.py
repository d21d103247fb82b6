"""Listening to the readings topic for a while, to learn what plant sends there; no consumer group is touched."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from anomaly.domain import SECOND, Readings
from anomaly.errors import DecodeError
from pipelines import topics
from pipelines.decoding import decode
from pipelines.formats import hints
from pipelines.formats.names import Format
from pipelines.formats.recognising import format_of
from pipelines.ports import Log, Partition, Record

_PAGE: Final = 500
_PAUSE_S: Final = 0.2
_BEHIND: Final = 3600 * SECOND
"""An asset whose newest readings are older than this when they come has a wrong clock or zone, or sends history."""


@dataclass(slots=True)
class Heard:
    """What came, and how."""

    records: int = 0
    readings: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """By reason of refusal: where the first such record lies, and what is wrong with it."""
    keyless: int = 0
    partitions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By asset."""
    behind: dict[str, int] = field(default_factory=dict)
    """By asset: least time from a reading's event to its append, ns."""
    hints: set[hints.Hint] = field(default_factory=set)


class Listener:
    """Reads the newest `records` of the topic, then what comes, until `seconds` have passed or so many were read."""

    def __init__(
        self,
        log: Log,
        wanted: Format,
        *,
        records: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.heard = Heard()
        self._log, self._wanted, self._records, self._seconds = log, wanted, records, seconds
        self._clock, self._wait = clock, wait

    def blocks(self) -> Iterator[Readings]:
        """The readings, partition by partition and page by page. Ctrl-C ends it as the time does.

        Raises StorageError, Unreachable, ConfigurationError.
        """
        until = self._clock() + self._seconds
        following = self._starts()
        with hints.collected() as self.heard.hints:
            while self.heard.records < self._records:
                came = 0
                for partition, offset in following.items():
                    page = self._log.read(partition, offset, _PAGE)
                    for record in page:
                        yield from self._taken(record)
                    came += len(page)
                    following[partition] = page[-1].offset + 1 if page else offset
                if not came:
                    left = until - self._clock()
                    if left <= 0 or not self._waited(min(left, _PAUSE_S)):
                        return

    def _starts(self) -> dict[Partition, int]:
        """Where to begin: the newest records, as many of each partition."""
        ends = self._log.ends(topics.READINGS)
        share = max(1, self._records // max(1, len(ends)))
        return {partition: max(start, end - share) for partition, (start, end) in ends.items()}

    def _waited(self, seconds: float) -> bool:
        try:
            self._wait(seconds)
        except KeyboardInterrupt:
            return False
        return True

    def _taken(self, record: Record) -> tuple[Readings, ...]:
        heard = self.heard
        heard.records += 1
        try:
            blocks = decode(record.value, record.key, record.time, record.headers, self._wanted)
            found = format_of(record.value or b"", record.headers, self._wanted)
        except DecodeError as error:
            heard.refused[error.reason] += 1
            heard.examples.setdefault(error.reason, f"partition {record.partition.number} at {record.offset}: {error}")
            return ()
        heard.formats[str(found or self._wanted)] += 1
        heard.keyless += not record.key
        for block in blocks:
            heard.readings += block.count
            heard.partitions[block.asset].add(record.partition.number)
            behind = record.time - int(block.times.max())
            heard.behind[block.asset] = min(behind, heard.behind.get(block.asset, behind))
        return blocks


def advice(heard: Heard) -> Iterator[str]:
    """What a person should mend in how the readings come, most harmful first."""
    spread = [asset for asset, numbers in heard.partitions.items() if len(numbers) > 1]
    if spread:
        yield (
            f"{_some(spread)}: readings lie on several partitions, so no worker sees them all and no window is whole; "
            "set the record's key to the machine's path, and let one program send it: each hashes keys its own way"
        )
    elif heard.keyless and heard.partitions:
        yield f"{heard.keyless} records have no key, so they spread over partitions; set it to the machine's path"
    late = [asset for asset, behind in heard.behind.items() if behind > _BEHIND]
    if late:
        hours = max(heard.behind[asset] for asset in late) / _BEHIND
        yield (
            f"{_some(late)}: even the newest readings are dated more than 1 h (up to {hours:.1f} h) before they came; "
            "unless that is history, a clock or a time zone is wrong"
        )
    for hint in sorted(heard.hints):
        yield hints.TEXT[hint]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
