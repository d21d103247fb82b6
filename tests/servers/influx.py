"""A real InfluxDB for tests, wherever it comes from.

In this order: the server that PLANTWATCH_TEST_INFLUX_URL, _TOKEN and _ORG name (a token that may make buckets); a
container, if a docker daemon answers and the image is here; a native server by `influx_server.py` in the folder that
PLANTWATCH_TEST_SERVERS names; else the test is skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anomaly.errors import PlantwatchError
from pipelines.adapters.influx_client import InfluxClient
from pipelines.adapters.influx_config import BUCKETS, InfluxConfig
from pipelines.adapters.influx_setup import Report, Server, ensure_buckets, ensure_organisation, find_buckets

ADDRESS = "PLANTWATCH_TEST_INFLUX"
SERVERS = "PLANTWATCH_TEST_SERVERS"
IMAGE = "influxdb:2.9.1"
MISSING = (
    f"no InfluxDB: set {ADDRESS}_URL, {ADDRESS}_TOKEN and {ADDRESS}_ORG, or start docker with the image {IMAGE}, or "
    f"set {SERVERS} to the folder of influx_server.py (its install needs Go, cargo, a C compiler, ten minutes once)"
)
FOR_EVER = dict.fromkeys(BUCKETS, 0)


@dataclass
class Influx:
    """A native server of a test's own: it may be killed and started again on the same folder and port."""

    script: Path
    data: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def start(self) -> Influx:
        self.facts = run_script(self.script, "start", "--data", str(self.data))
        return self

    def stop(self) -> None:
        run_script(self.script, "stop", "--data", str(self.data))

    def kill(self) -> None:
        """SIGKILL; returns when nobody listens any more."""
        with suppress(ProcessLookupError):
            os.kill(int(self.facts["pid"]), 9)
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.facts["port"]))):
                    return
            time.sleep(0.02)
        raise TimeoutError("influxd still listens after SIGKILL")

    def config(self, prefix: str = "plantwatch_", **options: Any) -> InfluxConfig:
        """With its all-access token."""
        facts = self.facts
        return InfluxConfig(facts["url"], facts["org"], facts["token"], bucket_prefix=prefix, **options)


def run_script(script: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(script), *arguments], check=False, capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        pytest.skip(f"{MISSING}; {script.name} {arguments[0]} says: {' '.join(done.stderr.split())[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def script() -> Path:
    """The script that starts native servers; skips if there is none, or if it cannot build one here."""
    folder = os.environ.get(SERVERS)
    if not folder or not (Path(folder) / "influx_server.py").is_file():
        pytest.skip(MISSING)
    path = Path(folder).resolve() / "influx_server.py"
    run_script(path, "install")  # takes turns by itself, and is done at once if it was done before
    return path


def have_image() -> bool:
    if shutil.which("docker") is None:
        return False
    with suppress(subprocess.TimeoutExpired):
        return (
            subprocess.run(
                ["docker", "image", "inspect", IMAGE], check=False, capture_output=True, timeout=20
            ).returncode
            == 0
        )
    return False


@contextmanager
def container() -> Iterator[InfluxConfig]:
    """A server in a container on a free port of the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name, token = f"plantwatch-test-influx-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    settings = {
        "MODE": "setup",
        "USERNAME": "tester",
        "PASSWORD": uuid.uuid4().hex,
        "ORG": "plantwatch",
        "BUCKET": "telemetry",
        "ADMIN_TOKEN": token,
    }
    command = ["docker", "run", "-d", "--rm", "--name", name, "-p", f"127.0.0.1:{port}:8086"]
    for key, value in settings.items():
        command += ["-e", f"DOCKER_INFLUXDB_INIT_{key}={value}"]
    started = subprocess.run([*command, IMAGE], check=False, capture_output=True, text=True, timeout=120)
    if started.returncode:
        pytest.skip(f"{MISSING}; docker run says: {started.stderr.strip()[-300:]}")
    try:
        config = InfluxConfig(f"http://127.0.0.1:{port}", "plantwatch", token)
        await_answer(config, 90.0)
        yield config
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True, timeout=60)


def await_answer(config: InfluxConfig, patience_s: float) -> None:
    """Until the server knows the organisation and the token."""
    deadline = time.monotonic() + patience_s
    while True:
        client = InfluxClient(config)
        try:
            ensure_organisation(Server(config, client), Report())
        except PlantwatchError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return
        finally:
            client.close()


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_native(folder: Path) -> Iterator[InfluxConfig]:
    """One native server for all processes of this test run: the first starts it, the last stops it."""
    folder.mkdir(exist_ok=True)
    users, server = folder / "users.json", Influx(script(), folder / "data")
    with shared_lock(folder / "lock"):
        count = json.loads(users.read_text()) if users.exists() else 0
        server.start()  # answers with what is known if it runs already
        users.write_text(json.dumps(count + 1))
    try:
        yield server.config()
    finally:
        with shared_lock(folder / "lock"):
            left = json.loads(users.read_text()) - 1
            users.write_text(json.dumps(left))
            if left == 0:
                server.stop()


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxConfig]:
    """A server with a token that may do everything; shared by all tests and never to be stopped by one."""
    if url := os.environ.get(f"{ADDRESS}_URL"):
        token, org = os.environ.get(f"{ADDRESS}_TOKEN", ""), os.environ.get(f"{ADDRESS}_ORG", "plantwatch")
        config = InfluxConfig(url, org, token)
        await_answer(config, 5.0)
        yield config
    elif have_image():
        with container() as config:
            yield config
    else:
        base = tmp_path_factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        with shared_native(shared / "influx-server") as config:
            yield config


@pytest.fixture
def influx(influx_server: InfluxConfig) -> Iterator[InfluxConfig]:
    """A server with buckets that keep for ever, under a prefix that no other test uses; deleted afterwards."""
    config = fresh(influx_server)
    client = InfluxClient(config)
    server, report = Server(config, client), Report()
    ensure_buckets(server, ensure_organisation(server, report), report, FOR_EVER)
    yield config
    forget(server)
    client.close()


def fresh(config: InfluxConfig) -> InfluxConfig:
    """The same server under a new prefix; nothing is made."""
    return InfluxConfig(config.url, config.org, config.token, bucket_prefix=f"test-{uuid.uuid4().hex[:10]}_")


def forget(server: Server) -> None:
    """Delete the buckets under this prefix."""
    buckets = find_buckets(server, ensure_organisation(server, Report()))
    for name, bucket in buckets.items():
        if name.startswith(server.config.bucket_prefix):
            server.client.api("buckets_api").delete_bucket(bucket)


@pytest.fixture
def own_influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Influx]]:
    """Starts servers of the test's own, to be killed."""
    servers: list[Influx] = []

    def start() -> Influx:
        servers.append(Influx(script(), tmp_path_factory.mktemp("influx")))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()
