"""The simulated plant: repeatable, plausible, calm when healthy, clear when at fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.domain import SECOND, Quality, Readings, Role
from anomaly.errors import ConfigurationError
from pipelines.sources.simulator import Fault, FaultKind, Simulator, demo_plant, truth
from pipelines.sources.simulator.faults import INSTRUMENT_FAULTS, MACHINE_FAULTS
from pipelines.sources.simulator.instruments import CONVERSIONS
from pipelines.sources.simulator.plant import machines
from pipelines.sources.simulator.schedule import CYCLE_NS, draw_cycle

START = 1_767_571_200 * SECOND
MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
TICK = 10 * SECOND
SEED = 1
Rows = tuple[np.ndarray, np.ndarray]
"""Times and values, one row a tick."""


def digest(blocks: list[Readings], into: dict[str, list[bytes]]) -> None:
    for block in blocks:
        parts = (block.times, block.values, block.quality)
        for part, row in ((i, r.tobytes()) for i, a in enumerate(parts) for r in a):
            into.setdefault(f"{block.asset}/{part}", []).append(row)


def rows(block: Readings) -> Rows:
    """The block in time order, each row once, missing values interpolated."""
    times, first = np.unique(block.times, return_index=True)
    values = block.values[first].copy()
    for column in values.T:
        seen = np.isfinite(column)
        column[:] = np.interp(times, times[seen], column[seen])
    return times, values


# ── the plant ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plant_has_fourteen_machines_of_five_types_with_six_to_twelve_tags_each() -> None:
    plant = demo_plant(SEED)
    assert len(plant.assets) == len({asset.path for asset in plant.assets}) == 14
    assert {name: len(group) for name, group in plant.groups().items()} == {
        "pumps": 4,
        "compressors": 2,
        "conveyors": 3,
        "boilers": 2,
        "fans": 3,
    }
    for asset in plant.assets:
        assert len(asset.path.split("/")) == 4
        assert asset.tick == TICK
        assert 6 <= len(asset.tags) <= 12
        assert asset.mode is not None
        assert asset.mode.running == (2.0, 3.0)
        for tag in asset.tags:
            assert tag.description
            assert tag.unit or tag.role is Role.MODE
            assert tag.low is not None
            assert tag.high is not None
            assert tag.low < tag.high


def test_machines_of_one_group_share_tags_but_not_numbers() -> None:
    for group in demo_plant(SEED).groups().values():
        assert len({asset.signals for asset in group}) == 1
    traits = [machine.traits for machine in machines(SEED)]
    assert len({json.dumps(dict(values)) for values in traits}) == 14
    assert machines(SEED)[0].traits != machines(SEED + 1)[0].traits


# ── same seed, same bytes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def whole() -> dict[str, list[bytes]]:
    simulator = Simulator(SEED, START, history_s=3600)
    result: dict[str, list[bytes]] = {}
    digest(simulator.advance(START + 5 * HOUR), result)
    return result


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 5 * HOUR), max_size=6), restored=st.sets(st.integers(0, 6)))
def test_the_bytes_do_not_depend_on_chunks_nor_on_being_stopped_and_restored(
    whole: dict[str, list[bytes]], cuts: list[int], restored: set[int]
) -> None:
    simulator = Simulator(SEED, START, history_s=3600)
    pieces: dict[str, list[bytes]] = {}
    for number, cut in enumerate([*sorted(cuts), 5 * HOUR]):
        digest(simulator.advance(START + cut), pieces)
        if number in restored:
            simulator = Simulator.from_dict(json.loads(json.dumps(simulator.to_dict())))
    assert pieces == whole


@pytest.mark.parametrize("edge", [0, HOUR, 2 * HOUR, 2 * HOUR - 1, 2 * HOUR + TICK])
def test_a_snapshot_at_the_edge_of_an_hour_goes_on_exactly(whole: dict[str, list[bytes]], edge: int) -> None:
    simulator = Simulator(SEED, START, history_s=3600)
    pieces: dict[str, list[bytes]] = {}
    digest(simulator.advance(START + edge), pieces)
    text = json.dumps(simulator.to_dict())
    assert len(text) < 32_000
    simulator = Simulator.from_dict(json.loads(text))
    assert simulator.now == START + edge
    assert Simulator.from_dict(simulator.to_dict()).to_dict() == simulator.to_dict()
    digest(simulator.advance(START + 5 * HOUR), pieces)
    assert pieces == whole


def test_another_seed_is_another_life_and_other_faults() -> None:
    lives = [Simulator(seed, START, history_s=0) for seed in (1, 2)]
    one, two = (life.advance(START + HOUR)[0] for life in lives)
    assert not np.array_equal(one.values[:300], two.values[:300])
    assert lives[0].faults(START + 12 * HOUR) != lives[1].faults(START + 12 * HOUR)


def test_a_time_that_has_passed_gives_nothing_and_changes_nothing() -> None:
    simulator = Simulator(SEED, START + 3, history_s=0)
    assert simulator.start == START
    simulator.advance(START + HOUR)
    assert simulator.advance(START + HOUR) == []
    assert simulator.advance(START) == []
    assert simulator.now == START + HOUR


@pytest.mark.parametrize(("seed", "start", "history"), [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_negative_arguments_are_refused(seed: int, start: int, history: int) -> None:
    with pytest.raises(ConfigurationError, match="expected 0 or more"):
        Simulator(seed, start, history)


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="format 99"):
        Simulator.from_dict({**Simulator(0, START).to_dict(), "format": 99})


@pytest.mark.parametrize("damage", ["seed", "memory", "now", "script"])
def test_a_damaged_snapshot_is_refused(damage: str) -> None:
    snapshot = {name: value for name, value in Simulator(0, START).to_dict().items() if name != damage}
    with pytest.raises(ConfigurationError, match="damaged"):
        Simulator.from_dict(snapshot)


# ── a healthy day and a half ─────────────────────────────────────────────────────────────────────────────────────────


class Life(NamedTuple):
    simulator: Simulator
    history: Mapping[str, Readings]
    """36 h without faults."""
    healthy: Mapping[str, Readings]
    """The day after, of a plant that never fails."""


@pytest.fixture(scope="module")
def life() -> Life:
    simulator = Simulator(SEED, START, script=())
    history = {block.asset: block for block in simulator.advance(simulator.live_from)}
    return Life(simulator, history, {block.asset: block for block in simulator.advance(START + 60 * HOUR)})


def test_every_value_of_a_healthy_plant_is_inside_its_engineering_range(life: Life) -> None:
    for asset in life.simulator.plant.assets:
        values = np.concatenate([life.history[asset.path].values, life.healthy[asset.path].values])
        for number, tag in enumerate(asset.tags):
            assert tag.low is not None
            assert tag.high is not None
            assert np.nanmin(values[:, number]) >= tag.low, (asset.path, tag)
            assert np.nanmax(values[:, number]) <= tag.high, (asset.path, tag)


def test_four_machines_stop_for_20_to_60_minutes_now_and_then_and_start_again(life: Life) -> None:
    pausing = []
    for path, block in life.history.items():
        times, values = rows(block)
        edges = np.flatnonzero(np.diff((values[:, 0] == 0).astype(int), prepend=0, append=0))
        lengths = [(times[min(b, len(times) - 1)] - times[a]) / MINUTE for a, b in edges.reshape(-1, 2)]
        if lengths:
            pausing.append(path)
            assert 2 <= len(lengths) <= 6, path
            assert all(19.5 <= length <= 60.5 for length in lengths), (path, lengths)
            assert {0.0, 1.0, 2.0, 3.0} == set(values[:, 0])
        else:
            assert {2.0, 3.0} == set(values[:, 0])
    assert len(pausing) == 4


def test_a_stopped_pump_draws_no_current_and_moves_no_water(life: Life) -> None:
    path = "northworks/utilities/cooling/pump-103"
    block = life.history[path]
    _, values = rows(block)
    stopped = np.flatnonzero(values[:, 0] == 0)
    settled = stopped[np.isin(stopped - 18, stopped)]
    for tag in ("flow", "motor_current", "speed"):
        column = values[:, block.tags.index(tag)]
        assert column[settled].max() < 0.05 * column.max()


def test_a_pump_obeys_the_affinity_laws(life: Life) -> None:
    block = life.history["northworks/utilities/cooling/pump-101"]
    _, values = rows(block)
    columns = dict(zip(block.tags, values.T, strict=True))
    head = columns["discharge_pressure"] - columns["suction_pressure"]
    slope = np.polyfit(np.log(columns["speed"]), np.log(head), 1)[0]
    assert 1.6 < slope < 2.6  # head with the square of speed, bent by the static lift


def test_readings_are_stamped_within_their_tick_now_and_then_late_twice_or_lost(life: Life) -> None:
    late = twice = lost = total = 0
    for block in life.history.values():
        total += len(block)
        late += int((np.diff(block.times) < 0).sum())
        twice += len(block) - len(np.unique(block.times))
        lost += int((block.quality[:, 1:] == Quality.MISSING).sum())
        assert np.isnan(block.values[block.quality >= Quality.BAD]).all()
        assert np.isfinite(block.values[block.quality < Quality.BAD]).all()
        gaps = np.diff(np.unique(block.times))
        assert gaps.max() < 2 * TICK
    assert 0.001 < late / total < 0.01
    assert 0.001 < twice / total < 0.005
    assert 0 < lost / total < 0.01


def test_advancing_gives_only_what_has_arrived() -> None:
    simulator = Simulator(SEED, START, history_s=0)
    for _ in range(30):
        for block in simulator.advance(simulator.now + TICK):
            assert (block.times <= simulator.now).all()
            assert len(block) <= 3


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(12))
def test_each_cycle_has_its_share_of_faults_on_distinct_machines_and_soon_every_name_came(seed: int) -> None:
    plant = machines(seed)
    names = set()
    for number in range(4):
        faults = draw_cycle(seed, number, START + number * CYCLE_NS, plant)
        kinds = [fault.kind for fault in faults]
        assert kinds.count(FaultKind.MACHINE) >= 6
        assert kinds.count(FaultKind.INSTRUMENT) >= 3
        assert len({fault.asset for fault in faults}) == len(faults) <= 10
        names |= {fault.name for fault in faults}
        for fault in faults:
            check_times(fault, START + number * CYCLE_NS)
    assert names == {*MACHINE_FAULTS, *INSTRUMENT_FAULTS}
    assert len(names) >= 12


def check_times(fault: Fault, begin: int) -> None:
    assert fault.onset - begin >= 20 * MINUTE
    assert fault.developed + 25 * MINUTE <= begin + CYCLE_NS
    assert 25 * MINUTE <= fault.until - fault.onset <= 40 * MINUTE
    assert fault.until <= begin + CYCLE_NS
    assert fault.developed - fault.onset <= 10 * MINUTE
    assert fault.severity > 0
    if fault.name == "clock_wrong":
        assert fault.onset - begin <= 60 * MINUTE


@pytest.mark.parametrize("seed", range(3))
def test_the_history_is_free_of_faults_and_the_first_comes_twenty_minutes_after_it(seed: int) -> None:
    simulator = Simulator(seed, START)
    assert simulator.live_from == START + 36 * HOUR
    assert simulator.faults(simulator.live_from) == ()
    faults = simulator.faults(simulator.live_from + CYCLE_NS)
    assert faults[0].onset == simulator.live_from + 20 * MINUTE
    assert faults[0].kind is FaultKind.MACHINE
    assert simulator.faults() == ()


def test_machines_with_a_fault_run_from_before_its_onset_until_after_its_end() -> None:
    simulator = Simulator(SEED, START, history_s=0)
    blocks = {block.asset: rows(block) for block in simulator.advance(START + 12 * HOUR)}
    stops = 0
    for fault in simulator.faults():
        _, values = blocks[fault.asset]
        # by true time: a wrong clock moves the stamps
        near = slice(int((fault.onset - START) / TICK) - 180, int((fault.until - START) / TICK) + 60)
        if fault.name != "clock_wrong":
            assert (values[max(near.start, 0) : near.stop, 0] >= 2).all(), fault
    for _, values in blocks.values():
        stops += int((values[:, 0] == 0).any())
    assert stops >= 2


def test_the_truth_is_written_out_with_times_for_machines_and_for_people() -> None:
    simulator = Simulator(SEED, START, history_s=0)
    simulator.advance(START + HOUR)
    known = json.loads(json.dumps(truth(simulator)))
    assert [
        Fault.from_dict({name: fault[name] for name in Fault.__dataclass_fields__}) for fault in known["faults"]
    ] == list(simulator.faults())
    assert known["faults"][0]["onset_utc"] == "2026-01-05T00:20:00.000Z"
    assert known["faults"][0]["description"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("nowhere", "leak", FaultKind.MACHINE, None, 1, 2, 3, 1.0), "no asset 'nowhere'"),
        (Fault("pump", "belt_slip", FaultKind.MACHINE, None, 1, 2, 3, 1.0), "pumps cannot have it"),
        (Fault("pump", "sensor_stuck", FaultKind.INSTRUMENT, "colour", 1, 2, 3, 1.0), "no tag 'colour'"),
        (Fault("pump", "gremlins", FaultKind.INSTRUMENT, "flow", 1, 2, 3, 1.0), "no instrument fault 'gremlins'"),
        (Fault("pump", "sensor_drift", FaultKind.INSTRUMENT, None, 1, 2, 3, 1.0), "needs a tag"),
        (Fault("pump", "unit_change", FaultKind.INSTRUMENT, "speed", 1, 2, 3, 1.0), "no other unit for rpm"),
        (Fault("pump", "leak", FaultKind.MACHINE, None, 3, 2, 3, 1.0), "onset ≤ developed ≤ until"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused(fault: Fault, message: str) -> None:
    values = fault.to_dict()
    if fault.asset == "pump":
        values["asset"] = "northworks/process/water/pump-201"
    with pytest.raises(ConfigurationError, match=message):
        Simulator(0, START, script=[Fault.from_dict(values)])


# ── can they be seen? ────────────────────────────────────────────────────────────────────────────────────────────────


class Ridge:
    """A simple judge: each tag regressed on the others, now and one and three minutes ago, fitted on the history."""

    def __init__(self, history: Readings) -> None:
        _, values = rows(history)
        on = judged(values)
        self.center, self.scale = values[on].mean(0), values[on].std(0) + 1e-9
        z = (values - self.center) / self.scale
        self.weights, spread = [], []
        for tag in range(1, values.shape[1]):
            x = design(z, tag)[on]
            self.weights.append(np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ z[on, tag]))
            spread.append((z[on, tag] - x @ self.weights[-1]).std())
        self.spread = np.array(spread)
        self.line = 1.5 * float(np.quantile(self.score(values)[on], 0.999))

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Per row and signal: mean over one minute, in residual deviations of the history."""
        z = (values - self.center) / self.scale
        raw = np.column_stack([z[:, tag] - design(z, tag) @ self.weights[tag - 1] for tag in range(1, z.shape[1])])
        return np.apply_along_axis(
            lambda column: np.convolve(column, np.ones(6) / 6)[: len(column)], 0, raw / self.spread
        )

    def score(self, values: np.ndarray) -> np.ndarray:
        return np.asarray((self.residuals(values) ** 2).mean(1))


