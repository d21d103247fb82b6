from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from anomaly.domain import SECOND, Asset, Plant, Readings, Role, Rung, Tag
from anomaly.errors import ConfigurationError, ModelRefused, PlantwatchError, StorageLocked, TooFewRowsError
from anomaly.registry import Registry
from pipelines import topics, wiring
from pipelines.adapters.memory_log import MemoryLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.commands import models, train
from pipelines.commands.model_options import name_of, resolve, version_table
from pipelines.comparing import compare
from pipelines.fitting import fit_version
from pipelines.plant_file import write_plant
from pipelines.promotion import promote, roll_back
from pipelines.serving import ServingTable
from pipelines.settings import Settings
from pipelines.training_service import CleanedSet, group_tags, training_set_from_readings

TICK = 10 * SECOND
NOW = 1_795_255_200 * SECOND
TAGS = (Tag("flow", "m3/h", 0.0, 100.0), Tag("power", "kW", 0.0, 50.0), Tag("state", role=Role.MODE, running=(2.0,)))
PUMPS = tuple(Asset(f"s1/pump-{i}", "pumps", TAGS, TICK) for i in range(2))
PLANT = Plant("works", PUMPS, "UTC", 1.0)


def readings(asset: str, rows: int = 900, seed: int = 0) -> Readings:
    chance = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 30.0)
    values = np.stack([50 + 10 * load, 20 + 5 * load, np.full(rows, 2.0)], axis=1)
    values[:, :2] += chance.normal(0, 0.2, (rows, 2))
    names = tuple(tag.name for tag in TAGS)
    return Readings(asset, names, (1 + np.arange(rows)) * TICK, values, np.zeros(values.shape, np.uint8))


def healthy(rows: int = 900) -> list[Readings]:
    return [readings(asset.path, rows, seed) for seed, asset in enumerate(PUMPS)]


def cleaned(rows: int = 900) -> CleanedSet:
    return training_set_from_readings(PLANT, "pumps", None, healthy(rows), 0, 10**15)


