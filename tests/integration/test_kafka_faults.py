"""What plants do to Kafka: too large records, topics remade, partitions added, records expired, a broker killed."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kafka import TopicPartition

from anomaly.errors import ConfigurationError, Fenced, StorageError, Unreachable
from pipelines.adapters.kafka_client import make_admin, make_producer
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_consumer import KafkaConsumer
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics
from pipelines.ports import Batch, NewRecord, Partition, Position, Record
from tests.servers.kafka import Broker

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0


@pytest.fixture
def log(kafka: KafkaConfig) -> Iterator[KafkaLog]:
    log = KafkaLog(kafka, session_s=6.0)
    yield log
    log.close()


def polled(member: KafkaConsumer, done: Callable[[list[Record]], bool], start: int | None = None) -> list[Record]:
    """Poll, seeking to what is committed (or to `start`), until `done`."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while not done(records):
        assert time.monotonic() < deadline, len(records)
        batch: Batch = member.poll(100, 0.1)
        for partition, at in dict(batch.assigned).items():
            member.seek(partition, at.offset if at else start or 0)
        records += batch.records
    return records


def test_an_oversize_record_is_refused_before_it_is_sent_and_the_log_goes_on(log: KafkaLog) -> None:
    log.create({"t": 1})
    log.append([NewRecord("t", b"k", b"v" * 1_000_000)])
    for size in (1_048_588, 5_000_000):
        with pytest.raises(ConfigurationError, match=r"max\.message\.bytes"):
            log.append([NewRecord("t", b"k", b"small"), NewRecord("t", b"k", b"v" * size)])
    assert log.append([NewRecord("t", b"k", b"after")]) == (1,)


def test_a_topic_that_takes_more_gets_more(log: KafkaLog, kafka: KafkaConfig) -> None:
    ensure_topics(kafka, {"t": TopicSpec(1, record_bytes=3_000_000)})
    value = random.Random(1).randbytes(2_900_000)
    log.append([NewRecord("t", b"k", value)])
    assert log.read(Partition("t", 0), 0, 10)[0].value == value
    member = log.join("g", ["t"])
    assert polled(member, bool)[0].value == value


def test_a_producer_that_the_broker_refused_is_remade(log: KafkaLog, kafka: KafkaConfig) -> None:
    ensure_topics(kafka, {"t": TopicSpec(1), "tiny": TopicSpec(1, record_bytes=500), "c": TopicSpec(1, compacted=True)})
    log.append([NewRecord("t", b"k", b"before")])
    with pytest.raises(ConfigurationError, match=r"max\.message\.bytes"):
        log.append([NewRecord("tiny", b"k", b"v" * 2_000)])
    assert log.append([NewRecord("t", b"k", b"between")]) == (1,)
    with pytest.raises((ConfigurationError, StorageError), match="key"):
        log.append([NewRecord("c", None, b"v")])
    assert log.append([NewRecord("t", b"k", b"after")]) == (2,)


def test_a_record_of_nothing_is_refused_and_a_null_key_is_spread_by_its_value(log: KafkaLog) -> None:
    log.create({"t": 4})
    with pytest.raises(ConfigurationError, match="neither key nor value"):
        log.append([NewRecord("t", None, None)])
    log.append([NewRecord("t", None, b"%d" % i) for i in range(100)])
    assert sum(end > 0 for _, end in log.ends("t").values()) == 4


def test_keys_values_and_headers_of_a_foreign_producer_come_as_they_are(log: KafkaLog, kafka: KafkaConfig) -> None:
    log.create({"t": 1})
    producer = make_producer(kafka, 10.0, 2**20, "zstd")
    for value in (b"\xff" * 10, b"", None):
        producer.send(kafka.topic("t"), key=b"k", value=value, headers=[("h", b"\x00")], timestamp_ms=1_000).get(10)
    producer.close()
    found = log.read(Partition("t", 0), 0, 10)
    assert [(r.key, r.value, r.headers) for r in found] == [
        (b"k", v, (("h", b"\x00"),)) for v in (b"\xff" * 10, b"", None)
    ]
    assert all(abs(r.time - time.time_ns()) < 60 * 10**9 for r in found), "the log's time counts, not the device's"


