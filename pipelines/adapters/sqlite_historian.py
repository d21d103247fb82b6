"""The embedded historian: results for people, in one SQLite file beside the log.

It is a view: what is lost here is rebuilt by reading the log again, so it never waits for the disk (see `sqlite.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from anomaly.domain import Readings, Scores
from anomaly.errors import StorageError
from pipelines.adapters.historian_rows import HistorianRetention
from pipelines.adapters.sqlite import Database
from pipelines.adapters.sqlite_historian_reading import SqliteHistorianReader
from pipelines.adapters.sqlite_historian_schema import SCHEMA
from pipelines.adapters.sqlite_historian_writing import forget, write_events, write_readings, write_scores
from pipelines.ports import AlertEvent

_UPKEEP_S: Final = 30.0


class SqliteHistorian(SqliteHistorianReader):
    """A `Historian` in the file `path`, made if it is not there. Thread-safe; other processes may read and write too.

    Rows older than `retention` are forgotten now and then while writing, and by `trim`.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: HistorianRetention | None = None,
        patience_s: float = 5.0,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(path, patience_s=patience_s)
        self.database = Database(path, SCHEMA, patience_s=patience_s, max_bytes=max_bytes)
        self._retention = retention or HistorianRetention()
        self._upkeep_at = time.monotonic() + _UPKEEP_S

    def write(
        self,
        readings: Sequence[Readings] = (),
        scores: Sequence[Scores] = (),
        events: Sequence[AlertEvent] = (),
    ) -> None:
        """See `HistorianWriter.write`. One transaction."""
        with self.database.transaction() as connection:
            write_readings(connection, readings)
            write_scores(connection, scores)
            write_events(connection, events)
        if time.monotonic() >= self._upkeep_at:
            self._upkeep_at = time.monotonic() + _UPKEEP_S
            with suppress(StorageError):  # what was written is stored; forgetting is tried again later
                self.trim()

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        """See `HistorianWriter.heartbeat`."""
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO heartbeats VALUES (?, ?, ?)", (part, time, msgspec.msgpack.encode(status))
            )

    def trim(self) -> None:
        """Apply the retention now, to at most 20 000 rows of each asset and kind."""
        for table, age in (("readings", self._retention.readings), ("scores", self._retention.scores)):
            if age is not None:
                with self.database.transaction() as connection:
                    forget(connection, table, age)

    def close(self) -> None:
        """See `Historian.close`."""
        super().close()
        self.database.close()
