"""A file lock that says whether a member's process lives: the kernel frees it when the process dies, in any way."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anomaly.errors import StorageError, StorageFull

_PATIENCE_S = 1.0
"""Others hold the lock for an instant when they look whether it is free."""


class MemberLock:
    """Locks of the members of all groups of the log at `path`, one small file each in `<path>-members`."""

    def __init__(self, path: Path) -> None:
        self._folder = path.with_name(path.name + "-members")
        self._file: int | None = None
        self._path = Path()

    def take(self, group: str, number: int) -> None:
        """Lock this member's file until `release` or the death of the process. Raises StorageError."""
        self.release()
        self._path = self._name(group, number)
        try:
            self._folder.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            _lock(self._file)
        except OSError as error:
            self.release()
            kind = StorageFull if error.errno == errno.ENOSPC else StorageError
            raise kind(
                f"the member file {self._path} cannot be locked: {error.strerror}; expected a folder on a local disk "
                f"that this user may write to"
            ) from error

    def release(self) -> None:
        """Let go and remove the file. Idempotent."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def is_free(self, group: str, number: int) -> bool:
        """Whether that member's process is gone. In doubt: no; then its silence tells."""
        try:
            file = os.open(self._name(group, number), os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def forget(self, group: str, numbers: Iterable[int]) -> None:
        """Remove the files of members that are gone."""
        for number in numbers:
            with suppress(OSError):
                self._name(group, number).unlink(missing_ok=True)

    def _name(self, group: str, number: int) -> Path:
        return self._folder / f"{hashlib.sha256(group.encode()).hexdigest()[:16]}-{number}.lock"


def _lock(file: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