def test_added_partitions_are_told_to_who_reads_and_to_who_starts(log: KafkaLog, kafka: KafkaConfig) -> None:
    log.create({"t": 2})
    member = log.join("g", ["t"])
    polled(member, lambda _: len(member.lag()) == 2)
    admin = make_admin(kafka)
    admin.create_partitions({kafka.topic("t"): 3})
    admin.close()
    other = KafkaLog(kafka, session_s=6.0)
    with pytest.raises(ConfigurationError, match="has 3 partitions, expected 2"):
        other.verify({"t": 2})
    with pytest.raises(ConfigurationError, match="exists with 3 partitions, not 2"):
        other.create({"t": 2})
    other.verify({"t": 3})
    member.close()
    member = log.join("g", ["t"])  # the group's leader sees the new partition at once
    member._counts = {"t": 2}  # as a member that had joined before
    with pytest.raises(ConfigurationError, match="somebody added partitions"):
        polled(member, lambda _: False)
    other.close()


def test_missing_topics_are_named(log: KafkaLog) -> None:
    log.create({"t": 1})
    with pytest.raises(ConfigurationError, match=r"topics init"):
        log.verify({"t": 1, "plantwatch.nowhere": 1})
    for action in (lambda: log.read(Partition("nowhere", 0), 0, 1), lambda: log.ends("nowhere")):
        with pytest.raises(ConfigurationError, match="nowhere"):
            action()
    with pytest.raises(ConfigurationError, match="no number 1"):
        log.read(Partition("t", 1), 0, 1)


def expire(kafka: KafkaConfig, topic: str, before: int) -> None:
    admin = make_admin(kafka)
    admin.delete_records({TopicPartition(kafka.topic(topic), 0): before})
    admin.close()


def test_offsets_older_than_the_log_begin_where_the_log_begins(log: KafkaLog, kafka: KafkaConfig) -> None:
    log.create({"t": 1})
    log.append([NewRecord("t", b"k", b"%d" % i) for i in range(100)])
    expire(kafka, "t", 60)
    assert log.ends("t") == {Partition("t", 0): (60, 100)}
    assert [r.offset for r in log.read(Partition("t", 0), 5, 3)] == [60, 61, 62]
    member = log.join("g", ["t"])
    assert [r.offset for r in polled(member, lambda r: len(r) == 40, start=7)] == list(range(60, 100))


def test_records_that_expire_under_a_reader_end_its_session_and_the_next_begins_where_the_log_begins(
    log: KafkaLog, kafka: KafkaConfig
) -> None:
    log.create({"t": 1})
    log.append([NewRecord("t", b"k", b"%d" % i) for i in range(100)])
    member = log.join("g", ["t"])
    polled(member, lambda records: len(records) == 100)
    expire(kafka, "t", 60)
    member.seek(Partition("t", 0), 10)
    with pytest.raises(StorageError, match="no longer in the log"):
        polled(member, bool)
    with pytest.raises(StorageError, match="join the group anew"):
        member.poll(1, 0.1)
    member.close()
    again = log.join("g", ["t"])
    assert polled(again, bool, start=10)[0].offset == 60


def test_a_member_that_stands_still_before_the_end_is_told_from_one_that_idles(log: KafkaLog) -> None:
    log.stall_s = 3.0
    log.create({"t": 1})
    log.append([NewRecord("t", b"k", b"0")])
    member = log.join("g", ["t"])
    polled(member, bool)
    polled_at = time.monotonic()
    while time.monotonic() < polled_at + 5.0:  # nothing to read is no stall
        assert member.poll(10, 0.2).records == ()
    member._client._fetcher.send_fetches = lambda: None  # the client asks for nothing any more
    time.sleep(0.5)  # what it had asked for is answered
    member.poll(10, 0.1)
    log.append([NewRecord("t", b"k", b"%d" % i) for i in range(10)])
    with pytest.raises(StorageError, match="joining the group anew"):
        polled(member, lambda records: len(records) > 10)


@pytest.mark.slow
def test_a_second_process_under_one_member_name_is_told(kafka: KafkaConfig) -> None:
    named = KafkaConfig(kafka.servers, prefix=kafka.prefix, member="press-7")
    first, second = KafkaLog(named, session_s=6.0), KafkaLog(named, session_s=6.0)
    first.create({"t": 2})
    one = first.join("g", ["t"])
    polled(one, lambda _: len(one.lag()) == 2)
    two = second.join("g", ["t"])
    polled(two, lambda _: len(two.lag()) == 2)
    with pytest.raises((ConfigurationError, Fenced), match="member"):
        polled(one, lambda _: False)
    first.close()
    second.close()


