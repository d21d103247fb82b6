"""Episodes: when an anomaly opens and closes, and whether it is the machine or a sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.domain import SECOND, Anomaly, Kind, Rung, Scores, SensorFault, State
from anomaly.episode_policy import Change, Density, EpisodePolicy
from anomaly.episodes import Episodes, episodes

PUMP = "s1/pump-1"
TAGS = ("vib", "temp", "flow")
TICK = 10 * SECOND
POLICY = EpisodePolicy()


def block(
    score: Sequence[float],
    *,
    first: int = 1,
    top: Sequence[int] | int = 0,
    isolated: Sequence[float] | float = 5.0,
    faults: Sequence[Sequence[int]] | None = None,
    state: Sequence[State] | State = State.OK,
    tags: tuple[str, ...] = TAGS,
    asset: str = PUMP,
) -> Scores:
    """Rows `first`, `first + 1`… of one asset; `top`: column that contributes 80 % (−1: none stands out)."""
    rows = len(score)
    states = (state,) * rows if isinstance(state, State) else tuple(state)
    values = np.where([s is State.OK for s in states], np.asarray(score, dtype=float), np.nan)
    shares = np.full((rows, len(tags)), 0.1 if len(tags) > 1 else 1.0)
    tops = [top] * rows if isinstance(top, int) else list(top)
    for row, column in enumerate(tops):
        shares[row, column] = 0.8
    lone = np.where(values > 1.0, np.broadcast_to(np.asarray(isolated, dtype=float), (rows,)), np.nan)
    return Scores(
        tags=tags,
        assets=(asset,) * rows,
        times=(np.arange(first, first + rows) * TICK).astype(np.int64),
        score=values,
        contributions=np.where(np.isnan(values)[:, None], 0.0, shares),
        expected=np.full((rows, len(tags)), 20.0),
        actual=np.full((rows, len(tags)), 50.0),
        coverage=np.ones(rows),
        isolated=lone,
        faults=np.zeros((rows, len(tags)), np.uint8) if faults is None else np.asarray(faults, dtype=np.uint8),
        state=states,
        version="v1",
        rung=Rung.LSTM_AUTOENCODER,
    )


def only(found: Sequence[Anomaly]) -> Anomaly:
    assert len(found) == 1, found
    return found[0]


def faulty(rows: int, column: int, fault: SensorFault) -> list[list[int]]:
    return [[int(fault) if c == column else 0 for c in range(len(TAGS))] for _ in range(rows)]


def cut(scores: Scores, sizes: Sequence[int]) -> list[Scores]:
    """The same rows in blocks of these sizes, in turn."""
    parts, start, turn = [], 0, 0
    while start < len(scores):
        stop = min(len(scores), start + sizes[turn % len(sizes)])
        rows = slice(start, stop)
        parts.append(
            Scores(
                scores.tags,
                scores.assets[rows],
                scores.times[rows],
                scores.score[rows],
                scores.contributions[rows],
                scores.expected[rows],
                scores.actual[rows],
                scores.coverage[rows],
                scores.isolated[rows],
                scores.faults[rows],
                scores.state[rows],
                scores.version,
                scores.rung,
            )
        )
        start, turn = stop, turn + 1
    return parts


# ------------------------------------------------------------------ the machine


def test_six_of_ten_rows_over_the_line_raise_and_the_onset_is_the_first_row_over() -> None:
    scores = block([0.5] * 20 + [1.5, 0.9, 1.5, 1.5, 0.9, 1.5, 1.5, 1.5] + [0.2] * 30)
    tracker = Episodes(PUMP, POLICY)
    changes = tracker.push(scores)
    assert [change.event for change in changes] == ["opened", "closed"]
    assert changes[0].time == 28 * TICK  # the sixth row over
    assert changes[0].anomaly.onset == 21 * TICK
    assert changes[0].anomaly.kind is Kind.PROCESS
    assert changes[0].anomaly.tags[0] == "vib"
    assert changes[0].values["vib"] == (50.0, 20.0)
    assert tracker.state.troubles == {}


def test_five_of_ten_rows_over_the_line_do_not_raise() -> None:
    assert episodes(block([1.5, 0.5] * 100)) == ()


def test_a_burst_of_five_rows_does_not_raise_but_far_over_the_line_four_are_enough() -> None:
    assert episodes(block([0.5] * 10 + [2.9] * 5 + [0.5] * 20)) == ()
    assert only(episodes(block([0.5] * 10 + [3.1] * 4 + [0.5] * 20))).onset == 11 * TICK


def test_an_unbroken_run_is_dated_from_its_first_row_and_not_from_the_first_far_one() -> None:
    assert only(episodes(block([0.1] * 5 + [1.1, 1.2] + [4.0] * 4))).onset == 6 * TICK


def test_it_stays_open_between_the_lines_and_closes_below_the_lower_one() -> None:
    between = block([1.5] * 10 + [0.9] * 200)
    assert only(episodes(between)).end is None
    below = only(episodes(block([1.5] * 10 + [0.9] * 20 + [0.7] * 11)))
    assert below.end == 30 * TICK  # the newest row that counted, once at most one of twelve did


def test_a_score_that_hovers_at_the_line_is_one_anomaly() -> None:
    wave = [1.3] * 8 + [0.7] * 6
    assert len(episodes(block(wave * 20))) == 1


def test_nothing_closes_sooner_than_the_off_delay_after_it_opened() -> None:
    policy = EpisodePolicy(raise_when=(Density(1, 1),))
    changes = Episodes(PUMP, policy).push(block([2.0] + [0.1] * 30))
    assert [(c.event, c.time // TICK) for c in changes] == [("opened", 1), ("closed", 13)]


def test_a_minimum_duration_delays_raising_and_keeps_the_onset() -> None:
    policy = EpisodePolicy(min_duration=20 * TICK)
    changes = Episodes(PUMP, policy).push(block([1.5] * 40))
    assert (changes[0].time, changes[0].anomaly.onset) == (21 * TICK, TICK)
    assert episodes(block([1.5] * 20 + [0.1] * 30), policy) == ()


def test_the_peak_grows_and_the_blame_is_of_the_whole_episode() -> None:
    found = only(episodes(block([1.5] * 6 + [4.0, 2.0] + [0.1] * 20, top=[0] * 6 + [1] * 2 + [0] * 20)))
    assert found.peak == 4.0
    assert found.tags[:2] == ("vib", "temp")


@pytest.mark.parametrize("state", [State.WARMING_UP, State.INSUFFICIENT_COVERAGE, State.MAINTENANCE, State.OFF])
def test_rows_without_a_score_neither_raise_nor_clear(state: State) -> None:
    assert episodes(block([9.0] * 50, state=state)) == ()
    rows = [1.5] * 8 + [0.0] * 60
    opened = block(rows, state=[State.OK] * 8 + [state] * 60)
    assert only(episodes(opened)).end is None


def test_evidence_not_yet_raised_is_forgotten_when_the_machine_stops() -> None:
    states = [State.OK] * 5 + [State.OFF] + [State.OK] * 5
    assert episodes(block([1.5] * 11, state=states)) == ()
    frozen = [State.OK] * 5 + [State.INSUFFICIENT_COVERAGE] * 3 + [State.OK] * 5
    assert only(episodes(block([1.5] * 13, state=frozen))).onset == TICK


def test_a_machine_off_for_long_closes_its_alert_and_says_so() -> None:
    changes = Episodes(PUMP, POLICY).push(block([1.5] * 8 + [0.0] * 90, state=[State.OK] * 8 + [State.OFF] * 90))
    assert [(c.event, c.reason) for c in changes] == [("opened", ""), ("closed", "the machine is off")]


def test_a_score_that_is_not_finite_is_a_row_not_known() -> None:
    """NaN > 1 is false: without care a dead model would read as all is well (guarantee G11)."""
    odd = block([1.5] * 8 + [float("nan")] * 60)
    assert only(episodes(odd)).end is None


def test_two_of_twelve_rows_over_the_lower_line_keep_it_open() -> None:
    """Every twelve rows of this wave hold two, though some ten rows hold one."""
    assert only(episodes(block([1.5] * 10 + ([0.3] * 9 + [0.9] * 2) * 30))).end is None


def test_a_run_may_have_holes_as_long_as_the_rule_allows_and_no_longer() -> None:
    assert only(episodes(block([1.2] + [0.3] * 4 + [1.2] * 5))).onset == TICK
    assert only(episodes(block([1.2] + [0.3] * 5 + [1.2] * 6))).onset == 7 * TICK


def test_blame_is_of_the_run_that_raised_and_not_of_older_blips() -> None:
    blips = block([1.5] * 2 + [0.3] * 6 + [1.5] * 6, top=[1] * 2 + [0] * 12)
    assert only(episodes(blips)).tags == ("vib",)


def test_what_a_sensor_did_alone_is_not_laid_on_the_machine() -> None:
    """The machine's own rows stay on its account when the sensor's are taken off it."""
    mixed = block([1.5] * 48, isolated=[2.0] * 2 + [0.4] * 36 + [2.0] * 10, top=[1] * 2 + [0] * 36 + [1] * 10)
    sensor, process = episodes(mixed)
    assert (sensor.cause, sensor.onset) == ("instrument:vib", 3 * TICK)
    assert (process.tags, process.onset) == (("temp",), 39 * TICK)


def test_a_sensor_that_disagrees_is_not_cleared_by_not_knowing() -> None:
    rows = block([1.5] * 40 + [0.0] * 60, isolated=0.4, state=[State.OK] * 40 + [State.INSUFFICIENT_COVERAGE] * 60)
    assert only(episodes(rows)).end is None


def test_what_is_remembered_stays_small_and_is_forgotten_when_it_came_to_nothing() -> None:
    tracker = Episodes(PUMP, POLICY)
    tracker.push(block([1.5] * 1000, faults=faulty(1000, 1, SensorFault.STUCK)))
    assert max(len(trouble.seen) for trouble in tracker.state.troubles.values()) <= 60
    passing = Episodes(PUMP, POLICY)
    passing.push(
        block([1.5] * 3 + [0.5] * 60, faults=faulty(3, 1, SensorFault.STUCK) + faulty(60, 1, SensorFault.NONE))
    )
    assert passing.state.troubles == {}


# ------------------------------------------------------------------ the sensors


@pytest.mark.parametrize("fault", [f for f in SensorFault if f not in (0, SensorFault.DISAGREES, SensorFault.CLOCK)])
def test_a_sensor_fault_raises_an_instrument_anomaly_by_name(fault: SensorFault) -> None:
    found = only(episodes(block([0.5] * 12, faults=faulty(12, 1, fault))))
    assert (found.kind, found.cause, found.fault, found.tags) == (
        Kind.INSTRUMENT,
        "instrument:temp",
        fault.name,
        ("temp",),
    )
    assert found.onset == TICK


def test_a_sensor_fault_of_four_rows_is_no_anomaly_unless_they_are_spikes() -> None:
    def at(rows: Sequence[int], fault: SensorFault) -> Scores:
        return block([0.5] * 80, faults=[[int(fault) if r in rows else 0, 0, 0] for r in range(80)])

    assert episodes(at([5, 20, 30, 40], SensorFault.MISSING)) == ()
    assert only(episodes(at([5, 20, 40], SensorFault.SPIKE))).fault == "SPIKE"
    assert episodes(at([5, 66], SensorFault.SPIKE)) == ()


def test_spikes_that_go_on_are_one_anomaly() -> None:
    every = [[int(SensorFault.SPIKE) if r % 20 == 0 else 0, 0, 0] for r in range(600)]
    assert len(episodes(block([0.5] * 600, faults=every))) == 1


def test_a_sensor_that_reads_again_closes_its_anomaly() -> None:
    changes = Episodes(PUMP, POLICY).push(block([0.5] * 40, faults=faulty(10, 2, SensorFault.STUCK) + [[0, 0, 0]] * 30))
    assert [(c.event, c.time // TICK) for c in changes] == [("opened", 5), ("closed", 21)]


def test_a_dead_sensor_is_noticed_while_the_model_cannot_score() -> None:
    rows = block([0.0] * 12, faults=faulty(12, 0, SensorFault.MISSING), state=State.INSUFFICIENT_COVERAGE)
    assert only(episodes(rows)).cause == "instrument:vib"


def test_a_machine_that_is_off_may_have_dead_sensors() -> None:
    assert episodes(block([0.0] * 200, faults=faulty(200, 0, SensorFault.MISSING), state=State.OFF)) == ()


def test_all_tags_missing_is_data_loss_and_no_flood_of_instruments() -> None:
    lost = [[int(SensorFault.MISSING)] * 3] * 20
    found = only(episodes(block([0.0] * 20, faults=lost, state=State.INSUFFICIENT_COVERAGE)))
    assert (found.kind, found.cause) == (Kind.DATA_LOSS, "data_loss")


def test_a_wrong_clock_is_an_instrument_anomaly_that_ordinary_rows_clear() -> None:
    notices = block(
        [0.0] * 6,
        first=10_000,
        tags=("clock",),
        faults=[[int(SensorFault.CLOCK)]] * 6,
        state=State.INSUFFICIENT_COVERAGE,
    )
    tracker = Episodes(PUMP, POLICY)
    opened = only([change.anomaly for change in tracker.push(notices)])
    assert (opened.cause, opened.fault) == ("instrument:clock", "CLOCK")
    closed = tracker.push(block([0.5] * 20))  # older than the notices: they have a time line of their own
    assert [change.event for change in closed] == ["closed"]


def test_a_score_that_one_sensor_explains_accuses_the_sensor_and_not_the_machine() -> None:
    changes = Episodes(PUMP, POLICY).push(block([1.5] * 60, isolated=0.4, top=2))
    found = only([change.anomaly for change in changes if change.event == "opened"])
    assert (found.kind, found.cause, found.fault) == (Kind.INSTRUMENT, "instrument:flow", "DISAGREES")
    assert (found.onset, changes[0].time) == (TICK, 36 * TICK)


def test_a_sensor_is_not_accused_before_its_rows_are_full_however_far_over_the_line() -> None:
    assert episodes(block([9.0] * 35, isolated=0.4)) == ()
    assert only(episodes(block([9.0] * 36, isolated=0.4))).cause == "instrument:vib"


@pytest.mark.parametrize("alone", [1, 6, 20, 35])
def test_a_fault_that_shows_in_one_tag_first_and_is_joined_is_the_machine_and_no_sensor(alone: int) -> None:
    rows = block([1.5] * (alone + 60), isolated=[0.4] * alone + [2.0] * 60)
    found = only(episodes(rows))
    assert (found.kind, found.onset) == (Kind.PROCESS, TICK)
    opened = Episodes(PUMP, POLICY).push(rows)[0]
    assert opened.time == max(alone + 5, 6) * TICK


def test_a_lone_drift_is_told_as_its_sensor_and_never_as_the_machine() -> None:
    slope = [0.02 * row for row in range(400)]
    assert [a.cause for a in episodes(block(slope, isolated=0.3))] == ["instrument:vib"]


@pytest.mark.parametrize(("rest", "rows", "kinds"), [(0.5, 47, []), (0.5, 60, ["process"]), (0.55, 20, ["process"])])
def test_rows_strange_in_now_this_and_now_that_tag_wait_if_all_else_is_quiet(
    rest: float, rows: int, kinds: list[str]
) -> None:
    """A short burst of noise is nothing; what lasts is the machine's."""
    found = episodes(block([1.5] * rows + [0.2] * 20, isolated=rest, top=[row % 3 for row in range(rows + 20)]))
    assert [one.kind for one in found] == kinds


