"""Every error of sqlite3 as one of ours: what came, what was expected, how to mend it."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from anomaly.errors import StorageError, StorageFull, StorageLocked

_NO_ROOM = 2**20
"""An I/O error with fewer free bytes than this on the disk is a full disk."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file must hold. `application`: the file's application id; `version`: its user_version; `remedy`: what an
    operator can do when the file is beyond repair.
    """

    title: str
    application: int
    version: int
    script: str
    remedy: str


def translated(error: sqlite3.Error, path: Path, schema: Schema, doing: str, patience_s: float) -> StorageError:
    """Our error for one of sqlite3's. `doing`: what could not be done, as a participle."""
    what = f"the {schema.title} {path} cannot be {doing}"
    code = result_code(error)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(path)):
        return StorageFull(
            f"{what}: no space is left ({_free(path)}); nothing of this write was kept; free some space or "
            f"raise the size limit, and it goes on by itself"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageLocked(
            f"{what}: another process has held it locked for more than {patience_s:g} s; expected short "
            f"locks only; look for a backup, a database browser or a second plantwatch on this file, and close it"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(error, path, schema, doing)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageError(f"{what}: {error}; expected a file and a folder that this user may read and write")
    return StorageError(f"{what}: {error} ({error.__class__.__name__}); see the disk's and the system's log")


def damaged(error: Exception, path: Path, schema: Schema, doing: str) -> StorageError:
    """What is said of a file whose bytes make no sense."""
    return StorageError(
        f"the {schema.title} {path} cannot be {doing}: it is damaged ({error}); expected an intact "
        f"SQLite file; stop plantwatch, move the file and its -wal and -shm companions away, and "
        f"{schema.remedy}"
    )


def _no_room(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _NO_ROOM
    except OSError:
        return False


def result_code(error: sqlite3.Error) -> int:
    """Primary result code; 0 where Python's own checks raised. https://sqlite.org/rescode.html"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free / 2**20:.1f} MiB free on its disk"
    except OSError:
        return "its disk does not answer"
