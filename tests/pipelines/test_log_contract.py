"""What every log does, over the port alone: in memory, in SQLite and on a real Kafka broker.

A rebalance takes its time on a real broker, so tests poll until it is over and never count polls.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from anomaly.errors import ConfigurationError, Fenced, StorageError
from pipelines.adapters.kafka_log import LEAST_SESSION_S, KafkaLog
from pipelines.adapters.memory import MemoryLog
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import Batch, Consumer, Log, NewRecord, Partition, Position, Record

SHORT_SESSION_S = 0.6
PATIENCE_S = 30.0
"""How long a test waits for a rebalance or a record."""


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.integration)])
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[float], Log]]:
    made: list[Log] = []
    kafka = request.getfixturevalue("kafka") if request.param == "kafka" else None

    def make(session_s: float) -> Log:
        if request.param == "memory":
            made.append(MemoryLog(SystemClock(), session_s=session_s))
        elif kafka is None:
            made.append(SqliteLog(tmp_path / "log.db", SystemClock(), session_s=session_s))
        else:  # who does not poll is `silence_s`; the death of a process is seen by the broker after `session_s`
            made.append(KafkaLog(kafka, session_s=LEAST_SESSION_S, silence_s=max(session_s, 3.0)))
        return made[-1]

    yield make
    for log in made:
        log.close()


@pytest.fixture
def log(make_log: Callable[[float], Log]) -> Log:
    return make_log(60.0)


@pytest.fixture
def topic(log: Log) -> str:
    log.create({"t": 4})
    return "t"


class Member:
    """A consumer that behaves: drops what is revoked, seeks what is assigned, remembers what came."""

    def __init__(self, log: Log, group: str = "g", topics: Sequence[str] = ("t",)) -> None:
        self.consumer: Consumer = log.join(group, topics)
        self.held: dict[Partition, Position | None] = {}
        self.records: list[Record] = []
        self.batches: list[Batch] = []

    def poll(self, limit: int = 100, timeout_s: float = 0.05) -> Batch:
        batch = self.consumer.poll(limit, timeout_s)
        self.batches.append(batch)
        for partition in batch.revoked:
            del self.held[partition]
        for partition, position in dict(batch.assigned).items():
            self.held[partition] = position
            self.consumer.seek(partition, 0 if position is None else position.offset)
        self.records += batch.records
        return batch

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]


def until(members: Sequence[Member], done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, [member.held for member in members]
        for member in members:
            member.poll()


def put(log: Log, *values: bytes, topic: str = "t", partition: int | None = 0, key: bytes | None = b"k") -> None:
    log.append([NewRecord(topic, key, value, partition=partition) for value in values])


def test_offsets_are_dense_per_partition_and_returned_in_the_order_of_the_records(log: Log, topic: str) -> None:
    offsets = log.append([NewRecord(topic, b"k", b"v", partition=p) for p in (0, 1, 0, 2, 0, 1)])
    assert offsets == (0, 0, 1, 0, 2, 1)
    assert log.append([NewRecord(topic, b"k", b"v", partition=1)]) == (2,)


def test_a_record_comes_back_as_it_was_appended(log: Log, topic: str) -> None:
    headers = (("x-reason", b"\x00\xff"), ("x-reason", b""), ("ü", b"two"))
    before = time.time_ns()
    log.append([NewRecord(topic, b"\x00k\xff", b"\x00v\xff" * 1000, headers, partition=3)])
    (record,) = log.read(Partition(topic, 3), 0, 10)
    assert (record.partition, record.offset, record.key) == (Partition(topic, 3), 0, b"\x00k\xff")
    assert (record.value, record.headers) == (b"\x00v\xff" * 1000, headers)
    assert abs(record.time - before) < 60 * 10**9


def test_null_and_empty_keys_and_values_stay_apart(log: Log, topic: str) -> None:
    pairs: list[tuple[bytes | None, bytes | None]] = [(None, b"v"), (b"", b""), (b"k", None)]
    log.append([NewRecord(topic, key, value, partition=0) for key, value in pairs])
    assert [(record.key, record.value) for record in log.read(Partition(topic, 0), 0, 10)] == pairs


def test_a_key_lives_on_the_partition_where_kafka_would_put_it(log: Log, topic: str) -> None:
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    log.append([NewRecord(topic, key, key) for key in known])
    for key, digest in known.items():
        home = Partition(topic, (digest & 0x7FFFFFFF) % 4)
        assert key in {record.key for record in log.read(home, 0, 10)}


def test_a_key_has_the_same_partition_number_on_every_topic_of_equal_count(log: Log) -> None:
    log.create({"a": 3, "b": 3})
    keys = [f"s1/l1/pump-{i}".encode() for i in range(20)]
    log.append([NewRecord(topic, key, b"v") for topic in ("a", "b") for key in keys])
    for number in range(3):
        a, b = (log.read(Partition(topic, number), 0, 100) for topic in ("a", "b"))
        assert [record.key for record in a] == [record.key for record in b]


def test_read_begins_at_the_offset_stops_at_the_limit_and_is_empty_at_the_end(log: Log, topic: str) -> None:
    put(log, *(b"%d" % i for i in range(10)))
    there = Partition(topic, 0)
    assert [record.offset for record in log.read(there, 3, 4)] == [3, 4, 5, 6]
    assert log.read(there, 10, 5) == ()
    assert log.read(there, 99, 5) == ()
    assert log.read(Partition(topic, 1), 0, 5) == ()


def test_ends_tell_the_first_offset_and_the_next(log: Log, topic: str) -> None:
    put(log, b"a", b"b", partition=2)
    assert log.ends(topic) == {Partition(topic, p): (0, 2 if p == 2 else 0) for p in range(4)}


def test_creating_twice_changes_nothing_and_another_count_is_refused(log: Log, topic: str) -> None:
    put(log, b"a")
    log.create({topic: 4})
    assert len(log.read(Partition(topic, 0), 0, 10)) == 1
    with pytest.raises(ConfigurationError, match="4 partitions"):
        log.create({topic: 5})


def test_an_unknown_topic_is_a_configuration_error_and_nothing_of_the_call_is_stored(log: Log, topic: str) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        log.append([NewRecord("nowhere", b"k", b"v")])
    with pytest.raises(ConfigurationError, match="nowhere"):
        log.join("g", ["nowhere"])


def test_a_thousand_records_go_in_one_call(log: Log, topic: str) -> None:
    log.append([NewRecord(topic, b"%d" % i, b"v" * 200) for i in range(1000)])
    assert sum(end for _, end in log.ends(topic).values()) == 1000


def test_threads_may_append_at_once(log: Log, topic: str) -> None:
    def append(name: int) -> None:
        for i in range(20):
            put(log, *(b"%d %d" % (name, 5 * i + j) for j in range(5)))

    threads = [threading.Thread(target=append, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = [record.value or b"" for record in log.read(Partition(topic, 0), 0, 1000)]
    for name in range(4):
        mine = [int(value.split()[1]) for value in values if value.split()[0] == b"%d" % name]
        assert mine == list(range(100))


def test_a_compacted_topic_keeps_the_newest_record_of_every_key_and_its_offset(log: Log) -> None:
    log.create({"c": 1}, frozenset({"c"}))
    for i in range(40):
        log.append([NewRecord("c", b"k%d" % (j % 7), b"%d %d" % (i, j)) for j in range(50)])
    log.append([NewRecord("c", b"k3", None)])
    view: dict[bytes | None, Record] = {}
    offset = 0
    while records := log.read(Partition("c", 0), offset, 500):
        view |= {record.key: record for record in records}
        offset = records[-1].offset + 1
    assert offset == 2001
    assert view.pop(b"k3").value is None
    assert {key: record.value for key, record in view.items()} == {
        b"k%d" % k: b"39 %d" % (49 if k == 0 else 42 + k) for k in (0, 1, 2, 4, 5, 6)
    }
    assert view[b"k0"].offset == 1999


def test_a_compacted_topic_takes_no_record_without_key(log: Log) -> None:
    log.create({"c": 1}, frozenset({"c"}))
    with pytest.raises((ConfigurationError, StorageError)):
        log.append([NewRecord("c", None, b"v")])


def test_the_first_member_is_assigned_everything_and_gets_no_record_of_it_before_it_can_seek(
    log: Log, topic: str
) -> None:
    put(log, b"a", b"b")
    member = Member(log)
    until([member], lambda: len(member.held) == 4 and len(member.records) == 2)
    for batch in member.batches:
        assert not {record.partition for record in batch.records} & set(dict(batch.assigned))
    assert set(member.held.values()) == {None}
    assert member.values() == [b"a", b"b"]
    member.consumer.close()


def test_poll_keeps_to_the_limit_and_to_offset_order(log: Log, topic: str) -> None:
    for partition in range(4):
        put(log, *(b"%d" % i for i in range(10)), partition=partition)
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    while len(member.records) < 40:
        assert len(member.poll(limit=7).records) <= 7
    for partition in range(4):
        mine = [record.offset for record in member.records if record.partition.number == partition]
        assert mine == list(range(10))
    member.consumer.close()


def test_a_backlog_on_one_partition_does_not_starve_the_others(log: Log, topic: str) -> None:
    put(log, *(b"x" for _ in range(3000)), partition=0)
    put(log, b"fresh", partition=3)
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    until([member], lambda: b"fresh" in member.values())
    assert len(member.records) < 2500
    member.consumer.close()


def test_poll_waits_for_a_record_and_no_longer(log: Log, topic: str) -> None:
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    begin = time.monotonic()
    assert member.poll(timeout_s=0.2).records == ()
    assert 0.15 < time.monotonic() - begin < 5.0
    timer = threading.Timer(0.2, put, (log, b"late"))
    timer.start()
    begin = time.monotonic()
    assert [record.value for record in member.poll(timeout_s=PATIENCE_S).records] == [b"late"]
    assert time.monotonic() - begin < 5.0
    timer.join()
    member.consumer.close()


def test_seek_goes_back_and_forth_and_below_the_start_means_the_start(log: Log, topic: str) -> None:
    put(log, *(b"%d" % i for i in range(6)))
    member = Member(log)
    until([member], lambda: len(member.records) == 6)
    for offset, first in ((4, 4), (-3, 0), (5, 5)):
        member.records.clear()
        member.consumer.seek(Partition(topic, 0), offset)
        until([member], lambda: member.values()[-1:] == [b"5"])
        assert member.values() == [b"%d" % i for i in range(first, 6)]
    member.consumer.close()


def test_a_paused_member_gets_no_record_keeps_its_place_and_goes_on_where_it_stood(log: Log, topic: str) -> None:
    put(log, *(b"%d" % i for i in range(20)))
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    while len(member.records) < 5:
        member.poll(limit=5 - len(member.records))
    member.consumer.pause()
    member.consumer.pause()
    put(log, b"20", partition=0)
    put(log, b"other", partition=2)
    begin = time.monotonic()
    while time.monotonic() < begin + 1.0:
        assert member.poll(limit=3, timeout_s=0.2).records == ()
    assert len(member.held) == 4
    member.consumer.resume()
    member.consumer.resume()
    until([member], lambda: len(member.records) == 22)
    assert [int(r.value or b"") for r in member.records if r.partition.number == 0] == list(range(21))
    member.consumer.close()


def test_a_paused_poll_waits_as_long_as_one_without_records(log: Log, topic: str) -> None:
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    member.consumer.pause()
    put(log, b"a")
    begin = time.monotonic()
    assert member.poll(timeout_s=0.3).records == ()
    assert 0.25 < time.monotonic() - begin < 5.0
    member.consumer.close()


def test_what_is_assigned_while_paused_is_paused_too(log: Log, topic: str) -> None:
    for partition in range(4):
        put(log, b"%d" % partition, partition=partition)
    first, second = Member(log), Member(log)
    first.consumer.pause()
    until([first, second], lambda: len(first.held) == len(second.held) == 2)
    second.consumer.close()
    until([first], lambda: len(first.held) == 4)
    for _ in range(10):
        first.poll()
    assert first.records == []
    first.consumer.resume()
    until([first], lambda: sorted(first.values(), key=str) == [b"0", b"1", b"2", b"3"])
    first.consumer.close()


def test_seeking_while_paused_holds_when_resumed(log: Log, topic: str) -> None:
    put(log, *(b"%d" % i for i in range(6)))
    member = Member(log)
    until([member], lambda: len(member.records) == 6)
    member.consumer.pause()
    member.poll()
    member.consumer.seek(Partition(topic, 0), 4)
    assert member.poll().records == ()
    member.records.clear()
    member.consumer.resume()
    until([member], lambda: len(member.records) == 2)
    assert member.values() == [b"4", b"5"]
    member.consumer.close()


def test_lag_counts_what_was_not_read_also_while_paused(log: Log, topic: str) -> None:
    put(log, *(b"%d" % i for i in range(10)), partition=1)
    member = Member(log)
    assert member.consumer.lag() == {}
    until([member], lambda: len(member.held) == 4)
    while len(member.records) < 4:
        member.poll(limit=4 - len(member.records))
    until([member], lambda: len(member.consumer.lag()) == 4)
    unread = 10 - len(member.records)
    assert member.consumer.lag() == {Partition(topic, p): unread if p == 1 else 0 for p in range(4)}
    member.consumer.pause()
    put(log, b"more", partition=1)
    until([member], lambda: member.consumer.lag()[Partition(topic, 1)] == unread + 1)
    member.consumer.resume()
    until([member], lambda: len(member.records) == 11)
    until([member], lambda: not any(member.consumer.lag().values()))
    member.consumer.close()


def test_a_committed_position_comes_back_with_its_metadata_to_the_next_member(log: Log, topic: str) -> None:
    put(log, b"a", b"b", b"c")
    first = Member(log)
    until([first], lambda: len(first.records) == 3)
    first.consumer.commit({Partition(topic, 0): Position(2, '{"r": 1} ü')})
    first.consumer.commit({Partition(topic, 0): Position(2, '{"r": 1} ü')})
    assert log.committed("g", topic)[Partition(topic, 0)] == Position(2, '{"r": 1} ü')
    first.consumer.close()
    second = Member(log)
    until([second], lambda: len(second.held) == 4 and bool(second.records))
    assert second.held[Partition(topic, 0)] == Position(2, '{"r": 1} ü')
    assert second.held[Partition(topic, 1)] is None
    assert second.values() == [b"c"]
    second.consumer.close()


def test_metadata_of_four_kilobytes_is_kept(log: Log, topic: str) -> None:
    member = Member(log)
    until([member], lambda: len(member.held) == 4)
    member.consumer.commit({Partition(topic, 1): Position(0, "m" * 4000)})
    assert log.committed("g", topic)[Partition(topic, 1)].metadata == "m" * 4000
    with pytest.raises(StorageError):
        member.consumer.commit({Partition(topic, 1): Position(7, "m" * 5000)})
    assert log.committed("g", topic)[Partition(topic, 1)].offset == 0
    member.consumer.close()


def test_groups_do_not_see_each_other(log: Log, topic: str) -> None:
    put(log, b"a")
    one, two = Member(log, "one"), Member(log, "two")
    until([one, two], lambda: len(one.records) == len(two.records) == 1)
    assert len(one.held) == len(two.held) == 4
    one.consumer.commit({Partition(topic, 0): Position(1)})
    assert log.committed("two", topic) == {}
    one.consumer.close()
    two.consumer.close()


def owners(members: Sequence[Member]) -> dict[Partition, int]:
    """How many members hold each partition."""
    return dict(Counter(partition for member in members for partition in member.held))


def until_shared(members: Sequence[Member], most: int) -> None:
    """Poll until each partition of `t` has one owner and nobody has more than `most`."""

    def shared() -> bool:
        once = owners(members) == {Partition("t", p): 1 for p in range(4)}
        return once and max(len(member.held) for member in members) <= most

    until(members, shared)


def test_members_share_the_partitions_and_each_has_one_owner(log: Log, topic: str) -> None:
    members: list[Member] = []
    for most in (4, 2, 2, 1, 1):
        members.append(Member(log))
        until_shared(members, most)
    for most in (1, 2, 2, 4):
        members.pop(0).consumer.close()
        until_shared(members, most)
    members[0].consumer.close()


def test_topics_of_equal_count_go_to_the_same_member_number_by_number(log: Log) -> None:
    log.create({"a": 5, "b": 5})
    members = [Member(log, topics=("a", "b")) for _ in range(2)]
    until(members, lambda: len(owners(members)) == 10 and all(4 <= len(member.held) <= 6 for member in members))
    for member in members:
        numbers = {topic: {p.number for p in member.held if p.topic == topic} for topic in ("a", "b")}
        assert numbers["a"] == numbers["b"]
        member.consumer.close()


def test_nothing_is_read_twice_or_left_out_when_members_commit_before_they_poll_on(log: Log, topic: str) -> None:
    """Handing over happens between polls, so records that were committed are never given to the next owner."""
    members: list[Member] = [Member(log)]
    sent = 0
    for turn in range(40):
        log.append([NewRecord(topic, b"%d" % i, b"%d" % i) for i in range(sent, sent + 5)])
        sent += 5
        if turn in (8, 16):
            members.append(Member(log))
        if turn == 30:
            members[0].consumer.close()
        for member in members[1 if turn >= 30 else 0 :]:
            batch = member.poll(timeout_s=0.01)
            ends = {record.partition: Position(record.offset + 1) for record in batch.records}
            member.consumer.commit(ends)
    alive = members[1:]
    until(alive, lambda: sum(len(member.records) for member in members) >= sent)
    seen = sorted(int(value or b"") for member in members for value in member.values())
    assert seen == list(range(sent))
    for member in alive:
        member.consumer.close()


def test_a_silent_member_loses_its_partitions_and_its_commit_is_fenced(make_log: Callable[[float], Log]) -> None:
    log, topic = make_log(SHORT_SESSION_S), "t"
    log.create({topic: 4})
    put(log, b"a", b"b")
    silent = Member(log)
    until([silent], lambda: len(silent.records) == 2)
    heir = Member(log)
    until([heir], lambda: len(heir.held) == 4)
    with pytest.raises(Fenced):
        silent.consumer.commit({Partition(topic, 0): Position(2, "stale")})
    assert log.committed("g", topic) == {}
    until([heir], lambda: len(heir.records) == 2)
    heir.consumer.commit({Partition(topic, 0): Position(2, "fresh")})
    assert log.committed("g", topic)[Partition(topic, 0)].metadata == "fresh"
    until([heir, silent], lambda: len(heir.held) == len(silent.held) == 2)
    assert set(silent.batches[-1].assigned) | {p for b in silent.batches for p in b.revoked} >= set(silent.held)
    heir.consumer.close()
    silent.consumer.close()


def test_a_commit_is_stored_for_all_its_partitions_or_for_none(log: Log, topic: str) -> None:
    put(log, b"a")
    first = Member(log)
    until([first], lambda: len(first.held) == 4)
    second = Member(log)
    until([first, second], lambda: len(first.held) == len(second.held) == 2)
    mine, others = next(iter(first.held)), next(iter(second.held))
    with pytest.raises(Fenced):
        first.consumer.commit({mine: Position(1), others: Position(1)})
    assert log.committed("g", topic) == {}
    first.consumer.close()
    second.consumer.close()


def test_closing_hands_over_at_once_and_twice_is_once(log: Log, topic: str) -> None:
    first = Member(log)
    until([first], lambda: len(first.held) == 4)
    first.consumer.close()
    first.consumer.close()
    second = Member(log)
    until([second], lambda: len(second.held) == 4)
    second.consumer.close()


def test_closing_the_log_twice_is_once_and_then_it_says_that_it_is_closed(log: Log, topic: str) -> None:
    log.close()
    log.close()
    with pytest.raises(StorageError, match="closed"):
        log.append([NewRecord(topic, b"k", b"v")])
