"""Compaction and retention of the embedded log, as SQL on one partition's run of row ids."""

from __future__ import annotations

import sqlite3
from typing import Final

from pipelines.adapters.sqlite import Database
from pipelines.adapters.upkeep import COMPACT_AT, TOMBSTONE_AGE, Retention

_CHUNK: Final = 5_000
"""Records deleted in one transaction."""
_SIZE: Final = "coalesce(length(key), 0) + coalesce(length(value), 0)"


def compact(connection: sqlite3.Connection, partition: int, now: int) -> int:
    """Keep the newest record of every key; forget tombstones older than a day. Returns how many went."""
    low, high = partition << 40, (partition + 1) << 40
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.gone")
    connection.execute(
        "INSERT INTO temp.gone SELECT id FROM records WHERE id >= :low AND id < :high AND (id NOT IN "
        "(SELECT max(id) FROM records WHERE id >= :low AND id < :high GROUP BY key) "
        "OR (value IS NULL AND time < :cut))",
        {"low": low, "high": high, "cut": now - TOMBSTONE_AGE},
    )
    size = connection.execute(
        f"SELECT coalesce(sum({_SIZE}), 0) FROM records WHERE id IN temp.gone"  # noqa: S608  # a constant
    ).fetchone()[0]
    removed = connection.execute("DELETE FROM records WHERE id IN temp.gone").rowcount
    connection.execute(
        "UPDATE partitions SET dirty = 0, bytes = bytes - :size, "
        "kept = (SELECT count(*) FROM records WHERE id >= :low AND id < :high) WHERE id = :partition",
        {"size": size, "low": low, "high": high, "partition": partition},
    )
    return removed


def compact_dirty(connection: sqlite3.Connection, now: int) -> None:
    """Compact the partitions of compacted topics that have grown enough to be worth it."""
    for (partition,) in connection.execute(
        "SELECT p.id FROM partitions p JOIN topics t ON t.name = p.topic WHERE t.compacted AND p.dirty >= max(?, kept)",
        (COMPACT_AT,),
    ).fetchall():
        compact(connection, partition, now)


def trim(database: Database, topic: str, rule: Retention, now: int) -> int:
    """Forget the oldest records of a topic, as the rule says. Returns how many went."""
    with database.snapshot() as connection:
        rows = connection.execute("SELECT id FROM partitions WHERE topic = ?", (topic,)).fetchall()
    removed = 0
    for (partition,) in rows:
        while True:
            with database.transaction() as connection:
                count = _trim_chunk(connection, partition, rule, now)
            removed += count
            if count < _CHUNK:
                break
    return removed


def _trim_chunk(connection: sqlite3.Connection, partition: int, rule: Retention, now: int) -> int:
    """Delete the run of oldest records that the rule forgets, at most one chunk, and move the partition's start."""
    start, end, size = connection.execute(
        "SELECT start, next, bytes FROM partitions WHERE id = ?", (partition,)
    ).fetchone()
    base, oldest = partition << 40, None if rule.age is None else now - rule.age
    count = freed = 0
    for number, moment, length in connection.execute(
        f"SELECT id, time, {_SIZE} FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",  # noqa: S608
        (base + start, base + end, _CHUNK),
    ):
        old = oldest is not None and moment < oldest
        if not old and (rule.size is None or size - freed <= rule.size):
            break
        count, freed, start = count + 1, freed + length, number - base + 1
    if count:
        connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", (base, base + start))
        connection.execute("UPDATE partitions SET start = ?, bytes = bytes - ? WHERE id = ?", (start, freed, partition))
    return count
