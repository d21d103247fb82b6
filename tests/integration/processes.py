"""`plantwatch serve …` as real processes for tests: started, asked, stopped, and what they said read back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], object], what: str, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s:g} s for: {what}"
        time.sleep(0.1)


class Served:
    """One service. `settings`: names as in the settings file."""

    def __init__(self, service: str, settings: Mapping[str, object], folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.name = f"{service}-{self.port}"
        self.output = folder / f"{self.name}.log"
        bare = {name: value for name, value in os.environ.items() if not name.startswith("PLANTWATCH_")}
        given = {f"PLANTWATCH_{name.upper()}": str(value) for name, value in settings.items()}
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", "serve", service, "--metrics-port", str(self.port), *arguments],
                cwd=ROOT,
                env=bare | given,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def ask(self, path: str) -> tuple[int, Any]:
        """Status and body of one of its pages; status 0 if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, self._read(path, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, self._read(path, error.read())
        except OSError:
            return 0, None

    @staticmethod
    def _read(path: str, body: bytes) -> Any:
        return body.decode() if path == "/metrics" else json.loads(body)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return self.ask("/readyz")[0] == 200

    def await_ready(self) -> Served:
        until(self.ready, f"{self.name} to be ready")
        return self

    def figure(self, line: str) -> float:
        """The value of one line of /metrics, 0 if it is not there."""
        text = self.ask("/metrics")[1] or ""
        return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line)), 0.0)

    def said(self) -> list[dict[str, Any]]:
        """Its lines."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def events(self) -> list[str]:
        return [str(line["event"]) for line in self.said()]

    def rss_kb(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])

    def stop(self, patience_s: float = 20.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
