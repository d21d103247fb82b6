"""What `plantwatch run` watches: which plant file counts, which zone its files are in, and how far they are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.domain import Plant
from anomaly.errors import ConfigurationError
from pipelines import wiring
from pipelines.discovery import discover_plant
from pipelines.plant_file import load_plant
from pipelines.settings import Settings

if TYPE_CHECKING:
    from pipelines.sources.folder import Folder


class Source:
    """Where the readings of a run come from: files (`files`), or what producers append to the log.

    `read` is set once every file is in. `speed`: of a replay; None: files are read at once.
    """

    def __init__(self, plant: Plant, *, files: bool, speed: float | None = None) -> None:
        self.read = threading.Event()
        self._plant = plant
        self._files = files
        self._speed = speed

    def ready(self) -> bool:
        """Whether there is something to learn from now: files that are read at once are first read to their end."""
        return not self._files or self._speed is not None or self.read.is_set()

    def status(self) -> dict[str, str | int | float]:
        """For the heartbeat `plant`. Files have no clock of their own: their time is that of the newest reading."""
        found: dict[str, str | int | float] = {"plant_name": self._plant.name, "speed": self._speed or 1.0}
        if self._files:
            found["files"] = "all read" if self.read.is_set() else "being read"
        return found


def beside(data: Path | None) -> Path | None:
    """The plant file that lies beside the files, if there is one."""
    path = None if data is None else data / wiring.PLANT_FILE
    return path if path is not None and path.is_file() else None


def described(settings: Settings, data: Path | None) -> Plant | None:
    """The plant as a file describes it: the one named, else the data folder's, else that beside the files.

    None if there is none and files can show it. Raises ConfigurationError.
    """
    if settings.plant is not None or (settings.data_dir / wiring.PLANT_FILE).is_file():
        return wiring.open_plant(settings)
    near = beside(data)
    if near is not None:
        return load_plant(near)
    return wiring.open_plant(settings) if data is None else None


def zone_of_files(settings: Settings, plant: Plant | None) -> str | None:
    """IANA zone of times that name none: the setting (or `--timezone`), else the plant file's; None: not known."""
    return settings.timezone or (plant.timezone if plant else None)


def open_source(settings: Settings, data: Path | None, say: Callable[[str], None]) -> tuple[Plant, Folder | None]:
    """The plant to watch and the files to read; notes on both go to `say`. Raises ConfigurationError, DataError."""
    from pipelines.sources.folder import Folder  # noqa: PLC0415  # pandas, which only who reads files has installed

    plant = described(settings, data)
    folder = None if data is None else Folder(data, timezone=zone_of_files(settings, plant))
    if folder is None:
        return plant or wiring.open_plant(settings), None
    if plant is None:
        zone = settings.timezone or "UTC"
        found = discover_plant(folder.blocks(), name=folder.path.resolve().name, timezone=zone, units=folder.units())
        for note in (*folder.notes(), *found.notes):
            say(f"note: {note}")
        return found.plant, folder
    differing = other_plant(settings, data, plant)
    if differing:
        say(f"warning: {differing}")
    return plant, folder


def other_plant(settings: Settings, data: Path | None, plant: Plant) -> str:
    """What to say if the plant file beside the files is not the one that counts, and differs; empty if it agrees."""
    near, stored = beside(data), settings.data_dir / wiring.PLANT_FILE
    if near is None or settings.plant is not None or not stored.is_file():
        return ""
    try:
        same = load_plant(near) == plant
    except ConfigurationError:
        same = False
    return (
        ""
        if same
        else f"{near} differs from {stored}, which counts since the first run: change {stored}, or say --plant {near}"
    )
