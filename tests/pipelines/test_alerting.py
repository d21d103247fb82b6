"""Alerts: states, shelving, chattering, priorities, texts, and delivery through crashes (guarantee G5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.domain import (
    SECOND,
    Alert,
    AlertState,
    Asset,
    Kind,
    Plant,
    Priority,
    Rung,
    Scores,
    SensorFault,
    State,
    Tag,
)
from anomaly.episode_policy import Density, EpisodePolicy
from anomaly.errors import DecodeError
from pipelines import wording
from pipelines.alert_state import OUTBOX_LIMIT, TOPIC, AlertPolicy, AssetAlerts, decode_state, encode_state
from pipelines.alerting import apply_command, apply_quiet, apply_scores, open_alerts
from pipelines.codec import Command, CommandKind, decode_event, encode_event
from pipelines.ports import AlertEvent

PUMP = "s1/area/line/pump-1"
TICK = 10 * SECOND
PLANT = Plant(
    "works",
    (Asset(PUMP, "pumps", (Tag("vib", "mm/s"), Tag("temp", "°C")), name="Feed pump"),),
    timezone="Europe/Berlin",
)
POLICY = AlertPolicy(receivers=("webhook",), plant=PLANT)
ACTIVE, SEEN = AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.ACKNOWLEDGED_ACTIVE
RETURNED, SHELVED, CLOSED = AlertState.RETURNED_UNACKNOWLEDGED, AlertState.SHELVED, AlertState.CLOSED


def scores(
    values: Sequence[float], first: int = 1, faults: Sequence[int] | None = None, state: State = State.OK
) -> Scores:
    """Rows from tick `first` on; `faults`: code of the first tag per row."""
    rows = len(values)
    score = np.asarray(values, dtype=float) if state is State.OK else np.full(rows, np.nan)
    codes = np.zeros((rows, 2), np.uint8)
    codes[:, 0] = 0 if faults is None else faults
    return Scores(
        tags=("vib", "temp"),
        assets=(PUMP,) * rows,
        times=(np.arange(first, first + rows) * TICK).astype(np.int64),
        score=score,
        contributions=np.tile([0.7, 0.3], (rows, 1)),
        expected=np.tile([2.3, 64.0], (rows, 1)),
        actual=np.tile([7.114, 81.25], (rows, 1)),
        coverage=np.full(rows, 0.92),
        isolated=np.where(score > 1, 2.0, np.nan),
        faults=codes,
        state=(state,) * rows,
        version="lstm-7",
        rung=Rung.LSTM_AUTOENCODER,
    )


class Desk:
    """Feeds one asset by hand, and keeps every event."""

    def __init__(self, policy: AlertPolicy = POLICY) -> None:
        self.policy = policy
        self.state = AssetAlerts(PUMP)
        self.tick = 1
        self.events: list[AlertEvent] = []
        self.refused = ""

    def rows(self, value: float, count: int, fault: int = 0, state: State = State.OK) -> list[str]:
        block = scores([value] * count, self.tick, [fault] * count, state)
        self.state, events = apply_scores(self.state, block, self.state.applied_scores + 1, self.policy)
        self.tick += count
        self.events += events
        return [event.event for event in events]

    def ask(
        self, kind: CommandKind, note: str = "", role: str = "operator", target: str = "", **words: str
    ) -> list[str]:
        command = Command("c", kind, target or self.alert.id, PUMP, "ann", role, self.tick * TICK, note, words)
        self.state, events, self.refused = apply_command(
            self.state, command, self.state.applied_commands + 1, self.policy
        )
        self.events += events
        return [event.event for event in events]

    @property
    def alert(self) -> Alert:
        return self.state.held[-1].alert

    def told(self) -> list[str]:
        """Events the webhook is to hear."""
        return [event.event for event in self.state.undelivered("webhook")]


# ---------------------------------------------------------------- states


def test_a_raised_alert_clears_waits_for_a_person_and_is_closed_by_the_acknowledgement() -> None:
    desk = Desk()
    assert desk.rows(1.5, 8) == ["raised"]
    assert (desk.alert.state, desk.alert.raised_at) == (ACTIVE, 6 * TICK)
    assert desk.rows(0.1, 30) == ["cleared"]
    assert desk.alert.state is RETURNED
    assert desk.ask(CommandKind.ACKNOWLEDGE, "seen it") == ["acknowledged"]
    last = desk.events[-1]
    assert (last.alert.state, last.alert.acknowledged_by, last.actor, last.note) == (CLOSED, "ann", "ann", "seen it")
    assert last.alert.acknowledged_at == desk.tick * TICK
    assert desk.state.held == ()


def test_an_acknowledged_alert_closes_by_itself_when_it_clears() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.ACKNOWLEDGE)
    assert desk.alert.state is SEEN
    assert desk.rows(0.1, 30) == ["cleared"]
    assert desk.events[-1].alert.state is CLOSED


def test_acknowledging_twice_is_refused_with_the_reason() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.ACKNOWLEDGE)
    assert desk.ask(CommandKind.ACKNOWLEDGE) == []
    assert desk.refused == "already acknowledged by ann"


@pytest.mark.parametrize("role", ["viewer", "", "root"])
def test_who_may_only_look_may_not_act(role: str) -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    assert desk.ask(CommandKind.ACKNOWLEDGE, role=role) == []
    assert "may not act" in desk.refused


def test_an_unknown_alert_is_refused_and_the_offset_moves_on() -> None:
    desk = Desk()
    assert desk.ask(CommandKind.ACKNOWLEDGE, target="nosuch") == []
    assert "no open alert 'nosuch'" in desk.refused
    assert desk.state.applied_commands == 0


def test_commands_about_other_things_change_nothing() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    other = Command("c", CommandKind.ACKNOWLEDGE, desk.alert.id, "s1/other", "ann", "operator", 1)
    assert apply_command(desk.state, other, 0, POLICY).events == ()
    assert desk.ask(CommandKind.RETRAIN, target="pumps") == []
    assert desk.refused == ""


def test_a_record_is_applied_once() -> None:
    desk = Desk()
    block = scores([1.5] * 8)
    once, events = apply_scores(desk.state, block, 5, POLICY)
    twice, none = apply_scores(once, block, 5, POLICY)
    assert (len(events), none, twice) == (1, (), once)
    command = Command("c", CommandKind.ACKNOWLEDGE, once.held[0].alert.id, PUMP, "ann", "operator", 1)
    after = apply_command(once, command, 3, POLICY).state
    assert apply_command(after, command, 3, POLICY) == (after, (), "")


def test_an_older_record_is_not_applied_even_if_its_rows_are_newer() -> None:
    state, _ = apply_scores(AssetAlerts(PUMP), scores([1.5] * 5), 7, POLICY)
    assert apply_scores(state, scores([1.5] * 5, 6), 7, POLICY) == (state, ())


def test_the_state_given_is_not_changed() -> None:
    desk = Desk()
    desk.rows(1.5, 5)
    before = encode_state(desk.state)
    apply_scores(desk.state, scores([1.5] * 8, desk.tick), 9, POLICY)
    assert encode_state(desk.state) == before


def test_closing_by_hand_keeps_the_code_and_the_lasting_anomaly_does_not_raise_again() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    assert desk.ask(CommandKind.CLOSE, "bearing was changed", reason="true") == ["closed"]
    assert desk.events[-1].alert.reason == "true: bearing was changed"
    assert desk.rows(9.0, 100) == []
    assert desk.rows(0.1, 20) == []
    assert desk.rows(1.5, 8) == ["raised"]


def test_a_comment_changes_nothing_but_is_told() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    assert desk.ask(CommandKind.COMMENT, "looks like the bearing") == ["updated"]
    assert (desk.events[-1].note, desk.alert.state) == ("looks like the bearing", ACTIVE)
    assert desk.ask(CommandKind.COMMENT, " ") == []


# ---------------------------------------------------------------- chattering


def test_a_cause_that_returns_soon_reopens_the_same_alert() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.rows(0.1, 30)
    first = desk.alert
    assert desk.rows(3.0, 8) == ["raised"]
    assert (desk.alert.id, desk.alert.state, desk.alert.anomaly.onset) == (first.id, ACTIVE, first.anomaly.onset)
    assert desk.alert.cleared_at is None
    assert [event.id for event in desk.events] == [f"{first.id}-{n}" for n in (1, 2, 3)]


def test_a_cause_that_returns_late_is_a_new_alert_and_supersedes_the_old_one() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.rows(0.1, 300)
    first = desk.alert.id
    assert desk.rows(1.5, 8) == ["closed", "raised"]
    assert "superseded" in desk.events[-2].note
    assert desk.alert.id != first
    assert len(desk.state.held) == 1


def test_a_cause_that_returns_after_acknowledgement_is_a_new_alert() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    first = desk.alert.id
    desk.ask(CommandKind.ACKNOWLEDGE)
    desk.rows(0.1, 30)
    assert desk.rows(1.5, 8) == ["raised"]
    assert desk.alert.id != first


# ---------------------------------------------------------------- shelving


def test_shelving_hides_from_people_and_not_from_the_topic() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    assert desk.ask(CommandKind.SHELVE, "sensor on order", minutes="30") == ["shelved"]
    assert (desk.alert.state, desk.alert.reason) == (SHELVED, "sensor on order")
    assert desk.rows(9.0, 5) == ["updated"]
    assert desk.rows(0.1, 30) == ["cleared"]
    assert desk.alert.state is SHELVED
    assert desk.told() == ["raised", "shelved"]
    assert [event.event for event in desk.state.undelivered(TOPIC)] == ["raised", "shelved", "updated", "cleared"]


def test_a_shelf_ends_by_event_time_and_then_the_truth_is_told() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.SHELVE, minutes="10")
    assert desk.rows(1.5, 59) == []
    assert desk.rows(1.5, 1) == ["unshelved"]
    assert (desk.alert.state, desk.events[-1].time) == (ACTIVE, (8 + 60) * TICK)
    assert desk.told()[-1] == "unshelved"


def test_a_shelf_that_ends_inside_a_block_hides_nothing_that_comes_after_its_end() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.SHELVE, minutes="2")
    block = scores([1.5] * 15 + [0.1] * 30, desk.tick)
    desk.state, events = apply_scores(desk.state, block, 99, POLICY)
    assert [event.event for event in events] == ["unshelved", "cleared"]
    assert desk.told() == ["raised", "shelved", "unshelved", "cleared"]


def test_a_shelf_covers_the_next_alert_of_the_same_cause_only() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.SHELVE, minutes="600")
    desk.ask(CommandKind.ACKNOWLEDGE)
    desk.rows(0.1, 30)
    assert desk.rows(1.5, 8) == ["raised"]
    assert desk.alert.state is SHELVED
    assert desk.rows(1.5, 8, fault=SensorFault.STUCK) == ["raised"]
    assert desk.alert.anomaly.kind is Kind.INSTRUMENT
    assert desk.alert.state is ACTIVE
    assert desk.told() == ["raised", "shelved", "cleared", "raised"]


def test_unshelving_by_hand_tells_the_state_of_now() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.ACKNOWLEDGE)
    desk.ask(CommandKind.SHELVE, minutes="600")
    assert desk.ask(CommandKind.UNSHELVE) == ["unshelved"]
    assert desk.alert.state is SEEN
    assert desk.ask(CommandKind.UNSHELVE) == []
    assert desk.refused == "it is not shelved"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({}, "how long"),
        ({"minutes": "soon"}, "how long"),
        ({"minutes": "nan"}, "how long"),
        ({"minutes": "1e400"}, "how long"),
        ({"minutes": "-5"}, "over before it begins"),
        ({"until": "1"}, "over before it begins"),
        ({"minutes": "999999"}, "too long"),
    ],
)
def test_a_shelf_without_a_sensible_end_is_refused(words: dict[str, str], why: str) -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    assert desk.ask(CommandKind.SHELVE, **words) == []
    assert why in desk.refused


def test_until_is_counted_from_the_time_of_asking() -> None:
    """The person's clock and the plant's event time may differ (replay, simulation): the span is what was meant."""
    desk = Desk()
    desk.rows(1.5, 8)
    desk.ask(CommandKind.SHELVE, until=str(desk.tick * TICK + 600 * SECOND))
    assert desk.alert.shelved_until == 8 * TICK + 600 * SECOND


# ---------------------------------------------------------------- priority and words


@pytest.mark.parametrize(
    ("peak", "priority"), [(1.5, Priority.LOW), (2.5, Priority.MEDIUM), (5.0, Priority.HIGH), (50.0, Priority.HIGH)]
)
def test_the_priority_of_a_process_alert_follows_its_peak(peak: float, priority: Priority) -> None:
    desk = Desk()
    desk.rows(peak, 8)
    assert desk.alert.priority is priority


def test_a_rising_peak_makes_an_alert_more_urgent_once_a_step_and_never_less() -> None:
    desk = Desk()
    desk.rows(1.2, 8)
    assert desk.rows(1.9, 3) == []
    assert desk.rows(2.2, 3) == ["updated"]
    assert desk.rows(7.0, 3) == ["updated"]
    assert desk.rows(1.1, 20) == []
    assert (desk.alert.priority, desk.alert.anomaly.peak) == (Priority.HIGH, 7.0)


@pytest.mark.parametrize("place", [PUMP, "s1/area", "s1/area/"])
def test_critical_places_are_one_step_more_urgent(place: str) -> None:
    desk = Desk(replace(POLICY, critical=(place,)))
    desk.rows(1.2, 8)
    assert desk.alert.priority is Priority.MEDIUM
    other = Desk(replace(POLICY, critical=("s1/area/line/pump",)))
    other.rows(1.2, 8)
    assert other.alert.priority is Priority.LOW


def test_a_dead_sensor_is_an_alert_of_low_priority_by_name() -> None:
    desk = Desk()
    desk.rows(0.2, 8, fault=SensorFault.MISSING)
    assert (desk.alert.anomaly.cause, desk.alert.priority) == ("instrument:vib", Priority.LOW)
    assert "sensor vib sends nothing" in desk.alert.message


def test_the_message_says_all_that_operators_ask_for() -> None:
    desk = Desk()
    desk.rows(2.4, 8)
    assert desk.alert.message == (
        "Feed pump (s1/area/line/pump-1): vib is 4.81 mm/s and temp 17.2 °C above what the others explain, "
        "since 1970-01-01 01:00:10 CET, 2.4 times its alert line. "
        "Most unusual: vib 7.11 mm/s (expected 2.3 mm/s), temp 81.2 °C (expected 64 °C). Coverage 92%, model lstm-7."
    )
    assert desk.alert.expected == {"vib": (7.114, 2.3), "temp": (81.25, 64.0)}


def test_a_wrong_clock_is_told_without_a_model_and_never_clears_before_it_was_raised() -> None:
    """Notices come on the log's time line, the rows that clear it on the device's, here hours behind."""
    desk = Desk()
    one, unknown = np.zeros((8, 1)), np.full((8, 1), np.nan)
    notices = replace(
        scores([0.0] * 8, 10_000_000, state=State.INSUFFICIENT_COVERAGE),
        tags=("clock",),
        faults=np.full((8, 1), SensorFault.CLOCK, dtype=np.uint8),
        contributions=one,
        expected=unknown,
        actual=unknown,
        coverage=np.zeros(8),
        version="clock",
    )
    desk.state, raised = apply_scores(desk.state, notices, 0, desk.policy)
    assert [event.event for event in raised] == ["raised"]
    alert = desk.alert
    assert alert.anomaly.cause == "instrument:clock"
    assert "Coverage" not in alert.message
    assert "odel" not in alert.message
    desk.rows(0.2, 80)
    cleared = next(event for event in desk.events if event.event == "cleared")
    assert cleared.alert.cleared_at is not None
    assert cleared.alert.cleared_at >= cleared.alert.raised_at
    assert cleared.alert.anomaly.end is not None
    assert cleared.alert.cleared_at >= cleared.alert.anomaly.end
    assert cleared.time >= cleared.alert.raised_at


def test_each_kind_of_transition_has_its_sentence() -> None:
    desk = Desk()
    desk.rows(2.4, 8)
    desk.ask(CommandKind.COMMENT, "listen to\x1b[2J it")
    desk.ask(CommandKind.SHELVE, "on order", minutes="10")
    desk.ask(CommandKind.UNSHELVE)
    desk.rows(0.1, 30)
    desk.ask(CommandKind.ACKNOWLEDGE)
    texts = [wording.event_text(event, PLANT.assets[0], "Europe/Berlin") for event in desk.events]
    assert texts[0].startswith("Alert (medium): Feed pump")
    assert texts[1].startswith("Comment by ann (listen to[2J it). Feed pump")
    assert texts[2].startswith("Shelved by ann, until 1970-01-01 01:11:20 CET (on order). Feed pump")
    assert texts[3].startswith("Unshelved by ann. Feed pump")
    assert texts[4].startswith("Cleared (at most 1 of 12 rows over 0.8). Feed pump")
    assert texts[5].startswith("Acknowledged by ann. Feed pump")


@pytest.mark.parametrize("fault", [f.name for f in SensorFault if f not in (SensorFault.NONE, SensorFault.CLOCK)])
def test_every_sensor_fault_has_words(fault: str) -> None:
    assert fault in wording.FAULTS


# ---------------------------------------------------------------- bytes


def test_the_state_survives_bytes() -> None:
    desk = Desk()
    desk.rows(1.5, 8, fault=SensorFault.STUCK)
    desk.rows(1.5, 20)
    desk.ask(CommandKind.SHELVE, "why", minutes="60")
    assert desk.state.outbox
    assert desk.state.episodes.troubles
    assert decode_state(encode_state(desk.state)) == desk.state
    for event in desk.events:
        assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"asset": 1}', b"\xff", b"[" * 5000])
def test_bytes_that_are_no_state_are_a_decode_error(value: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_state(value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.4, 0.9, 1.4, 6.0]), st.integers(0, 7)), max_size=25),
    st.booleans(),
)
def test_the_short_way_of_quiet_rows_ends_where_the_long_one_does(
    blocks: list[tuple[int, float, int]], again: bool
) -> None:
    state, first, taken = AssetAlerts(PUMP), 1, 0
    for offset, (rows, value, code) in enumerate(blocks):
        block = scores([value] * rows, first, [code if code > 4 else 0] * rows)
        expected = apply_scores(state, block, offset, POLICY)
        quiet = apply_quiet(state, block, offset, POLICY)
        if quiet is not None:
            assert (quiet, ()) == expected
            taken += 1
        state = expected.state
        first += 0 if again and offset % 2 else rows
    calm = [value < 1.0 and code <= 4 for _, value, code in blocks]
    assert taken > 0 or calm[:1] != [True]


def test_quiet_rows_need_no_new_state_on_the_log() -> None:
    desk = Desk()
    before = desk.state
    desk.rows(0.3, 50)
    assert desk.state.says_the_same(before)
    desk.rows(1.5, 1)
    assert not desk.state.says_the_same(before)


def test_an_outbox_nobody_empties_gives_up_the_oldest_for_people_and_keeps_all_for_the_topic() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    for number in range(OUTBOX_LIMIT + 9):
        desk.ask(CommandKind.COMMENT, f"{number}")
    assert len(desk.state.undelivered("webhook")) == OUTBOX_LIMIT
    assert len(desk.state.undelivered(TOPIC)) == OUTBOX_LIMIT + 10
    assert desk.state.undelivered("webhook")[-1].note == f"{OUTBOX_LIMIT + 8}"


def test_a_receiver_that_is_no_longer_configured_holds_nothing_back() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    bare = desk.state.without_receivers_but(())
    assert bare.undelivered("webhook") == ()
    assert len(bare.undelivered(TOPIC)) == 1


def test_open_alerts_are_listed_newest_first() -> None:
    desk = Desk()
    desk.rows(1.5, 8)
    desk.rows(1.5, 20, fault=SensorFault.STUCK)
    assert [alert.anomaly.kind for alert in open_alerts([desk.state])] == [Kind.INSTRUMENT, Kind.PROCESS]


# ---------------------------------------------------------------- G5

QUICK = replace(
    POLICY,
    receivers=("webhook", "console"),
    reopen_within=20 * TICK,
    episodes=EpisodePolicy(
        raise_when=(Density(3, 5), Density(2, 3, 3.0)), clear_when=Density(1, 4, 0.8), settle_rows=2, away_rows=5
    ),
)
Piece = tuple[int, float, int, State]
PIECES = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from([0.3, 0.9, 1.4, 2.5, 6.0]),
        st.sampled_from([0, 0, 0, 4]),
        st.sampled_from([State.OK] * 5 + [State.OFF, State.INSUFFICIENT_COVERAGE]),
    ),
    min_size=1,
    max_size=14,
)


class Crash(Exception):
    """The process is killed here."""


class Plant24:
    """The alert service in small, over a log, a compacted state and receivers that outlive its crashes."""

    def __init__(self, blocks: Sequence[Scores], crashes: Sequence[int] = (), refusals: Sequence[int] = ()) -> None:
        self.blocks = blocks
        self.crashes = set(crashes)
        self.refusals = set(refusals)
        self.steps = 0
        self.attempts = 0
        self.struck = 0
        self.stored = encode_state(AssetAlerts(PUMP))
        self.committed = 0
        self.received: dict[str, list[tuple[str, bytes]]] = {TOPIC: [], "webhook": [], "console": []}

    def step(self) -> None:
        """Between any two durable acts the process may be killed."""
        self.steps += 1
        if self.steps in self.crashes:
            self.struck += 1
            raise Crash

    def run(self) -> None:
        while True:
            try:
                self._life()
            except Crash:
                continue
            return

    def _life(self) -> None:
        state = decode_state(self.stored)
        state = self._deliver(state)
        for offset in range(self.committed, len(self.blocks)):
            after, _ = apply_scores(state, self.blocks[offset], offset, QUICK)
            self.step()
            if not after.says_the_same(state):
                self.stored = encode_state(after)
            self.step()
            state = self._deliver(after)
            self.committed = offset + 1
            self.step()
        while state.outbox:
            state = self._deliver(state)

    def _deliver(self, state: AssetAlerts) -> AssetAlerts:
        for receiver, mailbox in self.received.items():
            done = []
            for event in state.undelivered(receiver):
                self.attempts += 1
                if self.attempts in self.refusals:
                    break
                mailbox.append((event.id, encode_event(event)))
                done.append(event.id)
                self.step()
            if done:
                state = state.delivered(receiver, done)
                self.stored = encode_state(state)
                self.step()
        return state


def life(pieces: Sequence[Piece], sizes: Sequence[int]) -> list[Scores]:
    """Blocks of the sizes given; a block holds rows of one state, so a piece may be cut but never joined."""
    blocks, tick, turn = [], 1, 0
    for count, value, fault, state in pieces:
        left = count
        while left:
            size = min(left, sizes[turn % len(sizes)])
            blocks.append(scores([value] * size, tick, [fault] * size, state))
            tick, left, turn = tick + size, left - size, turn + 1
    return blocks


@settings(max_examples=150, deadline=None)
@given(
    PIECES,
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(1, 120), max_size=8),
    st.lists(st.integers(1, 60), max_size=6),
)
def test_every_transition_reaches_every_receiver_and_a_crash_costs_one_copy_at_most(
    pieces: list[Piece], sizes: list[int], crashes: list[int], refusals: list[int]
) -> None:
    calm = Plant24(life(pieces, [1000]))
    calm.run()
    rough = Plant24(life(pieces, sizes), crashes, refusals)
    rough.run()
    for receiver, expected in calm.received.items():
        received = rough.received[receiver]
        first_copies = list(dict.fromkeys(received))
        assert first_copies == expected, receiver
        most = max((received.count(copy) for copy in expected), default=1)
        assert most <= 1 + rough.struck, receiver


def test_the_crash_test_does_strike_while_alerts_are_under_way() -> None:
    """A crash after each step in turn of a life with four transitions: all of them are felt, some cost a copy."""
    pieces: list[Piece] = [(8, 1.4, 0, State.OK), (8, 6.0, 0, State.OK), (30, 0.3, 0, State.OK), (8, 1.4, 0, State.OK)]
    calm = Plant24(life(pieces, [5]))
    calm.run()
    assert len(calm.received["webhook"]) >= 4
    copies = 0
    for step in range(1, calm.steps + 1):
        rough = Plant24(life(pieces, [5]), [step])
        rough.run()
        assert rough.struck == 1
        for receiver, expected in calm.received.items():
            assert list(dict.fromkeys(rough.received[receiver])) == expected
            assert max(rough.received[receiver].count(copy) for copy in expected) <= 2
            copies += len(rough.received[receiver]) - len(expected)
    assert copies > 0


@settings(deadline=None)
@given(PIECES, st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 20))
def test_a_scorer_that_writes_rows_twice_changes_no_alert(pieces: list[Piece], sizes: list[int], again: int) -> None:
    blocks = life(pieces, sizes)
    twice = [*blocks[: again + 1], *blocks[max(0, again - 3) : again + 1], *blocks[again + 1 :]]
    one, two = Plant24(blocks), Plant24(twice)
    one.run()
    two.run()
    assert two.received == one.received


ACTS = st.sampled_from(
    [CommandKind.ACKNOWLEDGE, CommandKind.SHELVE, CommandKind.UNSHELVE, CommandKind.CLOSE, CommandKind.COMMENT]
)


@settings(deadline=None)
@given(st.lists(st.one_of(ACTS, st.tuples(*[st.integers(1, 12), st.sampled_from([0.3, 1.4, 6.0])])), max_size=40))
def test_whatever_people_do_the_state_is_consistent(acts: list[CommandKind | tuple[int, float]]) -> None:
    desk = Desk(QUICK)
    for act in acts:
        if isinstance(act, tuple):
            desk.rows(act[1], act[0])
        else:
            desk.ask(act, "note", target=desk.alert.id if desk.state.held else "none", minutes="3")
        causes = [held.alert.anomaly.cause for held in desk.state.held]
        assert len(causes) == len(set(causes))
        assert all(held.alert.state is not CLOSED for held in desk.state.held)
        assert decode_state(encode_state(desk.state)) == desk.state
    ids = [event.id for event in desk.events]
    assert len(ids) == len(set(ids))
    last = {event.alert.id: event.alert.state for event in desk.events}
    still_open = {name for name, state in last.items() if state is not CLOSED}
    assert still_open == {held.alert.id for held in desk.state.held}
