"""Sensors broken on purpose: only in the rows judged, the same for the same seed, and blamed as sensors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import ConfigurationError
from pipelines.breaking import DRIFT_ROWS, DRIFT_SPREADS, Breakage, Way, breakage_of, broken
from pipelines.commands.evaluate import evaluate
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, clock, part, readings_of, stamps_of
from pipelines.evaluating import Asked
from pipelines.evaluating import evaluate as run_model
from pipelines.instruments import Instruments, summary_of_instruments

TAGS = tuple("abcdef")
ROWS, LEARNED = 1_600, 1_000


def values(seed: int = 0) -> np.ndarray:
    """Six tags that hang together by two loads, the last one constant."""
    chance = np.random.default_rng(seed)
    time = np.arange(ROWS)
    loads = np.stack([np.sin(time / 15.0), np.sin(time / 4.0)], axis=1)
    found = loads @ np.random.default_rng(7).normal(size=(2, 6)) + chance.normal(0, 0.1, (ROWS, 6)) + 20.0
    found[:, 5] = 3.0
    return np.asarray(found)


def task(name: str = "pump", fault: bool = False) -> Task:
    found = values()
    labels = np.zeros(ROWS, bool)
    if fault:
        labels[1_500:1_560] = True
        found[1_500:1_560, :2] += 6.0
    rows = readings_of(name, TAGS, clock(ROWS, SECOND), found)
    learned = np.arange(ROWS) < LEARNED
    series = Series(name, rows, stamps_of(rows.times), labels, learned)
    return Task(name, TAGS, SECOND, part(rows, slice(LEARNED)), (series,))


def bench(fault: bool = False) -> Bench:
    return Bench("made-up", Protocol(Summary.MEAN, 20), (task("pump", fault), task("fan", fault)))


def silent(_what: str, _share: float) -> None:
    """Tell nobody."""


def same(one: Readings, other: Readings) -> bool:
    return np.array_equal(one.values, other.values, equal_nan=True) and np.array_equal(one.quality, other.quality)


@pytest.mark.parametrize(
    ("text", "says"),
    [("mising:2", "did you mean 'missing'"), ("stuck:x", "'x' is no number"), ("", "WAY:TAGS"), ("drift:-1", "'-1'")],
)
def test_a_breakage_that_is_none_is_refused_with_the_mend(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        breakage_of(text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Way)), st.integers(0, 9), st.integers(0, 50))
def test_only_the_chosen_tags_from_the_onset_on_are_altered(way: Way, count: int, seed: int) -> None:
    one = task()
    series = one.series[0]
    found = broken(series, Breakage(way, count), one.train, seed)
    assert len(found.tags) == min(count, len(TAGS))
    ours = np.isin(TAGS, found.tags)
    before = np.arange(ROWS) < found.since
    np.testing.assert_array_equal(found.series.rows.values[:, ~ours], series.rows.values[:, ~ours])
    np.testing.assert_array_equal(found.series.rows.values[before], series.rows.values[before])
    assert found.since >= LEARNED
    assert same(series.rows, task().series[0].rows)  # the original is untouched
    assert same(found.series.rows, broken(series, Breakage(way, count), one.train, seed).series.rows)


def test_each_way_does_what_it_says() -> None:
    one = task()
    series = one.series[0]
    gone = broken(series, Breakage(Way.MISSING, 2), one.train, 0)
    columns = [TAGS.index(tag) for tag in gone.tags]
    assert gone.since == LEARNED
    assert np.isnan(gone.series.rows.values[LEARNED:, columns]).all()
    assert (gone.series.rows.quality[LEARNED:, columns] == Quality.MISSING).all()
    stuck = broken(series, Breakage(Way.STUCK, 1), one.train, 0)
    column = TAGS.index(stuck.tags[0])
    assert set(stuck.series.rows.values[stuck.since :, column]) == {series.rows.values[stuck.since, column]}
    adrift = broken(series, Breakage(Way.DRIFT, 1), one.train, 0)
    column = TAGS.index(adrift.tags[0])
    moved = np.abs(adrift.series.rows.values - series.rows.values)[adrift.since :, column]
    low, high = np.quantile(one.train.values[:, column], [0.05, 0.95])
    assert moved[-1] == pytest.approx(DRIFT_SPREADS * (high - low) / 3.29)
    np.testing.assert_allclose(np.diff(moved[:DRIFT_ROWS]), moved[-1] / DRIFT_ROWS)
    np.testing.assert_allclose(moved[DRIFT_ROWS:], moved[-1])


def test_another_seed_and_another_series_break_other_tags() -> None:
    one = task()
    by_seed = {broken(one.series[0], Breakage(Way.STUCK, 2), one.train, seed).tags for seed in range(10)}
    assert len(by_seed) > 3
    other = replace(one.series[0], name="another")
    pairs = [
        tuple(broken(which, Breakage(Way.STUCK, 2), one.train, seed).since for seed in range(5))
        for which in (one.series[0], other)
    ]
    assert pairs[0] != pairs[1]


def test_a_constant_tag_is_broken_last() -> None:
    one = task()
    for seed in range(20):
        assert "f" not in broken(one.series[0], Breakage(Way.STUCK, 5), one.train, seed).tags


def test_a_stuck_sensor_keeps_the_holes_it_had_and_repeats_a_value_that_was_seen() -> None:
    one = task()
    rows = one.series[0].rows
    holes = rows.values.copy()
    holes[1_000::7] = np.nan
    quality = np.where(np.isfinite(holes), rows.quality, Quality.MISSING).astype(np.uint8)
    series = replace(one.series[0], rows=replace(rows, values=holes, quality=quality))
    found = broken(series, Breakage(Way.STUCK, 6), one.train, 3)
    np.testing.assert_array_equal(np.isnan(found.series.rows.values), np.isnan(holes))
    assert np.isfinite(np.nanmax(found.series.rows.values, axis=0)).all()


def test_missing_sensors_are_told_of_as_sensors_and_coverage_says_so() -> None:
    found = run_model(bench(), "window_pca", 0, silent, Asked(breakage_of("missing:2")))
    *rows, summary = found.instruments
    assert [row.series for row in rows] == ["pump", "fan"]
    assert summary.coverage == pytest.approx(4 / 6, abs=0.05)
    assert summary.flagged > 0.98
    assert (summary.found, summary.broken) == (4, 4)
    assert summary.process_alerts == 0
    assert summary.insufficient == 0.0
    assert summary.healthy_flagged < 0.02


def test_with_most_sensors_gone_it_says_that_it_cannot_tell() -> None:
    found = run_model(bench(), "window_pca", 0, silent, Asked(breakage_of("missing:4")))
    assert found.instruments[-1].insufficient > 0.9
    assert np.isnan(found.scores[0].score[-100:]).all()


def test_a_stuck_sensor_is_accused_and_the_machine_is_not() -> None:
    found = run_model(bench(), "window_pca", 0, silent, Asked(breakage_of("stuck:1")))
    summary = found.instruments[-1]
    assert (summary.found, summary.broken) == (2, 2)
    assert summary.flagged > 0.8
    assert summary.process_alerts == 0


def test_a_drift_that_no_check_sees_is_accused_or_confused_and_the_table_says_which() -> None:
    still, adrift = (
        run_model(bench(), "window_pca", 0, silent, Asked(breakage_of(how))).instruments[0]
        for how in ("drift:0", "drift:1")
    )
    assert adrift.flagged < 0.05
    assert still.process_rows < 0.01
    assert still.process_alerts == 0
    assert adrift.found + adrift.process_alerts >= 1
    assert adrift.process_rows > still.process_rows or adrift.found == 1


def test_nothing_broken_is_the_run_that_the_others_are_held_against() -> None:
    plain = run_model(bench(fault=True), "window_pca", 0, silent)
    found = run_model(bench(fault=True), "window_pca", 0, silent, Asked(breakage_of("missing:0")))
    np.testing.assert_array_equal(plain.scores[0].score, found.scores[0].score)
    assert plain.instruments == ()
    assert found.instruments[-1].broken == 0
    assert math.isnan(found.instruments[-1].flagged)
    assert found.instruments[0].as_json()["flagged"] is None


def test_the_summary_adds_counts_and_averages_shares() -> None:
    blank = Instruments("x", "", "m", 0, "stuck:1")
    rows = [
        replace(blank, series="a", broken=1, found=1, coverage=0.5, wrongly_accused=2),
        replace(blank, series="b", broken=2, found=0, coverage=1.0, process_alerts=3),
    ]
    found = summary_of_instruments(rows, blank)
    assert (found.broken, found.found, found.wrongly_accused, found.process_alerts) == (3, 1, 2, 3)
    assert found.coverage == 0.75
    assert math.isnan(found.flagged)


def test_the_command_prints_the_table_of_broken_sensors_and_writes_it(tmp_path: Path) -> None:
    home = tmp_path / "data" / "pump"
    home.mkdir(parents=True)
    one = task()
    for name, rows in (("train", slice(0, LEARNED)), ("test", slice(LEARNED, None))):
        cells = part(one.series[0].rows, rows)
        lines = [
            ",".join([stamp, *(f"{v:.5f}" for v in row), "0"])
            for stamp, row in zip(stamps_of(cells.times), cells.values, strict=True)
        ]
        (home / f"{name}.csv").write_text("\n".join([f"timestamp,{','.join(TAGS)},label", *lines]) + "\n")
    app = typer.Typer()
    app.command()(evaluate)
    out = tmp_path / "figures.json"
    arguments = ["csv", "--data", str(tmp_path / "data"), "--model", "window_pca", "--break", "stuck:1", "--json"]
    found = CliRunner().invoke(app, [*arguments, str(out), "--seeds", "2"])
    assert found.exit_code == 0, found.output
    told = json.loads(out.read_text())
    assert set(told) == {"versions", "rows", "instruments"}
    assert [(row["series"], row["seed"]) for row in told["instruments"]] == [
        ("pump", 0), ("all", 0), ("pump", 1), ("all", 1)
    ]  # fmt: skip
    assert told["instruments"][0]["how"] == "stuck:1"
    assert "sensors broken on purpose" in found.output
    assert "process alerts" in found.output
