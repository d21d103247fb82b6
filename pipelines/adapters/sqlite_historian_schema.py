"""What the embedded historian's file holds.

`readings`: one row a time and asset, all tags in `payload` as float64 values then uint8 qualities, in the order of
`tags.position`; a row is as wide as the asset was when it was written. `scores`: one row a time and asset, `payload` is
float32 contributions, expected and actual, then uint8 faults, of the tags of `runs`. `role` is 0: champion.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from pipelines.adapters.sqlite_errors import Schema

SCHEMA: Final = Schema(
    title="historian",
    application=0x504C5748,
    version=1,
    script="""
    CREATE TABLE assets (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
    CREATE TABLE tags (
        asset INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL,
        PRIMARY KEY (asset, position), UNIQUE (asset, name)) WITHOUT ROWID;
    CREATE TABLE readings (
        asset INTEGER NOT NULL, time INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (asset, time)) WITHOUT ROWID;
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, version TEXT NOT NULL, rung TEXT NOT NULL, tags TEXT NOT NULL,
        UNIQUE (version, rung, tags));
    CREATE TABLE scores (
        asset INTEGER NOT NULL, role INTEGER NOT NULL, time INTEGER NOT NULL, run INTEGER NOT NULL,
        state TEXT NOT NULL, score REAL, coverage REAL, isolated REAL, payload BLOB NOT NULL,
        PRIMARY KEY (asset, role, time)) WITHOUT ROWID;
    CREATE INDEX score_heat ON scores (asset, role, time, score) WHERE score IS NOT NULL;
    CREATE TABLE events (
        id TEXT PRIMARY KEY, alert TEXT NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX event_order ON events (alert, sequence);
    CREATE TABLE alerts (
        id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, raised_at INTEGER NOT NULL, is_open INTEGER NOT NULL,
        body BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX alert_order ON alerts (raised_at);
    CREATE TABLE heartbeats (part TEXT PRIMARY KEY, time INTEGER NOT NULL, status BLOB NOT NULL) WITHOUT ROWID""",
    remedy="start again: the record service fills a new one from what the log still holds",
)
CHAMPION: Final = 0


def asset_number(connection: sqlite3.Connection, asset: str) -> int | None:
    """Number of an asset in the file, if it has one."""
    row = connection.execute("SELECT id FROM assets WHERE path = ?", (asset,)).fetchone()
    return None if row is None else int(row[0])


def give_asset_number(connection: sqlite3.Connection, asset: str) -> int:
    """Number of an asset in the file, given now if it has none."""
    found = asset_number(connection, asset)
    if found is not None:
        return found
    return int(connection.execute("INSERT INTO assets (path) VALUES (?)", (asset,)).lastrowid or 0)


def asset_tags(connection: sqlite3.Connection, number: int) -> tuple[str, ...]:
    """Every tag ever stored of an asset, in order of position."""
    rows = connection.execute("SELECT name FROM tags WHERE asset = ? ORDER BY position", (number,))
    return tuple(name for (name,) in rows)


def give_asset_tags(connection: sqlite3.Connection, number: int, tags: Iterable[str]) -> tuple[str, ...]:
    """The asset's tags with the given ones among them, new ones last."""
    known = asset_tags(connection, number)
    new = [tag for tag in dict.fromkeys(tags) if tag not in set(known)]
    connection.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)", [(number, len(known) + i, tag) for i, tag in enumerate(new)]
    )
    return (*known, *new)
