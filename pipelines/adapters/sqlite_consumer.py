"""A member of a consumer group of the embedded log.

The group's state (`groups.py`) is one row, changed under the file's write lock. A member is alive while it polls at
least every session time and its process holds a lock on the member's own small file; the kernel lets go of that lock
when the process dies, so others take over within a second of a `kill -9`, and a restarted service does not wait.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from anomaly.errors import Fenced, StorageError
from pipelines.adapters.groups import Group, difference
from pipelines.adapters.member_lock import MemberLock
from pipelines.ports import Batch, Partition, Position, Record

if TYPE_CHECKING:
    from pipelines.adapters.sqlite_log import SqliteLog

_PAUSE_S: Final = 0.02
"""SQLite cannot wake us: look again so often."""
_LOOK_NS: Final = 1_000_000_000
"""How often to see whether other members' processes are alive."""
METADATA_BYTES: Final = 4096


class SqliteConsumer:
    """See `Consumer`. Made by `SqliteLog.join`."""

    def __init__(self, log: SqliteLog, group: str, topics: tuple[str, ...]) -> None:
        self._log = log
        self._group = group
        self._topics = topics
        self._mine: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._turn = 0
        self._paused = False
        self._seen = -1
        self._beat = self._looked = log.timer()
        self._lock = MemberLock(log.database.path)
        self._closed = False
        try:
            with log.database.transaction() as connection:
                state = _load(connection, group)
                self._number = state.join(topics, self._beat)
                self._lock.take(group, self._number)
                _store(connection, group, state)
        except BaseException:
            self._lock.release()
            raise

    def poll(self, limit: int, timeout_s: float) -> Batch:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout_s
        while True:
            batch = self._look(limit)
            left = deadline - time.monotonic()
            if batch.records or batch.assigned or batch.revoked or left <= 0:
                return batch
            time.sleep(min(left, _PAUSE_S))

    def seek(self, partition: Partition, offset: int) -> None:
        """See `Consumer.seek`. Raises Fenced if the partition is not ours."""
        self._check_mine(partition)
        self._next[partition] = offset

    def pause(self) -> None:
        """See `Consumer.pause`."""
        self._paused = True

    def resume(self) -> None:
        """See `Consumer.resume`."""
        self._paused = False

    def lag(self) -> Mapping[Partition, int]:
        """See `Consumer.lag`."""
        ends = {topic: self._log.ends(topic) for topic in self._topics}
        return {p: max(0, ends[p.topic][p][1] - max(self._next[p], ends[p.topic][p][0])) for p in self._mine}

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """See `Consumer.commit`."""
        for partition, position in positions.items():
            self._check_mine(partition)
            if len(position.metadata.encode()) > METADATA_BYTES:
                raise StorageError(
                    f"the metadata of a commit on {partition.topic}/{partition.number} has {len(position.metadata)} "
                    f"characters; at most {METADATA_BYTES} bytes can be kept with a position"
                )
        if not positions:
            return
        with self._log.database.transaction() as connection:
            held = _load(connection, self._group).held(self._number)
            for partition in positions:
                if held.get(partition) != self._mine[partition]:
                    raise _fenced(self._group, partition)
            connection.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)",
                [(self._group, *partition, *_fields(position)) for partition, position in positions.items()],
            )

    def close(self) -> None:
        """See `Consumer.close`. If the file cannot be written, the others find out by the lock."""
        if self._closed:
            return
        self._closed = True
        with suppress(StorageError), self._log.database.transaction() as connection:
            state = _load(connection, self._group)
            state.leave([self._number])
            _store(connection, self._group, state)
        self._lock.release()

    def _look(self, limit: int) -> Batch:
        if self._closed:
            raise StorageError(f"this member of group {self._group!r} was closed; join the group anew")
        with self._log.database.snapshot() as connection:
            due = self._due(connection)
        if due and (changed := self._sync()) is not None:
            return changed
        if self._paused:
            return Batch(assigned={})
        with self._log.database.snapshot() as connection:
            return Batch(assigned={}, records=tuple(self._records(connection, limit)))

    def _due(self, connection: sqlite3.Connection) -> bool:
        """Whether the group has changed, somebody died, or our heartbeat is due."""
        now = self._log.timer()
        row = connection.execute("SELECT generation FROM groups WHERE name = ?", (self._group,)).fetchone()
        if row is None or row[0] != self._seen or now - self._beat > self._log.session // 6:
            return True
        if now - self._looked < _LOOK_NS:
            return False
        self._looked = now
        return bool(self._dead(_load(connection, self._group), now))

    def _sync(self) -> Batch | None:
        """Heartbeat; what changed for us, or None."""
        now = self._log.timer()
        with self._log.database.transaction() as connection:
            state = _load(connection, self._group)
            dead = self._dead(state, now)
            state.leave(dead)
            self._lock.forget(self._group, dead)
            if self._number not in state.members:
                self._lock.take(self._group, self._number)
            counts = {topic: len(self._log.slots(connection, topic)) for topic in self._all_topics(state)}
            state.sync(self._number, self._topics, now, counts)
            _store(connection, self._group, state)
            held = state.held(self._number)
            lost, gained = difference(self._mine, held)
            assigned = {partition: _position(connection, self._group, partition) for partition in gained}
        self._mine, self._seen, self._beat = held, state.generation, now
        for partition in lost:
            self._next.pop(partition, None)
        for partition, position in assigned.items():
            self._next[partition] = 0 if position is None else position.offset
        return Batch(tuple(lost), assigned) if lost or assigned else None

    def _all_topics(self, state: Group) -> set[str]:
        return {topic for member in state.members.values() for topic in member.topics} | set(self._topics)

    def _dead(self, state: Group, now: int) -> set[int]:
        """Other members that are silent or whose process is gone."""
        others = state.members.keys() - {self._number}
        gone = {number for number in others if self._lock.is_free(self._group, number)}
        return gone | (state.silent(now, self._log.session) & others)

    def _records(self, connection: sqlite3.Connection, limit: int) -> Iterator[Record]:
        """Partition by partition, beginning with another one each time, so that a long backlog starves nobody."""
        partitions = list(self._mine)
        turn = self._turn = (self._turn + 1) % max(1, len(partitions))
        for partition in partitions[turn:] + partitions[:turn]:
            if limit <= 0:
                return
            for record in self._log.fetch(connection, partition, self._next[partition], limit):
                self._next[partition] = record.offset + 1
                limit -= 1
                yield record

    def _check_mine(self, partition: Partition) -> None:
        if partition not in self._mine:
            raise _fenced(self._group, partition)


def _fields(position: Position) -> tuple[int, str]:
    return position.offset, position.metadata


def _fenced(group: str, partition: Partition) -> Fenced:
    return Fenced(
        f"partition {partition.number} of {partition.topic} is no longer this member's in group {group!r}: another "
        f"member has taken it over; nothing was committed; drop its state and poll on"
    )


def _load(connection: sqlite3.Connection, group: str) -> Group:
    row = connection.execute("SELECT state FROM groups WHERE name = ?", (group,)).fetchone()
    return Group.unpack(None if row is None else row[0])


def _store(connection: sqlite3.Connection, group: str, state: Group) -> None:
    connection.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?)", (group, state.generation, state.pack()))


def _position(connection: sqlite3.Connection, group: str, partition: Partition) -> Position | None:
    row = connection.execute(
        "SELECT position, metadata FROM positions WHERE name = ? AND topic = ? AND number = ?", (group, *partition)
    ).fetchone()
    return None if row is None else Position(*row)
