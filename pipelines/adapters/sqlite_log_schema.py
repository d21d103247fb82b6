"""What the embedded log's file holds: topics, where their partitions are, records, groups and their positions."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from anomaly.errors import ConfigurationError
from pipelines.adapters.sqlite_errors import Schema
from pipelines.ports import Partition, Position

SCHEMA: Final = Schema(
    title="log",
    application=0x504C574C,
    version=1,
    script="""
    CREATE TABLE topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL);
    CREATE TABLE partitions (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
        start INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        kept INTEGER NOT NULL DEFAULT 0, dirty INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number));
    CREATE TABLE records (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB);
    CREATE TABLE groups (name TEXT PRIMARY KEY, generation INTEGER NOT NULL, state BLOB NOT NULL);
    CREATE TABLE positions (
        name TEXT NOT NULL, topic TEXT NOT NULL, number INTEGER NOT NULL,
        position INTEGER NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (name, topic, number)) WITHOUT ROWID""",
    remedy="start again: readings that were not yet recorded are lost, all others are in the historian",
)


class Slot(NamedTuple):
    """Where a partition's records are: ids from `base` on."""

    id: int
    compacted: bool

    @property
    def base(self) -> int:
        """Row id of offset 0."""
        return self.id << 40


def find_slots(connection: sqlite3.Connection, topic: str) -> tuple[Slot, ...]:
    """Where the partitions of a topic are, by number; empty for an unknown topic."""
    rows = connection.execute(
        "SELECT p.id, t.compacted FROM partitions p JOIN topics t ON t.name = p.topic "
        "WHERE p.topic = ? ORDER BY p.number",
        (topic,),
    )
    return tuple(Slot(number, bool(compacted)) for number, compacted in rows)


def committed(connection: sqlite3.Connection, group: str, topic: str) -> dict[Partition, Position]:
    """Committed positions of a group on a topic."""
    rows = connection.execute(
        "SELECT number, position, metadata FROM positions WHERE name = ? AND topic = ? ORDER BY number", (group, topic)
    )
    return {Partition(topic, number): Position(offset, metadata) for number, offset, metadata in rows}


def create_topic(connection: sqlite3.Connection, topic: str, count: int, compacted: bool) -> None:
    """Make a topic, or see that it is there as asked for. Raises ConfigurationError."""
    found = connection.execute("SELECT partitions, compacted FROM topics WHERE name = ?", (topic,)).fetchone()
    if found is not None:
        if found != (count, compacted):
            raise ConfigurationError(
                f"topic {topic!r} has {found[0]} partitions and is {'' if found[1] else 'not '}compacted; asked for "
                f"were {count}, {'' if compacted else 'not '}compacted; a topic cannot be changed: keep the setting, "
                f"or begin with an empty data folder"
            )
        return
    if count < 1:
        raise ConfigurationError(f"topic {topic!r} was asked for with {count} partitions; it needs at least 1")
    connection.execute("INSERT INTO topics VALUES (?, ?, ?)", (topic, count, compacted))
    connection.executemany("INSERT INTO partitions (topic, number) VALUES (?, ?)", [(topic, p) for p in range(count)])
