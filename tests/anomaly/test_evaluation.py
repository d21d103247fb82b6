"""Figures against slow, obvious twins: what is reported of a detector must be beyond doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from anomaly.domain import SECOND
from anomaly.evaluation import (
    CONTROLS,
    Counts,
    blame,
    count,
    delays,
    events_hit,
    false_onsets,
    hit_rate,
    oracle_f1,
    per_day,
    runs,
    tradeoff,
    vus_pr,
)
from anomaly.vus import THRESHOLDS, soft_labels

flags = st.lists(st.booleans(), min_size=1, max_size=60)


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with events and normal rows, and scores that often tie."""
    rows = draw(st.integers(2, 50))
    labels = np.zeros(rows, bool)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, rows - 1))
        labels[start : start + draw(st.integers(1, 8))] = True
    labels[draw(st.integers(0, rows - 1))] = False
    levels = draw(st.sampled_from([3, 1000]))
    score = np.array(draw(st.lists(st.integers(0, levels), min_size=rows, max_size=rows)), float)
    return labels, score


def slow_vus_pr(labels: np.ndarray, score: np.ndarray, window: int) -> float:
    """The published definition, row by row and threshold by threshold."""
    rows = len(labels)
    events = [
        (start, stop)
        for start in range(rows)
        for stop in range(start, rows)
        if labels[start : stop + 1].all()
        and (start == 0 or not labels[start - 1])
        and (stop == rows - 1 or not labels[stop + 1])
    ]
    falling = sorted(score.tolist(), reverse=True)
    levels = dict.fromkeys(falling[int(rank)] for rank in np.linspace(0, rows - 1, THRESHOLDS))
    areas = []
    for width in range(window + 1):
        reach = width // 2
        soft = []
        for row in range(rows):
            near = [max(start - row, row - stop) for start, stop in events]
            slopes = sum(math.sqrt(1 - d / width) for d in near if 0 < d <= reach)
            soft.append(min(1.0, float(labels[row]) + slopes))
        groups: list[set[int]] = []
        for start, stop in events:
            cells = set(range(max(start - reach, 0), min(stop + reach, rows - 1) + 1))
            if groups and groups[-1] & cells:
                groups[-1] |= cells
            else:
                groups.append(cells)
        area, before = 0.0, 0.0
        for level in levels:
            chosen = [row for row in range(rows) if score[row] >= level]
            true = sum(soft[row] for row in chosen)
            wanted = (
                labels.sum() + sum(max(float(labels[r]), soft[r] if r in chosen else 0.0) for r in range(rows))
            ) / 2
            touched = sum(any(row in cells for row in chosen) for cells in groups) / len(groups)
            recall = min(true / wanted, 1.0) * touched
            area += (recall - before) * true / len(chosen)
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@settings(max_examples=60, deadline=None)
@given(labelled_scores(), st.integers(0, 9))
def test_vus_pr_is_what_the_definition_says(case: tuple[np.ndarray, np.ndarray], window: int) -> None:
    labels, score = case
    if not labels.any():
        assert math.isnan(vus_pr(labels, score, window))
        return
    assert vus_pr(labels, score, window) == pytest.approx(slow_vus_pr(labels, score, window), abs=1e-12)


