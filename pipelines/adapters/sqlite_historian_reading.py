"""The reading half of the embedded historian, for any process: it opens the file read-only and never holds it up."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from anomaly.domain import Alert, Readings, Rung, Scores, State
from anomaly.errors import StorageError
from pipelines.adapters.historian_rows import empty, spread, unpack_readings, unpack_rows
from pipelines.adapters.historian_views import summarise
from pipelines.adapters.sqlite import INT64, Database
from pipelines.adapters.sqlite_historian_schema import CHAMPION, SCHEMA, asset_number, asset_tags
from pipelines.ports import AlertEvent, Heartbeat, ScoreSummary

_SCORE_PARTS: Final = ("<f4", "<f4", "<f4", "u1")


class SqliteHistorianReader:
    """See `HistorianReader`. The file at `path` may not be there yet, or be deleted and made anew.

    Raises ConfigurationError, on first use, for a file of a newer plantwatch.
    """

    def __init__(self, path: Path, *, patience_s: float = 5.0) -> None:
        self.path = path
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._reader: Database | None = None
        self._file: tuple[int, int] | None = None
        self._closed = False

    def close(self) -> None:
        """See `Historian.close`."""
        with self._lock:
            self._closed = True
            if self._reader is not None:
                self._reader.close()

    def span(self, asset: str | None = None) -> tuple[int, int] | None:
        """See `HistorianReader.span`."""
        with self._snapshot() as connection:
            numbers = _all_assets(connection).values() if asset is None else [asset_number(connection, asset)]
            spans = [_span(connection, number) for number in numbers if number is not None]
        first = [low for low, _ in spans if low is not None]
        return (min(first), max(high for _, high in spans if high is not None)) if first else None

    def assets(self) -> tuple[str, ...]:
        """See `HistorianReader.assets`."""
        with self._snapshot() as connection:
            found = _all_assets(connection).items()
            return tuple(sorted(path for path, number in found if _span(connection, number)[0] is not None))

    def readings(self, asset: str, since: int, until: int) -> Readings:
        """See `HistorianReader.readings`."""
        with self._snapshot() as connection:
            number = asset_number(connection, asset)
            tags = () if number is None else asset_tags(connection, number)
            rows = connection.execute(
                "SELECT time, payload FROM readings WHERE asset = ? AND time >= ? AND time < ? ORDER BY time",
                (number, _fit(since), _fit(until)),
            ).fetchall()
            times = np.array([time for time, _ in rows], dtype=np.int64)
            if not rows:
                return empty(asset, tags, times)
            return Readings(asset, tags, times, *unpack_readings([payload for _, payload in rows], len(tags)))

    def chart(self, asset: str, tags: Sequence[str], since: int, until: int, points: int) -> Mapping[str, Readings]:
        """See `HistorianReader.chart`. `points` below 2 are taken as 2."""
        return spread(self.readings(asset, since, until), tags, points)

    def scores(self, asset: str, since: int, until: int) -> Sequence[Scores]:
        """See `HistorianReader.scores`. Contributions, expected and actual come back in float32 precision."""
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT run, time, state, score, coverage, isolated, payload FROM scores "
                "WHERE asset = ? AND role = ? AND time >= ? AND time < ? ORDER BY time",
                (asset_number(connection, asset), CHAMPION, _fit(since), _fit(until)),
            ).fetchall()
            runs = _runs(connection) if rows else {}
            return [_block(asset, runs[run], list(group)) for run, group in groupby(rows, key=itemgetter(0))]

    def latest(self) -> Sequence[ScoreSummary]:
        """See `HistorianReader.latest`."""
        with self._snapshot() as connection:
            newest = [
                (path, row)
                for path, number in sorted(_all_assets(connection).items())
                for row in connection.execute(
                    "SELECT run, time, state, score, coverage, isolated, payload FROM scores "
                    "WHERE asset = ? AND role = ? ORDER BY time DESC LIMIT 1",
                    (number, CHAMPION),
                )
            ]
            runs = _runs(connection) if newest else {}
            return [summarise(_block(path, runs[row[0]], [row])) for path, row in newest]

    def heat(self, since: int, until: int, bucket: int) -> Mapping[str, Mapping[int, float]]:
        """See `HistorianReader.heat`. Buckets start at multiples of `bucket`."""
        with self._snapshot() as connection:
            return {
                path: cells
                for path, number in sorted(_all_assets(connection).items())
                if (cells := _heat(connection, number, _fit(since), _fit(until), bucket))
            }

    def alerts(self, open_only: bool = False, since: int = 0, limit: int = 1000) -> Sequence[Alert]:
        """See `HistorianReader.alerts`. `since`: raised then or later. Open: not closed."""
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT body FROM alerts WHERE raised_at >= ? AND is_open >= ? ORDER BY raised_at DESC, id LIMIT ?",
                (_fit(since), open_only, max(limit, 0)),
            ).fetchall()
            return [msgspec.msgpack.decode(body, type=Alert) for (body,) in rows]

    def events(self, alert_id: str) -> Sequence[AlertEvent]:
        """See `HistorianReader.events`."""
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT body FROM events WHERE alert = ? ORDER BY sequence, id", (alert_id,)
            ).fetchall()
            return [msgspec.msgpack.decode(body, type=AlertEvent) for (body,) in rows]

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """See `HistorianReader.heartbeats`."""
        with self._snapshot() as connection:
            rows = connection.execute("SELECT part, time, status FROM heartbeats ORDER BY part").fetchall()
            return {part: Heartbeat(part, time, msgspec.msgpack.decode(status)) for part, time, status in rows}

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database().snapshot() as connection:
            yield connection

    def _database(self) -> Database:
        """The file that is there now; an empty historian in memory while there is none. Called under the lock."""
        if self._closed:
            raise StorageError(f"the historian {self.path} is closed; open it again before using it")
        file = _identity(self.path)
        if self._reader is None or file != self._file:
            if self._reader is not None:
                self._reader.close()
            self._reader, self._file = None, None
            self._reader, self._file = self._opened(file)
        return self._reader

    def _opened(self, file: tuple[int, int] | None) -> tuple[Database, tuple[int, int] | None]:
        if file is not None:
            reader = Database(self.path, SCHEMA, patience_s=self._patience_s, read_only=True)
            if reader.initialised:
                return reader, file
            reader.close()
        return Database.empty(SCHEMA), None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _fit(time: int) -> int:
    return max(-INT64, min(time, INT64))


def _all_assets(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT path, id FROM assets").fetchall())


def _span(connection: sqlite3.Connection, number: int) -> tuple[int | None, int | None]:
    low, high = connection.execute(
        "SELECT (SELECT min(time) FROM readings WHERE asset = :asset), "
        "(SELECT max(time) FROM readings WHERE asset = :asset)",
        {"asset": number},
    ).fetchone()
    return low, high


def _runs(connection: sqlite3.Connection) -> dict[int, tuple[str, Rung, tuple[str, ...]]]:
    rows = connection.execute("SELECT id, version, rung, tags FROM runs")
    return {number: (version, Rung(rung), tuple(json.loads(tags))) for number, version, rung, tags in rows}


def _block(asset: str, run: tuple[str, Rung, tuple[str, ...]], rows: Sequence[Sequence[Any]]) -> Scores:
    version, rung, tags = run
    _, times, states, score, coverage, isolated, payloads = zip(*rows, strict=True)
    contributions, expected, actual, faults = unpack_rows(payloads, *_SCORE_PARTS)
    if faults.shape[1] != len(tags):
        message = f"a score row of {asset} has {faults.shape[1]} tags instead of {len(tags)}"
        raise ValueError(message)
    return Scores(
        tags=tags,
        assets=(asset,) * len(rows),
        times=np.array(times, dtype=np.int64),
        score=np.array(score, dtype=np.float64),
        contributions=contributions.astype(np.float64),
        expected=expected.astype(np.float64),
        actual=actual.astype(np.float64),
        coverage=np.array(coverage, dtype=np.float64),
        isolated=np.array(isolated, dtype=np.float64),
        faults=faults,
        state=tuple(State(state) for state in states),
        version=version,
        rung=rung,
    )


def _heat(connection: sqlite3.Connection, number: int, since: int, until: int, bucket: int) -> dict[int, float]:
    rows = connection.execute(
        "SELECT time / :bucket * :bucket, max(score) FROM scores INDEXED BY score_heat WHERE asset = :asset "
        "AND role = :role AND time >= :since AND time < :until AND score IS NOT NULL GROUP BY 1 ORDER BY 1",
        {"bucket": bucket, "asset": number, "role": CHAMPION, "since": since, "until": until},
    )
    return dict(rows.fetchall())
