"""Somebody deletes a topic and makes it anew, or restores an old backup: what was committed is beyond the end.

No service may wait until the topic is as long as it was, nor begin its session again and again: it reads the new topic
from its start, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from anomaly.domain import Asset, Plant, Tag
from anomaly.errors import StorageError
from anomaly.registry import MemoryRegistry
from pipelines import dead_letters, topics
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.memory import MemoryHistorian
from pipelines.metrics.families import REGISTRY
from pipelines.ports import NewRecord, Partition, Position
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.service import Session, Worker
from tests.integration.processes import until

pytestmark = pytest.mark.integration

PLANT = Plant("w", (Asset("s/pump", "p", (Tag("t"),)),))
HOME = Partition(topics.READINGS, 0)
OLD = 40


@pytest.fixture
def log(kafka: KafkaConfig) -> Iterator[KafkaLog]:
    with closing(KafkaLog(kafka, session_s=6.0)) as made:
        made.create(topics.partitions(1), topics.COMPACTED)
        yield made


def put(log: KafkaLog, values: Sequence[bytes]) -> None:
    log.append([NewRecord(topics.READINGS, b"s/pump", value) for value in values])


def row(second: int) -> bytes:
    return b'{"ts": "2026-01-05T01:00:%02dZ", "values": {"t": 1.0}}' % second


def make_anew(log: KafkaLog, kafka: KafkaConfig) -> None:
    with closing(make_admin(kafka)) as admin:
        admin.delete_topics([kafka.topic(topics.READINGS)])
        until(lambda: kafka.topic(topics.READINGS) not in admin.list_topics(), "the topic to be gone")
    log.create({topics.READINGS: 1})


def commit(log: KafkaLog, group: str, offset: int) -> None:
    """As a worker does that was at it while the topic was made anew."""
    with closing(log.join(group, [topics.READINGS])) as member:
        until(lambda: HOME in dict(member.poll(1, 0.2).assigned), "the partition")
        member.commit({HOME: Position(offset, json.dumps({"r": offset - 5}))})


def serve(log: KafkaLog, worker: Worker, offset: int) -> None:
    """One session of a service, until it has committed so far."""
    with closing(Session(worker, log.join(worker.name, worker.topics), 64)) as session:

        def done() -> bool:
            session.step(0.2)
            return session.committed.get(HOME, (0,))[0] == offset

        until(done, f"a commit at {offset}, not {session.committed}", 30.0)


def outside(service: str) -> float:
    labels = {"service": service, "side": "beyond"}
    return REGISTRY.get_sample_value("plantwatch_positions_outside_log_total", labels) or 0.0


def test_the_score_service_reads_the_new_topic_from_its_start_and_sets_aside_what_is_wrong_there(
    log: KafkaLog, kafka: KafkaConfig
) -> None:
    put(log, [b"{"] * OLD)
    serve(log, ScoreWorker(log, PLANT, MemoryRegistry()), OLD)
    make_anew(log, kafka)
    put(log, [b"[", *(row(second) for second in range(9))])  # another poison where one of the old topic lay
    commit(log, "score", OLD)
    before = outside("score")
    worker = ScoreWorker(log, PLANT, MemoryRegistry())
    with capture_logs() as said:
        serve(log, worker, 10)
    assert outside("score") == before + 1
    [word] = [entry for entry in said if entry["event"] == "position_outside_log"]
    assert (word["log_level"], word["committed"], word["log_end"]) == ("error", OLD, 10)
    assert worker.counts()["acknowledged"] == 10
    assert [letter.value for letter in dead_letters.letters(log)] == [b"{"] * OLD + [b"["]
    assert log.committed("score", topics.READINGS)[HOME].offset == 10


def test_the_record_service_writes_all_of_the_new_topic(log: KafkaLog, kafka: KafkaConfig) -> None:
    put(log, [row(second) for second in range(20)])
    serve(log, RecordWorker(log, MemoryHistorian()), 20)
    make_anew(log, kafka)
    put(log, [row(second) for second in range(30, 40)])
    commit(log, "record", 20)
    historian = MemoryHistorian()
    serve(log, RecordWorker(log, historian), 10)
    assert len(historian.readings("s/pump", 0, 2**62)) == 10


def test_a_position_beyond_the_end_is_none_and_one_at_the_end_is_kept(log: KafkaLog) -> None:
    put(log, [row(second) for second in range(5)])
    commit(log, "g", 5)
    assert log.committed("g", topics.READINGS)[HOME].offset == 5
    commit(log, "g", 6)
    assert log.committed("g", topics.READINGS) == {}


def test_a_service_at_work_meanwhile_ends_its_session_and_begins_anew(log: KafkaLog, kafka: KafkaConfig) -> None:
    put(log, [row(second) for second in range(20)])
    worker = ScoreWorker(log, PLANT, MemoryRegistry())
    with closing(Session(worker, log.join("score", worker.topics), 64)) as session:
        until(lambda: session.step(0.2) or session.committed.get(HOME, (0,))[0] == 20, "a commit")
        until(lambda: session.step(0.2) == 0, "all of it")
        make_anew(log, kafka)
        put(log, [row(second) for second in range(30, 35)])
        with pytest.raises(StorageError, match=r"no longer in the log|no such topic|joining the group anew"):
            until(lambda: session.step(0.2) < 0, "the session's end", 45.0)
    serve(log, ScoreWorker(log, PLANT, MemoryRegistry()), 5)
