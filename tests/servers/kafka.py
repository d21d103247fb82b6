"""A real Kafka broker for tests, wherever it comes from.

In this order: the address in PLANTWATCH_TEST_KAFKA; a container, if a docker daemon answers and the image is here; a
native broker by `kafka_server.py` in the folder that PLANTWATCH_TEST_SERVERS names; else the test is skipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anomaly.errors import Unreachable
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_probe import probe

ADDRESS = "PLANTWATCH_TEST_KAFKA"
SERVERS = "PLANTWATCH_TEST_SERVERS"
IMAGE = "apache/kafka:4.3.1"
MISSING = (
    f"no Kafka: set {ADDRESS}=host:port, or start docker with the image {IMAGE}, or set {SERVERS} to the folder of "
    "kafka_server.py (needs Java 17 and, once, Maven)"
)


@dataclass
class Broker:
    """A native broker of a test's own: it may be killed and started again on the same folder and ports."""

    script: Path
    data: Path
    options: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def start(self) -> Broker:
        self.facts = run_script(self.script, "start", "--data", str(self.data), "--heap", "256m", *self.options)
        return self

    def stop(self) -> None:
        run_script(self.script, "stop", "--data", str(self.data))

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        run_script(self.script, "stop", "--data", str(self.data), "--kill")

    @property
    def address(self) -> str:
        return str(self.facts["bootstrap"])

    @property
    def sasl_address(self) -> str:
        return str(self.facts["sasl_bootstrap"])


def run_script(script: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(script), *arguments], check=False, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"{MISSING}; {script.name} {arguments[0]} says: {' '.join(done.stderr.split())[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def script() -> Path:
    """The script that starts native brokers; skips if there is none."""
    folder = os.environ.get(SERVERS)
    if not folder or not (Path(folder) / "kafka_server.py").is_file():
        pytest.skip(MISSING)
    path = Path(folder).resolve() / "kafka_server.py"
    with shared_lock(Path(os.environ.get("TMPDIR", "/tmp")) / "plantwatch-kafka-install.lock"):
        run_script(path, "install")
    return path


def have_image() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "image", "inspect", IMAGE]
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0
    return False


def start_container(name: str) -> str:
    """A broker in a container on a free port of the loopback; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://{address}",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    command = ["docker", "run", "-d", "--rm", "--name", name, "-p", f"{address}:9092"]
    for key, value in settings.items():
        command += ["-e", f"KAFKA_{key}={value}"]
    started = subprocess.run([*command, IMAGE], check=False, capture_output=True, text=True, timeout=120)
    if started.returncode:
        pytest.skip(f"{MISSING}; docker run says: {started.stderr.strip()[-300:]}")
    try:
        await_answer(address, 90.0)
    except BaseException:
        stop_container(name)
        raise
    return address


def stop_container(name: str) -> None:
    subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True, timeout=60)


def await_answer(address: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            probe(KafkaConfig((address,)), timeout_s=2.0)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared(folder: Path, start: Callable[[], str], stop: Callable[[], None]) -> Iterator[str]:
    """The address of one broker for all processes of this test run: the first starts it, the last stops it."""
    folder.mkdir(exist_ok=True)
    users = folder / "users.json"
    with shared_lock(folder / "lock"):
        known = json.loads(users.read_text()) if users.exists() else {"count": 0}
        address = str(known["address"]) if known["count"] else start()
        users.write_text(json.dumps({"count": known["count"] + 1, "address": address}))
    try:
        yield address
    finally:
        with shared_lock(folder / "lock"):
            left = json.loads(users.read_text())["count"] - 1
            users.write_text(json.dumps({"count": left, "address": address}))
            if left == 0:
                stop()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a broker that speaks without login; shared by all tests and never to be stopped by one."""
    if address := os.environ.get(ADDRESS):
        await_answer(address, 5.0)
        yield address
        return
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka-server"
    if have_image():
        name = f"plantwatch-test-kafka-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        ways: tuple[Callable[[], str], Callable[[], None]] = (
            lambda: start_container(name),
            lambda: stop_container(name),
        )
    else:
        broker = Broker(script(), folder / "data")
        ways = (lambda: broker.start().address, broker.stop)
    with shared(folder, *ways) as address:
        yield address


@pytest.fixture
def kafka(kafka_server: str) -> Iterator[KafkaConfig]:
    """A broker, under a prefix that no other test uses; its topics are deleted afterwards."""
    config = KafkaConfig((kafka_server,), prefix=f"test-{uuid.uuid4().hex[:10]}.")
    yield config
    forget(config)


def forget(config: KafkaConfig) -> None:
    """Delete the topics under this prefix."""
    admin = make_admin(config)
    try:
        mine = [name for name in admin.list_topics() if name.startswith(config.prefix)]
        if mine:
            admin.delete_topics(mine)
    finally:
        admin.close()


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Broker]]:
    """Starts brokers of the test's own, with options of the script: to be killed, to log in at, to be refused by."""
    brokers: list[Broker] = []

    def start(*options: str) -> Broker:
        brokers.append(Broker(script(), tmp_path_factory.mktemp("broker"), options))
        return brokers[-1].start()

    yield start
    for broker in brokers:
        broker.stop()
