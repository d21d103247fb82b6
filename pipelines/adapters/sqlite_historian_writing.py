"""Rows into the embedded historian, each inside the caller's transaction. All overwrite by key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from anomaly.domain import AlertState, Quality, Readings, Scores
from pipelines.adapters.historian_rows import merge, pack_rows, unpack_readings
from pipelines.adapters.historian_views import sequence
from pipelines.adapters.sqlite_historian_schema import CHAMPION, give_asset_number, give_asset_tags
from pipelines.ports import AlertEvent

_CHUNK: Final = 20_000
"""Rows forgotten at once, per asset and table."""


def write_readings(connection: sqlite3.Connection, blocks: Sequence[Readings]) -> None:
    """Store readings; tags that a row does not bring keep what is stored of them."""
    by_asset: dict[str, list[Readings]] = {}
    for block in blocks:
        if len(block):
            by_asset.setdefault(block.asset, []).append(block)
    for asset, parts in by_asset.items():
        number = give_asset_number(connection, asset)
        tags = give_asset_tags(connection, number, (tag for part in parts for tag in part.tags))
        rows = merge(asset, tags, parts)
        _keep_stored(connection, number, rows)
        payloads = pack_rows(rows.values.astype("<f8", copy=False), rows.quality)
        connection.executemany(
            "INSERT OR REPLACE INTO readings VALUES (?, ?, ?)",
            zip([number] * len(rows), rows.times.tolist(), payloads, strict=True),
        )


def _keep_stored(connection: sqlite3.Connection, number: int, rows: Readings) -> None:
    """Fill what is missing in `rows` (just made by `merge`, so ours to change) with what is stored at those times."""
    newest = connection.execute("SELECT max(time) FROM readings WHERE asset = ?", (number,)).fetchone()[0]
    if newest is None or newest < rows.times[0]:
        return
    stored = connection.execute(
        "SELECT time, payload FROM readings WHERE asset = ? AND time IN (SELECT value FROM json_each(?))",
        (number, json.dumps(rows.times[rows.times <= newest].tolist())),
    ).fetchall()
    if not stored:
        return
    place = np.searchsorted(rows.times, np.array([time for time, _ in stored], dtype=np.int64))
    values, quality = unpack_readings([payload for _, payload in stored], len(rows.tags))
    missing = rows.quality[place] == Quality.MISSING
    rows.values[place] = np.where(missing, values, rows.values[place])
    rows.quality[place] = np.where(missing, quality, rows.quality[place])


def write_scores(connection: sqlite3.Connection, blocks: Sequence[Scores]) -> None:
    """Store judged windows."""
    numbers: dict[str, int] = {}
    for block in blocks:
        if not len(block):
            continue
        for asset in dict.fromkeys(block.assets):
            numbers.setdefault(asset, give_asset_number(connection, asset))
        with np.errstate(over="ignore"):
            floats = [part.astype("<f4") for part in (block.contributions, block.expected, block.actual)]
        connection.executemany(
            "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            zip(
                [numbers[asset] for asset in block.assets],
                [CHAMPION] * len(block),
                block.times.tolist(),
                [_run(connection, block)] * len(block),
                [str(state) for state in block.state],
                block.score.tolist(),
                block.coverage.tolist(),
                block.isolated.tolist(),
                pack_rows(*floats, block.faults),
                strict=True,
            ),
        )


def _run(connection: sqlite3.Connection, block: Scores) -> int:
    """Number of the combination of version, rung and tags."""
    key = (block.version, str(block.rung), json.dumps(block.tags))
    connection.execute("INSERT OR IGNORE INTO runs (version, rung, tags) VALUES (?, ?, ?)", key)
    row = connection.execute("SELECT id FROM runs WHERE version = ? AND rung = ? AND tags = ?", key).fetchone()
    return int(row[0])


def write_events(connection: sqlite3.Connection, events: Iterable[AlertEvent]) -> None:
    """Store alert transitions, and of each alert its state after the transition with the highest sequence number."""
    for event in events:
        alert, order = event.alert, sequence(event)
        connection.execute(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)",
            (event.id, alert.id, order, msgspec.msgpack.encode(event)),
        )
        connection.execute(
            "INSERT INTO alerts VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, "
            "raised_at = excluded.raised_at, is_open = excluded.is_open, body = excluded.body "
            "WHERE excluded.sequence >= sequence",
            (alert.id, order, alert.raised_at, alert.state is not AlertState.CLOSED, msgspec.msgpack.encode(alert)),
        )


def forget(connection: sqlite3.Connection, table: str, age: int) -> None:
    """Delete, of each asset, rows older than `age` ns before its newest: at most one chunk, the oldest first."""
    for (number,) in connection.execute("SELECT id FROM assets").fetchall():
        (newest,) = connection.execute(_NEWEST[table], (number,)).fetchone()
        if newest is not None:
            connection.execute(_FORGET[table], {"asset": number, "cut": newest - age, "chunk": _CHUNK})


_NEWEST: Final = {
    "readings": "SELECT max(time) FROM readings WHERE asset = ?",
    "scores": f"SELECT max(time) FROM scores WHERE asset = ? AND role = {CHAMPION}",  # noqa: S608  # a constant
}
_FORGET: Final = {
    "readings": "DELETE FROM readings WHERE asset = :asset AND time < min(:cut, coalesce("
    "(SELECT time FROM readings WHERE asset = :asset ORDER BY time LIMIT 1 OFFSET :chunk), :cut))",
    "scores": f"DELETE FROM scores WHERE asset = :asset AND role = {CHAMPION} AND time < min(:cut, coalesce("  # noqa: S608
    f"(SELECT time FROM scores WHERE asset = :asset AND role = {CHAMPION} ORDER BY time LIMIT 1 OFFSET :chunk), :cut))",
}
