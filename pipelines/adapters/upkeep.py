"""How long a log keeps its records: the part of the embedded logs that forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY: Final = 24 * 3600 * 1_000_000_000
"""Nanoseconds in a day."""
TOMBSTONE_AGE: Final = DAY
"""A tombstone stays so long (by append time) that a reader who began before it still sees it (Kafka's default)."""
COMPACT_AT: Final = 1_000
"""A partition is compacted once so many records, and as many as it kept last time, came after the last compaction."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What a topic may forget: records older than `age` ns by append time; the oldest beyond `size` bytes of keys and
    values a partition. None: never. As in Kafka, it does not ask whether a group has read them.
    """

    age: int | None = None
    size: int | None = None
