"""Start the dashboard as a process of its own: it must not share the interpreter with scoring."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from anomaly.errors import ConfigurationError, Unreachable
from dashboard.theme import FLAGS
from pipelines.settings import Settings

DATA_DIR: Final = "PLANTWATCH_DATA_DIR"
"""How the app learns its folder; `dashboard.world` reads it."""
DEFAULT_PORT: Final = 8501
TRIES: Final = 20
"""Ports tried, upwards, when none was asked for."""
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared, not bound
_SCRIPT: Final = Path(__file__).parent / "entry" / "script.py"

SERVER_FLAGS: Final[dict[str, str]] = {
    "browser.gatherUsageStats": "false",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.showEmailPrompt": "false",
    "server.websocketPingInterval": "20",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "runner.magicEnabled": "false",
    "logger.hideWelcomeMessage": "true",
}
"""No telemetry, no tracebacks for visitors, no watching of files (guarantees.md §4)."""


def free_port(host: str, wanted: int | None) -> int:
    """A port to listen on: `wanted` exactly, else the first free one from `DEFAULT_PORT` upwards.

    Raises ConfigurationError if `wanted` is taken or cannot be used, or if all tried are taken.
    """
    if wanted is not None:
        reason = _refused(host, wanted)
        if reason:
            message = f"port {wanted} on {host} cannot be used: {reason}; choose another with --port, or leave it out"
            raise ConfigurationError(message)
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + TRIES):
        if not _refused(host, port):
            return port
    message = f"ports {DEFAULT_PORT} to {DEFAULT_PORT + TRIES - 1} on {host} are all taken; choose one with --port"
    raise ConfigurationError(message)


def named_port(settings: Settings) -> int | None:
    """The port that a flag, the settings file or the environment names; None where it is only the default."""
    return settings.dashboard_port if "dashboard_port" in settings.model_fields_set else None


def _refused(host: str, port: int) -> str:
    """Why the port cannot be listened on; empty if it can."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def command(host: str, port: int) -> list[str]:
    """The command line of the Streamlit server."""
    flags = SERVER_FLAGS | FLAGS | {"server.address": host, "server.port": str(port), "browser.serverAddress": host}
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(_SCRIPT),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]


def address(host: str, port: int) -> str:
    """Where a browser finds it."""
    shown = "localhost" if host in {"127.0.0.1", "::1", *_ANY} else host
    return f"http://{shown}:{port}"


def _reached(host: str) -> str:
    """Where a server bound to `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound


def environment(settings: Settings) -> dict[str, str]:
    """The server's environment: what the settings say, and where our packages lie."""
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | settings.environment() | {"PYTHONPATH": os.pathsep.join(paths)}


def start(settings: Settings, port: int, output_file: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the server over the settings' data folder, on their host. Returns at once; `wait_ready` waits.

    It is in a session of its own, so that Ctrl-C reaches only its starter, who ends it with `stop`. `output_file`: what
    it prints is appended there; None: discarded.
    """
    output = output_file.open("ab") if output_file else subprocess.DEVNULL
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and file
            command(settings.dashboard_host, port),
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        if not isinstance(output, int):
            output.close()


def stop(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """End the server: politely, then for good. Idempotent."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_ready(process: subprocess.Popen[bytes], host: str, port: int, patience_s: float = 60.0) -> None:
    """Wait until the server answers on its port. Raises Unreachable if it ends, or does not answer in time."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            message = f"the dashboard ended at its start with exit code {process.returncode}; see what it printed"
            raise Unreachable(message)
        if _answers(host, port):
            return
        time.sleep(0.1)
    message = f"the dashboard did not answer on {host}:{port} within {patience_s:g} s; see what it printed"
    raise Unreachable(message)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((_reached(host), port), timeout=0.5):
            return True
    except OSError:
        return False
