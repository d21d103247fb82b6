"""The alert service: state before telling, everybody told, nothing lost or raised twice by a crash (guarantee G5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.domain import SECOND, Alert, AlertState, Asset, Plant, Rung, Scores, State, Tag
from anomaly.errors import StorageError
from pipelines import codec, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog, MemoryNotifier
from pipelines.alert_service import RETRY_S, AlertWorker
from pipelines.alert_state import AlertPolicy, decode_state
from pipelines.codec import Command, CommandKind
from pipelines.ports import AlertEvent, NewRecord, Partition, Record
from pipelines.service import Session

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
TAGS = (Tag("vib", "mm/s"), Tag("temp", "°C"))
PUMP, FAN, LONE = "s/pump", "s/fan", "s/lone"
PLANT = Plant("p", tuple(Asset(path, "g", TAGS, TICK) for path in (PUMP, FAN, LONE)))


class ProcessDied(BaseException):
    """Nothing after it runs."""


class Receiver(MemoryNotifier):
    """May die in the middle of telling, or watch what is on the topic when it is told."""

    def __init__(self, name: str, log: MemoryLog) -> None:
        super().__init__(name)
        self.log = log
        self.dies_at = -1
        self.stored_before: list[bool] = []

    def notify(self, event: AlertEvent, text: str) -> None:
        states = [decode_state(r.value) for r in records(self.log, topics.ALERT_STATE) if r.value]
        self.stored_before.append(any(event.id in [o.event.id for o in state.outbox] for state in states))
        super().notify(event, text)
        if len(self.sent) == self.dies_at:
            raise ProcessDied


class BreakingLog(MemoryLog):
    """Dies after so many appends of the service's own."""

    def __init__(self) -> None:
        super().__init__(MemoryClock(START), session_s=10.0)
        self.dies_after: int | None = None
        self.fails_once = ""

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        if records[0].topic == self.fails_once:
            self.fails_once = ""
            raise StorageError("disk full")
        offsets = super().append(records)
        if self.dies_after is not None and records[0].topic in (topics.ALERT_STATE, topics.ALERTS):
            self.dies_after -= 1
            if self.dies_after < 0:
                self.dies_after = None
                raise ProcessDied
        return offsets


class Bench:
    def __init__(self, *names: str) -> None:
        self.log = BreakingLog()
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.time = 0.0
        self.receivers = [Receiver(name, self.log) for name in names or ("desk",)]
        self.ticks = Counter[str]()
        self.asked = 0
        self.start()

    def start(self, look_s: float = 0.0) -> None:
        """A new process; the old one, if any, is gone without a word."""
        for group in self.log.groups.values():
            group.leave(list(group.members))
        policy = AlertPolicy(plant=PLANT, receivers=tuple(receiver.name for receiver in self.receivers))
        self.worker = AlertWorker(self.log, policy, self.receivers, timer=lambda: self.time, look_s=look_s)
        self.session = Session(self.worker, self.log.join("alert", self.worker.topics), 64)

    def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.session.step(0.0)

    def rows(self, asset: str, value: float, count: int) -> None:
        """So many rows of that score, as one record, on the partition where the readings would be."""
        first = self.ticks[asset] + 1
        self.ticks[asset] += count
        [(key, encoded)] = codec.encode_scores(scores(asset, [value] * count, first))
        number = (PUMP, FAN, LONE).index(key) % 2
        self.log.append([NewRecord(topics.SCORES, key.encode(), encoded, partition=number)])

    def ask(self, kind: CommandKind, asset: str, target: str, role: str = "operator", **words: str) -> None:
        self.asked += 1
        command = Command(f"c{self.asked}", kind, target, asset, "ann", role, START, arguments=words)
        self.log.append([NewRecord(topics.COMMANDS, b"c", codec.encode_command(command))])

    def told(self, name: str | None = None) -> list[tuple[str, str]]:
        """(asset, transition) in the order told."""
        receiver = next(r for r in self.receivers if name in (None, r.name))
        return [(event.alert.anomaly.asset, event.event) for event, _ in receiver.sent]

    def on_topic(self) -> list[AlertEvent]:
        return [codec.decode_event(record.value or b"") for record in records(self.log, topics.ALERTS)]

    def alerts(self) -> dict[str, Alert]:
        """Newest word on the topic of each alert."""
        return {event.alert.id: event.alert for event in self.on_topic()}


