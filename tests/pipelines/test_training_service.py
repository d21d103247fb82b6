from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.detector import fit_window_pca
from anomaly.domain import (
    SECOND,
    Alert,
    AlertState,
    Anomaly,
    Asset,
    Kind,
    Plant,
    Priority,
    Quality,
    Readings,
    Role,
    Rung,
    Scores,
    State,
    Tag,
)
from anomaly.errors import ConfigurationError, TooFewRowsError
from pipelines.adapters.memory_historian import MemoryHistorian
from pipelines.ports import AlertEvent
from pipelines.training_service import (
    REASONS,
    CleaningPolicy,
    group_tags,
    training_set_from_historian,
    training_set_from_readings,
)

TICK = 10 * SECOND
ROWS = 600
TAGS = (Tag("flow", "m3/h", 0.0, 100.0), Tag("power", "kW", 0.0, 50.0), Tag("state", role=Role.MODE, running=(2.0,)))
PUMPS = tuple(Asset(f"s1/pump-{i}", "pumps", TAGS, TICK) for i in range(2))
PLANT = Plant("works", (*PUMPS, Asset("s1/fan", "fans", (Tag("speed"),), TICK)))
EXACT = CleaningPolicy(margin=0, hold_off_rows=0, warm_up_rows=0)


def readings(asset: str = "s1/pump-0", rows: int = ROWS, seed: int = 0) -> Readings:
    chance = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 30.0)
    values = np.stack([50 + 10 * load, 20 + 5 * load, np.full(rows, 2.0)], axis=1)
    values[:, :2] += chance.normal(0, 0.2, (rows, 2))
    names = tuple(tag.name for tag in TAGS)
    return Readings(asset, names, (1 + np.arange(rows)) * TICK, values, np.zeros(values.shape, np.uint8))


def alert(
    first: int, last: int | None, kind: Kind = Kind.PROCESS, state: AlertState | None = None, code: str = ""
) -> Alert:
    """An alert over rows first..last (numbered from 0) of pump-0."""
    end = None if last is None else (last + 1) * TICK
    anomaly = Anomaly("s1/pump-0", kind, kind.value, (first + 1) * TICK, end, 2.0, ("flow",), "v")
    return Alert(
        f"{kind}{first}", anomaly, state or AlertState.RETURNED_UNACKNOWLEDGED, Priority.LOW, anomaly.onset, reason=code
    )


def historian(*blocks: Readings, alerts: tuple[Alert, ...] = ()) -> MemoryHistorian:
    store = MemoryHistorian()
    events = [AlertEvent(f"{a.id}-1", "raised", a.raised_at, a) for a in alerts]
    store.write(readings=blocks or (readings(), readings("s1/pump-1", seed=1)), events=events)
    return store


def clean(
    store: MemoryHistorian, policy: CleaningPolicy = EXACT, assets: list[str] | None = None
) -> tuple[int, dict[str, int]]:
    found = training_set_from_historian(store, PLANT, "pumps", assets, 0, 10**15, policy)
    rows = sum(len(samples) for samples in found.training.samples)
    assert sum(int(n.sum()) for n in found.training.normal) + sum(found.left_out.values()) == rows
    assert set(found.left_out) <= set(REASONS)
    return found.training.rows, dict(found.left_out)


def test_all_rows_of_a_healthy_group_are_used_and_a_model_can_be_fitted() -> None:
    found = training_set_from_historian(historian(), PLANT, "pumps", None, 0, 10**15, EXACT)
    assert (found.training.rows, found.left_out) == (2 * ROWS, {})
    assert found.training.tags == ("flow", "power")
    assert found.training.mode == TAGS[2]
    assert fit_window_pca(found.training, group_tags(PUMPS), "v").rung is Rung.WINDOW_PCA


def test_the_span_is_half_open_and_assets_can_be_chosen() -> None:
    store = historian()
    found = training_set_from_historian(store, PLANT, "pumps", ["s1/pump-1"], TICK, 101 * TICK, EXACT)
    assert {samples.asset for samples in found.training.samples} == {"s1/pump-1"}
    assert found.training.span == (TICK, 100 * TICK)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.PROCESS, "alert"), (Kind.INSTRUMENT, "instrument_fault"), (Kind.DATA_LOSS, "data_loss")],
)
def test_rows_under_alerts_are_left_out_with_a_margin(kind: Kind, reason: str) -> None:
    store = historian(alerts=(alert(100, 149, kind),))
    assert clean(store) == (2 * ROWS - 50, {reason: 50})
    assert clean(store, replace(EXACT, margin=5 * TICK)) == (2 * ROWS - 60, {reason: 60})


def test_an_alert_that_still_lasts_leaves_out_all_since_its_onset() -> None:
    assert clean(historian(alerts=(alert(500, None),))) == (2 * ROWS - 100, {"alert": 100})


@pytest.mark.parametrize(("code", "left"), [("false", 0), ("Process change: new pump", 0), ("true", 50), ("", 50)])
def test_rows_of_an_alert_closed_as_false_are_normal(code: str, left: int) -> None:
    closed = alert(100, 149, state=AlertState.CLOSED, code=code)
    assert clean(historian(alerts=(closed,)))[1].get("alert", 0) == left


