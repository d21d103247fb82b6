"""What people use (pages, alerts, models, dead letters) over Kafka and InfluxDB, chosen by settings alone."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Asset, Kind, Plant, Priority, Quality, Readings, Tag
from dashboard.launch import DATA_DIR
from pipelines import codec, topics
from pipelines.adapters.influx_config import InfluxConfig
from pipelines.adapters.influx_historian import InfluxHistorian
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.cli import app
from pipelines.codec import CommandKind
from pipelines.partition_state import origin_headers
from pipelines.plant_file import write_plant
from pipelines.ports import AlertEvent, NewRecord, Partition

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]

PAGES = ("overview", "machine", "alerts", "models", "system")
PUMP = Asset("works/hall/pump-1", "pumps", (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "m³/h")))
ALERT_ID = "a1b2c3d4e5f60718"


@pytest.fixture
def servers(
    kafka: KafkaConfig, influx: InfluxConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[KafkaLog, InfluxHistorian]]:
    """Settings of this process name the servers; a machine with an open alert and a dead letter are on them."""
    for name in [name for name in os.environ if name.startswith("PLANTWATCH_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    given = {
        "LOG": "kafka",
        "KAFKA_SERVERS": ",".join(kafka.servers),
        "TOPIC_PREFIX": kafka.prefix,
        "HISTORIAN": "influxdb",
        "INFLUX_URL": influx.url,
        "INFLUX_ORG": influx.org,
        "INFLUX_TOKEN": influx.token,
        "INFLUX_BUCKET_PREFIX": influx.bucket_prefix,
        "SECRETS_DIR": str(tmp_path / "none"),
    }
    for name, value in given.items():
        monkeypatch.setenv(f"PLANTWATCH_{name}", value)
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_plant(Plant("works", (PUMP,)), tmp_path / "plant.toml")
    st.cache_resource.clear()
    log, historian = KafkaLog(kafka), InfluxHistorian(influx)
    log.create(topics.partitions(2), topics.COMPACTED)
    _fill(log, historian)
    yield log, historian
    st.cache_resource.clear()
    log.close()
    historian.close()


def _fill(log: KafkaLog, historian: InfluxHistorian) -> None:
    now = time.time_ns() // SECOND * SECOND
    times = now - np.arange(60, 0, -1, dtype=np.int64) * 10 * SECOND
    values = np.column_stack([np.full(60, 40.0), np.full(60, 20.0)])
    good = np.full(values.shape, Quality.GOOD, np.uint8)
    anomaly = Anomaly(PUMP.path, Kind.PROCESS, "process", int(times[30]), None, 2.4, ("temp",), "rules")
    alert = Alert(ALERT_ID, anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.MEDIUM, int(times[35]), message="high")
    event = AlertEvent(f"{ALERT_ID}/1", "raised", int(times[35]), alert)
    historian.write([Readings(PUMP.path, ("temp", "flow"), times, values, good)], events=[event])
    historian.heartbeat("record", now, {"state": "ok", "lag": 0, "wall": now})
    why = (("x-reason", b"malformed"), ("x-exception", b"no JSON"))
    headers = (*why, *origin_headers(Partition(topics.READINGS, 0), 0))
    log.append([NewRecord(topics.DEAD_LETTERS, b"k", b"{nonsense", headers, partition=0)])


def shown(page: str) -> AppTest:
    test = AppTest.from_string(f"from dashboard import app\napp.main({page!r})", default_timeout=60)
    return test.run()


def words(test: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption")
    return "\n".join(str(getattr(element, "value", "")) for kind in kinds for element in test.get(kind))


def call(command: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_every_page_shows_what_the_servers_hold_and_an_acknowledgement_goes_to_kafka(
    servers: tuple[KafkaLog, InfluxHistorian],
) -> None:
    log, _ = servers
    for page in PAGES:
        test = shown(page)
        assert not test.exception, page
        assert "Cannot read what plantwatch has stored" not in words(test), page
    assert "works" in words(shown("overview"))
    assert "malformed" in str(shown("system").table[0].value)
    alerts = shown("alerts")
    alerts.text_input[0].set_value("Ada").run()
    next(button for button in alerts.button if button.key == f"acknowledge_{ALERT_ID}").click().run()
    [record] = log.read(Partition(topics.COMMANDS, 0), 0, 10)
    command = codec.decode_command(record.value or b"")
    assert (command.kind, command.target) == (CommandKind.ACKNOWLEDGE, ALERT_ID)


def nobody() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_historian_that_is_down_is_said_calmly_on_every_page(
    servers: tuple[KafkaLog, InfluxHistorian], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTWATCH_INFLUX_URL", f"http://{nobody()}")
    st.cache_resource.clear()
    for page in PAGES:
        test = shown(page)
        assert not test.exception, page
        assert "Cannot read what plantwatch has stored" in words(test), page
        assert "Traceback" not in words(test)


def test_with_the_broker_down_machines_and_alerts_are_still_shown(
    servers: tuple[KafkaLog, InfluxHistorian], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTWATCH_KAFKA_SERVERS", nobody())
    st.cache_resource.clear()
    for page, told in (("overview", "pump-1"), ("alerts", "pump-1"), ("system", "Cannot read")):
        test = shown(page)
        assert not test.exception, page
        assert told in words(test), page


def test_commands_over_servers_need_nothing_but_the_settings(servers: tuple[KafkaLog, InfluxHistorian]) -> None:
    log, _ = servers
    [alert] = json.loads(call("alerts", "list", "--json"))["alerts"]
    assert alert["id"] == ALERT_ID
    assert "Asked to acknowledge" in call("alerts", "ack", ALERT_ID[:8], "--actor", "ann")
    [record] = log.read(Partition(topics.COMMANDS, 0), 0, 10)
    assert codec.decode_command(record.value or b"").actor == "ann"
    listed = json.loads(call("dead-letters", "list", "--json"))
    assert listed["count"] == 1
    call("dead-letters", "replay", "--yes")
    assert sum(end for _, end in log.ends(topics.READINGS).values()) == 1
    assert "Nothing to replay" in call("dead-letters", "replay", "--yes")
    assert "No version yet" in call("models", "list")
    topics_listed = json.loads(call("topics", "list", "--json"))["topics"]
    assert topics_listed[topics.COMMANDS] == {"partitions": 1, "offsets": 1}
