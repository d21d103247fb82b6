"""The app's way in: where the data lie, opened once for all sessions of the process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import streamlit as st

from anomaly.domain import Asset, Plant
from anomaly.errors import ConfigurationError
from dashboard.launch import DATA_DIR
from pipelines import wiring
from pipelines.plant_file import load_plant
from pipelines.ports import HistorianReader, Log
from pipelines.settings import Settings

PLANT_S: Final = 60.0
"""A plant file that came or changed is seen after so long, and machines discovered meanwhile too."""


@dataclass(frozen=True, slots=True)
class World:
    """What the pages read and where they put commands. `models`: folder of the versions; `wall`: wall time, ns."""

    plant: Plant
    reader: HistorianReader
    log: Log
    models: Path
    wall: Callable[[], int] = time.time_ns


def current() -> World:
    """The world of this process, as its settings say: those of the environment, and the folder that it names, with
    `plant.toml` and what is not on servers. Raises PlantwatchError; the next call tries again.
    """
    named = os.environ.get(DATA_DIR, "")
    if not named:
        message = (
            f"{DATA_DIR} is not set, so the dashboard does not know which plant to show; start `plantwatch dashboard`"
        )
        raise ConfigurationError(message)
    opened = _opened(named)
    return replace(opened, plant=_plant(named))


@st.cache_resource(show_spinner=False)
def _opened(data: str) -> World:
    return open_world(Path(data))


@st.cache_resource(show_spinner=False, ttl=PLANT_S)
def _plant(data: str) -> Plant:
    return _described(Settings(data_dir=Path(data)), _opened(data).reader)


def open_world(data: Path) -> World:
    """Open what the settings name, with the data folder `data`. Raises PlantwatchError."""
    settings = Settings(data_dir=data)
    reader = wiring.open_historian_reader(settings)
    log = wiring.open_log(settings)
    return World(_described(settings, reader), reader, log, wiring.models_folder(settings))


def _described(settings: Settings, reader: HistorianReader) -> Plant:
    stored = settings.plant or settings.data_dir / wiring.PLANT_FILE
    return load_plant(stored) if stored.exists() else discovered(reader)


def discovered(reader: HistorianReader) -> Plant:
    """A plant made of what the historian holds, for when nobody has described it: no units, no ranges, UTC."""
    return Plant("plant", tuple(Asset(path, "", ()) for path in reader.assets()))
