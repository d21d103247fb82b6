"""Is it the machine or the sensor? Each fault is found while it lasts, and a machine in trouble is no sensor fault."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.blocks import rows as take_rows
from anomaly.domain import Quality, Role, Samples, SensorFault, Tag
from anomaly.sensors import HORIZON, SensorLimits, check, default_limits, fit_limits

TAGS = (
    Tag("temperature", "°C", -50.0, 1000.0),
    Tag("pressure", "bar"),
    Tag("vibration", "mm/s"),
    Tag("flow", "m³/h"),
    Tag("current", "A"),
    Tag("level", "%", 0.0, 100.0),
)
NAMES = tuple(tag.name for tag in TAGS)
CENTER = np.array([70.0, 6.0, 2.0, 40.0, 30.0, 55.0])
NOISE = np.array([0.3, 0.05, 0.15, 0.5, 0.4, 0.3])
TEMPERATURE, PRESSURE, VIBRATION, FLOW, CURRENT, LEVEL = range(6)


def healthy(rows: int, seed: int = 0) -> np.ndarray:
    """A machine under slowly changing load."""
    rng = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 90 + seed)[:, None]
    return np.asarray(CENTER * (1 + 0.06 * load) + NOISE * rng.standard_normal((rows, 6)))


def samples(values: np.ndarray, tags: tuple[str, ...] = NAMES, restart: tuple[int, ...] = ()) -> Samples:
    mask = np.isfinite(values)
    begins = np.zeros(len(values), dtype=bool)
    begins[[0, *restart]] = True
    return Samples(
        asset="s/m",
        tags=tags,
        times=np.arange(1, len(values) + 1, dtype=np.int64),
        values=values,
        mask=mask,
        quality=np.where(mask, Quality.GOOD, Quality.MISSING).astype(np.uint8),
        restart=begins,
        readings=mask.sum(axis=1).astype(np.int64),
    )


LIMITS: SensorLimits = fit_limits([samples(healthy(4000, 99))], TAGS)


def verdicts(values: np.ndarray) -> np.ndarray:
    return check(samples(values), LIMITS)


def only(faults: np.ndarray, tag: int) -> bool:
    """No other tag is suspected."""
    return not np.delete(faults, tag, axis=1).any()


@pytest.mark.parametrize("seed", range(5))
def test_healthy_sensors_are_believed(seed: int) -> None:
    assert not verdicts(healthy(3000, seed)).any()


def test_a_stuck_sensor_is_found_and_stays_found_until_it_moves() -> None:
    values = healthy(400)
    values[100:300, FLOW] = values[100, FLOW]
    faults = verdicts(values)
    assert (faults[112:300, FLOW] == SensorFault.STUCK).all()
    assert not faults[:111].any()
    assert not faults[300:].any()
    assert only(faults, FLOW)


def test_a_sensor_that_dies_to_zero_alone_is_stuck() -> None:
    values = healthy(300)
    values[100:, CURRENT] = 0.0
    faults = verdicts(values)
    assert (faults[115:, CURRENT] == SensorFault.STUCK).all()
    assert only(faults, CURRENT)


def test_a_machine_that_stops_has_no_faulty_sensors() -> None:
    values = healthy(400)
    values[200:] = np.array([60.0, 0.0, 0.0, 0.0, 0.0, 55.0])
    values[200:, TEMPERATURE] -= np.arange(200) * 0.1
    values[200:, LEVEL] += NOISE[LEVEL] * np.random.default_rng(1).standard_normal(200)
    assert not verdicts(values).any()


def test_a_gateway_that_repeats_all_values_is_not_a_machine_at_rest() -> None:
    values = healthy(300)
    values[100:] = values[100]
    assert (verdicts(values)[115:] == SensorFault.STUCK).all()


def test_a_tag_that_is_often_constant_when_normal_is_never_called_stuck() -> None:
    normal = healthy(3000, 5)
    normal[:, LEVEL] = np.repeat(normal[::30, LEVEL], 30)
    limits = fit_limits([samples(normal)], TAGS)
    assert limits.stuck_rows[LEVEL] == 0
    constant = healthy(500, 6)
    constant[100:, LEVEL] = 55.0
    assert not check(samples(constant), limits).any()


def test_a_signal_that_stops_breathing_is_flat() -> None:
    values = healthy(300)
    values[100:250, PRESSURE] = 6.0 + 1e-4 * np.arange(150)
    faults = verdicts(values)
    assert (faults[126:250, PRESSURE] == SensorFault.FLAT).all()
    assert only(faults, PRESSURE)


def test_a_value_outside_the_engineering_range_is_not_believed_even_if_nothing_was_learned() -> None:
    values = healthy(50)
    values[30, LEVEL] = 100.5
    values[31, LEVEL] = -0.1
    faults = check(samples(values), default_limits(TAGS))
    assert faults[30:32, LEVEL].tolist() == [SensorFault.OUT_OF_RANGE] * 2
    assert np.count_nonzero(faults) == 2


@pytest.mark.parametrize("tag", range(6))
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_spike_is_found_and_the_row_after_it_is_believed(tag: int, sign: int) -> None:
    values = healthy(200)
    values[100, tag] += sign * 40 * NOISE[tag]
    faults = verdicts(values)
    assert np.flatnonzero(faults.any(axis=1)).tolist() == [100]
    assert faults[100, tag] in (SensorFault.SPIKE, SensorFault.OUT_OF_RANGE)


def test_a_loose_contact_is_not_believed_between_its_spikes() -> None:
    values = healthy(200)
    values[[100, 106, 112, 118, 124], CURRENT] = 90.0
    faults = verdicts(values)
    assert (faults[112:136, CURRENT] == SensorFault.SPIKE).all()
    assert not faults[160:].any()


def test_a_step_of_the_whole_machine_is_no_spike() -> None:
    values = healthy(200)
    values[100:] *= 0.3
    assert not verdicts(values).any()


def test_a_lasting_step_of_one_tag_is_soon_believed() -> None:
    values = healthy(200)
    values[100:, PRESSURE] *= 0.45
    faults = verdicts(values)
    assert np.flatnonzero(faults.any(axis=1)).tolist() in ([100, 101, 102], [])


def test_an_electrically_noisy_sensor_is_found() -> None:
    values = healthy(300)
    values[100:200, TEMPERATURE] += 15 * NOISE[TEMPERATURE] * np.random.default_rng(3).standard_normal(100)
    faults = verdicts(values)
    assert np.isin(faults[116:200, TEMPERATURE], [SensorFault.NOISE, SensorFault.SPIKE]).mean() > 0.9
    assert (faults == SensorFault.NOISE).any()
    assert only(faults, TEMPERATURE)


def test_rough_vibration_is_the_machine() -> None:
    values = healthy(600)
    rough = 1 + 3 * np.minimum(1, np.arange(400) / 200)
    values[200:, VIBRATION] = (values[200:, VIBRATION] - 2) * rough + 2 * rough
    assert not verdicts(values).any()


@pytest.mark.parametrize("rows", [20, 60, 300, 1500])
@pytest.mark.parametrize("tag", range(5))
@pytest.mark.parametrize("factor", [0.5, 1.7, 2.0])
def test_what_changes_gradually_is_the_machine(rows: int, tag: int, factor: float) -> None:
    values = healthy(rows + 200)
    values[100:, tag] += CENTER[tag] * (factor - 1) * np.minimum(1, np.arange(rows + 100) / rows)
    assert not verdicts(values).any()


@pytest.mark.parametrize("seed", range(4))
def test_a_bearing_that_slowly_heats_up_to_what_would_be_normal_in_fahrenheit_is_hot(seed: int) -> None:
    values = healthy(2000, seed)
    values[100:, TEMPERATURE] += 88 * np.minimum(1, np.arange(1900) / 400)
    faults = verdicts(values)
    assert faults[500:, TEMPERATURE].astype(bool).mean() < 0.25
    values[100:, TEMPERATURE] = 1.8 * healthy(2000, seed)[100:, TEMPERATURE] + 32
    assert (verdicts(values)[500:, TEMPERATURE] == SensorFault.UNIT_JUMP).mean() > 0.93


JUMPS: list[tuple[int, Callable[[np.ndarray], np.ndarray]]] = [
    (TEMPERATURE, lambda x: 1.8 * x + 32),
    (TEMPERATURE, lambda x: x + 273.15),
    (TEMPERATURE, lambda x: 10 * x),
    (PRESSURE, lambda x: 14.5038 * x),
    (PRESSURE, lambda x: 100 * x),
    (PRESSURE, lambda x: 0.1 * x),
    (VIBRATION, lambda x: x / 25.4),
    (VIBRATION, lambda x: 1000 * x),
    (FLOW, lambda x: x / 3.6),
    (FLOW, lambda x: 4.40287 * x),
    (CURRENT, lambda x: 1000 * x),
    (CURRENT, lambda x: 0.001 * x),
]


@pytest.mark.parametrize(("tag", "convert"), JUMPS)
def test_another_unit_is_found_and_stays_found_for_as_long_as_it_lasts(
    tag: int, convert: Callable[[np.ndarray], np.ndarray]
) -> None:
    values = healthy(700)
    values[100:600, tag] = convert(values[100:600, tag])
    faults = verdicts(values)
    late = 130 if tag == VIBRATION else 104
    assert np.mean(faults[late:600, tag] == SensorFault.UNIT_JUMP) > 0.95
    assert only(faults, tag)
    assert not faults[610:].any()


@pytest.mark.parametrize("tag", range(5))
def test_what_passes_through_another_units_range_on_its_way_is_hardly_ever_taken_for_it(tag: int) -> None:
    for factor in (0.02, 3.1, 16.0):
        values = healthy(1500)
        values[100:, tag] += CENTER[tag] * (factor - 1) * np.minimum(1, np.arange(1400) / 1000)
        assert (verdicts(values)[:, tag] == SensorFault.UNIT_JUMP).mean() < 0.03, factor


def test_a_process_step_that_no_unit_explains_is_no_unit_jump() -> None:
    for factor in (0.45, 0.6, 1.5, 2.0, 3.0, 5.0):
        values = healthy(300)
        values[100:, FLOW] *= factor
        assert not (verdicts(values) == SensorFault.UNIT_JUMP).any(), factor


def test_a_tag_that_stays_away_while_others_come_is_missing() -> None:
    values = healthy(100)
    values[50:90, FLOW] = np.nan
    faults = verdicts(values)
    assert (faults[53:90, FLOW] == SensorFault.MISSING).all()
    assert not faults[:52].any()
    assert not faults[90:].any()


def test_when_all_tags_stay_away_no_sensor_is_at_fault() -> None:
    values = healthy(100)
    values[50:80] = np.nan
    assert not verdicts(values).any()


def test_a_slow_tag_is_missing_only_when_it_is_slower_than_ever() -> None:
    normal = healthy(3000, 5)
    normal[np.arange(3000) % 10 > 0, LEVEL] = np.nan
    limits = fit_limits([samples(normal)], TAGS)
    assert limits.missing_rows[LEVEL] == 19
    assert not check(samples(normal[:500]), limits).any()
    assert default_limits([Tag("m", role=Role.MODE)]).missing_rows.tolist() == [0]


def test_a_reading_called_bad_by_its_source_is_not_believed() -> None:
    block = samples(healthy(20))
    block.quality[7, 2] = Quality.BAD
    block.mask[7, 2] = False
    block.values[7, 2] = np.nan
    faults = check(block, default_limits([]))
    assert np.argwhere(faults).tolist() == [[7, 2]]
    assert faults[7, 2] == SensorFault.BAD_QUALITY


def damaged(seed: int, rows: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = healthy(rows, seed % 1000)
    for _ in range(rng.integers(1, 8)):
        start, length, tag = int(rng.integers(0, rows)), int(rng.integers(1, 60)), int(rng.integers(0, 6))
        part = slice(start, start + length)
        match rng.integers(0, 7):
            case 0:
                values[part, tag] = np.nan
            case 1:
                values[part] = np.nan
            case 2:
                values[part, tag] = values[start, tag]
            case 3:
                values[start, tag] *= 5
            case 4:
                values[part, tag] += 20 * NOISE[tag] * rng.standard_normal(len(values[part]))
            case 5:
                values[part, tag] = 6 + 1e-5 * np.arange(len(values[part]))
            case _:
                values[part, tag] *= rng.choice([0.1, 10, 14.5038, 1000, 1.8])
    return values


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 260), st.integers(0, 300), st.booleans())
def test_a_verdict_depends_on_nothing_older_than_the_horizon(seed: int, rows: int, row: int, restart: bool) -> None:
    block = samples(damaged(seed, rows))
    row %= rows
    recent = take_rows(block, slice(max(0, row - HORIZON + 1), None))
    recent.restart[0] |= restart
    whole = check(block, LIMITS)[row:]
    assert np.array_equal(check(recent, LIMITS)[min(row, HORIZON - 1) :], whole)


@pytest.mark.parametrize("hole", [0, 2, 4, 5, 10])
@pytest.mark.parametrize("before", [1, 3, 6])
def test_a_jump_is_forgotten_when_it_leaves_the_horizon(hole: int, before: int) -> None:
    values = healthy(170)
    values[60:, VIBRATION] *= 10  # a machine may get there too: only the jump tells
    values[60 - before - hole : 60 - before, VIBRATION] = np.nan
    block = samples(values)
    whole = check(block, LIMITS)[:, VIBRATION]
    assert hole > 0 or (whole[60:95] != SensorFault.NONE).all()
    assert not whole[60 + HORIZON :].any()
    for row in range(90, 120):
        recent = take_rows(block, slice(row - HORIZON + 1, row + 1))
        assert check(recent, LIMITS)[-1, VIBRATION] == whole[row], row


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 200), st.integers(0, 200))
def test_a_verdict_depends_on_nothing_later(seed: int, rows: int, row: int) -> None:
    block = samples(damaged(seed, rows))
    early = slice(0, row % rows + 1)
    assert np.array_equal(check(take_rows(block, early), LIMITS), check(block, LIMITS)[early])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 200), st.integers(1, 200))
def test_a_restart_forgets_everything(seed: int, rows: int, row: int) -> None:
    values, row = damaged(seed, rows), row % (rows - 1) + 1
    block = samples(values, restart=(row,))
    assert np.array_equal(check(block, LIMITS)[row:], check(samples(values[row:]), LIMITS))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(6)))
def test_the_order_of_tags_does_not_matter(seed: int, order: list[int]) -> None:
    values = damaged(seed, 120)
    names = tuple(NAMES[tag] for tag in order)
    assert np.array_equal(check(samples(values[:, order], names), LIMITS), verdicts(values)[:, order])


def test_huge_numbers_are_judged_without_a_warning() -> None:
    values = healthy(100)
    values[50:60, FLOW] = [1.7e308, -1.7e308] * 5
    assert verdicts(values)[50, FLOW] != SensorFault.NONE


def test_no_rows_give_no_verdicts() -> None:
    assert check(take_rows(samples(healthy(3)), slice(0, 0)), LIMITS).shape == (0, 6)


def test_limits_survive_being_written_as_json() -> None:
    text = json.dumps(LIMITS.to_dict(), allow_nan=False)
    again = SensorLimits.from_dict(json.loads(text))
    values = damaged(4, 300)
    assert np.array_equal(check(samples(values), again), verdicts(values))
    assert SensorLimits.from_dict(default_limits(TAGS).to_dict()).high[0] == 1000.0


def test_rows_of_a_stopped_machine_teach_nothing() -> None:
    values = healthy(4000, 3)
    running = np.arange(4000) % 1000 < 700
    values[~running] = 0.0
    limits = fit_limits([samples(values)], TAGS, [running])
    assert (limits.stuck_rows == LIMITS.stuck_rows).all()
    assert (limits.usual_low > 0.5 * CENTER).all()
    assert (fit_limits([samples(values)], TAGS).stuck_rows == 0).all()


def test_with_hardly_any_normal_rows_only_the_engineering_ranges_are_known() -> None:
    limits = fit_limits([samples(healthy(50))], TAGS)
    assert np.isnan(limits.step).all()
    assert limits.high[LEVEL] == 100.0
    assert fit_limits([], TAGS).stuck_rows.tolist() == [0] * 6


def test_assets_of_a_group_are_learned_together_and_modes_are_left_alone() -> None:
    other = healthy(4000, 8)
    other[:, FLOW] += 100
    limits = fit_limits([samples(healthy(4000, 7)), samples(other)], (*TAGS[:5], Tag("level", "%", role=Role.MODE)))
    assert limits.usual_low[FLOW] < 45
    assert limits.usual_high[FLOW] > 130
    assert limits.stuck_rows[LEVEL] == 0
    assert np.isnan(limits.step[LEVEL])


# --- real data: normal rows have practically no sensor faults, and real process faults are not taken for them


def datasets(name: str) -> Path:
    folder = Path(os.environ.get("PLANTWATCH_DATASETS", Path(__file__).parents[2] / "../shared/datasets")) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: set PLANTWATCH_DATASETS to the folder of the shared data sets")
    return folder


def real(values: np.ndarray, units: tuple[str, ...] = ()) -> tuple[Samples, list[Tag]]:
    names = tuple(f"t{tag}" for tag in range(values.shape[1]))
    units = units or ("",) * len(names)
    return samples(values, names), [Tag(name, unit) for name, unit in zip(names, units, strict=True)]


def share_of_rows(faults: np.ndarray) -> float:
    return float((faults > 0).any(axis=1).mean()) if len(faults) else 0.0


def skab(path: Path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([[float(x) for x in row[1:9]] for row in list(csv.reader(file, delimiter=";"))[1:]])


SKAB_UNITS = ("g", "g", "A", "bar", "°C", "°C", "V", "L/min")


def test_skab_normal_running_has_no_sensor_faults() -> None:
    values = skab(datasets("skab") / "anomaly-free" / "anomaly-free.csv")
    half = len(values) // 2
    block, tags = real(values[:half], SKAB_UNITS)
    limits = fit_limits([block], tags)
    assert not check(block, limits).any()
    assert share_of_rows(check(real(values[half:])[0], limits)) < 0.001


def test_skab_valve_and_rotor_faults_are_the_machines() -> None:
    shares = []
    for path in sorted(datasets("skab").glob("[ov]*/*.csv")):
        values = skab(path)
        block, tags = real(values[:400], SKAB_UNITS)
        shares.append(share_of_rows(check(real(values)[0], fit_limits([block], tags))))
    assert len(shares) == 17
    assert max(shares) < 0.01
    assert np.mean(shares) < 0.001


def test_tennessee_eastman_faults_are_the_plants() -> None:
    folder = datasets("tep")
    with gzip.open(folder / "d00.dat.gz", "rt") as file:
        block, tags = real(np.loadtxt(file).T)
    limits = fit_limits([block], tags)
    for path in sorted(folder.glob("d*_te.dat.gz")):
        with gzip.open(path, "rt") as file:
            faults = check(real(np.loadtxt(file))[0], limits)
        assert np.mean(faults > 0) < 0.0005, path.name
        assert path.name != "d00_te.dat.gz" or not faults.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smd", "asd"])
def test_server_metrics_normal_and_not_have_hardly_any_sensor_faults(name: str) -> None:
    folder = datasets(name)
    for path in sorted((folder / "train").glob("*.gz")):
        with gzip.open(path, "rt") as file:
            block, tags = real(np.loadtxt(file, delimiter=","))
        cut = int(0.7 * len(block))
        limits = fit_limits([take_rows(block, slice(0, cut))], tags)
        assert share_of_rows(check(take_rows(block, slice(cut, None)), limits)) < 0.002, path.name
        with gzip.open(folder / "test" / path.name, "rt") as file:
            faults = check(real(np.loadtxt(file, delimiter=","))[0], fit_limits([block], tags))
        strange = np.loadtxt(folder / "test_label" / path.stem) > 0
        assert share_of_rows(faults[strange]) < 0.02, path.name
        assert share_of_rows(faults[~strange]) < 0.002, path.name
