"""What the commands about alerts have in common: options, and questions to what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.domain import Plant
from pipelines import wiring
from pipelines.ports import HistorianReader
from pipelines.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Folder with what plantwatch has stored.")]
Config = Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def newest(historian: HistorianReader) -> int:
    """Newest event time that is stored, ns; 0 if there is none."""
    return max((summary.time for summary in historian.latest()), default=0)


def is_below(asset: str, place: str | None) -> bool:
    """Whether the asset is the place, or below it.

    >>> [is_below("s1/l1/pump-1", place) for place in (None, "s1/l1", "s1/l1/pump-1", "s1/l1/pump")]
    [True, True, True, False]
    """
    return place is None or f"{asset}/".startswith(place.rstrip("/") + "/")


def stored_plant(settings: Settings) -> Plant | None:
    """The plant file, if there is one. Raises ConfigurationError if it is there and wrong."""
    named = settings.plant or settings.data_dir / wiring.PLANT_FILE
    return wiring.open_plant(settings) if settings.plant or named.is_file() else None


def timezone_of(settings: Settings, plant: Plant | None) -> str:
    """IANA name of the zone people are told times in."""
    return settings.timezone or (plant.timezone if plant else "UTC")
