"""One SQLite file behind a lock: opening, transactions, and the translation of every sqlite3 error into ours.

Files are in WAL mode: readers never wait for the writer, and a killed process loses nothing that was committed, because
its pages are in the kernel's cache and the next opener replays them. `synchronous=NORMAL` (the default here) does not
wait for the disk at each commit, so a *power cut* may take the last moments of commits, newest first, never the middle
and never the file's consistency; `durable=True` (`synchronous=FULL`) waits for the disk and survives that too, at one
fsync a commit. https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from anomaly.errors import ConfigurationError, StorageError
from pipelines.adapters.sqlite_errors import Schema, damaged, result_code, translated

_WAL_LIMIT = 64 * 2**20
"""The WAL file is cut back to this many bytes after a checkpoint."""
INT64 = 2**63 - 1


class Database:
    """One connection to one file, for many threads: a lock makes them take turns.

    Other processes may have the same file open. `patience_s`: how long to wait for their locks. `max_bytes`: size at
    which the file counts as full. Raises ConfigurationError for a file of another kind or of a newer plantwatch, else
    StorageError and its kin.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        patience_s: float = 5.0,
        durable: bool = False,
        read_only: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        self.path = path
        self._schema = schema
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        if not read_only:
            self._make_folder()
        with self._translated("opened"):
            mode = "ro" if read_only else "rwc"
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=patience_s,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._prepare(read_only, durable, max_bytes)
        except BaseException:
            self.close()
            raise

    @classmethod
    def empty(cls, schema: Schema) -> Database:
        """A database in memory with the schema's tables and nothing in them: what a missing file answers."""
        database = cls.__new__(cls)
        database.path, database._schema, database._patience_s = Path(":memory:"), schema, 0.0
        database._lock = threading.RLock()
        database._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        database._connection.executescript(schema.script)
        return database

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def __del__(self) -> None:
        """A database that nobody holds any more is closed: a page's cache forgets without a word."""
        if hasattr(self, "_connection"):
            self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is stored durably, or nothing is. Waits for other writers up to the patience."""
        with (
            self._lock,
            self._translated("written") as connection,
            _rolled_back_on_error(connection, "BEGIN IMMEDIATE"),
        ):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Everything read inside is of one moment. What is read is also to be decoded inside: damage is told there."""
        with self._lock, self._translated("read") as connection, _rolled_back_on_error(connection, "BEGIN"):
            try:
                yield connection
            except (ValueError, KeyError) as error:  # bytes that SQLite read well and that mean nothing
                raise damaged(error, self.path, self._schema, "read") from error

    @property
    def initialised(self) -> bool:
        """Whether the file holds our tables yet; a reader may come before the first writer."""
        with self._lock, self._translated("read") as connection:
            return _pragma(connection, "user_version") > 0

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the folder of the {self._schema.title} {self.path} cannot be made: {error.strerror or error}; "
                f"expected a folder this user may write to"
            ) from error

    def _prepare(self, read_only: bool, durable: bool, max_bytes: int | None) -> None:
        with self._translated("opened") as connection:
            with _rolled_back_on_error(connection, "BEGIN"):  # of one moment: another process may be making the file
                self._check_kind(connection)
            if read_only:
                return
            self._switch_to_wal(connection)
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")
            connection.execute("PRAGMA temp_store=MEMORY")
        with self.transaction() as connection:
            if _pragma(connection, "user_version") == 0:
                for statement in self._schema.script.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={self._schema.application}")
                connection.execute(f"PRAGMA user_version={self._schema.version}")
        if max_bytes is not None:
            self.limit(max_bytes)

    def limit(self, max_bytes: int) -> None:
        """From now on the file is full at so many bytes (never below what it holds)."""
        with self._lock, self._translated("opened") as connection:
            pages = max(1, max_bytes // _pragma(connection, "page_size"))
            connection.execute(f"PRAGMA max_page_count={pages}")

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        if version > self._schema.version and application == self._schema.application:
            raise ConfigurationError(
                f"{self.path} was written by a newer plantwatch (its schema is {version}, this one knows up to "
                f"{self._schema.version}); start that newer plantwatch, or choose another data folder"
            )
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if application != self._schema.application and (application or version or tables):
            raise ConfigurationError(
                f"{self.path} is not a plantwatch {self._schema.title} but another SQLite file "
                f"(application id {application}, {tables} tables); choose another data folder"
            )

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """Two processes that create the file at once may refuse each other here without waiting; so wait ourselves."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if result_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise StorageError(
                    f"{self.path} is on a file system without shared memory (journal mode {mode!r} instead of 'wal'); "
                    f"keep the data folder on a local disk, not on a network share"
                )
            return

    @contextmanager
    def _translated(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Hand out the connection; sqlite3's errors leave as ours."""
        if self._connection is None and doing != "opened":
            raise StorageError(f"the {self._schema.title} {self.path} is closed; open it again before using it")
        try:
            yield self._connection  # type: ignore[misc]  # None only while opening, where nobody takes it
        except sqlite3.Error as error:
            raise translated(error, self.path, self._schema, doing, self._patience_s) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # the latter from sqlite3's own words on damage
            raise damaged(error, self.path, self._schema, doing) from error


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _rolled_back_on_error(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
