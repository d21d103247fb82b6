"""The embedded log: Kafka's contract in one SQLite file, for one machine and any number of its processes.

A record's row id is its partition's number in the file times 2⁴⁰ plus its offset, so a partition is one run of the
table's b-tree: append and read are a seek and a walk. Offsets are dense and never change; compaction and retention only
leave holes. Appends of all processes take turns (BEGIN IMMEDIATE). What `append` and `commit` have returned survives
`kill -9` of any process; for power cuts see `durable` in `sqlite.py`. Freed space is used again; the file does not
shrink.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from anomaly.errors import ConfigurationError, StorageError
from pipelines.adapters import sqlite_log_upkeep as upkeep
from pipelines.adapters.partitioning import home
from pipelines.adapters.sqlite import Database
from pipelines.adapters.sqlite_consumer import SqliteConsumer
from pipelines.adapters.sqlite_log_schema import SCHEMA, Slot, committed, create_topic, find_slots
from pipelines.adapters.upkeep import COMPACT_AT, Retention
from pipelines.ports import Clock, NewRecord, Partition, Position, Record

_Headers = tuple[tuple[str, bytes], ...]
_UPKEEP_S: Final = 30.0
_BYTES: Final = 32 * 2**20
"""One read brings at most so many bytes (and at least one record), so that memory stays flat on large records."""


@dataclass(slots=True)
class _Run:
    """What one append adds to one partition."""

    next: int
    records: int = 0
    size: int = 0


class SqliteLog:
    """A `Log` in the file `path`, made if it is not there. Thread-safe, and safe among processes of one machine.

    `clock` gives append times; `timer` (ns, monotonic, the same for all processes) the liveness of members, so that a
    scaled clock expires nobody. A member that does not poll for `session_s` is taken for dead; the death of its process
    is seen within a second. `retention` by topic is applied now and then while appending, and by `trim`.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        session_s: float = 60.0,
        patience_s: float = 5.0,
        durable: bool = False,
        max_bytes: int | None = None,
        retention: Mapping[str, Retention] | None = None,
        timer: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.database = Database(path, SCHEMA, patience_s=patience_s, durable=durable, max_bytes=max_bytes)
        self.session = int(session_s * 1e9)
        self.timer = timer
        self._clock = clock
        self._retention = dict(retention or {})
        self._slots: dict[str, tuple[Slot, ...]] = {}
        self._upkeep_at = time.monotonic() + _UPKEEP_S
        self._dirty = 0

    def create(self, topics: Mapping[str, int], compacted: frozenset[str] = frozenset()) -> None:
        """See `Log.create`."""
        with self.database.transaction() as connection:
            for topic, count in topics.items():
                create_topic(connection, topic, count, topic in compacted)

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """See `Log.append`. One transaction for the whole call."""
        if not records:
            return ()
        with self.database.transaction() as connection:
            rows, runs = self._rows(connection, records)
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
            connection.executemany(
                "UPDATE partitions SET next = ?, bytes = bytes + ?, dirty = dirty + ? WHERE id = ?",
                [(run.next, run.size, run.records, number) for number, run in runs.items()],
            )
        self._keep_up(len(records))
        return tuple(row[0] & (2**40 - 1) for row in rows)

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """See `Log.read`. Brings fewer than `limit` when they are large."""
        with self.database.snapshot() as connection:
            return tuple(self.fetch(connection, partition, offset, limit))

    def ends(self, topic: str) -> Mapping[Partition, tuple[int, int]]:
        """See `Log.ends`."""
        with self.database.snapshot() as connection:
            self.slots(connection, topic)
            rows = connection.execute(
                "SELECT number, start, next FROM partitions WHERE topic = ? ORDER BY number", (topic,)
            )
            return {Partition(topic, number): (start, end) for number, start, end in rows}

    def committed(self, group: str, topic: str) -> Mapping[Partition, Position]:
        """See `Log.committed`."""
        with self.database.snapshot() as connection:
            return committed(connection, group, topic)

    def join(self, group: str, topics: Sequence[str]) -> SqliteConsumer:
        """See `Log.join`. Raises ConfigurationError for an unknown topic."""
        with self.database.snapshot() as connection:
            for topic in topics:
                self.slots(connection, topic)
        return SqliteConsumer(self, group, tuple(topics))

    def close(self) -> None:
        """See `Log.close`."""
        self.database.close()

    def compact(self, topic: str) -> int:
        """Forget what newer records of the same key have replaced, and old tombstones; returns how many records."""
        with self.database.transaction() as connection:
            slots = self.slots(connection, topic)
            return sum(upkeep.compact(connection, slot.id, self._clock.now()) for slot in slots if slot.compacted)

    def trim(self) -> int:
        """Apply the retention now; returns how many records went. In short transactions: appends come between."""
        return sum(
            upkeep.trim(self.database, topic, rule, self._clock.now()) for topic, rule in self._retention.items()
        )

    def slots(self, connection: sqlite3.Connection, topic: str) -> tuple[Slot, ...]:
        """Where the partitions of a topic are, by number. Raises ConfigurationError for an unknown topic."""
        if topic not in self._slots:
            slots = find_slots(connection, topic)
            if not slots:
                raise ConfigurationError(
                    f"the log {self.database.path} has no topic {topic!r}; create it first, or correct its name"
                )
            self._slots[topic] = slots
        return self._slots[topic]

    def fetch(self, connection: sqlite3.Connection, partition: Partition, offset: int, limit: int) -> Iterator[Record]:
        """Records of one partition from `offset` on, until `limit` records or 32 MiB."""
        slots = self.slots(connection, partition.topic)
        if not 0 <= partition.number < len(slots):
            raise ConfigurationError(
                f"topic {partition.topic!r} has {len(slots)} partitions; there is no number {partition.number}"
            )
        base = slots[partition.number].base
        room = _BYTES
        for number, moment, key, value, headers in connection.execute(
            "SELECT id, time, key, value, headers FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (base + min(max(offset, 0), 2**40), base + 2**40, max(limit, 0)),
        ):
            decoded = () if headers is None else msgspec.msgpack.decode(headers, type=_Headers)
            yield Record(partition, number - base, key, value, decoded, moment)
            room -= len(value or b"")
            if room <= 0:
                return

    def _rows(
        self, connection: sqlite3.Connection, records: Sequence[NewRecord]
    ) -> tuple[list[tuple[int, int, bytes | None, bytes | None, bytes | None]], dict[int, _Run]]:
        now = self._clock.now()
        runs: dict[int, _Run] = {}
        rows = []
        for record in records:
            slots = self.slots(connection, record.topic)
            slot = slots[home(record, len(slots))]
            if slot.compacted and record.key is None:
                raise ConfigurationError(f"topic {record.topic!r} keeps the newest record of each key: give a key")
            run = runs.get(slot.id)
            if run is None:
                query = connection.execute("SELECT next FROM partitions WHERE id = ?", (slot.id,))
                run = runs[slot.id] = _Run(query.fetchone()[0])
            headers = msgspec.msgpack.encode(record.headers) if record.headers else None
            rows.append((slot.base + run.next, now, record.key, record.value, headers))
            run.next += 1
            run.records += 1
            run.size += len(record.key or b"") + len(record.value or b"")
        return rows, runs

    def _keep_up(self, appended: int) -> None:
        """Compaction and retention when due. What cannot be done now is done next time; the append is stored."""
        self._dirty += appended
        due = time.monotonic() >= self._upkeep_at
        if not due and self._dirty < COMPACT_AT:
            return
        self._dirty = 0
        with suppress(StorageError):
            with self.database.transaction() as connection:
                upkeep.compact_dirty(connection, self._clock.now())
            if due:
                self._upkeep_at = time.monotonic() + _UPKEEP_S
                self.trim()
