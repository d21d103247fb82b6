"""What readings take, dead letters take: the largest records, and those that were sent compressed (guarantee G6)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from typer.testing import CliRunner

from anomaly.domain import Asset, Plant, Tag
from anomaly.errors import ConfigurationError
from anomaly.registry import MemoryRegistry
from pipelines import dead_letters, topics
from pipelines.adapters.kafka_client import make_producer
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics
from pipelines.commands.topics import app
from pipelines.ports import Partition
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from tests.integration.processes import until

pytestmark = pytest.mark.integration

PLANT = Plant("w", (Asset("s/pump", "p", (Tag("t"),)),))
GOOD = b'{"asset": "s/pump", "tag": "t", "ts": "2026-01-05T01:00:00Z", "value": 1.0}'
HEADERS = (("sent-by", b"a gateway"),)


@pytest.fixture
def log(kafka: KafkaConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaLog]:
    """Topics as `plantwatch topics init` makes them."""
    for name, value in {"LOG": "kafka", "KAFKA_SERVERS": kafka.servers[0], "TOPIC_PREFIX": kafka.prefix}.items():
        monkeypatch.setenv(f"PLANTWATCH_{name}", value)
    monkeypatch.setenv("PLANTWATCH_PARTITIONS", "1")
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    with closing(KafkaLog(kafka)) as made:
        yield made


def send(kafka: KafkaConfig, values: Mapping[bytes, bytes], compression: str | None) -> None:
    """As a producer of the plant would, whatever we think of it; then a reading in order."""
    producer = make_producer(kafka, 30.0, 64 << 20, compression)
    for key, value in {**values, b"s/pump": GOOD}.items():
        producer.send(kafka.topic(topics.READINGS), key=key, value=value, headers=list(HEADERS)).get(30)
    producer.close()


def score(log: KafkaLog, count: int) -> None:
    """So many records taken in by the score service."""
    worker = ScoreWorker(log, PLANT, MemoryRegistry())
    taken = 0

    def step() -> bool:
        nonlocal taken
        taken += session.step(0.2)
        return taken >= count

    with closing(Session(worker, log.join("score", worker.topics), 64)) as session:
        until(step, f"{count} records")


def letters(log: KafkaLog) -> dict[bytes | None, dead_letters.DeadLetter]:
    return {letter.key: letter for letter in dead_letters.letters(log)}


def test_poison_as_large_as_readings_may_be_is_set_aside_whole(log: KafkaLog, kafka: KafkaConfig) -> None:
    poison = random.Random(3).randbytes(topics.RECORD_BYTES - 200)
    send(kafka, {b"largest": poison}, None)
    score(log, 2)
    [letter] = letters(log).values()
    assert letter.value == poison
    assert (letter.reason, letter.origin, letter.origin_offset) == ("oversize", Partition(topics.READINGS, 0), 0)
    assert letter.headers == HEADERS
    assert dead_letters.replay(log) == 0  # it would be refused again
    assert dead_letters.reasons(dead_letters.letters(log)) == {}


def test_what_was_sent_compressed_is_set_aside_unpacked_and_cut_only_if_nothing_could_take_it(
    log: KafkaLog, kafka: KafkaConfig
) -> None:
    long, endless = GOOD[:-1] + b" " * (6 << 20) + b"}", b"0" * (12 << 20)
    send(kafka, {b"long": long, b"endless": endless}, "gzip")
    score(log, 3)
    found = letters(log)
    assert found[b"long"].value == long
    cut = found[b"endless"].value
    assert cut is not None
    assert topics.DEAD_LETTER_BYTES - (1 << 20) < len(cut) < topics.DEAD_LETTER_BYTES
    [record] = log.read(Partition(topics.DEAD_LETTERS, 0), 1, 1)
    assert dict(record.headers)["x-cut-from"] == str(len(endless)).encode()
    assert found[b"endless"].headers == HEADERS


def test_topics_of_an_earlier_version_are_set_right_and_it_is_said(log: KafkaLog, kafka: KafkaConfig) -> None:
    """They took dead letters no larger than readings; the records that hurt are told before, by `check`, and after."""
    ensure_topics(kafka, {topics.DEAD_LETTERS: TopicSpec(1, record_bytes=topics.RECORD_BYTES)})
    send(kafka, {b"largest": random.Random(3).randbytes(topics.RECORD_BYTES - 200)}, None)
    with pytest.raises(ConfigurationError, match=r"dead-letters.v1.*max\.message\.bytes"):
        score(log, 2)
    said = CliRunner().invoke(app, ["init"]).output
    assert f"{kafka.topic(topics.DEAD_LETTERS)} set to retention.ms=604800000, max.message.bytes=8388608" in said
    with closing(KafkaLog(kafka)) as anew:
        score(anew, 2)
    assert len(letters(log)) == 1