def design(z: np.ndarray, tag: int) -> np.ndarray:
    others = np.delete(z, [0, tag], axis=1)
    ago = [np.vstack([np.repeat(others[:1], rows, 0), others[:-rows]]) for rows in (6, 18)]
    return np.column_stack([np.ones(len(z)), others, *ago])


def judged(values: np.ndarray) -> np.ndarray:
    """Rows in a running mode for at least five minutes."""
    stopped = np.where(values[:, 0] < 2, np.arange(len(values)), -1000)
    return np.asarray(np.arange(len(values)) - np.maximum.accumulate(stopped) > 30)


@pytest.fixture(scope="module")
def judges(life: Life) -> dict[str, Ridge]:
    return {path: Ridge(block) for path, block in life.history.items()}


@pytest.mark.slow
def test_healthy_machines_stay_calm_through_the_next_day_with_its_stops_and_ramps(
    life: Life, judges: dict[str, Ridge]
) -> None:
    for path, judge in judges.items():
        _, values = rows(life.healthy[path])
        over = judge.score(values)[judged(values)] > judge.line
        assert over.mean() < 0.005, path


def play(name: Callable[[int], list[Fault]], hours: int) -> tuple[list[Fault], dict[str, Rows]]:
    """A life of 36 h and some hours more with the given faults."""
    script = name(START + 36 * HOUR)
    simulator = Simulator(SEED, START, script=script)
    simulator.advance(simulator.live_from)
    return script, {block.asset: rows(block) for block in simulator.advance(simulator.live_from + hours * HOUR)}


