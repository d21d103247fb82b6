"""The README's three ways to send readings, run as they stand there against a broker secured as the stack's is.

TLS by the stack's own authority, SCRAM-SHA-512, the user `ingest`: only host and port are other than on the page. What
arrives is decoded as the score service does it.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from anomaly.domain import Readings
from pipelines import topics
from pipelines.access import ROLES
from pipelines.adapters.kafka_access import grant
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.commands.setup_access import read_passwords
from pipelines.decoding import decode
from pipelines.ports import Partition
from tests.faults.workers import free_port
from tests.integration.processes import until
from tests.integration.test_kafka_access import AUTHORIZER
from tests.servers.kafka import Broker

pytestmark = [pytest.mark.slow, pytest.mark.integration]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
CONF = (ROOT / "deploy" / "telegraf" / "telegraf.conf").read_text(encoding="utf-8")
THERE = "kafka.plant.example:9095"
PUMP = "works/water/pump-7"
SCRAM_ON_KAFKA_4 = (2, 6, 1)
"""The first librdkafka that can."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A secured broker, and the folder of what a producer is given."""

    log: KafkaLog
    folder: Path
    address: str

    def here(self, text: str) -> str:
        """The page's lines, for this broker."""
        assert THERE in text
        return text.replace(THERE, self.address)

    def arrived(self) -> Sequence[Readings]:
        """All readings on the topic, decoded; fails at a record that would be set aside."""
        found: list[Readings] = []
        for number in range(2):
            for record in self.log.read(Partition(topics.READINGS, number), 0, 1000):
                found += decode(record.value, record.key, record.time, record.headers)
        return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack's secrets, as `make up` makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("stack") / "secrets"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "deploy" / "stack"))
        importlib.import_module("keys").make(folder, ["localhost"])
        for name in ("keys", "problem"):
            sys.modules.pop(name, None)
    return folder


@pytest.fixture
def plant(own_kafka: Callable[..., Broker], secrets: Path, tmp_path: Path) -> Iterator[Plant]:
    ports = [free_port() for _ in range(4)]
    plain, sasl, controller, outside = ports
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},OUTSIDE://localhost:{outside}"
    settings = (
        f"listeners={listeners},CONTROLLER://127.0.0.1:{controller}",
        f"advertised.listeners={listeners}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,OUTSIDE:SASL_SSL",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={secrets / 'kafka.pem'}",
        "listener.name.outside.sasl.enabled.mechanisms=SCRAM-SHA-512",
        "listener.name.outside.scram-sha-512.sasl.jaas.config="
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    )
    options = ["--port", str(plain), "--sasl-port", str(sasl), "--port-controller", str(controller)]
    broker = own_kafka(*AUTHORIZER, *options, *(part for one in settings for part in ("--set", one)))
    admin = KafkaConfig((broker.address,))
    grant(admin, read_passwords(secrets), ROLES)
    for name in ("ca.crt", "kafka_ingest_password"):
        shutil.copy(secrets / name, tmp_path)
    with closing(KafkaLog(admin)) as log:
        log.create(topics.partitions(2), topics.COMPACTED)
        yield Plant(log, tmp_path, f"localhost:{outside}")


@contextmanager
def running(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Path]:
    """The process; what it says goes to the file given."""
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield said
        finally:
            process.terminate()
            process.wait(20)


def block(pattern: str) -> str:
    [found] = re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_python_lines(plant: Plant) -> None:
    lines = block(r"^```python\n(import json, time\nfrom kafka import KafkaProducer\n.*?)^```$")
    with running([sys.executable, "-W", "ignore", "-c", plant.here(lines)], plant.folder) as said:
        until(lambda: len(plant.arrived()) >= 2, f"two rows; the sender says {said}")
    assert {readings.asset for readings in plant.arrived()} == {PUMP}


def test_the_kcat_line(plant: Plant) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed")
    version = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
    old = _librdkafka(version) < SCRAM_ON_KAFKA_4
    line = plant.here(block(r"^```\n(echo [^`]*kcat -P [^`]*)^```$"))
    done = subprocess.run(
        ["bash", "-c", line], cwd=plant.folder, capture_output=True, text=True, timeout=60, check=False
    )
    if old:  # the page says so, and in these words
        assert "invalid credentials" in done.stderr
        assert ".".join(map(str, SCRAM_ON_KAFKA_4)) in PAGE
        return
    assert done.returncode == 0, done.stderr
    [readings] = plant.arrived()
    assert (readings.asset, readings.tags) == (PUMP, ("flow", "vibration_de", "state"))


def _librdkafka(text: str) -> tuple[int, ...]:
    found = re.search(r"librdkafka (\d+)\.(\d+)\.(\d+)", text)
    assert found is not None, text
    return tuple(map(int, found.groups()))


def test_the_telegraf_lines(plant: Plant) -> None:
    """The file as it is, but for what comes in: rows of an `exec` in place of MQTT."""
    if shutil.which("telegraf") is None:
        pytest.skip("telegraf is not installed")
    rows = '[[inputs.exec]]\n  commands = ["cat row"]\n  data_format = "influx"\n'
    (plant.folder / "row").write_text(f"mqtt,asset=plant/{PUMP} flow=76.4,state=2,vibration_de=1.08\n")
    text, count = re.subn(r"^\[\[inputs\.mqtt_consumer\]\].*?(?=^\[\[processors)", rows, CONF, flags=re.M | re.S)
    assert count == 1
    (plant.folder / "telegraf.conf").write_text(text)
    line = plant.here(block(r"^```\n(MQTT_SERVER=[^`]*)^```$")).replace("telegraf --config", "exec telegraf --config")
    with running(["bash", "-c", line], plant.folder, {"PATH": os.environ["PATH"]}) as said:
        until(lambda: len(plant.arrived()) >= 2, f"two rows; the sender says {said}")
    assert {readings.asset for readings in plant.arrived()} == {PUMP}
    assert {readings.tags for readings in plant.arrived()} == {("flow", "state", "vibration_de")}
    assert all(abs(int(readings.times[0]) - time.time_ns()) < 120 * 10**9 for readings in plant.arrived())
