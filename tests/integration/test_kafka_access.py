"""`setup-access` on a broker with an authorizer: each user may do its work and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly.errors import ConfigurationError, PlantwatchError
from pipelines import topics
from pipelines.access import ROLES, Role
from pipelines.adapters.kafka_access import grant
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.commands.setup_access import read_passwords
from pipelines.ports import NewRecord
from tests.servers.kafka import Broker

AUTHORIZER = (
    "--sasl",
    "--set",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "--set",
    "super.users=User:ANONYMOUS",
    "--set",
    "allow.everyone.if.no.acl.found=false",
)


def passwords(folder: Path, *roles: str) -> dict[str, str]:
    for role in roles:
        (folder / f"kafka_{role}_password").write_text(secrets.token_urlsafe(24) + "\n")
    return read_passwords(folder)


def user(broker: Broker, name: str, password: str) -> KafkaLog:
    config = KafkaConfig(
        (broker.sasl_address,),
        security="sasl_plaintext",
        mechanism="SCRAM-SHA-512",
        user=name,
        password=password,
    )
    return KafkaLog(config, delivery_s=10)


def may_write(log: KafkaLog, topic: str) -> bool:
    try:
        log.append([NewRecord(topic, b"k", b"v")])
    except ConfigurationError:
        return False
    return True


@pytest.mark.integration
@pytest.mark.slow
def test_each_user_may_do_its_work_and_nothing_else(own_kafka: Callable[..., Broker], tmp_path: Path) -> None:
    broker = own_kafka(*AUTHORIZER)
    admin = KafkaConfig((broker.address,))
    local = KafkaLog(admin)
    local.create(topics.partitions(2), topics.COMPACTED)
    local.append([NewRecord(topics.READINGS, b"a", b"1")])
    known = passwords(tmp_path, *ROLES)

    first = grant(admin, known, ROLES)
    assert set(first.users) == set(ROLES)
    assert first.added > 50
    assert grant(admin, known, ROLES) == type(first)(first.users, 0, 0)

    for name, role in ROLES.items():
        log = user(broker, name, known[name])
        try:
            for topic in (topics.READINGS, topics.SCORES, topics.COMMANDS):
                assert may_write(log, topic) == (topic in role.writes), (name, topic)
        finally:
            log.close()

    elsewhere = KafkaConfig(
        (broker.sasl_address,), "sasl_plaintext", "SCRAM-SHA-512", "score", known["score"], prefix="nobody-made-these."
    )
    with pytest.raises(ConfigurationError, match=r"correct topic_prefix, or give the user its rights"):
        KafkaLog(elsewhere).ends(topics.READINGS)

    score = user(broker, "score", known["score"])
    assert sum(end for _, end in score.ends(topics.READINGS).values()) >= 1
    score.close()

    fewer = {"dashboard": Role(reads=(topics.COMMANDS,))}  # the table changed: rights that are gone are taken away
    changed = grant(admin, {"dashboard": known["dashboard"]}, fewer)
    assert changed.removed >= 1
    dashboard = user(broker, "dashboard", known["dashboard"])
    assert not may_write(dashboard, topics.COMMANDS)
    dashboard.close()

    before = known["ingest"]
    (tmp_path / "kafka_ingest_password").unlink()
    grant(admin, passwords(tmp_path, "ingest"), ROLES)
    with pytest.raises(ConfigurationError, match=r"refuses the user 'ingest'"):
        user(broker, "ingest", before).append([NewRecord(topics.READINGS, b"k", b"v")])
    local.close()


@pytest.mark.integration
@pytest.mark.slow
def test_a_broker_without_authorizer_is_told(kafka: KafkaConfig) -> None:
    with pytest.raises(PlantwatchError, match=r"(?i)security|authorizer"):
        grant(kafka, {"score": secrets.token_urlsafe(24)}, ROLES)


@pytest.mark.parametrize("text", ["", "changeme", "x" * 40, "short-one"])
def test_a_weak_password_is_refused_by_name_and_not_repeated(tmp_path: Path, text: str) -> None:
    (tmp_path / "kafka_score_password").write_text(text)
    with pytest.raises(ConfigurationError, match="kafka_score_password") as told:
        read_passwords(tmp_path)
    assert not text or text not in str(told.value)


def test_a_folder_without_passwords_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="kafka_score_password"):
        read_passwords(tmp_path)


def test_two_roles_with_one_password_are_refused(tmp_path: Path) -> None:
    for role in ("score", "record"):
        (tmp_path / f"kafka_{role}_password").write_text("abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(ConfigurationError, match="same password"):
        read_passwords(tmp_path)
