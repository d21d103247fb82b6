"""One `run` or `demo` on a data folder at a time: two would feed the same files twice and fit the same models twice."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from anomaly.errors import StorageError, StorageLocked

LOCK_FILE: Final = "running.lock"
_WATCH_S: Final = 1.0
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})
"""What file systems without locks answer; there, nobody is refused."""


class Held:
    """The folder, held by this process."""

    def __init__(self, folder: Path, file: IO[str]) -> None:
        self._folder = folder
        self._file = file

    def check(self) -> None:
        """Raises StorageError if the folder was deleted or replaced: what is written now goes nowhere."""
        try:
            here, there = os.fstat(self._file.fileno()), (self._folder / LOCK_FILE).stat()
            same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        except OSError:
            same = False
        if not same:
            raise StorageError(
                f"the data folder {self._folder} was deleted or replaced while plantwatch ran, so nothing more can be "
                "kept; put it back (or start with an empty one), then start plantwatch again"
            )

    def watch(self, stop: threading.Event) -> None:
        """Check once a second until `stop` is set. Raises as `check` does."""
        while not stop.wait(_WATCH_S):
            self.check()


@contextmanager
def only_one(folder: Path) -> Iterator[Held]:
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
        yield Held(folder, file)


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
    with contextlib.suppress(OSError):  # a full disk: the stores will say so; the number is for people only
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