def every_machine_fault(live: int) -> list[Fault]:
    """Each machine has each of its faults in turn, at the least severity the schedule gives."""
    result = []
    for machine in machines(SEED):
        for number, name in enumerate(machine.kind.faults):
            onset = live + number * 2 * HOUR + HOUR
            times = (onset, onset + 10 * MINUTE, onset + 35 * MINUTE)
            result.append(Fault(machine.path, name, FaultKind.MACHINE, None, *times, 0.85))
    return result


@pytest.mark.slow
def test_every_machine_fault_stands_out_in_several_tags_and_goes_away_when_repaired(judges: dict[str, Ridge]) -> None:
    script, blocks = play(every_machine_fault, 13)
    assert {fault.name for fault in script} == set(MACHINE_FAULTS)
    for fault in script:
        judge, (times, values) = judges[fault.asset], blocks[fault.asset]
        grown = (times > fault.developed + MINUTE) & (times < fault.until - MINUTE)
        tags = np.abs(np.median(judge.residuals(values)[grown], axis=0))
        where = (fault.asset, fault.name, np.sort(tags)[::-1].round(1).tolist())
        assert (tags > 2.2).sum() >= 2, where
        assert (judge.score(values)[grown] > 1.5 * judge.line).mean() > 0.95, where
        early = (times > fault.onset - 20 * MINUTE) & (times < fault.onset)
        after = (times > fault.until + 15 * MINUTE) & (times < fault.until + 25 * MINUTE)
        calm = judged(values) & (early | after)
        assert (judge.score(values)[calm] > judge.line).mean() < 0.05, where


