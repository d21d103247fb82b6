"""A broker and an InfluxDB of our own, to be killed; PLANTWATCH_TEST_SERVERS names the folder of the scripts for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARED = Path("../shared/servers")
CANNOT_RUN_HERE = 3


class NoServers(Exception):
    """Why no server can run here."""


def scripts() -> Path:
    """The folder of the scripts. Raises NoServers."""
    folder = Path(os.environ.get("PLANTWATCH_TEST_SERVERS", SHARED))
    if not (folder / "kafka_server.py").is_file():
        raise NoServers(f"no kafka_server.py in {folder}; set PLANTWATCH_TEST_SERVERS to the folder that has it")
    return folder.resolve()


def _call(script: str, *arguments: str, patience: float = 180.0) -> dict[str, Any]:
    command = [sys.executable, str(scripts() / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    if done.returncode:
        raise NoServers(f"{script} {arguments[0]} (exit {done.returncode}): {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def install() -> None:
    """Make sure both servers are on this machine. Raises NoServers."""
    _call("kafka_server.py", "install", patience=600)
    _call("influx_server.py", "install", patience=1500)


@dataclass(slots=True)
class Broker:
    """A Kafka broker on its own folder; its port stays the same over all its lives."""

    data: Path
    settings: Sequence[str] = ()
    options: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def servers(self) -> str:
        """`host:port` without encryption or login."""
        return str(self.facts["bootstrap"])

    def start(self) -> float:
        """Start it, or start it again; returns seconds until it was ready. Raises NoServers."""
        began = time.monotonic()
        extra = [part for setting in self.settings for part in ("--set", setting)]
        self.facts = _call(
            "kafka_server.py", "start", "--data", str(self.data), "--heap", "400m", *self.options, *extra
        )
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        _call("kafka_server.py", "stop", "--data", str(self.data), "--kill")

    def stop(self) -> None:
        """End it in order."""
        _call("kafka_server.py", "stop", "--data", str(self.data))


@dataclass(slots=True)
class Influx:
    """An InfluxDB on its own folder."""

    data: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """It listens on loopback."""
        return int(self.facts["port"])

    @property
    def token(self) -> str:
        """The operator's."""
        return str(self.facts["token"])

    def start(self) -> None:
        """Start it, or start it again. Raises NoServers."""
        self.facts = _call("influx_server.py", "start", "--data", str(self.data))

    def kill(self) -> None:
        """SIGKILL, as a crash would; then, as is advised after one, a start and a stop before anybody writes."""
        os.kill(int(self.facts["pid"]), signal.SIGKILL)
        time.sleep(0.3)
        self.start()
        self.stop()

    def stop(self) -> None:
        """End it in order."""
        _call("influx_server.py", "stop", "--data", str(self.data))
