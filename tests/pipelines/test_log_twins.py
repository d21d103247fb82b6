"""The SQLite log and its twin in memory answer alike to any sequence of commands, and forget alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from anomaly.errors import Fenced, PlantwatchError
from pipelines.adapters.groups import Group, range_assignment
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.adapters.partitioning import murmur2
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.upkeep import DAY, Retention
from pipelines.ports import Batch, Consumer, Log, NewRecord, Partition, Position

TOPICS = {"t": 3, "c": 2, "r": 1}
RETENTION = {"r": Retention(age=5 * DAY, size=40)}
PARTITIONS = [Partition(topic, number) for topic, count in TOPICS.items() for number in range(count)]
BOTH = (0, 1)
WHO = st.integers(0, 3)
POSITION = st.builds(Position, st.integers(0, 12), st.sampled_from(["", "m", "x" * 5000]))


class Twins(RuleBasedStateMachine):
    """Both logs get the same commands; whatever comes out must be equal, errors by their kind."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = MemoryClock()
        self.elapsed = 0
        sqlite = SqliteLog(
            self.folder / "log.db", self.clock, timer=lambda: self.elapsed, retention=RETENTION, session_s=60.0
        )
        memory = MemoryLog(self.clock, timer=lambda: self.elapsed, retention=RETENTION, session_s=60.0)
        self.logs: tuple[Log, Log] = (sqlite, memory)
        self.sqlite, self.memory = sqlite, memory
        self.members: list[tuple[Consumer, Consumer]] = []
        self.held: list[set[Partition]] = []
        """What each member knows it holds."""
        for log in self.logs:
            log.create(TOPICS, frozenset({"c"}))
        self.join(("t", "c"))
        self.join(("t",))

    def member(self, who: int) -> tuple[tuple[Consumer, Consumer], set[Partition]]:
        return self.members[who % len(self.members)], self.held[who % len(self.held)]

    def teardown(self) -> None:
        for pair in self.members:
            for member in pair:
                member.close()
        for log in self.logs:
            log.close()
        shutil.rmtree(self.folder)

    def alike(self, call: Callable[[int], object]) -> object:
        answers: list[object] = []
        for which in BOTH:
            try:
                answers.append(call(which))
            except PlantwatchError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(
        topic=st.sampled_from([*TOPICS, "absent"]),
        keys=st.lists(st.sampled_from([b"a", b"b", b"c", b"", None]), max_size=6),
        value=st.sampled_from([b"value", b"", None]),
        partition=st.sampled_from([None, None, 0, 1, 7]),
    )
    def append(self, topic: str, keys: list[bytes | None], value: bytes | None, partition: int | None) -> None:
        records = [NewRecord(topic, key, value, (("h", b"x"),), partition) for key in keys]
        self.alike(lambda which: self.logs[which].append(records))

    @rule(days=st.sampled_from([0, 1, 3]), seconds=st.sampled_from([11, 61]))
    def wait(self, days: int, seconds: int) -> None:
        self.clock.sleep(days * 86_400 + seconds)
        self.elapsed += seconds * 10**9

    @rule(topics=st.sampled_from([("t",), ("t", "c"), ("c", "r"), ("t", "absent")]))
    def join(self, topics: tuple[str, ...]) -> None:
        pair: list[Consumer] = []
        self.alike(lambda which: pair.append(self.logs[which].join("g", topics)))
        if pair:
            self.members.append((pair[0], pair[1]))
            self.held.append(set())
        if len(self.members) > 4:
            self.leave(0)

    @rule(who=WHO, limit=st.sampled_from([0, 1, 3, 100]))
    def poll(self, who: int, limit: int) -> None:
        pair, held = self.member(who)
        batch = self.alike(lambda which: pair[which].poll(limit, 0.0))
        assert isinstance(batch, Batch)
        assert len(batch.records) <= limit
        held -= set(batch.revoked)
        assert not held & set(batch.assigned)
        assert {record.partition for record in batch.records} <= held
        held |= set(batch.assigned)

    @rule(who=WHO, partition=st.sampled_from(PARTITIONS), offset=st.integers(-2, 12))
    def seek(self, who: int, partition: Partition, offset: int) -> None:
        pair, held = self.member(who)
        answer = self.alike(lambda which: pair[which].seek(partition, offset))
        assert answer is (None if partition in held else Fenced)

    @rule(who=WHO, position=POSITION)
    def commit(self, who: int, position: Position) -> None:
        pair, held = self.member(who)
        self.alike(lambda which: pair[which].commit(dict.fromkeys(held, position)))

    @rule(who=WHO, positions=st.dictionaries(st.sampled_from(PARTITIONS), POSITION))
    def commit_anything(self, who: int, positions: dict[Partition, Position]) -> None:
        pair, _ = self.member(who)
        self.alike(lambda which: pair[which].commit(positions))

    @rule(who=WHO, heir=WHO, position=POSITION)
    def outlive(self, who: int, heir: int, position: Position) -> None:
        """One member is silent too long, another takes over and goes on, the silent one commits and comes back."""
        self.wait(0, 61)
        for _ in range(2):
            self.poll(heir, 3)
        self.commit(heir, position)
        self.commit(who, Position(1, "stale"))
        self.poll(who, 3)

    @rule(limit=st.sampled_from([1, 3]))
    def settle(self, limit: int) -> None:
        """Everybody polls until the partitions are shared out."""
        for who in 2 * list(range(len(self.members))):
            self.poll(who, limit)

    @rule(who=WHO)
    def leave(self, who: int) -> None:
        pair, held = self.member(who)
        if len(self.members) > 1:
            self.members.remove(pair)
            self.held = [other for other in self.held if other is not held]
            for member in pair:
                member.close()

    @rule(topic=st.sampled_from(["c", "t"]))
    def compact(self, topic: str) -> None:
        assert self.sqlite.compact(topic) == self.memory.compact(topic)

    @rule()
    def trim(self) -> None:
        assert self.sqlite.trim() == self.memory.trim()

    @invariant()
    def both_hold_the_same(self) -> None:
        self.alike(lambda which: [self.logs[which].ends(topic) for topic in TOPICS])
        self.alike(lambda which: [self.logs[which].committed("g", topic) for topic in TOPICS])
        self.alike(lambda which: [self.logs[which].read(partition, 0, 1000) for partition in PARTITIONS])


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_murmur2_gives_the_numbers_of_kafkas_own_test() -> None:
    known = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert {key: murmur2(key) for key in known} == {key: digest & 0xFFFFFFFF for key, digest in known.items()}


def test_a_target_gives_every_partition_to_one_member_and_no_member_two_more_than_another() -> None:
    for members in range(1, 7):
        group = Group()
        for _ in range(members):
            group.join(("t",), 0)
        target = range_assignment(group.members, {"t": 5})
        shares = [list(target.values()).count(number) for number in group.members]
        assert sum(shares) == 5
        assert max(shares) - min(shares) <= 1


def test_a_group_comes_back_from_its_bytes() -> None:
    group = Group()
    for topics in (("t",), ("t", "c")):
        number = group.join(topics, 7)
        group.sync(number, topics, 8, {"t": 3, "c": 1})
    assert Group.unpack(group.pack()) == group
    assert Group.unpack(None) == Group()


def test_a_member_last_heard_of_in_the_future_is_of_an_earlier_life_of_the_machine() -> None:
    group = Group()
    number = group.join(("t",), 10**18)
    assert group.silent(5, 60 * 10**9) == {number}