def test_off_rows_the_start_after_them_and_the_start_after_a_gap_are_left_out() -> None:
    block = readings()
    block.values[200:260, 2] = 0.0
    block.values[260:270, 2] = 1.0
    policy = replace(EXACT, hold_off_rows=3, warm_up_rows=4)
    assert clean(historian(block), policy) == (ROWS - 70 - 3 - 4, {"off": 70, "hold_off": 3, "warm_up": 4})
    kept = np.r_[0:300, 400:ROWS]
    gap = replace(block, times=block.times[kept], values=block.values[kept], quality=block.quality[kept])
    _, left_out = clean(historian(gap), policy)
    assert left_out == {"off": 70, "hold_off": 3, "warm_up": 8}


def test_a_stuck_sensor_is_left_out_and_a_machine_at_rest_is_only_off() -> None:
    block = readings()
    block.values[300:400, 0] = block.values[300, 0]
    _, left_out = clean(historian(block, readings("s1/pump-1", seed=1)))
    assert 50 < left_out.pop("instrument_fault") <= 100
    assert left_out == {}
    block = readings()
    block.values[300:400] = (0.0, 0.0, 0.0)
    assert set(clean(historian(block))[1]) <= {"off", "instrument_fault"}
    assert clean(historian(block))[1]["off"] == 100


def test_rows_with_one_sensor_missing_are_used_and_with_most_missing_are_not() -> None:
    block = readings()
    block.quality[100:200, 0] = Quality.BAD
    block.values[100:200, 0] = np.nan
    assert clean(historian(block))[1] == {}
    block.quality[150:200, 1] = Quality.BAD
    block.values[150:200, 1] = np.nan
    assert clean(historian(block))[1] == {"data_loss": 50}


def test_rows_in_maintenance_are_left_out_by_the_stored_scores() -> None:
    store = historian(readings())
    times = (1 + np.arange(100, 120)) * TICK
    blank = np.full((20, 1), np.nan)
    scores = Scores(
        ("flow",), ("s1/pump-0",) * 20, times, blank[:, 0], np.zeros((20, 1)), blank, blank, np.ones(20), blank[:, 0],
        np.zeros((20, 1), np.uint8), (State.MAINTENANCE,) * 20, "v", Rung.RULES,
    )  # fmt: skip
    store.write(scores=[scores])
    assert clean(store) == (ROWS - 20, {"maintenance": 20})


def test_the_strongest_reason_is_named_and_no_row_is_counted_twice() -> None:
    block = readings()
    block.values[100:200, 2] = 0.0
    store = historian(block, alerts=(alert(150, 249), alert(240, 259, Kind.INSTRUMENT)))
    assert clean(store) == (ROWS - 160, {"alert": 100, "off": 50, "instrument_fault": 10})


@given(
    st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 80)), max_size=4), st.integers(0, 5), st.integers(0, 5)
)
def test_every_row_is_used_or_counted_once(stretches: list[tuple[int, int]], hold_off: int, warm_up: int) -> None:
    block = readings()
    for number, (first, length) in enumerate(stretches):
        column = number % 3
        block.values[first : first + length, column] = (np.nan, 1e6, 0.0)[column]
        block.quality[first : first + length, column] = Quality.BAD if column == 0 else Quality.GOOD
    alerts = tuple(alert(first, min(first + length, ROWS - 1)) for first, length in stretches[2:3])
    clean(historian(block, alerts=alerts), CleaningPolicy(20 * SECOND, hold_off, warm_up))


def test_files_give_the_same_set_as_the_historian() -> None:
    block = readings()
    block.values[300:360, 2] = 0.0
    parts = [
        replace(block, times=block.times[a:b], values=block.values[a:b], quality=block.quality[a:b])
        for a, b in ((0, 250), (250, ROWS))
    ]
    stored = training_set_from_historian(historian(block), PLANT, "pumps", None, 0, 10**15)
    filed = training_set_from_readings(PLANT, "pumps", None, [*parts, readings("s1/unknown")], 0, 10**15)
    assert filed.left_out == stored.left_out
    for one, other in zip(filed.training.samples, stored.training.samples, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.times, other.times)


def test_columns_that_only_some_files_have_are_missing_in_the_others() -> None:
    block = readings()
    late = replace(
        block,
        tags=block.tags[1:],
        times=block.times + ROWS * TICK,
        values=block.values[:, 1:],
        quality=block.quality[:, 1:],
    )
    found = training_set_from_readings(PLANT, "pumps", None, [block, late], 0, 10**15, EXACT)
    assert not found.training.samples[0].mask[ROWS + 10 :, 0].any()
    assert found.training.rows == 2 * ROWS


def test_unknown_names_and_empty_spans_are_told_plainly() -> None:
    store = historian()
    with pytest.raises(ConfigurationError, match="pumps, fans"):
        training_set_from_historian(store, PLANT, "mills", None, 0, 1)
    with pytest.raises(ConfigurationError, match="s1/pump-0"):
        training_set_from_historian(store, PLANT, "pumps", ["s1/fan"], 0, 1)
    with pytest.raises(TooFewRowsError, match="no normal row"):
        training_set_from_historian(store, PLANT, "pumps", None, 0, 1)
    with pytest.raises(TooFewRowsError, match="alert"):
        training_set_from_historian(historian(readings(), alerts=(alert(0, None),)), PLANT, "pumps", None, 0, 10**15)


def test_a_group_has_each_tag_once_with_its_widest_range() -> None:
    other = Asset("s1/pump-9", "pumps", (Tag("flow", "m3/h", -5.0, 80.0), Tag("power", "kW")), TICK)
    tags = {tag.name: (tag.low, tag.high) for tag in group_tags((*PUMPS, other))}
    assert tags == {"flow": (-5, 100), "power": (None, None), "state": (None, None)}