def records(log: MemoryLog, topic: str):  # type: ignore[no-untyped-def]
    return [record for partition in log.ends(topic) for record in log.read(partition, 0, 10**6)]


def scores(asset: str, values: Sequence[float], first: int) -> Scores:
    rows = len(values)
    score = np.asarray(values, dtype=float)
    return Scores(
        tags=("vib", "temp"),
        assets=(asset,) * rows,
        times=START + TICK * np.arange(first, first + rows, dtype=np.int64),
        score=score,
        contributions=np.tile([0.7, 0.3], (rows, 1)),
        expected=np.tile([2.3, 64.0], (rows, 1)),
        actual=np.tile([7.1, 81.2], (rows, 1)),
        coverage=np.ones(rows),
        isolated=np.where(score > 1, 2.0, np.nan),
        faults=np.zeros((rows, 2), np.uint8),
        state=(State.OK,) * rows,
        version="v1",
        rung=Rung.WINDOW_PCA,
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def raised(bench: Bench, asset: str = PUMP) -> str:
    """Raise an alert and return its id."""
    bench.rows(asset, 3.5, 12)
    bench.turns()
    return bench.on_topic()[-1].alert.id


# ------------------------------------------------------------------------------------------------------------- order


def test_rows_over_the_line_are_told_once_and_are_on_the_topic_and_committed(bench: Bench) -> None:
    raised(bench)
    bench.turns(5)
    assert bench.told() == [(PUMP, "raised")]
    assert [event.event for event in bench.on_topic()] == ["raised"]
    assert bench.receivers[0].sent[0][0] == bench.on_topic()[0]
    assert PUMP.rsplit("/", 1)[1] in bench.receivers[0].sent[0][1]
    assert bench.log.committed("alert", topics.SCORES)[Partition(topics.SCORES, 0)].offset == 1


def test_the_state_with_its_outbox_is_durable_before_anybody_is_told(bench: Bench) -> None:
    raised(bench)
    assert bench.receivers[0].stored_before == [True]


def test_commands_are_asked_for_no_more_often_than_told_and_once_for_all_partitions() -> None:
    bench, asked = Bench(), list[Partition]()
    bench.start(look_s=5.0)
    read = bench.log.read

    def counted(partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        if partition.topic == topics.COMMANDS:
            asked.append(partition)
        return read(partition, offset, limit)

    bench.log.read = counted  # type: ignore[method-assign]
    alert = raised(bench)
    bench.turns(5)
    assert len(asked) == 1
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, alert)
    bench.turns()
    assert not bench.alerts()[alert].acknowledged_by
    bench.time += 5.0
    bench.turns()
    assert bench.alerts()[alert].acknowledged_by == "ann"


def test_quiet_rows_write_no_state(bench: Bench) -> None:
    bench.rows(PUMP, 0.2, 5)
    bench.turns()
    before = len(records(bench.log, topics.ALERT_STATE))
    for _ in range(20):
        bench.rows(PUMP, 0.2, 3)
        bench.turns(1)
    assert len(records(bench.log, topics.ALERT_STATE)) == before


def test_a_state_that_cannot_be_stored_is_told_to_nobody_and_not_committed(bench: Bench) -> None:
    bench.turns()
    bench.log.fails_once = topics.ALERT_STATE
    bench.rows(PUMP, 3.5, 12)
    with pytest.raises(StorageError):
        bench.turns()
    assert bench.told() == []
    assert bench.on_topic() == []
    bench.start()
    bench.turns()
    assert bench.told() == [(PUMP, "raised")]


# --------------------------------------------------------------------------------------------------------- receivers


def test_a_receiver_that_fails_holds_up_nobody_and_is_told_later_in_order() -> None:
    bench = Bench("broken", "well")
    bench.receivers[0].down = True
    target = raised(bench)
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target)
    bench.rows(FAN, 3.5, 12)
    bench.turns()
    assert bench.told("well") == [(PUMP, "raised"), (PUMP, "acknowledged"), (FAN, "raised")]
    assert bench.told("broken") == []
    assert bench.worker.status() == {"open": 2, "undelivered": 3, "failing": "broken"}
    assert sum(p.offset for p in bench.log.committed("alert", topics.SCORES).values()) == 2
    bench.receivers[0].down = False
    bench.turns()
    assert bench.told("broken") == []  # left alone for a while
    bench.time += RETRY_S
    bench.turns()
    assert bench.told("broken") == bench.told("well")
    assert bench.worker.status() == {"open": 2, "undelivered": 0}


