"""`plantwatch simulate`: what it writes can be read back, and what it refuses it explains."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from anomaly.domain import SECOND, Quality
from anomaly.errors import ConfigurationError, StorageError, StorageFull
from pipelines.commands.simulate import simulate
from pipelines.decoding import decode
from pipelines.plant_file import load_plant
from pipelines.sources.simulator import Simulator

START = 1_767_571_200 * SECOND
HOUR = 3600 * SECOND


def command(*arguments: str | Path | float) -> Result:
    app = typer.Typer()
    app.command()(simulate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def nanoseconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def test_csv_holds_the_readings_of_the_simulator_beside_plant_and_truth(tmp_path: Path) -> None:
    out = tmp_path / "life"
    result = command("--out", out, "--hours", 2.5, "--history", 1, "--seed", 3)
    assert result.exit_code == 0, result.output
    simulator = Simulator(3, START, 3600)
    blocks = simulator.advance(START + 5 * HOUR // 2)
    assert load_plant(out / "plant.toml") == simulator.plant
    for block in blocks:
        with (out / "readings" / f"{block.asset}.csv").open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        assert header == ["timestamp", *block.tags]
        assert [nanoseconds(line[0]) for line in lines] == block.times.tolist()
        values = np.array([[float(cell or "nan") for cell in line[1:]] for line in lines])
        np.testing.assert_array_equal(values, block.values)
    known = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    assert [fault["onset"] for fault in known["faults"]] == [fault.onset for fault in simulator.faults()]
    assert known["faults"]
    assert f"{len(known['faults'])} faults" in result.output


def test_json_lines_are_payloads_the_decoder_takes(tmp_path: Path) -> None:
    result = command("--out", tmp_path, "--hours", 2, "--history", 0, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    simulator = Simulator(1, START, 0)
    expected = {block.asset: block for block in simulator.advance(START + 2 * HOUR)}
    seen: dict[str, list[tuple[int, dict[str, float], int]]] = {path: [] for path in expected}
    for line in (tmp_path / "readings.jsonl").read_bytes().splitlines()[::7]:
        for block in decode(line, None, START + 100 * HOUR):
            marks = block.quality[0].tolist()
            values = {
                tag: value
                for tag, value, mark in zip(block.tags, block.values[0].tolist(), marks, strict=True)
                if mark < 2
            }
            seen[block.asset].append((int(block.times[0]), values, sum(mark == Quality.BAD for mark in marks)))
    for path, block in expected.items():
        index = {int(time): row for row, time in enumerate(block.times.tolist())}
        assert len(seen[path]) > 50
        for time, values, bad in seen[path]:
            row = index[time]
            usable = block.quality[row] < Quality.BAD
            assert values == dict(
                zip(np.array(block.tags)[usable].tolist(), block.values[row][usable].tolist(), strict=True)
            )
            assert bad == int((block.quality[row] == Quality.BAD).sum())


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert command("--out", tmp_path / name, "--hours", 1, "--history", 0).exit_code == 0
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 16
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_a_life_without_faults_says_why(tmp_path: Path) -> None:
    assert "begin after 36 h" in command("--out", tmp_path, "--hours", 0.1).output


@pytest.mark.parametrize(
    ("start", "message"),
    [("yesterday", "ISO-8601"), ("2026-01-05T00:00:00", "no zone"), ("1950-01-05T00:00:00Z", "before 1970")],
)
def test_a_start_that_is_no_instant_is_refused(tmp_path: Path, start: str, message: str) -> None:
    error = command("--out", tmp_path, "--start", start).exception
    assert isinstance(error, ConfigurationError)
    assert message in str(error)


def test_a_folder_with_something_in_it_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    error = command("--out", tmp_path, "--hours", 0.1).exception
    assert isinstance(error, ConfigurationError)
    assert "--force" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert command("--out", tmp_path, "--hours", 0.1, "--force").exit_code == 0


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    error = command("--out", tmp_path / "out").exception
    assert isinstance(error, ConfigurationError)
    assert "is a file" in str(error)


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [(errno.ENOSPC, StorageFull, "No space left"), (errno.EACCES, StorageError, "Permission denied")],
)
def test_what_the_disk_refuses_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError], message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    error = command("--out", tmp_path / "out", "--hours", 0.1).exception
    assert isinstance(error, kind)
    assert message in str(error)
