"""The server's start: which port, which flags, and nothing heavy in its process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly.errors import ConfigurationError
from dashboard import launch
from pipelines.commands.dashboard import dashboard
from pipelines.settings import Settings

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_asked_for_that_is_taken_is_an_error_that_says_what_to_do(taken: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"port {taken} .* choose another with --port"):
        launch.free_port(HOST, taken)


def test_without_a_wish_the_next_free_port_is_taken(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken)
    chosen = launch.free_port(HOST, None)
    assert taken < chosen < taken + launch.TRIES


def test_a_host_that_is_not_ours_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        launch.free_port("192.0.2.1", 8501)


def test_the_flags_keep_telemetry_tracebacks_and_file_watching_off() -> None:
    line = launch.command(HOST, 8600)
    for flag in (
        "--browser.gatherUsageStats=false",
        "--server.headless=true",
        "--client.showErrorDetails=none",
        "--server.fileWatcherType=none",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
        "--server.address=127.0.0.1",
        "--server.port=8600",
    ):
        assert flag in line


def test_the_server_gets_the_folder_and_what_the_log_was_made_with(tmp_path: Path) -> None:
    found = launch.environment(Settings(data_dir=tmp_path, partitions=7))
    assert found[launch.DATA_DIR] == str(tmp_path)
    assert found["PLANTWATCH_PARTITIONS"] == "7"
    assert str(Path(launch.__file__).parent.parent) in found["PYTHONPATH"].split(os.pathsep)


def test_the_address_shown_is_one_a_browser_can_open() -> None:
    assert launch.address("0.0.0.0", 8501) == launch.address(HOST, 8501) == "http://localhost:8501"
    assert launch.address("plant.example", 80) == "http://plant.example:80"


@pytest.mark.slow
def test_the_dashboard_loads_neither_keras_nor_tensorflow() -> None:
    program = "import sys, dashboard.app; print([m for m in ('keras', 'tensorflow', 'tf2onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_says_where_the_pages_are_and_sigterm_ends_its_server_too(tmp_path: Path) -> None:
    program = "import typer; from pipelines.commands.dashboard import dashboard; typer.run(dashboard)"
    line = [sys.executable, "-c", program, "--data-dir", str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = int(said.split("http://localhost:")[1].split()[0])
        with socket.create_connection((HOST, port), timeout=5):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port), timeout=1).close()


def test_the_command_refuses_a_taken_port_that_was_asked_for(taken: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="choose another with --port"):
        dashboard(port=taken, data_dir=tmp_path)
