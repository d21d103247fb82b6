"""What `run` watches: the plant file that counts, the zone of the files, the word to the dashboard, when to learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anomaly.domain import Plant
from anomaly.errors import DataError
from pipelines.checking import files
from pipelines.plant_file import load_plant, write_plant
from pipelines.run_source import Source, open_source
from pipelines.settings import Settings

ROWS = "\n".join(f"2026-01-05 01:00:{second:02d},{second}" for second in range(0, 50, 10))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of one machine with times that name no zone."""
    folder = tmp_path / "mydata"
    folder.mkdir()
    (folder / "pump.csv").write_text("time,flow\n" + ROWS + "\n")
    return folder


def plant_of(data: Path, timezone: str = "Europe/Berlin") -> Plant:
    text = (
        f'name = "w"\ntimezone = "{timezone}"\n[[assets]]\npath = "pump"\ngroup = "p"\ntags = [{{ name = "flow" }}]\n'
    )
    (data / "plant.toml").write_text(text)
    return load_plant(data / "plant.toml")


def first_hour(settings: Settings, data: Path) -> int:
    _, folder = open_source(settings, data, print)
    assert folder is not None
    return int(next(iter(folder.blocks())).times[0]) // (3600 * 10**9) % 24


def test_times_without_a_zone_are_in_the_plant_files_zone_unless_a_setting_says_otherwise(
    data: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "store")
    with pytest.raises(DataError, match="--timezone Europe/Berlin"):
        open_source(settings, data, print)
    with pytest.raises(DataError, match="--timezone"):
        files(data, settings)
    plant_of(data)
    assert first_hour(settings, data) == 0
    assert "1 files" in files(data, settings).found
    assert first_hour(Settings(data_dir=tmp_path / "store", timezone="UTC"), data) == 1


def test_a_plant_file_beside_the_files_that_no_longer_counts_is_told_when_it_differs(
    data: Path, tmp_path: Path
) -> None:
    settings, told = Settings(data_dir=tmp_path / "store"), list[str]()
    plant = plant_of(data)
    write_plant(plant, settings.data_dir / "plant.toml")
    assert open_source(settings, data, told.append)[0] == plant
    assert told == []
    write_plant(replace(plant, alert_budget_per_week=3.0), data / "plant.toml")
    assert open_source(settings, data, told.append)[0] == plant
    assert f"{data / 'plant.toml'} differs from" in told[0]
    assert "differs from" in files(data, settings).found
    open_source(Settings(data_dir=tmp_path / "store", plant=data / "plant.toml"), data, told.append)
    assert len(told) == 1


def test_files_read_at_once_are_read_before_anything_is_learned_and_a_replay_learns_as_it_goes() -> None:
    plant = Plant("w", ())
    at_once, replayed, live = (
        Source(plant, files=True),
        Source(plant, files=True, speed=60.0),
        Source(plant, files=False),
    )
    assert [source.ready() for source in (at_once, replayed, live)] == [False, True, True]
    assert at_once.status() == {"plant_name": "w", "speed": 1.0, "files": "being read"}
    assert replayed.status()["speed"] == 60.0
    assert "files" not in live.status()
    at_once.read.set()
    assert at_once.ready()
    assert at_once.status()["files"] == "all read"
