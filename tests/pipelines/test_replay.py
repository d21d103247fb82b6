"""`plantwatch replay`: files as if they came live."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from anomaly.alignment import AlignmentPolicy
from anomaly.blocks import join
from anomaly.domain import SECOND, Asset, Plant, Readings, Scores, Tag
from anomaly.errors import ConfigurationError, DataError, StorageError
from pipelines import replaying
from pipelines.commands.replay import replay
from pipelines.replaying import by_asset
from pipelines.replaying import replay as run_replay
from pipelines.streams import AssetStream

TRAIN, ROWS, FAULT = 900, 1_300, (1_100, 1_180)
TICK = 10 * SECOND
START = 1_700_000_000 * SECOND


def values(seed: int, fault: bool) -> np.ndarray:
    """Three tags that hang together by one load; in the fault two of them do not."""
    chance = np.random.default_rng(seed)
    found = np.sin(np.arange(ROWS) / 15.0)[:, None] * [1.0, 2.0, 3.0] + chance.normal(0, 0.1, (ROWS, 3)) + 20
    if fault:
        found[slice(*FAULT), :2] += 1.5
    return found


def write(path: Path, found: np.ndarray) -> None:
    times = np.datetime_as_string((START + np.arange(ROWS) * TICK).astype("datetime64[ns]"), unit="s")
    rows = [f"{time}Z,{','.join(f'{v:.4f}' for v in row)}" for time, row in zip(times, found, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["timestamp,flow,power,temp", *rows]) + "\n")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_SECRETS_DIR", str(tmp_path / "none"))
    write(tmp_path / "data" / "s1" / "l1" / "pump-1.csv", values(1, True))
    write(tmp_path / "data" / "s1" / "l1" / "pump-2.csv", values(2, False))
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(replay)
    return CliRunner().invoke(app, list(arguments))


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_faulty_machine_raises_its_alert_and_the_healthy_one_none(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run("--data", str(data), "--train-rows", str(TRAIN), "--out", str(out))
    assert found.exit_code == 0, found.output
    alerts = json.loads((out / "alerts.json").read_text())["alerts"]
    assert [(alert["asset"], alert["kind"]) for alert in alerts] == [("s1/l1/pump-1", "process")]
    assert alerts[0]["onset"] >= "2023-11-15T01:16:"
    assert alerts[0]["cleared_at"] is not None
    rows = table(out / "scores" / "s1" / "l1" / "pump-1.csv")
    assert len(rows) == ROWS - TRAIN
    over = [number for number, row in enumerate(rows) if row["anomalous"] == "1"]
    assert sum(FAULT[0] - TRAIN <= number < FAULT[1] - TRAIN + 30 for number in over) == len(over) > 40
    assert "flow" in {rows[number]["top_tag"] for number in over[:20]}
    assert all(row["state"] == "ok" for row in rows)
    assert (out / "scores" / "s1" / "l1" / "pump-2.csv").is_file()
    assert "pump-1: window_pca learned from 900 rows; 400 ticks" in found.output


def test_replay_scores_are_those_of_the_live_stream(data: Path) -> None:
    tags = (Tag("flow"), Tag("power"), Tag("temp"))
    asset = Asset("p", "pumps", tags, TICK)
    chance = np.random.default_rng(5)
    times = START + np.arange(ROWS) * TICK + chance.integers(0, TICK // 2, ROWS)
    keep = (chance.random(ROWS) < 0.98) & ~((np.arange(ROWS) > 1_000) & (np.arange(ROWS) < 1_050))
    quality = np.zeros((ROWS, 3), np.uint8)
    whole = Readings("p", ("flow", "power", "temp"), times[keep], values(1, True)[keep], quality[keep])
    plant = Plant("x", (asset,))
    (found,) = run_replay(plant, {"p": whole}, TRAIN, "window_pca")
    detector = replaying._learn(plant, "pumps", [whole], TRAIN, "window_pca", 0)
    stream = AssetStream(asset)
    live: list[Scores] = []
    cuts = np.sort(chance.integers(0, len(whole), 40)).tolist()
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(whole)], strict=True)):
        pushed = stream.push(
            Readings("p", whole.tags, times[keep][start:stop], whole.values[start:stop], whole.quality[start:stop]),
            number,
            0,
        )
        live.append(detector.detect(detector.windows(pushed.samples, pushed.first)))
    scores = join(live)
    both = np.isin(found.scores.times, scores.times)
    assert both.sum() >= len(found.scores) - AlignmentPolicy.of(TICK).lateness // TICK - 1
    mine = np.isin(scores.times, found.scores.times)
    np.testing.assert_array_equal(found.scores.score[both], scores.score[mine])
    np.testing.assert_array_equal(found.scores.contributions[both], scores.contributions[mine])


def test_what_is_learned_depends_on_the_first_rows_only(data: Path) -> None:
    asset = Asset("p", "pumps", (Tag("flow"), Tag("power"), Tag("temp")), TICK)
    times, quality = START + np.arange(ROWS) * TICK, np.zeros((ROWS, 3), np.uint8)
    one, other = values(1, False), values(1, False)
    other[1_200:] *= 2.0
    found = [
        run_replay(
            Plant("x", (asset,)),
            {"p": Readings("p", ("flow", "power", "temp"), times, v, quality)},
            TRAIN,
            "window_pca",
        )
        for v in (one, other)
    ]
    cut = 1_200 - TRAIN
    np.testing.assert_array_equal(found[0][0].scores.score[:cut], found[1][0].scores.score[:cut])


def test_blocks_of_one_machine_become_one_with_the_tags_of_the_plant() -> None:
    plant = Plant("x", (Asset("p", "g", (Tag("a"), Tag("b"))),))
    one = Readings("p", ("b",), np.array([1]), np.array([[7.0]]), np.zeros((1, 1), np.uint8))
    other = Readings("p", ("a", "z"), np.array([2]), np.array([[8.0, 9.0]]), np.zeros((1, 2), np.uint8))
    found = by_asset([one, other], plant)["p"]
    assert found.quality.tolist() == [[3, 0], [0, 3]]
    assert found.values[0, 1] == 7.0
    assert found.values[1, 0] == 8.0


@pytest.mark.slow
def test_the_net_can_be_asked_for(data: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorFlow's own import
        found = run("--data", str(data), "--train-rows", str(TRAIN), "--out", str(tmp_path / "o"), "--model", "default")
    assert found.exit_code == 0, found.output
    assert "pump-1" in (tmp_path / "o" / "alerts.json").read_text()


def test_mistakes_are_refused_with_the_mend(data: Path, tmp_path: Path) -> None:
    usual = ["--data", str(data), "--out", str(tmp_path / "out")]
    found = run(*usual, "--train-rows", "5000")
    assert isinstance(found.exception, DataError)
    assert "the longest has 1300" in str(found.exception)
    found = run(*usual, "--train-rows", "900", "--model", "window-pca")
    assert isinstance(found.exception, ConfigurationError)
    assert "did you mean 'window_pca'" in str(found.exception)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    found = run("--data", str(data), "--train-rows", "900", "--out", str(tmp_path / "full"))
    assert isinstance(found.exception, ConfigurationError)
    assert "--force" in str(found.exception)
    found = run("--data", str(data), "--train-rows", "900", "--out", str(tmp_path / "full" / "a" / "b"))
    assert isinstance(found.exception, StorageError)
    assert found.exception.exit_code == 74
    found = run("--data", str(tmp_path / "nowhere"), "--train-rows", "900", "--out", str(tmp_path / "out"))
    assert isinstance(found.exception, DataError)