class Traffic:
    """One thread that appends and notes what was acknowledged, one that reads and notes what came."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.acknowledged: dict[tuple[int, int], bytes | None] = {}
        self.seen: dict[tuple[int, int], bytes | None] = {}
        self.troubles = Counter[str]()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.append, self.read)]
        for thread in self.threads:
            thread.start()

    def append(self) -> None:
        for number in itertools.count(step=20):
            if self.stop.is_set():
                return
            batch = [NewRecord("t", b"%d" % i, b"%d" % i, partition=i % 2) for i in range(number, number + 20)]
            try:
                for record, offset in zip(batch, self.log.append(batch), strict=True):
                    self.acknowledged[record.partition or 0, offset] = record.value
            except (StorageError, Unreachable) as error:
                self.troubles[f"append {type(error).__name__}"] += 1
                self.stop.wait(0.2)

    def complete(self) -> bool:
        return self.stop.is_set() and self.seen.keys() >= self.acknowledged.keys()

    def read(self) -> None:
        while not self.complete():
            try:
                with closing(self.log.join("g", ["t"])) as member:
                    self.read_on(member)
            except (StorageError, Unreachable) as error:
                self.troubles[f"read {type(error).__name__}"] += 1
                time.sleep(0.3)

    def read_on(self, member: KafkaConsumer) -> None:
        while not self.complete():
            batch = member.poll(50, 0.1)
            for partition, at in dict(batch.assigned).items():
                member.seek(partition, at.offset if at else 0)
            for record in batch.records:
                self.seen[record.partition.number, record.offset] = record.value
            member.commit({r.partition: Position(r.offset + 1, '{"r":0}') for r in batch.records})

    def await_more(self, count: int) -> None:
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, self.troubles
            time.sleep(0.05)

    def finish(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), (len(self.seen), len(self.acknowledged), self.troubles)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_broker_killed_in_the_middle_of_appends_and_polls_loses_nothing_acknowledged(
    own_kafka: Callable[..., Broker],
) -> None:
    broker = own_kafka()
    log = KafkaLog(KafkaConfig((broker.address,), prefix="k."), session_s=6.0, delivery_s=60.0)
    log.create({"t": 2})
    traffic = Traffic(log)
    for _ in range(3):
        traffic.await_more(200)
        broker.kill()
        before = len(traffic.acknowledged)
        broker.start()
        traffic.await_more(200)
        assert before >= 200
    traffic.finish()
    stored = {(p.number, r.offset): r.value for p in log.ends("t") for r in log.read(p, 0, 10**6)}
    assert {at for at, value in traffic.acknowledged.items() if stored.get(at) != value} == set()
    assert {at for at, value in traffic.acknowledged.items() if traffic.seen.get(at) != value} == set()
    begin = time.monotonic()
    log.close()
    assert time.monotonic() - begin < 10


def test_an_absent_broker_is_told_at_once_by_every_verb() -> None:
    log = KafkaLog(KafkaConfig(("127.0.0.1:1",)))
    actions: tuple[Callable[[], object], ...] = (
        lambda: log.create({"t": 1}),
        lambda: log.append([NewRecord("t", b"k", b"v")]),
        lambda: log.read(Partition("t", 0), 0, 1),
        lambda: log.ends("t"),
        lambda: log.committed("g", "t"),
        lambda: log.join("g", ["t"]),
    )
    for action in actions:
        begin = time.monotonic()
        with pytest.raises(Unreachable, match="start the broker"):
            action()
        assert time.monotonic() - begin < 5.0
    log.close()


@pytest.mark.slow
def test_holes_that_the_brokers_compaction_leaves_stop_no_reader_before_the_end(
    log: KafkaLog, kafka: KafkaConfig
) -> None:
    eager = {"cleanup.policy": "compact", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
    admin = make_admin(kafka)
    admin.create_topics({kafka.topic("c"): {"num_partitions": 1, "replication_factor": 1, "configs": eager}})
    admin.wait_for_topics([kafka.topic("c")])
    admin.close()
    for i in range(1000):
        log.append([NewRecord("c", b"k%d" % (i % 7), b"%d" % i)])
    found: list[Record] = []
    deadline = time.monotonic() + 90
    while not found or len(found) > 500:
        assert time.monotonic() < deadline, "the broker did not compact"
        time.sleep(1.0)
        log.append([NewRecord("c", b"last", b"")])  # a new segment: only closed ones are compacted
        found, offset = [], 0
        while page := log.read(Partition("c", 0), offset, 3):
            found += page
            offset = page[-1].offset + 1
    assert offset == log.ends("c")[Partition("c", 0)][1]
    assert {r.value for r in found if r.key != b"last"} >= {b"%d" % i for i in range(993, 1000)}
    member = log.join("g", ["c"])
    assert [r.offset for r in polled(member, lambda r: bool(r) and r[-1].offset == offset - 1)][-1] == offset - 1
    assert member.lag() == {Partition("c", 0): 0}
