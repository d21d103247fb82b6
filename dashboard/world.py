"""The app's way in: where the data lie, opened once for all sessions of the process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from anomaly.domain import Asset, Plant
from anomaly.errors import ConfigurationError
from dashboard.launch import DATA_DIR
from pipelines import wiring
from pipelines.plant_file import load_plant
from pipelines.ports import HistorianReader, Log
from pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class World:
    """What the pages read and where they put commands. `wall`: wall time, ns."""

    plant: Plant
    reader: HistorianReader
    log: Log
    data: Path
    wall: Callable[[], int] = time.time_ns


def current() -> World:
    """The world of this process: the folder that the environment names, with `historian.db`, `log.db`, `plant.toml` and
    `models/`. Raises ConfigurationError, StorageError; the next call tries again.
    """
    named = os.environ.get(DATA_DIR, "")
    if not named:
        message = (
            f"{DATA_DIR} is not set, so the dashboard does not know which plant to show; start `plantwatch dashboard`"
        )
        raise ConfigurationError(message)
    return _opened(named)


@st.cache_resource(show_spinner=False)
def _opened(data: str) -> World:
    return open_world(Path(data))


def open_world(data: Path) -> World:
    """Open what lies in the folder `data`. Raises ConfigurationError, StorageError."""
    settings = Settings(data_dir=data)
    reader = wiring.open_historian_reader(settings)
    stored = data / wiring.PLANT_FILE
    plant = load_plant(stored) if stored.exists() else discovered(reader)
    return World(plant, reader, wiring.open_log(settings), data)


def discovered(reader: HistorianReader) -> Plant:
    """A plant made of what the historian holds, for when nobody has described it: no units, no ranges, UTC."""
    return Plant("plant", tuple(Asset(path, "", ()) for path in reader.assets()))