def test_what_a_receiver_missed_is_still_owed_after_a_restart() -> None:
    bench = Bench("broken", "well")
    bench.receivers[0].down = True
    raised(bench)
    bench.receivers[0].down = False
    bench.start()
    bench.turns()
    assert bench.told("broken") == [(PUMP, "raised")]
    assert bench.told("well") == [(PUMP, "raised")]


def test_a_receiver_that_is_no_longer_configured_is_owed_nothing() -> None:
    bench = Bench("broken", "well")
    bench.receivers[0].down = True
    raised(bench)
    gone = bench.receivers.pop(0)
    bench.start()
    bench.turns()
    assert bench.worker.status()["undelivered"] == 0
    assert gone.sent == []
    assert bench.told("well") == [(PUMP, "raised")]


def test_an_outage_of_a_receiver_does_not_write_the_state_again_and_again() -> None:
    bench = Bench("broken")
    bench.receivers[0].down = True
    raised(bench)
    before = len(records(bench.log, topics.ALERT_STATE))
    for _ in range(20):
        bench.time += 2 * RETRY_S
        bench.turns(1)
    assert len(records(bench.log, topics.ALERT_STATE)) == before


# ---------------------------------------------------------------------------------------------------------- commands


def test_a_command_is_applied_once_although_it_is_read_by_every_partition_and_again_after_a_restart(
    bench: Bench,
) -> None:
    target = raised(bench)
    raised(bench, FAN)
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target)
    bench.turns()
    for _ in range(3):
        bench.start()
        bench.turns()
    assert bench.told() == [(PUMP, "raised"), (FAN, "raised"), (PUMP, "acknowledged")]
    assert bench.alerts()[target].state is AlertState.ACKNOWLEDGED_ACTIVE
    assert bench.alerts()[target].acknowledged_by == "ann"


def test_a_command_is_obeyed_although_no_row_comes(bench: Bench) -> None:
    target = raised(bench)
    bench.ask(CommandKind.CLOSE, PUMP, target, reason="false")
    bench.turns(1)
    assert bench.told()[-1] == (PUMP, "closed")
    assert bench.worker.status()["open"] == 0


@pytest.mark.parametrize("role", ["viewer", ""])
def test_a_command_of_somebody_who_may_not_changes_nothing(bench: Bench, role: str) -> None:
    target = raised(bench)
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target, role=role)
    bench.turns()
    assert bench.told() == [(PUMP, "raised")]


def test_commands_that_cannot_be_read_or_are_about_other_things_stop_nobody(bench: Bench) -> None:
    target = raised(bench)
    for value in (b"{", b"", b"[1]", None):
        bench.log.append([NewRecord(topics.COMMANDS, b"c", value)])
    bench.ask(CommandKind.ACKNOWLEDGE, "s/nobody", target)
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, "no such alert")
    bench.ask(CommandKind.RETRAIN, "", "pumps")
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target)
    bench.turns()
    assert bench.told() == [(PUMP, "raised"), (PUMP, "acknowledged")]


def test_a_command_asked_while_the_service_was_down_is_obeyed_when_it_is_back(bench: Bench) -> None:
    target = raised(bench)
    bench.session.close()
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target)
    bench.start()
    bench.turns()
    assert bench.told()[-1] == (PUMP, "acknowledged")


def test_a_score_that_cannot_be_read_is_passed_over(bench: Bench) -> None:
    for value in (b"{", b"[]", None):
        bench.log.append([NewRecord(topics.SCORES, PUMP.encode(), value, partition=0)])
    raised(bench)
    assert bench.told() == [(PUMP, "raised")]