def one_of(name: str, path: str, tag: str | None, amount: float = 0.0) -> tuple[Fault, Readings, Readings]:
    """An instrument fault from minute 20 to 50, and the same hour without it."""
    grown = START + (26 if name == "sensor_drift" else 20) * MINUTE
    fault = Fault(path, name, FaultKind.INSTRUMENT, tag, START + 20 * MINUTE, grown, START + 50 * MINUTE, 1.0, amount)
    both = []
    for script in ([fault], []):
        simulator = Simulator(SEED, START, history_s=0, script=script)
        both.append(next(block for block in simulator.advance(START + HOUR) if block.asset == path))
    return fault, both[0], both[1]


PUMP = "northworks/process/water/pump-201"


def during(fault: Fault, block: Readings) -> np.ndarray:
    return np.asarray((block.times > fault.onset + TICK) & (block.times < fault.until - TICK))


@pytest.mark.parametrize("name", sorted(set(INSTRUMENT_FAULTS) - {"clock_wrong"}))
def test_an_instrument_fault_touches_its_own_tag_only_and_only_while_it_lasts(name: str) -> None:
    fault, bad, good = one_of(name, PUMP, "bearing_temp", 1.0)
    column = bad.tags.index("bearing_temp")
    others = np.arange(len(bad.tags)) != column
    np.testing.assert_array_equal(bad.times, good.times)
    np.testing.assert_array_equal(bad.values[:, others], good.values[:, others])
    outside = (bad.times < fault.onset - TICK) | (bad.times > fault.until + TICK)
    np.testing.assert_array_equal(bad.values[outside], good.values[outside])
    assert not np.array_equal(bad.values[~outside, column], good.values[~outside, column])