@pytest.mark.parametrize(("rests", "kind"), [([0.65], "instrument"), ([0.67], "process"), ([0.3, 0.9], "instrument")])
def test_a_sensor_is_accused_only_if_all_is_usual_without_it(rests: list[float], kind: str) -> None:
    """Just under the line is not usual. It is the geometric mean that counts: rows differ."""
    rows = block([1.5] * 60, isolated=rests * (60 // len(rests)))
    changes = Episodes(PUMP, POLICY).push(rows)
    assert [change.anomaly.kind for change in changes] == [kind]
    assert changes[0].time == 36 * TICK
    assert changes[0].anomaly.onset == 1 * TICK


def test_a_lone_row_is_one_that_falls_below_the_lone_line_without_its_tag() -> None:
    policy = EpisodePolicy(lone_line=0.8, rest_line=1.0)
    assert only(episodes(block([1.5] * 60, isolated=0.79), policy)).kind is Kind.INSTRUMENT
    assert only(episodes(block([1.5] * 60, isolated=0.8), policy)).kind is Kind.PROCESS


def test_what_lasts_is_told_even_if_it_never_fills_the_rows() -> None:
    """Seven of ten rows over the line are 34 of 48; half of the rows alone are 24: neither would ever be told."""
    hovering = only(episodes(block(([1.5] * 7 + [0.5] * 3) * 20, isolated=0.4)))
    assert (hovering.cause, hovering.onset) == ("instrument:vib", TICK)
    undecided = only(episodes(block([1.5] * 200, isolated=([0.4] * 3 + [2.0] * 2) * 40)))
    assert (undecided.kind, undecided.onset) == (Kind.PROCESS, TICK)
    opened = Episodes(PUMP, POLICY).push(block([1.5] * 200, isolated=([0.4] * 3 + [2.0] * 2) * 40))[0]
    assert opened.time == 49 * TICK


def test_an_accused_sensor_is_not_accused_twice() -> None:
    """Its lone rows from before it died are still remembered when the machine is judged."""
    faults = [[0, 0, 0]] * 35 + faulty(100, 0, SensorFault.STUCK)
    rows = block([1.5] * 135, isolated=[0.4] * 35 + [2.0] * 100, top=[0] * 35 + [1] * 100, faults=faults)
    assert [a.cause for a in episodes(rows)] == ["instrument:vib", "process"]


def test_the_peak_is_of_the_anomaly_and_not_of_an_older_blip() -> None:
    assert only(episodes(block([8.0] + [0.3] * 20 + [1.5] * 6))).peak == 1.5


@pytest.mark.parametrize("rung", [Rung.RULES, Rung.ROLLING_Z])
def test_a_rung_that_judges_tags_one_by_one_accuses_no_sensor(rung: Rung) -> None:
    """A boiler over its pressure limit is the boiler, however normal its other tags are."""
    found = only(episodes(replace(block([1.5] * 30, isolated=0.4), rung=rung)))
    assert found.kind is Kind.PROCESS


def test_the_machine_is_blamed_when_the_strange_sensor_keeps_changing() -> None:
    rows = 30
    found = only(episodes(block([1.5] * rows, isolated=0.6, top=[row % 3 for row in range(rows)])))
    assert found.kind is Kind.PROCESS


def test_a_process_anomaly_joins_once_others_are_strange_too_and_the_sensor_is_cleared() -> None:
    rows = block([1.5] * 70, isolated=[0.4] * 40 + [2.0] * 30)
    found = episodes(rows)
    assert [a.cause for a in found] == ["instrument:vib", "process"]
    assert found[1].onset == 41 * TICK
    assert found[0].end is not None


def test_an_open_process_anomaly_is_not_told_again_as_a_sensor() -> None:
    assert only(episodes(block([1.5] * 60, isolated=[2.0] * 10 + [0.4] * 50))).kind is Kind.PROCESS


def test_a_sensor_that_disagrees_and_then_dies_is_one_anomaly_with_the_better_name() -> None:
    changes = Episodes(PUMP, POLICY).push(
        block([1.5] * 40 + [0.3] * 20, isolated=0.4, faults=[[0, 0, 0]] * 40 + faulty(20, 0, SensorFault.STUCK))
    )
    assert [(c.event, c.anomaly.fault) for c in changes] == [("opened", "DISAGREES"), ("extended", "STUCK")]


def test_what_is_remembered_is_numbers_that_can_be_stored() -> None:
    """NaN becomes null in JSON, and a state that cannot be read again would stop the alerts of its asset."""
    tracker = Episodes(PUMP, POLICY)
    states = [State.OK] * 40 + [State.INSUFFICIENT_COVERAGE] * 3
    tracker.push(block([1.5] * 43, isolated=0.4, faults=[[0] * 3] * 40 + faulty(3, 0, SensorFault.STUCK), state=states))
    trouble = tracker.state.troubles["instrument:vib"]
    assert trouble.seen[-1].code == SensorFault.STUCK
    assert all(np.isfinite(seen.score) for seen in trouble.seen)


def test_scores_just_after_a_fault_was_recognised_do_not_blame_the_machine() -> None:
    """The window still holds the values from before the mask; once they may have gone, the machine is judged again."""
    faults = [[0, 0, 0]] * 5 + faulty(60, 0, SensorFault.NOISE)
    brief = block([0.3] * 5 + [1.5] * 12 + [0.3] * 48, top=1, faults=faults)
    assert [a.cause for a in episodes(brief)] == ["instrument:vib"]
    lasting = block([0.3] * 5 + [1.5] * 60, top=1, faults=faults)
    assert [a.cause for a in episodes(lasting)] == ["instrument:vib", "process"]


def test_an_instrument_anomaly_of_a_tag_no_model_watches_is_let_go() -> None:
    tracker = Episodes(PUMP, POLICY)
    tracker.push(block([0.5] * 10, faults=faulty(10, 0, SensorFault.STUCK)))
    changes = tracker.push(block([0.5] * 90, first=11, tags=("temp", "flow")))
    assert [(c.event, c.reason) for c in changes] == [("closed", "no longer watched")]


# ------------------------------------------------------------------ properties


Stretch = tuple[int, float, float, int, State, tuple[int, int, int]]
"""Rows, score, isolated, column that contributes most, state, faults."""

HISTORIES: st.SearchStrategy[list[Stretch]] = st.lists(
    st.tuples(
        st.integers(1, 14),
        st.sampled_from([0.3, 0.85, 0.95, 1.1, 1.4, 3.5, float("nan")]),
        st.sampled_from([0.5, 2.0]),
        st.integers(0, 2),
        st.sampled_from([State.OK] * 6 + list(State)),
        st.tuples(*[st.sampled_from([0] * 8 + [1, 4, 6])] * 3),
    ),
    min_size=1,
    max_size=20,
)
"""Stretches of one level each, so that the rules are really met. Made into scores inside the tests: the shape checks
draw random numbers, which Hypothesis forbids in strategies."""


def scores_of(stretches: list[Stretch], rows: int = 120) -> Scores:
    flat = [part for part in stretches for _ in range(part[0])][:rows]
    _, score, isolated, top, state, faults = zip(*flat, strict=True)
    return block(score, isolated=isolated, top=top, state=state, faults=faults)


SMALL = EpisodePolicy(
    raise_when=(Density(3, 5), Density(2, 3, 3.0)),
    clear_when=Density(1, 4, 0.8),
    lone_when=Density(6, 8),
    settle_rows=3,
    away_rows=6,
)


@settings(deadline=None)
@given(HISTORIES, st.lists(st.integers(1, 30), min_size=1, max_size=5), st.sampled_from([POLICY, SMALL]))
def test_any_chunking_gives_the_same_changes_and_state(
    history: list[Stretch], sizes: list[int], policy: EpisodePolicy
) -> None:
    scores = scores_of(history)
    whole, live = Episodes(PUMP, policy), Episodes(PUMP, policy)
    expected = whole.push(scores)
    changes: list[Change] = []
    for part in cut(scores, sizes):
        live = Episodes(PUMP, policy, live.state.copy())
        changes += live.push(part)
    assert [repr(c) for c in changes] == [repr(c) for c in expected]
    assert live.state == whole.state


@settings(deadline=None)
@given(HISTORIES, st.integers(1, 30), st.integers(1, 30))
def test_rows_that_come_twice_count_once(history: list[Stretch], size: int, back: int) -> None:
    scores = scores_of(history)
    whole, live = Episodes(PUMP, SMALL), Episodes(PUMP, SMALL)
    expected = whole.push(scores)
    parts = cut(scores, [size])
    changes = [change for i in range(len(parts)) for p in parts[max(0, i - back) : i + 1] for change in live.push(p)]
    assert [repr(c) for c in changes] == [repr(c) for c in expected]


@settings(deadline=None)
@given(HISTORIES)
def test_a_copy_is_not_changed_by_what_happens_to_the_original(history: list[Stretch]) -> None:
    scores = scores_of(history)
    tracker = Episodes(PUMP, SMALL)
    half = len(scores) // 2 or 1
    tracker.push(cut(scores, [half])[0])
    copy = tracker.state.copy()
    before = repr(copy)
    for part in cut(scores, [half])[1:]:
        tracker.push(part)
    assert repr(copy) == before


def slow_process(values: Sequence[float], policy: EpisodePolicy) -> list[tuple[int, int, int | None]]:
    """(onset, raised, closed) rows by the definition, looking at all of history each time: the specification."""
    found: list[tuple[int, int, int | None]] = []
    start = 0
    for now in range(1, len(values) + 1):
        if found and found[-1][2] is None:
            onset, raised, _ = found[-1]
            clear = policy.clear_when
            over = sum(v > clear.line for v in values[max(start, now - clear.of) : now])
            if now - raised >= clear.of and over <= clear.rows:
                found[-1] = (onset, raised, now)
                start = now
            continue
        for rule in policy.raise_when:
            over = sum(v > rule.line for v in values[max(start, now - rule.of) : now])
            if values[now - 1] > policy.line and over >= rule.rows:
                run = now
                holes = 0
                for back in range(now, start, -1):
                    holes = 0 if values[back - 1] > policy.line else holes + 1
                    if holes > policy.raise_when[0].of - policy.raise_when[0].rows:
                        break
                    run = back if values[back - 1] > policy.line else run
                found.append((run, now, None))
                break
    return found


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.3, 0.9, 1.2, 3.3]), min_size=1, max_size=150), st.sampled_from([POLICY, SMALL]))
def test_the_fast_rule_is_the_slow_definition(values: list[float], policy: EpisodePolicy) -> None:
    changes = Episodes(PUMP, policy).push(block(values))
    found: list[tuple[int, int, int | None]] = []
    for change in changes:
        if change.event == "opened":
            found.append((change.anomaly.onset // TICK, change.time // TICK, None))
        elif change.event == "closed":
            found[-1] = (*found[-1][:2], change.time // TICK)
    assert found == slow_process(values, policy)


@settings(deadline=None)
@given(HISTORIES)
def test_one_anomaly_at_a_time_per_cause_and_never_the_same_onset_twice(history: list[Stretch]) -> None:
    scores = scores_of(history)
    running: set[str] = set()
    onsets: set[tuple[str, int]] = set()
    for change in Episodes(PUMP, SMALL).push(scores):
        key = (change.anomaly.cause, change.anomaly.onset)
        if change.event == "opened":
            assert change.anomaly.cause not in running
            assert key not in onsets
            assert change.anomaly.onset <= change.time
            running.add(change.anomaly.cause)
            onsets.add(key)
        elif change.event == "closed":
            running.remove(change.anomaly.cause)


def test_assets_are_judged_alone() -> None:
    mixed = replace(block([1.5, 0.5] * 8), assets=("s1/a", "s1/b") * 8)
    assert [a.asset for a in episodes(mixed)] == ["s1/a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clear_when": Density(1, 12, 1.2)},
        {"raise_when": ()},
        {"raise_when": (Density(0, 5),)},
        {"raise_when": (Density(6, 10), Density(2, 3, 0.5))},
        {"lone_when": Density(0, 48)},
        {"lone_line": 1.1},
    ],
)
def test_a_rule_that_would_chatter_or_raise_on_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"line|row"):
        EpisodePolicy(**wrong)  # type: ignore[arg-type]  # the table mixes types


def test_more_rows_than_looked_at_are_refused() -> None:
    with pytest.raises(ValueError, match="7 of 5 rows"):
        Density(7, 5)