def fitted(registry: Registry, work: Path, now: int = NOW, rung: Rung = Rung.WINDOW_PCA) -> str:
    return fit_version(cleaned(), group_tags(PUMPS), rung, registry, now=now, workdir=work, actor="eva").version


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A data folder with a plant file and stored readings."""
    folder = tmp_path / "data"
    settings = Settings(data_dir=folder)
    write_plant(PLANT, wiring.data_file(settings, wiring.PLANT_FILE))
    block = healthy()[0]
    block.values[100:160, 2] = 0.0
    historian = wiring.open_historian(settings)
    historian.write(readings=[block, healthy()[1]])
    historian.close()
    return folder


@pytest.fixture
def run(stored: Path) -> Any:
    app = typer.Typer()
    app.add_typer(models.app, name="models")
    app.command()(train.train)

    def invoke(*words: str, code: int | None = 0) -> str:
        done = CliRunner().invoke(app, [*words, "--data-dir", str(stored)], catch_exceptions=True)
        if isinstance(done.exception, PlantwatchError):
            raise done.exception
        assert code is None or done.exit_code == code, done.output
        return done.stdout

    return invoke


def test_a_fitted_version_is_the_challenger_with_its_card(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    version = fitted(registry, tmp_path / "work")
    assert registry.aliases("pumps") == {"challenger": version}
    card = registry.card("pumps", version)
    assert (card.rung, card.labels["actor"], card.left_out) == ("window_pca", "eva", {"warm_up": 4})
    assert card.rows == 2 * 900 - 4
    assert not (tmp_path / "work" / "pumps").exists()
    with pytest.raises(ConfigurationError, match="learns nothing"):
        fitted(registry, tmp_path / "work", rung=Rung.RULES)


def test_only_one_training_of_a_group_runs_at_a_time(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")

    def second(_: object) -> None:
        fitted(registry, tmp_path / "work")

    with pytest.raises(StorageLocked, match="another training"):
        fit_version(
            cleaned(),
            group_tags(PUMPS),
            Rung.WINDOW_PCA,
            registry,
            now=NOW,
            workdir=tmp_path / "work",
            on_progress=second,
        )
    assert fitted(registry, tmp_path / "work")


def test_promotion_is_said_on_the_log_and_noted_in_the_registry(tmp_path: Path) -> None:
    registry, log = Registry(tmp_path / "models"), MemoryLog(SystemClock())
    log.create(topics.partitions(2), topics.COMPACTED)
    one, two = (fitted(registry, tmp_path / "work", NOW + n * SECOND) for n in range(2))
    table = ServingTable()

    def wished() -> tuple[str, Rung]:
        table.refresh(log)
        wish = table.wishes["pumps"].serving
        return wish.version, wish.rung

    promote(log, registry, "pumps", one, actor="eva")
    promote(log, registry, "pumps", two, actor="eva")
    assert registry.aliases("pumps") == {"champion": two}
    assert wished() == (two, Rung.WINDOW_PCA)
    roll_back(log, registry, "pumps", actor="eva")
    assert (registry.aliases("pumps"), wished()) == ({"champion": one}, (one, Rung.WINDOW_PCA))
    roll_back(log, registry, "pumps", actor="eva")
    assert (registry.aliases("pumps"), wished()) == ({}, ("rules", Rung.RULES))


@pytest.mark.parametrize("crashed_before_the_alias", [False, True])
def test_one_command_rolls_back_one_version_however_often_it_is_carried_out(
    tmp_path: Path, crashed_before_the_alias: bool
) -> None:
    registry, log = Registry(tmp_path / "models"), MemoryLog(SystemClock())
    log.create(topics.partitions(2), topics.COMPACTED)
    one, two, three = (fitted(registry, tmp_path / "work", NOW + n * SECOND) for n in range(3))
    for version in (one, two, three):
        promote(log, registry, "pumps", version)
    roll_back(log, registry, "pumps", command="c1")
    if crashed_before_the_alias:
        registry.set_alias("pumps", "champion", three)
    roll_back(log, registry, "pumps", command="c1")
    assert registry.aliases("pumps") == {"champion": two}
    roll_back(log, registry, "pumps", command="c2")
    assert registry.aliases("pumps") == {"champion": one}


def test_a_group_that_never_had_a_champion_cannot_roll_back(tmp_path: Path) -> None:
    log = MemoryLog(SystemClock())
    log.create(topics.partitions(2), topics.COMPACTED)
    with pytest.raises(ConfigurationError, match="no champion"):
        roll_back(log, Registry(tmp_path), "pumps")


def test_a_damaged_version_is_never_promoted(tmp_path: Path) -> None:
    registry, log = Registry(tmp_path / "models"), MemoryLog(SystemClock())
    log.create(topics.partitions(2), topics.COMPACTED)
    version = fitted(registry, tmp_path / "work")
    path = tmp_path / "models" / "g-pumps" / "versions" / version / "scorer.npz"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelRefused, match=rf"pumps {version} is not promoted: .*sha256"):
        promote(log, registry, "pumps", version)
    table = ServingTable()
    table.refresh(log)
    assert (table.wishes, registry.aliases("pumps")) == ({}, {"challenger": version})


def test_a_challenger_that_cries_wolf_is_objected_to_and_its_twin_agrees(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    champion = registry.load("pumps", fitted(registry, tmp_path / "work"))
    normal = cleaned().training
    same = compare(champion, champion, normal, 1.0)
    assert (same.agreement, same.objections) == (1.0, ())
    assert same.challenger.rows > 1500
    line = replace(champion.threshold, default=0.2, lines={})
    nervous = compare(champion, replace(champion, version="nervous", threshold=line), normal, 1.0)
    assert nervous.challenger.over_share > 0.5
    assert nervous.agreement < 0.5
    assert "too many false alarms" in nervous.objections[0]
    blind = compare(champion, replace(champion, min_coverage=1.1), normal, 1.0)
    assert blind.objections == ("it knows no row of the span",)
    assert compare(None, champion, normal, 1.0).champion is None


def test_versions_are_named_by_alias_or_their_beginning(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    with pytest.raises(ConfigurationError, match="plantwatch train"):
        resolve(registry, "pumps", "champion")
    one, two = (fitted(registry, tmp_path / "work", NOW + n * 3600 * SECOND) for n in range(2))
    assert resolve(registry, "pumps", "challenger") == two
    assert resolve(registry, "pumps", one[:12]) == one
    assert resolve(registry, "pumps", "rules") == "rules"
    for wrong in ("2026", "nothing", "", "champion"):
        with pytest.raises(ConfigurationError):
            resolve(registry, "pumps", wrong)
    assert name_of(" eva ") == "eva"
    with pytest.raises(ConfigurationError, match="--actor"):
        name_of(" ")


def test_from_stored_readings_to_a_serving_version_by_commands_alone(run: Any, stored: Path) -> None:
    assert "No version yet" in run("models", "list")
    made = run("train", "--stored", "--rung", "window_pca", "--actor", "eva")
    assert "is the challenger" in made
    assert "off 0.2 h" in made
    listed = json.loads(run("models", "list", "--json"))["versions"]
    assert [(row["group"], row["alias"], row["card"]["left_out"]["off"]) for row in listed] == [
        ("pumps", "challenger", 60)
    ]
    version = listed[0]["version"]
    compared = json.loads(run("models", "compare", "pumps", "--since", "7d", "--json"))
    assert (compared["objections"], compared["champion"]["rung"]) == ([], "rules")
    promoted = json.loads(run("models", "promote", "pumps", "--actor", "eva", "--reason", "first", "--json"))
    assert (promoted["version"], promoted["rung"], promoted["actor"]) == (version, "window_pca", "eva")
    table = ServingTable()
    log = wiring.open_log(Settings(data_dir=stored))
    table.refresh(log)
    log.close()
    assert table.wishes["pumps"].serving.version == version
    assert version[:15] in run("models", "list")
    shown = run("models", "show", "pumps")
    assert "off" in shown
    assert "sha256" in shown
    assert json.loads(run("models", "show", "pumps", version, "--json"))["alias"] == "champion"
    assert "rules (rules) serves" in run("models", "rollback", "pumps", "--actor", "eva")


def test_a_damaged_version_is_listed_with_the_reason(run: Any, stored: Path) -> None:
    run("train", "--rung", "window_pca")
    version = json.loads(run("models", "list", "--json"))["versions"][0]["version"]
    (stored / "models" / "g-pumps" / "versions" / version / "manifest.json").write_text("{}")
    assert "refused" in json.loads(run("models", "list", "--json"))["versions"][0]
    assert f"pumps {version} is refused: " in run("models", "list")
    with pytest.raises(ModelRefused):
        run("models", "show", "pumps", version)


def test_a_version_whose_arrays_are_damaged_is_listed_as_refused_too(run: Any, stored: Path) -> None:
    run("train", "--rung", "window_pca")
    version = json.loads(run("models", "list", "--json"))["versions"][0]["version"]
    path = stored / "models" / "g-pumps" / "versions" / version / "scorer.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "sha256" in json.loads(run("models", "list", "--json"))["versions"][0]["refused"]
    listed = run("models", "list")
    assert "sha256" in listed
    assert f"pumps {version} is refused: " in listed


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_versions_are_whole_in_the_tables_however_narrow_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ("version", "group", "alias", "rung", "trained on", "line", "held-out loss")
    version = "20261121T145213-8a297a6d"
    for group in ("pumps", "g" * 60):
        row = (version, group, "challenger", "lstm_autoencoder", "1461.5 h", "12.345", "0.123")
        Console().print(version_table(names, [row], columns))
        printed = capsys.readouterr().out
        assert version in printed.split()
        assert max(map(len, printed.splitlines())) <= columns
        assert ("challenger  lstm_autoencoder  1461.5 h" in printed) == (columns == 80 and group == "pumps")


def test_a_comparison_shows_both_versions_whole_at_80_columns(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for rung in ("window_pca", "rolling_z"):
        run("train", "--rung", rung)
        run("models", "promote", "pumps", "--actor", "eva")
    listed = [row["version"] for row in json.loads(run("models", "list", "--json"))["versions"]]
    shown = run("models", "compare", "pumps", code=None)
    assert all(version in shown.split() for version in listed)


def test_without_a_challenger_the_newest_two_are_compared_and_one_alone_is_said(run: Any) -> None:
    run("train", "--rung", "window_pca")
    run("models", "promote", "pumps", "--actor", "eva")
    assert "one version" in run("models", "compare", "pumps")
    assert "one version" in json.loads(run("models", "compare", "pumps", "--json"))["nothing"]
    first = json.loads(run("models", "list", "--json"))["versions"][0]["version"]
    second = json.loads(run("train", "--rung", "rolling_z", "--json"))["versions"][0]["version"]
    run("models", "promote", "pumps", "--actor", "eva")
    compared = json.loads(run("models", "compare", "pumps", "--json", code=None))
    assert (compared["champion"]["version"], compared["challenger"]["version"]) == (first, second)


def test_files_without_a_plant_file_are_trained_on_as_they_are(run: Any, stored: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(2):
        block = readings("x", 700, number)
        lines = ["timestamp,flow,power"]
        lines += [
            f"2026-01-05T{r // 360:02d}:{r // 6 % 60:02d}:{r % 6}0Z,{f:.3f},{p:.3f}"
            for r, (f, p, _) in enumerate(block.values)
        ]
        (files / f"mill-{number}.csv").write_text("\n".join(lines))
    made = json.loads(run("train", "--data", str(files), "--rung", "window_pca", "--json"))["versions"]
    assert [row["group"] for row in made] == ["mill"]
    assert made[0]["card"]["assets"] == ["mill-0", "mill-1"]
    assert made[0]["card"]["labels"]["source"] == str(files)
    one = json.loads(
        run("train", "--data", str(files), "--asset", "mill-1", "--until", "10m", "--rung", "window_pca", "--json")
    )
    assert one["versions"][0]["card"]["assets"] == ["mill-1"]
    assert 600 < one["versions"][0]["card"]["rows"] < 660


def test_wrong_requests_are_told_plainly(run: Any, tmp_path: Path) -> None:
    for words, error, match in (
        (("train", "--group", "mills"), ConfigurationError, "pumps"),
        (("train", "--asset", "s1/fan"), ConfigurationError, "s1/pump-0"),
        (("train", "--stored", "--data", str(tmp_path)), ConfigurationError, "exclude"),
        (("train", "--since", "1m", "--until", "2h"), ConfigurationError, "not before"),
        (("train", "--since", "2m", "--rung", "window_pca"), TooFewRowsError, "pumps"),
        (("models", "promote", "pumps"), ConfigurationError, "plantwatch train"),
        (("models", "rollback", "pumps"), ConfigurationError, "no champion"),
    ):
        with pytest.raises(error, match=match):
            run(*words)


@pytest.mark.slow
def test_the_net_is_trained_by_command_and_says_what_was_left_out(run: Any) -> None:
    made = json.loads(run("train", "--asset", "s1/pump-0", "--epochs", "2", "--length", "12", "--json"))["versions"][0]
    assert made["card"]["rung"] == "lstm_autoencoder"
    assert made["card"]["left_out"]["off"] == 60
    assert made["card"]["spec"]["length"] == 12
    assert json.loads(run("models", "show", "pumps", "challenger", "--json"))["version"] == made["version"]
