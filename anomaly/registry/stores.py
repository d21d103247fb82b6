"""Where bundles lie: in a folder, or in memory. One contract, one test suite.

A store knows bytes and names, not detectors. A version appears whole or not at all; aliases change in one step.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote, unquote

from anomaly.errors import ModelRefused, PlantwatchError, StorageError, StorageFull
from anomaly.registry.arrays import MEMBER_LIMIT


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which version serves (`champion`), which asks to (`challenger`), and earlier champions, oldest first."""

    champion: str | None = None
    challenger: str | None = None
    earlier: tuple[str, ...] = ()


@runtime_checkable
class Store(Protocol):
    """Bytes of versions by group. Thread-safe; the folder also between processes. Raises StorageError and kin."""

    def groups(self) -> tuple[str, ...]:
        """Groups that have a version, sorted."""

    def versions(self, group: str) -> tuple[str, ...]:
        """Versions of a group, sorted (so oldest first); empty for an unknown group."""

    def read(self, group: str, version: str) -> dict[str, bytes]:
        """Members of a version. Raises ModelRefused if it is not there or holds anything but plain files."""

    def write(self, group: str, version: str, members: Mapping[str, bytes]) -> None:
        """Store a version, all or nothing. A version that is there already is left as it is."""

    def aliases(self, group: str) -> Aliases:
        """Aliases of a group; none set for an unknown group."""

    @contextmanager
    def changing(self, group: str) -> Iterator[list[Aliases]]:
        """Read and replace the aliases with nobody between: set element 0. Nothing is stored if the block raises."""


class MemoryStore:
    """The in-memory twin of `FolderStore`."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, dict[str, bytes]]] = {}
        self._aliases: dict[str, Aliases] = {}
        self._lock = threading.RLock()

    def groups(self) -> tuple[str, ...]:
        """Groups that have a version, sorted."""
        with self._lock:
            return tuple(sorted(self._versions))

    def versions(self, group: str) -> tuple[str, ...]:
        """Versions of a group, sorted."""
        with self._lock:
            return tuple(sorted(self._versions.get(group, {})))

    def read(self, group: str, version: str) -> dict[str, bytes]:
        """Members of a version."""
        with self._lock:
            members = self._versions.get(group, {}).get(version)
        if members is None:
            raise ModelRefused(_absent(group, version, self.versions(group)))
        return dict(members)

    def write(self, group: str, version: str, members: Mapping[str, bytes]) -> None:
        """Store a version, all or nothing."""
        with self._lock:
            self._versions.setdefault(group, {}).setdefault(version, dict(members))

    def aliases(self, group: str) -> Aliases:
        """Aliases of a group."""
        with self._lock:
            return self._aliases.get(group, Aliases())

    @contextmanager
    def changing(self, group: str) -> Iterator[list[Aliases]]:
        """Read and replace the aliases with nobody between."""
        with self._lock:
            box = [self.aliases(group)]
            yield box
            self._aliases[group] = box[0]


class FolderStore:
    """`<folder>/<group>/versions/<version>/<member>` and `<folder>/<group>/aliases.json`.

    A version is written beside its place and renamed there, after fsync; a reader sees it whole or not at all. Writers
    take turns by an advisory lock, which the system drops when a process is killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def groups(self) -> tuple[str, ...]:
        """Groups that have a version, sorted."""
        with _translated(self._folder):
            if not self._folder.is_dir():
                return ()
            names = [unquote(entry.name[2:]) for entry in self._folder.iterdir() if entry.name.startswith("g-")]
        return tuple(sorted(name for name in names if self.versions(name)))

    def versions(self, group: str) -> tuple[str, ...]:
        """Versions of a group, sorted."""
        home = self._home(group) / "versions"
        with _translated(home):
            if not home.is_dir():
                return ()
            return tuple(sorted(entry.name for entry in home.iterdir() if not entry.name.startswith(".")))

    def read(self, group: str, version: str) -> dict[str, bytes]:
        """Members of a version."""
        if version not in self.versions(group):  # also keeps `..` and the like out of the path
            raise ModelRefused(_absent(group, version, self.versions(group)))
        home = self._home(group) / "versions" / version
        with _translated(home):
            if home.is_symlink() or not home.is_dir():
                raise ModelRefused(
                    f"{home} is no plain folder; expected the files of one version; copy the model again"
                )
            names = sorted(entry.name for entry in home.iterdir())
            if len(names) > 16:
                raise ModelRefused(f"{home} holds {len(names)} files; expected those of one model; copy it again")
            return {name: _read_plain(home / name) for name in names}

    def write(self, group: str, version: str, members: Mapping[str, bytes]) -> None:
        """Store a version, all or nothing."""
        home = self._home(group) / "versions"
        with _translated(home), self._locked(group):
            home.mkdir(parents=True, exist_ok=True)
            for left in home.glob(".work-*"):  # of a writer that was killed: we hold the lock, so nobody is at work
                shutil.rmtree(left)
            if (home / version).exists():
                return
            work = Path(tempfile.mkdtemp(prefix=".work-", dir=home))
            try:
                for name, data in members.items():
                    _write_synced(work / name, data)
                work.chmod(0o755)
                _sync_folder(work)
                work.rename(home / version)
                _sync_folder(home)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise

    def aliases(self, group: str) -> Aliases:
        """Aliases of a group."""
        path = self._home(group) / "aliases.json"
        with _translated(path):
            if not path.exists():
                return Aliases()
            try:
                stored = json.loads(path.read_bytes())
                return Aliases(stored["champion"], stored["challenger"], tuple(stored["earlier"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise StorageError(
                    f"{path} cannot be read ({error!r:.100}); expected champion, challenger and earlier as JSON; "
                    "delete the file and promote a version again"
                ) from error

    @contextmanager
    def changing(self, group: str) -> Iterator[list[Aliases]]:
        """Read and replace the aliases with nobody between."""
        home = self._home(group)
        with _translated(home), self._locked(group):
            box = [self.aliases(group)]
            yield box
            part = home / ".aliases.part"
            _write_synced(part, json.dumps(asdict(box[0])).encode())
            part.replace(home / "aliases.json")
            _sync_folder(home)

    def _home(self, group: str) -> Path:
        """Folder of a group; any name becomes one safe path element."""
        return self._folder / f"g-{quote(group, safe='')}"

    @contextmanager
    def _locked(self, group: str) -> Iterator[None]:
        home = self._home(group)
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes, even by kill -9
            yield


def _read_plain(path: Path) -> bytes:
    """Bytes of a plain file within the size limit; a link, a pipe or a giant is refused before it is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MEMBER_LIMIT:
            raise ModelRefused(
                f"{path} is no plain file of at most {MEMBER_LIMIT:,} bytes ({found.st_size:,}); copy the model again"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(MEMBER_LIMIT + 1)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours at the door."""
    try:
        yield
    except PlantwatchError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ModelRefused(f"{error.filename} is a link; expected a plain file; copy the model again") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left for models in {path}; free some and train again") from error
        raise StorageError(
            f"the models in {path} cannot be read or written ({error.strerror}); expected a folder we may write; "
            "check its owner and rights"
        ) from error


def _absent(group: str, version: str, known: tuple[str, ...]) -> str:
    listed = ", ".join(known[-5:]) or "none yet"
    return f"group {group!r} has no version {version!r}; the newest are: {listed}; see `plantwatch models list`"