@pytest.mark.parametrize(
    ("window", "known"), [(0, 0.6460410830999066), (4, 0.679662431054503), (10, 0.7605598758833971)]
)
def test_vus_pr_gives_the_numbers_of_tsb_ad(window: int, known: float) -> None:
    """Reckoned once with TSB-AD 1.5, `generate_curve(labels, score, window)[-1]`."""
    labels = np.zeros(40, bool)
    labels[[8, 9, 10, 25, 26, 27, 28, 38, 39]] = True
    score = (np.arange(40) * 7 % 11).astype(float) + 3.0 * labels
    assert vus_pr(labels, score, window) == pytest.approx(known, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_without_a_buffer_and_with_one_event_it_is_average_precision(seed: int, rows: int) -> None:
    chance = np.random.default_rng(seed)
    labels = np.zeros(rows, bool)
    labels[: int(chance.integers(1, rows))] = True
    score = chance.permutation(rows).astype(float)
    assert vus_pr(labels, score, 0) == pytest.approx(average_precision_score(labels, score))


def test_unknown_scores_rank_below_all_others() -> None:
    labels = np.array([False, True, True, False])
    assert vus_pr(labels, np.array([0.1, np.nan, 2.0, 0.3]), 2) == vus_pr(labels, np.array([0.1, -5.0, 2.0, 0.3]), 2)
    assert 0.0 < vus_pr(labels, np.full(4, np.nan), 2) < 1.0


def test_a_series_of_one_kind_of_rows_has_no_vus_pr() -> None:
    assert math.isnan(vus_pr(np.zeros(3, bool), np.arange(3.0), 2))
    assert math.isnan(vus_pr(np.ones(3, bool), np.arange(3.0), 2))
    with pytest.raises(ValueError, match="expected"):
        vus_pr(np.array([True, False]), np.arange(2.0), -1)


def test_soft_labels_add_up_between_events_but_never_beyond_one() -> None:
    labels = np.array([True, False, True])
    assert soft_labels(labels, 2).tolist() == [1.0, 1.0, 1.0]
    assert soft_labels(labels, 1).tolist() == [1.0, 0.0, 1.0]


@given(flags)
def test_runs_rebuild_the_flags(values: list[bool]) -> None:
    built = np.zeros(len(values), bool)
    for start, stop in runs(np.array(values)):
        assert not built[max(start - 1, 0) : stop].any()
        built[start:stop] = True
    assert built.tolist() == values


@settings(deadline=None)
@given(flags, st.integers(0, 2**32 - 1))
def test_counts_agree_with_the_textbook(values: list[bool], seed: int) -> None:
    labels = np.array(values)
    alarms = np.random.default_rng(seed).random(len(labels)) < 0.5
    found = count(labels, alarms)
    assert found.hits + found.false + found.missed + found.quiet == len(labels)
    if labels.any():
        assert found.f1 == pytest.approx(f1_score(labels, alarms, zero_division=0.0))
        assert found.recall + found.mar == pytest.approx(1.0)
    else:
        assert math.isnan(found.f1)
        assert math.isnan(found.recall)


def test_pooled_figures_are_of_summed_counts_and_no_mean() -> None:
    one, other = Counts(hits=1, missed=0, quiet=1), Counts(hits=0, false=3, missed=9, quiet=0)
    assert (one + other).f1 == pytest.approx(2 / (2 + 3 + 9))
    assert (one + other).far == pytest.approx(3 / 4)
    assert math.isnan(Counts(missed=2).precision)
    assert Counts(missed=2).f1 == 0.0


@settings(deadline=None)
@given(labelled_scores())
def test_the_oracle_is_the_best_of_all_lines(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, score = case
    score[::7] = np.nan
    lines = [line - 0.5 for line in np.unique(score[np.isfinite(score)])]
    best = max((count(labels, np.nan_to_num(score, nan=-1.0) > line).f1 for line in lines), default=0.0)
    assert oracle_f1(labels, score) == pytest.approx(best, nan_ok=True)


def test_events_count_once_and_only_if_a_row_of_theirs_is_in_alarm() -> None:
    labels = np.array([1, 1, 0, 1, 0, 1, 1], bool)
    assert events_hit(labels, np.array([0, 1, 1, 0, 0, 1, 1], bool)) == 2
    assert events_hit(labels, np.array([0, 0, 1, 0, 1, 0, 0], bool)) == 0


def test_a_delay_is_charged_from_the_first_row_of_the_event() -> None:
    labels = np.array([0, 1, 1, 1, 1, 0, 1], bool)
    alarms = np.array([1, 0, 1, 0, 1, 0, 0], bool)
    times = np.array([0, 10, 25, 30, 40, 50, 60]) * SECOND
    assert delays(labels, alarms, times) == (15.0,)
    assert delays(labels, alarms, times, consecutive=2) == ()
    assert delays(labels, np.ones(7, bool), times, consecutive=1) == (0.0, 0.0)


@pytest.mark.parametrize(("merge_s", "onsets"), [(0, 3), (20, 3), (21, 2), (1000, 1)])
def test_alarms_close_together_begin_once(merge_s: int, onsets: int) -> None:
    alarms = np.array([1, 0, 1, 1, 0, 0, 0, 1], bool)
    assert false_onsets(np.zeros(8, bool), alarms, np.arange(8) * 10 * SECOND, merge_s * SECOND) == onsets


def test_an_alarm_that_begins_in_an_event_is_not_false_however_long_it_lasts() -> None:
    labels = np.array([0, 1, 0, 0, 0, 0], bool)
    alarms = np.array([0, 1, 1, 1, 0, 1], bool)
    times = np.arange(6) * SECOND
    assert false_onsets(labels, alarms, times) == 1
    assert false_onsets(labels, alarms, times, merge=3 * SECOND) == 0


def test_onsets_a_day_are_of_normal_time() -> None:
    assert per_day(3, 1440, 60 * SECOND) == pytest.approx(3.0)
    assert math.isnan(per_day(0, 0, SECOND))


def test_controls_are_as_bad_as_they_should_be() -> None:
    labels = np.arange(4_000) % 400 >= 360
    found = {name: make(4_000, 500, 3) for name, make in CONTROLS.items()}
    always = count(labels, found["constant"] > 1.0)
    assert always.f1 == pytest.approx(2 * 0.1 / 1.1)
    assert (found["row_number"] > 1.0).all()
    assert (np.diff(found["row_number"]) > 0).all()
    assert (found["random"] > 1.0).mean() == pytest.approx(0.5, abs=0.03)
    assert vus_pr(labels, found["random"], 0) == pytest.approx(0.1, abs=0.02)
    assert (CONTROLS["random"](9, 5, 1) == CONTROLS["random"](9, 5, 1)).all()
    assert (CONTROLS["random"](9, 5, 1) != CONTROLS["random"](9, 5, 2)).any()


# ------------------------------------------------------------------ who was to blame


def hit_rate_by_hand(blamed: list[float], causes: set[int], percent: int) -> float:
    """HitRate@P% as OmniAnomaly's paper words it: hits among the first ⌊P% × |causes|⌋, over |causes|."""
    ranked = sorted(range(len(blamed)), key=lambda tag: (-blamed[tag], tag))
    first = ranked[: percent * len(causes) // 100]
    return len([tag for tag in first if tag in causes and blamed[tag] > 0]) / len(causes)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20).flatmap(
        lambda blamed: st.tuples(st.just(blamed), st.sets(st.integers(0, len(blamed) - 1), min_size=1))
    ),
    st.sampled_from([100, 150]),
)
def test_the_hit_rate_is_that_of_the_paper(case: tuple[list[float], set[int]], percent: int) -> None:
    blamed, causes = case
    labelled = np.isin(np.arange(len(blamed)), list(causes))
    assert hit_rate(np.array(blamed), labelled, percent / 100) == pytest.approx(
        hit_rate_by_hand(blamed, causes, percent)
    )


@pytest.mark.parametrize(
    ("blamed", "labelled", "at_100", "at_150"),
    [
        ([0.6, 0.3, 0.1, 0.0], [1, 1, 0, 0], 1.0, 1.0),
        ([0.6, 0.1, 0.3, 0.0], [1, 1, 0, 0], 0.5, 1.0),
        ([0.0, 0.1, 0.9], [1, 0, 0], 0.0, 0.0),
        ([0.0, 0.0, 0.0], [1, 1, 0], 0.0, 0.0),
        ([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1], 0.0, 0.5),
    ],
)
def test_hit_rates_that_were_reckoned_by_hand(
    blamed: list[float], labelled: list[int], at_100: float, at_150: float
) -> None:
    found = [hit_rate(np.array(blamed), np.array(labelled, bool), reach) for reach in (1.0, 1.5)]
    assert found == [at_100, at_150]


def test_without_a_labelled_tag_there_is_no_hit_rate() -> None:
    assert np.isnan(hit_rate(np.array([1.0]), np.array([False])))


def test_blame_weighs_a_row_by_its_score_up_to_ten_lines() -> None:
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [np.nan, np.nan]])
    found = blame(shares, np.array([500.0, 3.0, 4.0, np.nan]))
    assert found.tolist() == [10.0, 7.0]


def test_the_tradeoff_is_the_same_figures_at_every_line() -> None:
    chance = np.random.default_rng(0)
    labels = np.zeros(500, bool)
    labels[100:130] = labels[300:320] = True
    score = chance.exponential(0.3, 500) + labels * chance.exponential(1.0, 500)
    score[::50] = np.nan
    times, lines = np.arange(500) * SECOND, np.linspace(0.0, 3.0, 13)
    daily, recall = tradeoff(labels, score, times, SECOND, lines, merge=5 * SECOND)
    for number, line in enumerate(lines):
        alarms = np.nan_to_num(score, nan=-1.0) > line
        assert daily[number] == pytest.approx(per_day(false_onsets(labels, alarms, times, 5 * SECOND), 450, SECOND))
        assert recall[number] == sum(alarms[a:b].any() for a, b in ((100, 130), (300, 320))) / 2
    assert (np.diff(recall) <= 0).all()
