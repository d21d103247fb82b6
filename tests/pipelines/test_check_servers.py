"""`plantwatch check` over servers: what is absent, what refuses us, and what is not as it must be are told apart."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipelines import topics
from pipelines.adapters.influx_client import InfluxClient
from pipelines.adapters.influx_config import HEARTBEATS, SAMPLES, InfluxConfig
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics
from pipelines.commands.check import check
from pipelines.commands.topics import app as topics_app
from tests.integration.processes import until

Findings = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = [name for name in os.environ if name.startswith("PLANTWATCH_")]
    for name in [name for name in ours if not name.startswith("PLANTWATCH_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLANTWATCH_DASHBOARD_PORT", str(free_port()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def on_kafka(monkeypatch: pytest.MonkeyPatch, config: KafkaConfig, **more: str) -> None:
    values = {"log": "kafka", "kafka_servers": ",".join(config.servers), "topic_prefix": config.prefix, **more}
    for name, value in values.items():
        monkeypatch.setenv(f"PLANTWATCH_{name.upper()}", value)


def on_influx(monkeypatch: pytest.MonkeyPatch, config: InfluxConfig, token: str = "") -> None:
    monkeypatch.setenv("PLANTWATCH_HISTORIAN", "influxdb")
    monkeypatch.setenv("PLANTWATCH_INFLUX_URL", config.url)
    monkeypatch.setenv("PLANTWATCH_INFLUX_ORG", config.org)
    monkeypatch.setenv("PLANTWATCH_INFLUX_TOKEN", token or config.token)
    monkeypatch.setenv("PLANTWATCH_INFLUX_BUCKET_PREFIX", config.bucket_prefix)


def checked() -> tuple[int, Findings]:
    app = typer.Typer()
    app.command()(check)
    result = CliRunner().invoke(app, ["--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, {finding["name"]: finding for finding in json.loads(result.output)["findings"]}


def test_a_broker_that_is_absent_is_told_once_and_what_hangs_on_it_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_kafka(monkeypatch, KafkaConfig((f"127.0.0.1:{free_port()}",)))
    code, found = checked()
    assert code == 69
    assert "does not answer" in found["kafka"]["found"]
    assert found["topics"]["status"] == found["groups"]["status"] == "warning"
    assert "plantwatch discover" in found["plant"]["found"]


def test_an_influxdb_that_is_absent_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    on_influx(monkeypatch, InfluxConfig(f"http://127.0.0.1:{free_port()}", "plantwatch", "a-token-nobody-made"))
    code, found = checked()
    assert code == 69
    assert "nobody answers there" in found["historian"]["found"]


def test_a_data_folder_that_cannot_be_made_is_a_warning_where_everything_is_on_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PLANTWATCH_DATA_DIR", str(tmp_path / "file" / "data"))
    on_kafka(monkeypatch, KafkaConfig((f"127.0.0.1:{free_port()}",)))
    assert checked()[1]["data folder"]["status"] == "failure"
    on_influx(monkeypatch, InfluxConfig(f"http://127.0.0.1:{free_port()}", "plantwatch", "a-token-nobody-made"))
    assert checked()[1]["data folder"]["status"] == "warning"


@pytest.mark.integration
def test_topics_that_are_missing_wrong_or_right_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, kafka: KafkaConfig
) -> None:
    on_kafka(monkeypatch, kafka)
    code, found = checked()
    assert (code, found["kafka"]["status"]) == (78, "ok")
    assert "7 of 7 topics are not there" in found["topics"]["found"]
    assert "plantwatch topics init" in found["topics"]["found"]
    assert CliRunner().invoke(topics_app, ["init"]).exit_code == 0
    code, found = checked()
    assert code == 0
    assert found["topics"]["found"] == "7 topics, 4 partitions, times by the broker's clock"
    assert found["groups"]["found"] == "none ran here before"
    monkeypatch.setenv("PLANTWATCH_PARTITIONS", "6")
    code, found = checked()
    assert code == 78
    assert "4 partitions, the settings say 6" in found["topics"]["found"]


@pytest.mark.integration
def test_topics_that_share_partitions_and_do_not_agree_are_refused(
    monkeypatch: pytest.MonkeyPatch, kafka: KafkaConfig
) -> None:
    specs = {name: TopicSpec(count) for name, count in topics.partitions(2).items()}
    ensure_topics(kafka, specs | {topics.SCORES: TopicSpec(3)})
    on_kafka(monkeypatch, kafka)
    code, found = checked()
    assert code == 78
    assert "do not agree" in found["topics"]["found"]


@pytest.mark.integration
def test_dead_letters_that_take_no_more_than_readings_are_told(
    monkeypatch: pytest.MonkeyPatch, kafka: KafkaConfig
) -> None:
    on_kafka(monkeypatch, kafka)
    assert CliRunner().invoke(topics_app, ["init"]).exit_code == 0
    ensure_topics(kafka, {topics.DEAD_LETTERS: TopicSpec(1, record_bytes=topics.RECORD_BYTES)})
    until(lambda: "dead-letters.v1 takes records of 2097152 bytes" in checked()[1]["topics"]["found"], "the new limit")
    assert checked()[0] == 78
    assert CliRunner().invoke(topics_app, ["init"]).exit_code == 0
    until(lambda: checked()[0] == 0, "the limit set right")


@pytest.mark.integration
def test_a_wrong_token_is_told_apart_from_one_that_may_do_little(
    monkeypatch: pytest.MonkeyPatch, influx: InfluxConfig
) -> None:
    on_influx(monkeypatch, influx, "not-the-token-that-was-made")
    code, found = checked()
    assert code == 78
    assert "refuses the token" in found["historian"]["found"]
    assert "not-the-token" not in json.dumps(found)
    on_influx(monkeypatch, influx)
    code, found = checked()
    assert code == 0
    assert found["historian"]["status"] == "ok"
    on_influx(monkeypatch, influx, _token(influx, {"write": HEARTBEATS, "read": SAMPLES}))
    code, found = checked()
    assert (code, found["historian"]["status"]) == (0, "warning")
    assert "it may read samples and write heartbeats;" in found["historian"]["found"]


def _token(config: InfluxConfig, rights: dict[str, str]) -> str:
    """A token that may do to each bucket (short name) what its key says."""
    from influxdb_client.domain.permission import Permission
    from influxdb_client.domain.permission_resource import PermissionResource

    client = InfluxClient(config)
    try:
        [org] = client.api("organizations_api").find_organizations(org=config.org)
        permissions = []
        for action, name in rights.items():
            bucket = client.api("buckets_api").find_bucket_by_name(config.bucket(name))
            resource = PermissionResource(type="buckets", id=bucket.id, org_id=org.id)  # type: ignore[no-untyped-call]
            permissions.append(Permission(action=action, resource=resource))  # type: ignore[no-untyped-call]
        made = client.api("authorizations_api").create_authorization(org_id=org.id, permissions=permissions)
        return str(made.token)
    finally:
        client.close()


@pytest.mark.integration
@pytest.mark.slow
def test_a_wrong_password_is_told_apart_from_an_absent_broker(
    monkeypatch: pytest.MonkeyPatch, own_kafka: Callable[..., Any]
) -> None:
    broker = own_kafka("--sasl")
    config = KafkaConfig((broker.sasl_address,))
    login = {"kafka_security": "sasl_plaintext", "kafka_mechanism": "PLAIN", "kafka_user": "plantwatch"}
    on_kafka(monkeypatch, config, **login, kafka_password="not the right one, surely")
    code, found = checked()
    assert code == 78
    assert "password" in found["kafka"]["found"]
    assert "not the right one" not in json.dumps(found)


def test_the_commands_for_an_administrator_give_each_role_its_rights_and_no_others() -> None:
    result = CliRunner().invoke(topics_app, ["acls", "ingest", "--user", "pw-{role}"])
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert lines[0].startswith("kafka-acls.sh --bootstrap-server BROKER:9092")
    assert lines[0].endswith("--allow-principal User:pw-ingest --operation Write --topic plantwatch.readings.v1")
    everything = CliRunner().invoke(topics_app, ["acls"]).output
    assert all(f"# {role}\n" in everything for role in ("score", "record", "alert", "train", "dashboard"))
    assert not any("--operation All" in line for line in everything.splitlines())


def test_topics_init_of_the_embedded_log_makes_its_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(topics_app, ["init"])
    assert result.exit_code == 0
    assert (tmp_path / "data" / "log.db").is_file()