# ------------------------------------------------------------------------------------------------------------ crashes


def life(bench: Bench, steps: list[tuple[str, float, int]]) -> None:
    """Rows and acknowledgements, with the process's deaths in between: it is started again each time."""
    for asset, value, count in steps:
        if value >= 0:
            bench.rows(asset, value, count)
        else:
            for alert in bench.alerts().values():
                if alert.anomaly.asset == asset:
                    bench.ask(CommandKind.ACKNOWLEDGE, asset, alert.id)
        for _ in range(3):
            try:
                bench.turns(2)
            except ProcessDied:
                bench.start()
    bench.turns(6)


STEPS = st.lists(
    st.tuples(
        st.sampled_from([PUMP, FAN, LONE]), st.sampled_from([0.1, 0.1, 3.5, 3.5, 1.5, 6.0, -1.0]), st.integers(1, 25)
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, data=st.data())
def test_deaths_at_any_moment_lose_no_alert_raise_none_twice_and_tell_at_most_one_copy_each(
    steps: list[tuple[str, float, int]], data: st.DataObject
) -> None:
    calm, stormy = Bench(), Bench()
    life(calm, steps)
    deaths = 0
    for number in range(len(steps)):
        match data.draw(st.sampled_from(["well", "append", "tell"])):
            case "append":
                stormy.log.dies_after = data.draw(st.integers(0, 3))
            case "tell":
                stormy.receivers[0].dies_at = len(stormy.receivers[0].sent) + 1
        life(stormy, steps[number : number + 1])
        deaths += 1
    stormy.log.dies_after, stormy.receivers[0].dies_at = None, -1
    stormy.start()
    stormy.turns(6)
    expected, found = unique(calm.on_topic()), unique(stormy.on_topic())
    assert found == expected
    told = Counter(event.id for event, _ in stormy.receivers[0].sent)
    assert set(told) == {event.id for event in expected if event.alert.state is not AlertState.SHELVED}
    assert sum(told.values()) <= len(told) + deaths
    assert set(stormy.receivers[0].stored_before) <= {True}


def unique(events: list[AlertEvent]) -> list[AlertEvent]:
    """Each transition once; a copy must be equal. By id: partitions are handled in any order."""
    found: dict[str, AlertEvent] = {}
    for event in events:
        assert found.setdefault(event.id, event) == event
    return [found[key] for key in sorted(found)]


@settings(max_examples=40, deadline=None)
@given(steps=STEPS.filter(lambda steps: all(value >= 0 for _, value, _ in steps)), restarts=st.sets(st.integers(0, 11)))
def test_restarts_and_other_batches_give_the_same_alerts(
    steps: list[tuple[str, float, int]], restarts: set[int]
) -> None:
    at_once, bit_by_bit = Bench(), Bench()
    for asset, value, count in steps:
        at_once.rows(asset, value, count)
    at_once.turns(20)
    for number, (asset, value, count) in enumerate(steps):
        for _ in range(count):
            bit_by_bit.rows(asset, value, 1)
        if number in restarts:
            bit_by_bit.start()
        bit_by_bit.turns(3)
    bit_by_bit.turns(20)
    assert unique(bit_by_bit.on_topic()) == unique(at_once.on_topic())


def test_a_partition_that_is_handed_over_takes_its_alerts_along() -> None:
    bench = Bench()
    target = raised(bench)
    policy = AlertPolicy(plant=PLANT, receivers=("desk",))
    other = AlertWorker(bench.log, replace(policy), bench.receivers, timer=lambda: bench.time)
    second = Session(other, bench.log.join("alert", other.topics), 64)
    for _ in range(4):
        second.step(0.0)
        bench.turns(1)
    raised(bench, FAN)
    for _ in range(3):
        second.step(0.0)
    bench.ask(CommandKind.ACKNOWLEDGE, PUMP, target)
    for _ in range(3):
        bench.turns(1)
        second.step(0.0)
    assert sorted(bench.told()) == sorted([(PUMP, "raised"), (FAN, "raised"), (PUMP, "acknowledged")])
    assert bench.worker.status()["open"] + int(other.status()["open"]) == 2  # type: ignore[operator]
