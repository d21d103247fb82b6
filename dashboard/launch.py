"""Start the dashboard as a process of its own: it must not share the interpreter with scoring."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from anomaly.errors import ConfigurationError
from dashboard.theme import FLAGS
from dashboard.world import DATA_DIR

DEFAULT_PORT: Final = 8501
TRIES: Final = 20
"""Ports tried, upwards, when none was asked for."""
_APP: Final = Path(__file__).with_name("app.py")

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
        str(_APP),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]


def address(host: str, port: int) -> str:
    """Where a browser finds it."""
    shown = "localhost" if host in {"127.0.0.1", "::1", "0.0.0.0", "::"} else host  # noqa: S104  # compared, not bound
    return f"http://{shown}:{port}"


def start(data: Path, host: str, port: int, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the server over the data folder. It has its own process group, so that Ctrl-C reaches only its starter.

    `log`: file its output is appended to; None: discarded. The caller ends it with `stop`.
    """
    root = str(_APP.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {DATA_DIR: str(data.resolve()), "PYTHONPATH": os.pathsep.join(paths)}
    output = log.open("ab") if log else subprocess.DEVNULL
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and file
            command(host, port),
            env=environment,
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


def ready(host: str, port: int) -> bool:
    """Whether the server answers on its port."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False