def test_a_stuck_sensor_repeats_its_last_value_across_the_hours() -> None:
    onset = START + 50 * MINUTE
    fault = Fault(PUMP, "sensor_stuck", FaultKind.INSTRUMENT, "flow", onset, onset, START + 80 * MINUTE, 1.0)
    simulator = Simulator(SEED, START, history_s=0, script=[fault])
    block = next(block for block in simulator.advance(START + 2 * HOUR) if block.asset == PUMP)
    times, values = rows(block)
    held = (times > fault.onset) & (times < fault.until - 2 * TICK)
    flow = values[:, block.tags.index("flow")]
    assert len(set(flow[held])) == 1
    assert np.flatnonzero(held)[0] > 0
    assert flow[held][0] == flow[np.flatnonzero(held)[0] - 1]
    assert len(set(flow[~held])) > 50


def test_a_drift_ends_many_noise_deviations_from_the_truth() -> None:
    fault, bad, good = one_of("sensor_drift", PUMP, "bearing_temp", -1.0)
    late = during(fault, bad) & (bad.times > fault.developed) & (bad.times < fault.until - 2 * MINUTE)
    gap = (bad.values - good.values)[late, bad.tags.index("bearing_temp")]
    assert np.nanmedian(gap) == pytest.approx(-4.0, abs=0.2)


