"""Prometheus's own tools and servers, where they are installed; a skip says what to install."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def tool(*names: str, package: str) -> str:
    """The first of `names` that is installed; else the test is skipped."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs {' or '.join(names)}: apt-get install {package}")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: Sequence[str], ready: str, output: Path, patience_s: float = 30.0) -> Iterator[None]:
    """A process that answers at the address `ready`, until the end of the block."""
    with output.open("wb") as written:
        process = subprocess.Popen(list(command), stdout=written, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + patience_s
        while not _answers(ready):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False, timeout=2).is_success
    except httpx.HTTPError:
        return False


def until(check: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Wait until `check` holds."""
    deadline = time.monotonic() + patience_s
    while not check():
        assert time.monotonic() < deadline, f"{check} does not hold after {patience_s} s"
        time.sleep(0.1)
