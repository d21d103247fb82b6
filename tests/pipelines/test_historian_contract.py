"""What every historian answers, over the port alone: in memory, over SQLite, and over a real InfluxDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.domain import (
    Alert,
    AlertState,
    Anomaly,
    Kind,
    Priority,
    Quality,
    Readings,
    Rung,
    Scores,
    SensorFault,
    State,
)
from pipelines.adapters.memory import MemoryHistorian
from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.ports import AlertEvent, Heartbeat, Historian, ScoreSummary

NAN = float("nan")
EVER = (0, 2**63 - 1)
ASSET = "s1/l1/pump-1"


@pytest.fixture(params=["memory", "sqlite", pytest.param("influx", marks=pytest.mark.integration)])
def historian(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Historian]:
    made: Historian
    if request.param == "influx":
        from pipelines.adapters.influx_historian import InfluxHistorian

        made = InfluxHistorian(request.getfixturevalue("influx"))
    else:
        made = MemoryHistorian() if request.param == "memory" else SqliteHistorian(tmp_path / "h.db")
    yield made
    made.close()


def readings(times: list[int], columns: dict[str, list[float | None]], asset: str = ASSET) -> Readings:
    """None: no reading came; NaN: a bad one came."""
    cells = np.array(list(columns.values()), dtype=object).T.reshape(len(times), len(columns))
    missing = np.array([[cell is None for cell in row] for row in cells], dtype=bool).reshape(cells.shape)
    values = np.where(missing, NAN, cells).astype(np.float64)
    quality = np.where(missing, Quality.MISSING, np.where(np.isnan(values), Quality.BAD, Quality.GOOD))
    return Readings(asset, tuple(columns), np.array(times, dtype=np.int64), values, quality.astype(np.uint8))


def scores(
    times: list[int],
    score: list[float],
    *,
    assets: tuple[str, ...] | None = None,
    tags: tuple[str, ...] = ("a", "b"),
    version: str = "v1",
    rung: Rung = Rung.WINDOW_PCA,
) -> Scores:
    shape = (len(times), len(tags))
    values = np.array(score, dtype=np.float64)
    known = np.isfinite(values)
    return Scores(
        tags=tags,
        assets=assets or (ASSET,) * len(times),
        times=np.array(times, dtype=np.int64),
        score=values,
        contributions=np.where(known[:, None], np.linspace(0.25, 0.75, len(tags)), 0.0),
        expected=np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape) / 3,
        actual=np.where(np.arange(shape[1]) == 0, NAN, 61.2) * np.ones(shape),
        coverage=np.full(len(times), 0.5),
        isolated=np.where(values > 1.0, 0.7, NAN),
        faults=np.tile(np.array([SensorFault.NONE, SensorFault.STUCK], dtype=np.uint8)[: len(tags)], (len(times), 1)),
        state=tuple(State.OK if here else State.WARMING_UP for here in known.tolist()),
        version=version,
        rung=rung,
    )


def alert(name: str = "a1", state: AlertState = AlertState.UNACKNOWLEDGED_ACTIVE, raised_at: int = 10) -> Alert:
    anomaly = Anomaly(ASSET, Kind.INSTRUMENT, "instrument:a", 5, None, float("inf"), ("a", "b"), "v1", "STUCK")
    return Alert(name, anomaly, state, Priority.HIGH, raised_at, expected={"a": (1.0, 2.5)}, message="größer °C")


def assert_equal(one: Readings, other: Readings) -> None:
    assert (one.asset, one.tags) == (other.asset, other.tags)
    assert one.values.shape == other.values.shape
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.quality, other.quality)


def assert_close(one: Scores, other: Scores) -> None:
    """Scores themselves exactly; what is only drawn to the six digits of float32."""
    assert (one.tags, one.assets, one.state, one.version, one.rung) == (
        other.tags,
        other.assets,
        other.state,
        other.version,
        other.rung,
    )
    for exact in ("times", "score", "coverage", "isolated", "faults"):
        np.testing.assert_array_equal(getattr(one, exact), getattr(other, exact))
    for drawn in ("contributions", "expected", "actual"):
        np.testing.assert_allclose(getattr(one, drawn), getattr(other, drawn), rtol=1e-6)


def test_an_empty_historian_answers_with_nothing(historian: Historian) -> None:
    assert historian.span() is None
    assert historian.span(ASSET) is None
    assert historian.assets() == ()
    assert len(historian.readings(ASSET, *EVER)) == 0
    assert len(historian.chart(ASSET, ["a"], *EVER, points=10)["a"]) == 0
    assert list(historian.scores(ASSET, *EVER)) == []
    assert list(historian.latest()) == []
    assert historian.heat(*EVER, bucket=60) == {}
    assert list(historian.alerts()) == []
    assert list(historian.events("a1")) == []
    assert historian.heartbeats() == {}


def test_readings_come_back_exactly_in_time_order_within_the_span(historian: Historian) -> None:
    block = readings([30, 10, 20], {"a": [3.0, 0.1 + 0.2, None], "b": [NAN, 1e300, -0.0]})
    historian.write([block])
    stored = historian.readings(ASSET, 10, 30)
    assert_equal(stored, readings([10, 20], {"a": [0.1 + 0.2, None], "b": [1e300, -0.0]}))
    assert historian.readings(ASSET, 30, 31).quality.tolist() == [[Quality.GOOD, Quality.BAD]]
    assert historian.span() == historian.span(ASSET) == (10, 30)
    assert historian.assets() == (ASSET,)
    assert historian.span("elsewhere") is None


def test_a_partial_row_does_not_erase_other_tags_and_new_tags_widen_old_rows(historian: Historian) -> None:
    historian.write([readings([10, 20], {"a": [1.0, 2.0]})])
    historian.write([readings([20], {"b": [5.0]}), readings([20, 30], {"c": [7.0, 8.0]})])
    historian.write([readings([20], {"a": [None], "b": [6.0]})])
    expected = readings([10, 20, 30], {"a": [1.0, 2.0, None], "b": [None, 6.0, None], "c": [None, 7.0, 8.0]})
    assert_equal(historian.readings(ASSET, *EVER), expected)


def test_a_narrow_stream_gives_whole_rows(historian: Historian) -> None:
    cells = [(time, tag) for time in range(50) for tag in "abcd"]
    historian.write([readings([time], {tag: [float(time)]}) for time, tag in cells])
    stored = historian.readings(ASSET, *EVER)
    assert len(stored) == 50
    assert (stored.values == np.arange(50.0)[:, None]).all()


def test_a_replay_changes_nothing(historian: Historian) -> None:
    block = readings(list(range(100)), {"a": [float(i) for i in range(100)], "b": [None, NAN] * 50})
    scored = scores(list(range(100)), [0.5, NAN] * 50)
    event = AlertEvent("a1-1", "raised", 10, alert())
    for _ in range(3):
        historian.write([block], [scored], [event])
    assert_equal(historian.readings(ASSET, *EVER), block)
    (again,) = historian.scores(ASSET, *EVER)
    assert_close(again, scored)
    assert list(historian.events("a1")) == [event]


def test_assets_keep_apart(historian: Historian) -> None:
    historian.write([readings([1], {"a": [1.0]}, asset="x"), readings([1], {"b": [2.0]}, asset="y")])
    assert historian.readings("x", *EVER).tags == ("a",)
    assert historian.assets() == ("x", "y")


def test_a_chart_keeps_every_spike_within_its_points(historian: Historian) -> None:
    rows = 10_000
    values = np.sin(np.arange(rows) / 100)
    values[4321], values[7777] = 99.0, -99.0
    block = Readings(ASSET, ("a",), np.arange(rows) * 10, values[:, None], np.zeros((rows, 1), dtype=np.uint8))
    historian.write([block])
    chart = historian.chart(ASSET, ["a", "absent"], 0, rows * 10, points=500)
    drawn = chart["a"]
    assert 200 < len(drawn) <= 500
    assert {99.0, -99.0} <= set(drawn.values[:, 0].tolist())
    assert (np.diff(drawn.times) > 0).all()
    assert len(chart["absent"]) == 0


def test_a_chart_of_few_rows_is_whole_and_shows_bad_values_as_gaps(historian: Historian) -> None:
    historian.write([readings([1, 2, 3, 4], {"a": [1.0, NAN, None, 4.0]})])
    drawn = historian.chart(ASSET, ["a"], 0, 10, points=100)["a"]
    assert drawn.times.tolist() == [1, 2, 4]
    assert drawn.quality[:, 0].tolist() == [Quality.GOOD, Quality.BAD, Quality.GOOD]


def test_a_chart_of_bad_values_only_is_no_error(historian: Historian) -> None:
    historian.write([readings(list(range(1000)), {"a": [NAN] * 1000})])
    assert 0 < len(historian.chart(ASSET, ["a"], 0, 1000, points=10)["a"]) <= 10


@given(
    times=st.lists(st.integers(0, 10**6), min_size=1, max_size=80, unique=True),
    points=st.integers(2, 30),
    data=st.data(),
)
def test_a_chart_has_the_extremes_of_the_whole_and_never_too_many_rows(
    times: list[int], points: int, data: st.DataObject
) -> None:
    cell = st.sampled_from([None, NAN, 0.0, 1.0, -5.0, 1e9])
    cells = data.draw(st.lists(cell, min_size=len(times), max_size=len(times)))
    historian = MemoryHistorian()
    historian.write([readings(times, {"a": cells})])
    drawn = historian.chart(ASSET, ["a"], *EVER, points=points)["a"]
    assert len(drawn) <= points
    assert (np.diff(drawn.times) > 0).all()
    known = [cell for cell in cells if cell is not None and not np.isnan(cell)]
    if known:
        assert np.nanmin(drawn.values) == min(known)
        assert np.nanmax(drawn.values) == max(known)


def test_scores_come_back_in_blocks_of_one_version_and_tag_list(historian: Historian) -> None:
    rules = scores([10, 20], [0.1, NAN], version="rules", rung=Rung.RULES)
    learned = scores([30, 40, 50], [0.2, 3.5, 0.123457], tags=("a", "b", "c")[:2])
    other = scores([60], [float("inf")], tags=("b",), version="v2", rung=Rung.LSTM_AUTOENCODER)
    historian.write(scores=[other, learned])
    historian.write(scores=[rules])
    blocks = historian.scores(ASSET, *EVER)
    assert len(blocks) == 3
    for block, expected in zip(blocks, (rules, learned, other), strict=True):
        assert_close(block, expected)
    (part,) = historian.scores(ASSET, 40, 60)
    assert part.times.tolist() == [40, 50]


def test_a_block_of_scores_may_hold_many_assets(historian: Historian) -> None:
    historian.write(scores=[scores([10, 10, 20], [0.1, 0.2, 0.3], assets=("x", "y", "x"))])
    (mine,) = historian.scores("x", *EVER)
    assert mine.assets == ("x", "x")
    assert mine.score.tolist() == [0.1, 0.3]


def test_a_score_written_again_overwrites(historian: Historian) -> None:
    historian.write(scores=[scores([10, 20], [0.1, 0.2])])
    historian.write(scores=[scores([20], [5.0], version="v2")])
    blocks = historian.scores(ASSET, *EVER)
    assert [(block.version, block.score.tolist()) for block in blocks] == [("v1", [0.1]), ("v2", [5.0])]


def test_latest_is_the_newest_row_of_every_asset(historian: Historian) -> None:
    historian.write(scores=[scores([30, 10, 20], [NAN, 0.1, 0.2], assets=("y", "y", "x"))])
    historian.write(scores=[scores([5], [9.0], assets=("y",))])
    first, second = historian.latest()
    assert first == ScoreSummary("x", 20, 0.2, "ok", 0.5, "window_pca", "v1", {"b": "stuck"})
    assert (second.asset, second.time, second.state) == ("y", 30, "warming_up")
    assert np.isnan(second.score)


def test_heat_is_the_highest_known_score_of_each_bucket(historian: Historian) -> None:
    historian.write(scores=[scores([0, 59, 60, 130, 200], [0.1, 2.0, NAN, 0.4, 0.3], assets=("x",) * 4 + ("y",))])
    assert historian.heat(0, 1000, bucket=60) == {"x": {0: 2.0, 120: 0.4}, "y": {180: 0.3}}
    assert historian.heat(1, 59, bucket=60) == {}
    historian.write(scores=[scores([59], [0.05], assets=("x",))])
    assert historian.heat(0, 60, bucket=60) == {"x": {0: 0.1}}


def history(name: str = "a1", raised_at: int = 10) -> list[AlertEvent]:
    raised = alert(name, raised_at=raised_at)
    steps = [
        ("raised", raised, ""),
        ("acknowledged", replace(raised, state=AlertState.ACKNOWLEDGED_ACTIVE, acknowledged_by="eva"), "eva"),
        ("closed", replace(raised, state=AlertState.CLOSED, cleared_at=99, reason="fixed"), "system"),
    ]
    return [
        AlertEvent(f"{name}-{i}", event, raised_at + i, after, actor)
        for i, (event, after, actor) in enumerate(steps, start=1)
    ]


def test_an_alert_has_the_state_of_its_newest_event_and_its_whole_history(historian: Historian) -> None:
    events = history()
    for i, event in enumerate(events, start=1):
        historian.write(events=[event])
        assert list(historian.alerts()) == [event.alert]
        assert list(historian.events("a1")) == events[:i]


def test_replayed_events_do_not_turn_back_an_alert(historian: Historian) -> None:
    events = history()
    historian.write(events=events)
    for event in events:
        historian.write(events=[event])
        assert historian.alerts()[0].state is AlertState.CLOSED
    historian.write(events=events[:2])
    assert historian.alerts()[0].state is AlertState.CLOSED
    assert list(historian.events("a1")) == events


def test_the_tenth_transition_comes_after_the_ninth(historian: Historian) -> None:
    events = [AlertEvent(f"a1-{i}", "updated", i, alert()) for i in range(1, 13)]
    historian.write(events=events[::-1])
    assert [event.time for event in historian.events("a1")] == list(range(1, 13))


def test_alerts_are_listed_newest_first_and_filtered(historian: Historian) -> None:
    historian.write(events=history("a1", 10) + history("a3", 30)[:2] + history("a2", 20)[:1])
    assert [found.id for found in historian.alerts()] == ["a3", "a2", "a1"]
    assert [found.id for found in historian.alerts(open_only=True)] == ["a3", "a2"]
    assert [found.id for found in historian.alerts(since=20)] == ["a3", "a2"]
    assert [found.id for found in historian.alerts(limit=1)] == ["a3"]


def test_a_heartbeat_overwrites_the_parts_last_one(historian: Historian) -> None:
    historian.heartbeat("score", 1, {"lag": 5})
    historian.heartbeat("train", 2, {"group": "pumps", "loss": 0.25})
    historian.heartbeat("score", 3, {"lag": 0, "rung": "rules"})
    assert historian.heartbeats() == {
        "score": Heartbeat("score", 3, {"lag": 0, "rung": "rules"}),
        "train": Heartbeat("train", 2, {"group": "pumps", "loss": 0.25}),
    }


def test_threads_may_write_and_read_at_once(historian: Historian) -> None:
    def write(name: int) -> None:
        for i in range(30):
            historian.write([readings([i], {f"t{name}": [float(i)]})], [scores([i], [0.5], assets=(f"x{name}",))])
            historian.latest()
            historian.readings(ASSET, *EVER)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = historian.readings(ASSET, *EVER)
    assert sorted(stored.tags) == ["t0", "t1", "t2", "t3"]
    assert (stored.values == np.arange(30.0)[:, None]).all()
    assert len(historian.latest()) == 4


def test_a_wide_asset_is_stored(historian: Historian) -> None:
    columns: dict[str, list[float | None]] = {f"t{i}": [float(i)] for i in range(3000)}
    historian.write([readings([1], columns)])
    assert_equal(historian.readings(ASSET, *EVER), readings([1], columns))


def test_closing_twice_is_once(historian: Historian) -> None:
    historian.close()
    historian.close()


_CELL = st.sampled_from([None, NAN, 0.0, 1.5, -2.0])


_Raw = tuple[list[int], dict[str, list[float | None]], str]


@st.composite
def _blocks(draw: st.DrawFn) -> _Raw:
    """Arguments of `readings`; built later, since shape checks use chance and Hypothesis forbids that here."""
    tags = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    times = draw(st.lists(st.integers(0, 6), max_size=5))
    cells = {tag: draw(st.lists(_CELL, min_size=len(times), max_size=len(times))) for tag in tags}
    return times, cells, draw(st.sampled_from(["x", "y"]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.lists(_blocks(), max_size=4), max_size=5))
def test_sqlite_stores_any_blocks_as_the_twin_in_memory_does(
    writes: list[list[_Raw]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    twin, sqlite = MemoryHistorian(), SqliteHistorian(tmp_path_factory.mktemp("h") / "h.db")
    for raws in writes:
        blocks = [readings(*raw) for raw in raws]
        twin.write(blocks)
        sqlite.write(blocks)
    assert twin.assets() == sqlite.assets()
    assert twin.span() == sqlite.span()
    for asset in twin.assets():
        assert_equal(sqlite.readings(asset, 0, 6), twin.readings(asset, 0, 6))
    sqlite.close()
