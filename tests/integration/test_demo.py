"""`plantwatch demo` as a stranger starts it: scores soon, one report, goes on, stops at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(240)]

PROMISED = {"readings", "samples", "windows", "alerts", "faults", "false_alerts", "dead_letters", "stages"}
ADDED = {"wrong_kind", "conservation"}
ALERT = {"asset", "kind", "onset", "raised_at", "cleared_at", "priority", "tags"}
FAULT = {"asset", "name", "kind", "onset", "caught", "delay_s"}


def demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "pipelines", "demo", "--headless", "--data-dir", str(folder)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], timeout: float = 120.0) -> tuple[str, str]:
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("\n".join(process.communicate()))


def check_report(out: str) -> dict[str, Any]:
    """The report has exactly what was promised, and its figures agree."""
    [line] = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert set(found) == PROMISED | ADDED
    assert set(found["windows"]) == {"rules", "window_pca", "lstm_autoencoder"}
    assert all(set(alert) >= ALERT for alert in found["alerts"])
    assert all(set(fault) >= FAULT for fault in found["faults"])
    ends = dict(found["conservation"])
    assert ends.pop("acknowledged") == sum(ends.values()) == found["readings"]
    assert found["dead_letters"] == ends["dead_lettered"]
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A first demo of 25 s: its folder, its report, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    process = demo(folder, "--duration", "25", "--seed", "7", "--json", "-")
    out, said = ended(process)
    assert process.returncode == 0, said
    return folder, check_report(out), said


def test_a_headless_demo_ends_with_one_report_and_its_first_scores_come_early(
    first: tuple[Path, dict[str, Any], str],
) -> None:
    _, found, said = first
    assert "Traceback" not in said
    assert found["readings"] > 1_000_000  # 36 h of fourteen machines
    assert found["windows"]["rules"] > 0
    assert found["stages"]["first_score"] < 20.0
    assert found["stages"]["total"] < 25.0 + 25.0
    assert "first scores" in said


def test_a_second_start_goes_on_and_another_seed_is_refused(first: tuple[Path, dict[str, Any], str]) -> None:
    folder, before, _ = first
    process = demo(folder, "--duration", "5", "--json", "-")
    out, said = ended(process)
    assert process.returncode == 0, said
    after = check_report(out)
    assert "going on from what is stored" in said
    assert "loading" not in said
    assert after["readings"] >= before["readings"]
    assert after["conservation"]["scored"] >= before["conservation"]["scored"]

    process = demo(folder, "--seed", "8")
    out, said = ended(process)
    assert process.returncode == 78
    assert "holds the life of seed 7" in said
    assert "asked for was 8" in said
    assert "make demo-reset" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_soon_and_cleanly(
    first: tuple[Path, dict[str, Any], str], number: signal.Signals
) -> None:
    folder, _, _ = first
    process = demo(folder)
    assert process.stderr is not None
    for line in process.stderr:
        if "Ctrl-C stops" in line:
            break
    time.sleep(3.0)
    began = time.monotonic()
    process.send_signal(number)
    _, said = ended(process, timeout=30.0)
    assert process.returncode == 0, said
    assert time.monotonic() - began < 10.0
    assert "Traceback" not in said


def test_a_data_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = demo(tmp_path / "file" / "demo", "--duration", "5")
    _, said = ended(process)
    assert process.returncode == 78
    assert "cannot be made" in said
    assert "Traceback" not in said


def test_reset_forgets_a_demo_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    process = demo(other, "--reset")
    assert "holds no demo" in ended(process)[1]
    assert (process.returncode, (other / "letter.txt").exists()) == (78, True)

    stored = tmp_path / "demo"
    stored.mkdir()
    (stored / "demo.json").write_text("{}")
    process = demo(stored, "--reset")
    assert "Forgotten" in ended(process)[0]
    assert (process.returncode, stored.exists()) == (0, False)


def test_run_watches_the_simulator_too_and_takes_no_second_source(tmp_path: Path) -> None:
    run = [sys.executable, "-W", "ignore", "-m", "pipelines", "run", "--simulator", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(
        [*run, "--no-dashboard", "--speed", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "first scores" not in (line := process.stderr.readline()):
        assert line, "it ended before the first score"
    process.send_signal(signal.SIGINT)
    assert "readings" in ended(process)[1]
    assert process.returncode == 0

    process = subprocess.Popen(
        [*run, "--data", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "--simulator was given with --data" in ended(process)[1]
    assert process.returncode == 78