def test_a_sensor_that_spikes_jumps_up_and_down_and_comes_back() -> None:
    fault, bad, good = one_of("sensor_spike", PUMP, "bearing_temp")
    gap = (bad.values - good.values)[during(fault, bad), bad.tags.index("bearing_temp")]
    assert 0.05 < (np.abs(gap) > 8).mean() < 0.25
    assert (np.abs(gap) < 0.5).mean() > 0.7
    assert gap.max() > 8
    assert gap.min() < -8


def test_a_sensor_that_drops_out_is_bad_for_five_minutes_and_then_silent() -> None:
    fault, bad, _ = one_of("sensor_dropout", PUMP, "bearing_temp")
    quality = bad.quality[:, bad.tags.index("bearing_temp")]
    first = (bad.times > fault.onset + TICK) & (bad.times < fault.onset + 4 * MINUTE)
    later = (bad.times > fault.onset + 6 * MINUTE) & (bad.times < fault.until - TICK)
    assert (quality[first] >= Quality.BAD).all()
    assert (quality[first] == Quality.BAD).any()
    assert (quality[later] == Quality.MISSING).all()


@pytest.mark.parametrize(("tag", "factor", "offset"), [("bearing_temp", 1.8, 32.0), ("discharge_pressure", 14.5038, 0)])
def test_a_unit_change_reports_the_same_quantity_in_another_unit(tag: str, factor: float, offset: float) -> None:
    fault, bad, good = one_of("unit_change", PUMP, tag)
    here = during(fault, bad)
    column = bad.tags.index(tag)
    np.testing.assert_allclose(bad.values[here, column], good.values[here, column] * factor + offset, atol=0.3)


@pytest.mark.parametrize("seconds", [3600.0, -1200.0])
def test_a_wrong_clock_moves_the_stamps_of_the_whole_machine_and_nothing_else(seconds: float) -> None:
    _, bad, good = one_of("clock_wrong", PUMP, None, seconds)
    moved = bad.times - good.times
    assert set(moved.tolist()) == {0, round(seconds) * SECOND}
    assert (moved != 0).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(bad.values, good.values)


def test_every_machine_has_a_sensor_whose_unit_can_change() -> None:
    for machine in machines(SEED):
        assert any(sensor.unit in CONVERSIONS for sensor in machine.kind.sensors)
