"""Thresholds: they keep the budget on rows they never saw, and stay sane on few, heavy-tailed or dirty ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anomaly.domain import SECOND
from anomaly.errors import ModelRefused, TooFewRowsError
from anomaly.thresholds import Threshold, highest
from anomaly.thresholds.budget import (
    DEVIATIONS,
    LEAST_LINE,
    OWN_ROWS,
    WEEK,
    budget_line,
    chance_of,
    fit_threshold,
    rows_per_peak,
)
from anomaly.thresholds.control import control_line, control_lines
from anomaly.thresholds.peaks_over_threshold import REACH, SHAPES, Tail, fit_tail
from anomaly.thresholds.quantile import log_scores, quantile_line, robust_line

TICK = 10 * SECOND


def normal_scores(rows: int, seed: int, spread: float = 0.3, memory: float = 0.0) -> np.ndarray:
    """Raw scores as whitened scorers give them: log-normal around 2, consecutive ones alike if `memory` > 0."""
    noise = np.random.default_rng(seed).normal(size=rows)
    for row in range(1, rows):
        noise[row] = memory * noise[row - 1] + np.sqrt(1 - memory**2) * noise[row]
    return np.asarray(2.0 * np.exp(spread * noise))


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_a_week_of_normal_rows_stays_near_the_budget(memory: float) -> None:
    """Two days to calibrate, a week unseen: one false alert a week is wanted, some few are borne."""
    line = budget_line(normal_scores(17_280, 1, memory=memory), 1.0, TICK)
    over = normal_scores(WEEK // TICK, 2, memory=memory) > line
    alerts = int(((np.diff(over.astype(int)) == 1).sum()) + over[0])
    assert alerts <= 15
    assert line < 2.0 * np.exp(0.3 * 4.6)  # and not bought by a line that nothing can reach


@pytest.mark.parametrize("rows", [100, 300, 3000])
def test_the_line_moves_little_from_one_calibration_to_the_next(rows: int) -> None:
    lines = np.log([budget_line(normal_scores(rows, seed, memory=0.8), 1.0, TICK) for seed in range(30)])
    assert lines.std() < {100: 0.4, 300: 0.25, 3000: 0.15}[rows]


def test_heavy_tails_raise_the_line_above_what_the_spread_alone_says() -> None:
    """ln s with a Laplace tail: with many peaks seen, the tail is believed (within its cap)."""
    rng = np.random.default_rng(3)
    scores = np.exp(rng.laplace(0.7, 0.3, 60_000))
    spread_only = robust_line(scores, 3.6)
    line = budget_line(scores, 1.0, TICK)
    assert spread_only < line < spread_only**2
    assert (np.exp(rng.laplace(0.7, 0.3, 60_000)) > line).sum() < (scores > spread_only).sum() / 2


def test_a_few_contaminated_rows_do_not_carry_the_line_away() -> None:
    clean = normal_scores(2000, 4)
    dirty = clean.copy()
    dirty[500:520] = 500.0
    assert budget_line(dirty, 1.0, TICK) < 1.8 * budget_line(clean, 1.0, TICK)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1e6) | st.just(np.nan) | st.just(np.inf)))
def test_any_scores_give_a_line_that_can_be_divided_by(raw: np.ndarray) -> None:
    if not np.isfinite(raw).any():
        with pytest.raises(TooFewRowsError, match="normal rows"):
            budget_line(raw, 1.0, TICK)
    else:
        line = budget_line(raw, 1.0, TICK)
        assert LEAST_LINE <= line < np.inf
        assert Threshold({}, line, "").line("any") == line


def test_a_smaller_budget_never_lowers_the_line() -> None:
    for seed in range(10):
        raw = normal_scores(1000, seed, memory=0.5)
        lines = [budget_line(raw, budget, TICK) for budget in (100.0, 10.0, 1.0, 0.1)]
        assert lines == sorted(lines)


def test_a_machine_standing_still_gets_the_least_line() -> None:
    assert budget_line(np.zeros(500), 1.0, TICK) == LEAST_LINE


def test_chance_follows_budget_tick_and_length_of_peaks() -> None:
    assert chance_of(1.0, TICK) * (WEEK // TICK) == pytest.approx(1.0)
    assert chance_of(2.0, TICK, 5.0) == pytest.approx(10 * chance_of(1.0, TICK))
    assert chance_of(1e9, TICK) == 0.05
    assert chance_of(0.0, TICK) > 0.0


def test_alike_neighbours_make_long_peaks() -> None:
    assert rows_per_peak(normal_scores(5000, 5)) < 1.6
    assert rows_per_peak(normal_scores(5000, 5, memory=0.95)) > 3.0


def test_an_asset_with_few_rows_shares_the_pooled_line() -> None:
    raws = {"a": normal_scores(OWN_ROWS, 6), "b": 3 * normal_scores(1000, 7), "c": normal_scores(OWN_ROWS - 1, 8)}
    found = fit_threshold(raws, 1.0, TICK)
    assert set(found.lines) == {"a", "b"}
    assert found.line("b") > found.line("a")
    assert found.line("c") == found.line("never seen") == found.default


def test_unknown_scores_do_not_count_as_rows() -> None:
    raws = {"a": np.concatenate([normal_scores(100, 9), np.full(400, np.nan)])}
    assert not fit_threshold(raws, 1.0, TICK).lines
    with pytest.raises(TooFewRowsError, match="longer normal period"):
        fit_threshold({"a": np.full(9, np.nan)}, 1.0, TICK)
    with pytest.raises(TooFewRowsError):
        fit_threshold({}, 1.0, TICK)


def test_the_tail_of_a_pareto_is_found() -> None:
    """ln s exponential with scale 0.2: shape 0, and the line where the distribution says."""
    raw = np.exp(np.random.default_rng(10).exponential(0.2, 50_000))
    tail = fit_tail(raw)
    assert tail.shape == pytest.approx(0.0, abs=0.05)
    assert np.log(tail.line(1e-5)) == pytest.approx(-0.2 * np.log(1e-5), rel=0.1)


@pytest.mark.parametrize("raw", [np.ones(3), np.array([1.0]), np.array([1.0, 2.0]), np.zeros(50)])
def test_the_tail_of_next_to_nothing_is_its_own_level(raw: np.ndarray) -> None:
    assert np.isfinite(fit_tail(raw).line(1e-6))


@settings(max_examples=100, deadline=None)
@given(st.floats(*SHAPES), st.floats(0.01, 2.0), st.integers(10, 10_000))
def test_a_rarer_row_is_higher_and_the_reach_ends_somewhere(shape: float, scale: float, rows: int) -> None:
    tail = Tail(0.0, scale, shape, max(rows // 10, 1), rows)
    lines = [tail.line(chance) for chance in (1e-2, 1e-3, 1e-4, 1e-9, 1e-12)]
    assert lines == sorted(lines)
    assert tail.line(1e-12) == tail.line(0.5 / (REACH * rows))


def test_the_robust_line_ignores_five_percent_of_dirt_and_the_quantile_does_not() -> None:
    raw = normal_scores(2000, 11)
    dirty = raw.copy()
    dirty[:80] = 1e6
    assert robust_line(dirty, DEVIATIONS[0]) < 1.6 * robust_line(raw, DEVIATIONS[0])
    assert quantile_line(dirty, 0.99) == 1e6


def test_zero_and_unknown_scores_have_a_place_in_the_logarithm() -> None:
    assert np.isfinite(log_scores(np.array([0.0, 1.0, np.nan]))).all()
    assert len(log_scores(np.array([0.0, 1.0, np.nan]))) == 2


def test_a_threshold_travels_as_json() -> None:
    line = Threshold({"s/a": 2.0}, 3.0, "by hand")
    assert Threshold.from_dict(json.loads(json.dumps(line.to_dict()))) == line


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_line_nothing_can_be_divided_by_is_refused(bad: float) -> None:
    with pytest.raises(ModelRefused, match="above 0"):
        Threshold({"a": bad}, 1.0, "")
    with pytest.raises(ModelRefused, match="above 0"):
        Threshold({}, bad, "")


@pytest.mark.parametrize("plain", [{}, {"lines": {}}, {"lines": [], "default": 1.0}, {"default": 1.0}])
def test_what_is_no_threshold_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ModelRefused, match="Train again"):
        Threshold.from_dict(plain)


def test_a_threshold_knows_what_is_typical_of_the_rows_it_was_found_from() -> None:
    chance = np.random.default_rng(3)
    raws = {"a": chance.lognormal(0.0, 0.2, 900), "b": chance.lognormal(1.0, 0.2, 900)}
    found = fit_threshold(raws, 1.0, 10 * SECOND)
    scores = np.concatenate([raw / found.line(asset) for asset, raw in raws.items()])
    assert found.typical == pytest.approx(float(np.median(scores)))
    assert 0.1 < (found.typical or 0.0) < 0.9
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict()))).typical == found.typical


@pytest.mark.parametrize("told", [{}, {"typical": None}, {"typical": 0.0}, {"typical": "0.3"}, {"typical": -1}])
def test_a_threshold_without_a_typical_score_is_one_all_the_same(told: dict[str, object]) -> None:
    plain = Threshold({"a": 2.0}, 3.0, "budget", 0.4).to_dict()
    del plain["typical"]
    assert Threshold.from_dict(plain | told).typical is None


def test_of_several_thresholds_the_middle_one_says_what_is_typical() -> None:
    assert highest([Threshold({}, 1.0, "x", 0.2), Threshold({}, 2.0, "x"), Threshold({}, 3.0, "x", 0.4)]).typical == (
        pytest.approx(0.3)
    )


def test_a_control_line_is_three_deviations_out_on_few_rows_and_knows_the_tail_of_many() -> None:
    few = normal_scores(300, 3)
    logs = np.log(few)
    middle, high = np.quantile(logs, [0.5, 0.95])
    plain = float(np.exp(middle + 3.0 * (high - middle) / 1.645))
    assert plain <= control_line(few, 1.0, TICK) <= plain**1.15
    heavy = np.exp(np.random.default_rng(4).standard_t(4, 40_000) * 0.2)
    middle, high = np.quantile(np.log(heavy), [0.5, 0.95])
    assert np.log(control_line(heavy, 1.0, TICK)) - middle > 1.15 * 3.0 * (high - middle) / 1.645
    assert control_line(heavy, 0.1, TICK) > control_line(heavy, 1.0, TICK) > control_line(heavy, 50.0, TICK)


def test_control_lines_are_each_assets_own_where_it_has_rows_enough() -> None:
    raws = {"calm": normal_scores(2_000, 5), "wild": normal_scores(2_000, 6) ** 2, "new": normal_scores(50, 7)}
    lines = control_lines(raws, 1.0, TICK)
    assert lines.line("wild") > lines.line("calm")
    assert set(lines.lines) == {"calm", "wild"}
    assert lines.typical is not None
    assert 0.0 < lines.typical < 1.0
    with pytest.raises(TooFewRowsError):
        control_lines({"none": np.array([np.nan])}, 1.0, TICK)
