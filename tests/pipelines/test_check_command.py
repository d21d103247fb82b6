"""`plantwatch check` finds what would stop a start, and says how to mend it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from anomaly.domain import Asset, Plant, Tag
from pipelines import checking, wiring
from pipelines.commands.check import check
from pipelines.findings import Status
from pipelines.plant_file import write_plant
from pipelines.settings import Settings


class Result(NamedTuple):
    """What a call of the command came to."""

    code: int
    findings: dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("PLANTWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLANTWATCH_DASHBOARD_PORT", str(_free_port()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(check)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def _check(*arguments: str) -> Result:
    code, output = _call("--json", *arguments)
    told = json.loads(output)
    assert told["ok"] == (code == 0)
    return Result(code, {finding["name"]: finding for finding in told["findings"]})


def test_a_fresh_machine_is_in_order_and_nothing_is_left_behind(tmp_path: Path) -> None:
    result = _check()
    assert result.code == 0
    assert {finding["status"] for finding in result.findings.values()} <= {"ok", "warning"}
    assert set(result.findings) >= {"python", "settings", "plant", "data folder", "log", "historian", "models"}
    assert list(tmp_path.iterdir()) == []
    code, text = _call()
    assert code == 0
    assert text.startswith("ok       python")


def test_what_is_stored_is_opened_and_told(tmp_path: Path) -> None:
    settings = Settings()
    wiring.open_log(settings).close()
    wiring.open_historian(settings).close()
    write_plant(Plant("Works", (Asset("a", "g", (Tag("x"), Tag("y"))),)), settings.data_dir / "plant.toml")
    result = _check()
    assert result.code == 0
    assert "Works: 1 assets, 2 signals" in result.findings["plant"]["found"]
    assert "opens, 4 partitions" in result.findings["log"]["found"]
    assert "opens, 0 assets" in result.findings["historian"]["found"]


def test_wrong_settings_are_told_and_end_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTWATCH_PARTITONS", "4")
    result = _check()
    assert result.code == 78
    assert "did you mean 'PLANTWATCH_PARTITIONS'" in result.findings["settings"]["found"]
    assert "log" not in result.findings


def test_a_wrong_plant_file_fails_with_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('nmae = "x"\nassets = []\n')
    result = _check("--plant", str(tmp_path / "p.toml"))
    assert result.code == 78
    assert "did you mean 'name'" in result.findings["plant"]["found"]
    assert _check("--plant", str(tmp_path / "none.toml")).findings["plant"]["status"] == "failure"


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = _check("--data-dir", str(tmp_path / "file" / "deep"))
    assert result.code == 78
    assert "choose another data_dir" in result.findings["data folder"]["found"]


def test_a_disk_without_room_fails_and_one_with_little_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, status in ((50 << 20, "failure"), (1 << 30, "warning"), (5 << 30, "ok")):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert _check().findings["data folder"]["status"] == status


def test_a_folder_without_rights_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checking, "_write_in", refused)
    result = _check()
    assert result.code == 74
    assert "cannot be written: Permission denied" in result.findings["data folder"]["found"]


@pytest.mark.slow
def test_a_database_that_another_process_holds_fails(tmp_path: Path) -> None:
    settings = Settings()
    wiring.open_historian(settings).close()
    holder = sqlite3.connect(settings.data_dir / wiring.HISTORIAN_FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        result = _check()
    finally:
        holder.close()
    assert result.code == 74
    assert result.findings["historian"]["status"] == "failure"
    assert _check().code == 0


def test_a_database_that_is_none_fails(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / wiring.LOG_FILE).write_bytes(b"no database" * 1000)
    result = _check()
    assert result.code != 0
    assert result.findings["log"]["status"] == "failure"


def test_another_number_of_partitions_than_the_log_was_made_with_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring.open_log(Settings()).close()
    monkeypatch.setenv("PLANTWATCH_PARTITIONS", "8")
    assert _check().findings["log"]["status"] == "failure"


def test_a_named_port_that_is_taken_fails_and_an_unnamed_one_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = int(taken.getsockname()[1])
        monkeypatch.setenv("PLANTWATCH_DASHBOARD_PORT", str(number))
        result = _check()
        assert result.code == 78
        assert f"127.0.0.1:{number} cannot be listened on" in result.findings["dashboard port"]["found"]
        monkeypatch.delenv("PLANTWATCH_DASHBOARD_PORT")
        settings = Settings()
        unnamed = settings.model_copy(update={"dashboard_port": number})
        unnamed.model_fields_set.discard("dashboard_port")
        assert checking.port(unnamed).status is Status.WARNING


def test_a_damaged_champion_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = wiring.open_registry(Settings())
    (tmp_path / "data" / wiring.MODELS_FOLDER).mkdir(parents=True)
    monkeypatch.setattr(type(registry), "groups", lambda _: ("pumps",))
    monkeypatch.setattr(type(registry), "aliases", lambda _, group: {"champion": "20260101T000000Z-00000000"})
    result = _check()
    assert result.code != 0
    assert result.findings["models"]["status"] == "failure"


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_without_the_libraries_fails(version: tuple[int, int]) -> None:
    finding = checking.python(version)
    assert finding.status is Status.FAILURE
    assert "expected 3.11 to 3.13" in finding.found


def test_missing_net_libraries_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert checking.nets().status is Status.WARNING


def test_files_that_shall_be_read_are_tried(tmp_path: Path) -> None:
    file = tmp_path / "pump.csv"
    file.write_text("timestamp;x\n2026-11-21T01:02:03Z;1,5\n2026-11-21T01:02:13Z;1,6\n")
    assert "separator semicolon, decimal comma" in _check("--data", str(file)).findings["data files"]["found"]
    file.write_text("timestamp;x\n2026-11-21 01:02:03;1,5\n")
    result = _check("--data", str(tmp_path))
    assert result.code == 65
    assert "has no zone" in result.findings["data files"]["found"]
