"""Detectors: windows of many assets in, judged scores out; states instead of numbers where nothing is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.blocks import join, rows
from anomaly.detector import (
    DIGITS,
    Detector,
    calibrate,
    fit_rolling_z,
    fit_window_pca,
    round_digits,
    rules_detector,
)
from anomaly.domain import SECOND, Asset, Role, Rung, Samples, Scores, SensorFault, State, Tag, Windows
from anomaly.errors import TooFewRowsError
from anomaly.scorers.reconstruction import Predict, Reconstruction
from anomaly.scorers.residuals import Whitening, ewma_weights
from anomaly.thresholds import Threshold
from anomaly.training_set import TrainingSet

MODE = Tag("mode", role=Role.MODE, running=(1.0,))
SIGNALS = tuple(Tag(name, "bar", low=-200.0, high=400.0) for name in ("p1", "p2", "p3", "p4", "p5", "p6"))
INFO = (*SIGNALS, MODE)
NAMES = tuple(tag.name for tag in SIGNALS)
TICK = 10 * SECOND
ASSETS = ("s/a/l/m1", "s/a/l/m2")


def machine(asset: str, count: int, seed: int, start: int = 0) -> Samples:
    """Six pressures driven by two loads, in units of its own, with a mode tag."""
    rng = np.random.default_rng(seed)
    time = np.arange(start, start + count)
    drive = np.stack([np.sin(time / 37.0), np.sin(time / 11.0 + 1.0)], axis=1)
    mixing = np.random.default_rng(8).normal(size=(2, len(NAMES)))
    signals = 100.0 + 10.0 * (drive @ mixing + rng.normal(0, 0.15, (count, len(NAMES))))
    values = np.column_stack([signals, np.ones(count)])
    seen = np.ones(values.shape, bool)
    return Samples(
        asset=asset,
        tags=(*NAMES, "mode"),
        times=(time + 1).astype(np.int64) * TICK,
        values=values,
        mask=seen,
        quality=np.zeros(values.shape, np.uint8),
        restart=np.arange(count) == 0,
        readings=np.full(count, len(NAMES) + 1, np.int64),
    )


def training_set(count: int = 1500) -> TrainingSet:
    parts = tuple(machine(asset, count, seed) for seed, asset in enumerate(ASSETS))
    return TrainingSet("pumps", NAMES, parts, tuple(np.ones(count, bool) for _ in parts), MODE)


@cache
def fitted(rung: Rung) -> Detector:
    if rung is Rung.RULES:
        return rules_detector("pumps", [Asset(path, "pumps", INFO, TICK) for path in ASSETS])
    if rung is Rung.ROLLING_Z:
        return fit_rolling_z(training_set(), INFO, "z1")
    pca = fit_window_pca(training_set(), INFO, "p1")
    if rung is Rung.WINDOW_PCA:
        return pca
    whitening = Whitening(np.ones(6), np.eye(6), ewma_weights(30))
    net = Reconstruction(30, lambda values, mask: np.zeros_like(values), whitening)
    return replace(pca, scorer=net, threshold=Threshold({}, 2.0, "by hand"), version="n1")


def seen_by(detector: Detector, samples: Samples, first: int = 60) -> Scores:
    return detector.detect(detector.windows(samples, first))


def hide(samples: Samples, which: slice, tag: int | slice) -> None:
    samples.mask[which, tag] = False
    samples.values[which, tag] = np.nan
    samples.quality[which, tag] = 3


every_rung = pytest.mark.parametrize("rung", list(Rung))
learned = pytest.mark.parametrize("rung", [Rung.ROLLING_Z, Rung.WINDOW_PCA])


@every_rung
def test_a_score_is_finite_exactly_where_the_state_is_ok(rung: Rung) -> None:
    samples = machine(ASSETS[0], 300, 5)
    hide(samples, slice(100, 140), slice(0, 5))
    hide(samples, slice(200, 210), slice(0, 6))
    samples.values[250:255, 6] = 0.0
    scores = seen_by(fitted(rung), samples, 0)
    ok = np.array([state is State.OK for state in scores.state])
    np.testing.assert_array_equal(np.isfinite(scores.score), ok)
    np.testing.assert_allclose(scores.contributions.sum(axis=1), ok.astype(float), atol=1e-4)
    assert {State.OK, State.INSUFFICIENT_COVERAGE, State.OFF} <= set(scores.state)
    assert not scores.anomalous[~ok].any()
    assert np.isnan(scores.expected[~ok]).all()
    assert ((scores.coverage >= 0) & (scores.coverage <= 1)).all()


@learned
def test_a_day_of_normal_rows_raises_hardly_an_alarm(rung: Rung) -> None:
    scores = seen_by(fitted(rung), machine(ASSETS[0], 3000, 6, start=1500))
    assert scores.anomalous.mean() < 0.005
    assert 0.1 < np.nanmedian(scores.score) < 0.8


@learned
def test_a_fault_of_the_machine_goes_over_the_line_and_names_its_tags(rung: Rung) -> None:
    samples = machine(ASSETS[1], 400, 7)
    samples.values[300:, 1:4] += [120.0, -60.0, 60.0]  # several tags at once: the machine, and not a sensor's spike
    scores = seen_by(fitted(rung), samples, 300)
    assert scores.anomalous[:5].all()
    assert scores.contributions[:5, 1:4].sum(axis=1).min() > 0.8
    np.testing.assert_array_equal(scores.actual[:5, 1], samples.values[300:305, 1])


def test_window_pca_says_what_it_expected_in_the_tags_unit() -> None:
    samples = machine(ASSETS[0], 400, 8)
    healthy = samples.values[350, 2]
    samples.values[350, 2] += 25.0
    scores = seen_by(fitted(Rung.WINDOW_PCA), samples, 350)
    assert abs(scores.expected[0, 2] - healthy) < 12.0
    assert scores.actual[0, 2] == healthy + 25.0


def test_a_slow_drift_of_one_sensor_is_isolated_and_a_fault_of_the_machine_is_not() -> None:
    detector, drifting, failing = fitted(Rung.WINDOW_PCA), machine(ASSETS[0], 500, 9), machine(ASSETS[0], 500, 9)
    drifting.values[200:, 3] += np.linspace(0, 40, 300)
    failing.values[200:, :4] += np.linspace(0, 40, 300)[:, None] * [1.0, -1.0, 1.0, -1.0]
    one, many = (seen_by(detector, samples, 400) for samples in (drifting, failing))
    assert one.anomalous.all()
    assert many.anomalous.all()
    assert (one.isolated < 1.0).mean() > 0.95
    assert (one.contributions.argmax(axis=1) == 3).all()
    assert (many.isolated > 1.0).all()


@every_rung
def test_isolated_is_unknown_wherever_nothing_is_over_the_line(rung: Rung) -> None:
    scores = seen_by(fitted(rung), machine(ASSETS[0], 300, 10))
    assert np.isnan(scores.isolated[~scores.anomalous]).all()


@pytest.mark.parametrize("rung", [Rung.RULES, Rung.ROLLING_Z])
def test_what_judges_tag_by_tag_never_accuses_a_sensor(rung: Rung) -> None:
    samples = machine(ASSETS[0], 300, 11)
    samples.values[200:, :3] += 330.0 if rung is Rung.RULES else 250.0
    scores = seen_by(fitted(rung), samples, 200)
    assert scores.anomalous[:3].any()
    assert np.isnan(scores.isolated).all()


@every_rung
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_score_depends_on_nothing_but_its_window(rung: Rung, data: st.DataObject) -> None:
    """Any choice, order and number of windows of any assets: the same bits, isolated and all."""
    detector = fitted(rung)
    everything = mixed_windows(rung)
    picked = data.draw(st.lists(st.integers(0, len(everything) - 1), min_size=1, max_size=150))
    alone, among = detector.detect(everything), detector.detect(rows(everything, np.array(picked)))
    for name in ("score", "contributions", "expected", "actual", "coverage", "isolated"):
        np.testing.assert_array_equal(getattr(among, name), getattr(alone, name)[picked], err_msg=name)
    assert among.state == tuple(alone.state[n] for n in picked)


@cache
def mixed_windows(rung: Rung) -> Windows:
    """Windows of two assets, healthy, faulty, half blind, off."""
    found = []
    for seed, asset in enumerate(ASSETS):
        samples = machine(asset, 160, 20 + seed)
        samples.values[100:120, 2] += 40.0
        hide(samples, slice(110, 150), 4)
        hide(samples, slice(130, 134), slice(0, 5))
        samples.values[150:152, 6] = 0.0
        found.append(fitted(rung).windows(samples, 80))
    return join(found)


@every_rung
def test_the_stream_in_pieces_gives_the_scores_of_the_whole(rung: Rung) -> None:
    detector, samples = fitted(rung), machine(ASSETS[0], 220, 30)
    samples.values[150:, 0] += 30.0
    whole = seen_by(detector, samples, 100)
    pieces = [detector.detect(rows(detector.windows(samples, 100), slice(n, n + 1))) for n in range(120)]
    np.testing.assert_array_equal(whole.score, np.concatenate([piece.score for piece in pieces]))


@every_rung
def test_no_windows_give_no_scores(rung: Rung) -> None:
    samples = machine(ASSETS[0], 50, 31)
    scores = fitted(rung).detect(fitted(rung).windows(samples, len(samples)))
    assert len(scores) == 0
    assert scores.contributions.shape == (0, len(NAMES))


def test_a_missing_sensor_leaves_the_rest_judged_at_the_same_level() -> None:
    detector = fitted(Rung.WINDOW_PCA)
    whole, without = machine(ASSETS[0], 1500, 32), machine(ASSETS[0], 1500, 32)
    hide(without, slice(0, 1500), 5)
    one, other = seen_by(detector, whole), seen_by(detector, without)
    assert np.nanmedian(other.score) == pytest.approx(np.nanmedian(one.score), rel=0.15)
    assert other.anomalous.mean() < 0.01
    np.testing.assert_allclose(other.coverage, 5 / 6, atol=1e-4)
    assert (one.coverage == 1.0).all()
    assert (other.contributions[:, 5] == 0).all()
    assert np.isnan(other.actual[:, 5]).all()
    assert (other.faults[:, 5] == SensorFault.MISSING).all()


@every_rung
def test_a_last_row_with_too_few_tags_is_not_judged_by_the_rows_before(rung: Rung) -> None:
    samples = machine(ASSETS[0], 200, 33)
    hide(samples, slice(199, 200), slice(0, 4))
    scores = seen_by(fitted(rung), samples, 199)
    assert scores.state == (State.INSUFFICIENT_COVERAGE,)
    assert np.isnan(scores.score).all()


def always(number: float) -> Predict:
    return lambda values, mask: np.full_like(values, number)


def test_a_scorer_that_cannot_tell_makes_a_state_and_never_a_number() -> None:
    whitening = Whitening(np.ones(6), np.eye(6), ewma_weights(30))
    for bad in (np.nan, np.inf, -np.inf):
        net = Reconstruction(30, always(bad), whitening)
        scores = seen_by(replace(fitted(Rung.WINDOW_PCA), scorer=net), machine(ASSETS[0], 100, 34), 90)
        assert set(scores.state) == {State.INSUFFICIENT_COVERAGE}
        assert np.isnan(scores.score).all()
        assert (scores.contributions == 0).all()


def test_each_asset_is_judged_by_its_own_line() -> None:
    detector = fitted(Rung.WINDOW_PCA)
    assert set(detector.threshold.lines) == set(ASSETS)
    doubled = replace(detector, threshold=Threshold({ASSETS[0]: 2.0}, 4.0, "by hand"))
    samples = machine(ASSETS[0], 200, 35)
    stranger = replace(samples, asset=ASSETS[1])
    one, other = seen_by(doubled, samples), seen_by(doubled, stranger)
    same_scaler = replace(doubled, scaler=replace(doubled.scaler, center={}, scale={}))
    one, other = seen_by(same_scaler, samples), seen_by(same_scaler, stranger)
    np.testing.assert_allclose(one.score, 2 * other.score, rtol=1e-5)


def test_an_asset_never_seen_is_scored_by_the_groups_scaling() -> None:
    scores = seen_by(fitted(Rung.WINDOW_PCA), machine("s/a/l/new", 300, 36))
    assert np.isfinite(scores.score).all()


@every_rung
def test_scores_carry_six_significant_digits(rung: Rung) -> None:
    scores = seen_by(fitted(rung), machine(ASSETS[0], 100, 37))
    assert scores.score.tolist() == [float(f"{score:.{DIGITS}g}") for score in scores.score.tolist()]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_twice_changes_nothing_more(number: float) -> None:
    once = round_digits(np.array([number]))
    np.testing.assert_array_equal(round_digits(once), once)


# --- fitting


def test_fitted_twice_the_same_detector_comes_out() -> None:
    one, other = (fit_window_pca(training_set(400), INFO, "v") for _ in range(2))
    samples = machine(ASSETS[0], 200, 40)
    np.testing.assert_array_equal(seen_by(one, samples).score, seen_by(other, samples).score)
    assert one.threshold == other.threshold


def test_a_fit_knows_where_it_comes_from() -> None:
    detector = fitted(Rung.WINDOW_PCA)
    assert (detector.group, detector.version, detector.rung) == ("pumps", "p1", Rung.WINDOW_PCA)
    assert (detector.trained_from, detector.trained_until) == (TICK, 1500 * TICK)
    assert detector.tick == TICK
    assert detector.mode == MODE


def test_the_line_comes_from_rows_left_out_of_the_fit() -> None:
    """A model of many parameters on few rows: its training errors are small, its line must not be."""
    rng = np.random.default_rng(41)
    part = machine(ASSETS[0], 150, 41)
    part.values[:, :6] = 100.0 + rng.normal(size=(150, 6))
    short = TrainingSet("pumps", NAMES, (part,), (np.ones(150, bool),), MODE)
    detector = fit_window_pca(short, INFO, "v")
    fresh = machine(ASSETS[0], 1000, 42)
    fresh.values[:, :6] = 100.0 + rng.normal(size=(1000, 6))
    assert seen_by(detector, fresh).anomalous.mean() < 0.02


@pytest.mark.parametrize("fit", [fit_window_pca, fit_rolling_z])
def test_too_few_normal_rows_are_refused_with_a_count(fit: object) -> None:
    assert callable(fit)
    whole = training_set(40)
    with pytest.raises(TooFewRowsError, match="normal"):
        fit(whole, INFO, "v")
    none = replace(training_set(500), normal=(np.zeros(500, bool), np.zeros(500, bool)))
    with pytest.raises(TooFewRowsError, match="normal"):
        fit(none, INFO, "v")


@pytest.mark.parametrize("count", [130, 200, 400])
def test_a_short_history_is_enough_for_a_working_detector(count: int) -> None:
    detector = fit_window_pca(training_set(count), INFO, "v")
    samples = machine(ASSETS[0], 600, 43, start=count)
    samples.values[550:, 0] += 60.0 if count > 150 else 100.0
    scores = seen_by(detector, samples)
    assert scores.anomalous[:490].mean() < 0.1
    assert scores.anomalous[-40:].all()


def test_rows_that_are_not_normal_are_not_learned_from() -> None:
    whole = training_set(800)
    for part, normal in zip(whole.samples, whole.normal, strict=True):
        part.values[300:400, 0] += 80.0
        normal[300:400] = False
    samples = machine(ASSETS[0], 200, 44)
    samples.values[100:, 0] += 80.0
    scores = seen_by(fit_window_pca(whole, INFO, "v"), samples, 100)
    assert scores.anomalous[5:].all()  # for the first rows it might be a spike of the sensor


def test_a_tag_that_was_never_seen_in_training_does_not_break_the_fit() -> None:
    whole = training_set(400)
    for part in whole.samples:
        hide(part, slice(0, 400), 5)
    scores = seen_by(fit_window_pca(whole, INFO, "v"), machine(ASSETS[0], 200, 45))
    assert np.isfinite(scores.score).all()


def test_a_machine_that_stood_still_in_training_alarms_when_it_moves() -> None:
    part = machine(ASSETS[0], 400, 46)
    part.values[:, :6] = 5.0
    detector = fit_window_pca(TrainingSet("pumps", NAMES, (part,), (np.ones(400, bool),), MODE), INFO, "v")
    moving = machine(ASSETS[0], 200, 46)
    moving.values[:, :6] = 5.0
    moving.values[150:, 2:4] = 9.0
    assert not seen_by(detector, moving, 60).anomalous[:90].any()
    assert seen_by(detector, moving, 150).anomalous[0]


def test_calibrate_gives_the_lines_of_a_scorer_from_held_back_rows() -> None:
    detector = fitted(Rung.WINDOW_PCA)
    lines = calibrate(detector.scorer, detector.scaler, detector.sensors, training_set().split().held_back)
    assert set(lines.lines) == set(ASSETS)
    assert lines.default == pytest.approx(detector.threshold.default, rel=0.5)
    tight = calibrate(
        detector.scorer, detector.scaler, detector.sensors, training_set().split().held_back, budget_per_week=50.0
    )
    assert tight.default <= lines.default


# --- rules


def plant(*tags: Tag, path: str = ASSETS[0]) -> Asset:
    return Asset(path, "pumps", (*tags, MODE), TICK)


def rule_scores(detector: Detector, values: Sequence[float | None]) -> Scores:
    samples = machine(ASSETS[0], len(values), 50)
    samples.values[:, 0] = [np.nan if value is None else value for value in values]
    samples.mask[:, 0] = [value is not None for value in values]
    return seen_by(detector, samples, 0)


def test_rules_need_no_data_and_score_one_at_the_limit() -> None:
    scores = rule_scores(rules_detector("pumps", [plant(Tag("p1", low=0.0, high=100.0))]), [50, 75, 100, 0, 110, -10])
    np.testing.assert_allclose(scores.score, [0.0, 0.5, 1.0, 1.0, 1.2, 1.2])
    assert scores.anomalous.tolist() == [False, False, False, False, True, True]
    assert scores.expected[4, 0] == 100.0
    assert scores.expected[5, 0] == 0.0
    assert scores.rung is Rung.RULES


def test_far_beyond_its_range_the_instrument_is_not_believed() -> None:
    detector = rules_detector("pumps", [plant(Tag("p1", low=0.0, high=100.0))])
    scores = rule_scores(detector, [50.0] * 60 + [9999.0])
    assert scores.faults[-1, 0] == SensorFault.OUT_OF_RANGE
    assert scores.state[-1] is State.INSUFFICIENT_COVERAGE


def test_without_a_single_limit_rules_know_nothing() -> None:
    scores = rule_scores(rules_detector("pumps", [plant(Tag("p1"), Tag("p2"))]), [1.0, 2.0, 3.0])
    assert set(scores.state) == {State.INSUFFICIENT_COVERAGE}
    assert np.isnan(scores.score).all()


def test_if_only_tags_without_limits_are_seen_rules_know_nothing() -> None:
    detector = rules_detector("pumps", [plant(Tag("p1", high=100.0), Tag("p2"), Tag("p3"))])
    scores = rule_scores(detector, [50.0, None])
    assert scores.state[0] is State.OK
    assert scores.state[1] is State.INSUFFICIENT_COVERAGE


def test_each_asset_has_its_own_limits_and_borrows_the_ones_it_lacks() -> None:
    assets = [
        plant(Tag("p1", low=0.0, high=100.0)),
        plant(Tag("p1", low=0.0, high=200.0), path=ASSETS[1]),
        plant(Tag("p1"), path="s/a/l/m3"),
    ]
    detector = rules_detector("pumps", assets)
    samples = machine(ASSETS[0], 1, 51)
    samples.values[:, 0] = 110.0
    scores = [seen_by(detector, replace(samples, asset=asset.path), 0).score[0] for asset in assets]
    np.testing.assert_allclose(scores, [1.2, 0.1, 0.1], atol=1e-6)


def test_a_group_without_assets_or_tags_is_a_detector_that_knows_nothing() -> None:
    assert rules_detector("none", []).tags == ()


def test_the_core_loads_no_net_library() -> None:
    code = (
        "import sys, anomaly.detector, anomaly.training_set, anomaly.scorers.reconstruction;"
        "print([m for m in ('keras', 'tensorflow', 'onnxruntime', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
