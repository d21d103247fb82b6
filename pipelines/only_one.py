"""One `run` or `demo` on a data folder at a time: two would feed the same files twice and fit the same models twice."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from anomaly.errors import StorageError, StorageLocked

LOCK_FILE = "running.lock"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})
"""What file systems without locks answer; there, nobody is refused."""


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder while inside. The system lets go of it when this process ends, however that happens.

    Raises StorageLocked if another process holds it, StorageError if the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the data folder {folder} cannot be written ({error.strerror}); change its rights, or choose another "
            "with --data-dir"
        ) from error
    with file:
        _hold(file, folder)
        yield


def _hold(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read(32).strip()
        raise StorageLocked(
            f"plantwatch already runs on {folder}{f' (process {who})' if who.isdigit() else ''}; expected one at a "
            "time; stop that one, or choose another --data-dir"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StorageError(f"{folder / LOCK_FILE} cannot be locked ({error.strerror}); look at the disk") from error
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:
        raise StorageError(
            f"the data folder {folder} cannot be written ({error.strerror}); free space, or choose another"
        ) from error
