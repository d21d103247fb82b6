"""One check-suite over every scorer: whoever adds a scorer adds a line to `SCORERS` and inherits all of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.domain import Rung, Tag
from anomaly.errors import ConfigurationError
from anomaly.scorers import BATCH, Raw, Scorer, State, score_in_batches
from anomaly.scorers.forecast import fit_forecast
from anomaly.scorers.hotelling import Hotelling, fit_hotelling_model
from anomaly.scorers.isolation_forest import IsolationForest, fit_isolation_forest_model, forest_of
from anomaly.scorers.mean_error import MeanError
from anomaly.scorers.panel import Models, Panel, with_growth
from anomaly.scorers.reconstruction import Reconstruction, fit_reconstruction
from anomaly.scorers.residuals import Whitening, ewma_weights, fit_whitening, smoothed
from anomaly.scorers.rolling_z import RollingZ, fit_rolling_z_scorer
from anomaly.scorers.rules import Rules, rules_for, rules_scaling
from anomaly.scorers.scales import SHARES, fit_scale, level_of
from anomaly.scorers.window_pca import SPAN, WindowPca, fit_window_pca_model

TAGS = 5
LENGTH = 30


def rows(count: int, seed: int) -> np.ndarray:
    """A machine of five tags driven by one slow load and one faster one, scaled to about sd 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) + rng.integers(0, 1000)
    drive = np.stack([np.sin(time / 40.0), np.sin(time / 7.0)], axis=1)
    mixing = np.random.default_rng(5).normal(size=(2, TAGS))
    return np.asarray(drive @ mixing + rng.normal(0.0, 0.2, (count, TAGS)))


def windows(count: int, seed: int, length: int = LENGTH) -> np.ndarray:
    view = np.lib.stride_tricks.sliding_window_view(rows(count + length - 1, seed), length, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1)).astype(np.float32)


def seen(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape, bool)


def redraw(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Stands in for a net: every tag drawn from the other four, row by row."""
    truth = rows(2000, 99)
    drawn = np.zeros_like(values)
    for tag in range(TAGS):
        others = [other for other in range(TAGS) if other != tag]
        weights = np.linalg.lstsq(truth[:, others], truth[:, tag], rcond=None)[0]
        drawn[..., tag] = sum(values[..., o] * np.float32(w) for o, w in zip(others, weights, strict=True))
    return drawn


def fit_pca(training: np.ndarray, mask: np.ndarray) -> WindowPca:
    half = len(training) // 2
    model = fit_window_pca_model(training[:half, -SPAN:], mask[:half, -SPAN:], length=LENGTH)
    return model.whitened(fit_whitening(model.residual(training[half:], mask[half:])[0], mask[half:, SPAN - 1 :]))


@dataclass(frozen=True)
class Case:
    """How a scorer is fitted, rebuilt, and how well it must tell faults on correlated tags from normal rows."""

    fit: Callable[[np.ndarray, np.ndarray], Scorer]
    rebuild: Callable[[State], Scorer]
    least_auc: float
    rung: Rung
    least_blamed: float = 0.95
    not_promised: frozenset[str] = frozenset()
    """What a rival cannot do, by the names that tests ask for: that is why it is one."""


def limits(_values: np.ndarray, _mask: np.ndarray) -> Scorer:
    return rules_for([Tag(f"t{n}", low=-3.0, high=3.0) for n in range(TAGS)])


def fit_the_panel(values: np.ndarray, mask: np.ndarray) -> Panel:
    """The linear views on the first half, their spread on the second."""
    half, quarter = len(values) // 2, len(values) * 3 // 4
    following, ahead = (fit_forecast(values[:half], mask[:half], horizon, 3) for horizon in (1, 10))
    pca = fit_window_pca_model(values[:half, -SPAN:], mask[:half, -SPAN:], length=LENGTH)
    models = Models(pca, following, ahead)
    blocks = [models.residuals(values[s], mask[s], None)[0] for s in (slice(half, quarter), slice(quarter, None))]
    scales = {}
    for view in blocks[0]:
        found = []
        for share in SHARES:
            levels = [(level_of(*block[view], share), block[view][1][:, -1]) for block in blocks]
            found.append(fit_scale(levels, share, blocks[0][view][0].shape[1])[0])
        scales[view] = tuple(found)
    return with_growth(Panel(LENGTH, models, scales, 0.25), values[half:], mask[half:], None)


NET = frozenset({"hidden", "missing"})
"""A net is given zeros where masked; how it fares without a tag is trained (channel dropout), not built in."""

SCORERS = {
    "rules": Case(limits, Rules.from_state, 0.6, Rung.RULES),
    "rolling z": Case(fit_rolling_z_scorer, RollingZ.from_state, 0.6, Rung.ROLLING_Z),
    "window-PCA": Case(fit_pca, WindowPca.from_state, 0.95, Rung.WINDOW_PCA),
    "reconstruction": Case(
        lambda values, mask: fit_reconstruction(redraw, values, mask),
        lambda state: Reconstruction.from_state(state, redraw),
        0.95,
        Rung.LSTM_AUTOENCODER,
        not_promised=NET,
    ),
    "hotelling": Case(fit_hotelling_model, Hotelling.from_state, 0.95, Rung.WINDOW_PCA),
    "isolation forest": Case(
        fit_isolation_forest_model,
        IsolationForest.from_state,
        0.7,
        Rung.WINDOW_PCA,
        least_blamed=0.85,
        not_promised=frozenset({"missing", "still", "last row"}),
    ),
    "mean error": Case(
        lambda _values, _mask: MeanError(LENGTH, redraw),
        lambda state: MeanError.from_state(state, redraw),
        0.6,
        Rung.LSTM_AUTOENCODER,
        not_promised=NET | {"last row"},
    ),
    "panel": Case(fit_the_panel, lambda state: Panel.from_state(state, None), 0.95, Rung.LSTM_AUTOENCODER),
}


@cache
def fitted(name: str) -> Scorer:
    training = windows(1200, seed=1)
    return SCORERS[name].fit(training, seen(training))


def score(scorer: Scorer, values: np.ndarray, mask: np.ndarray | None = None) -> Raw:
    """Score windows cut to the scorer's length."""
    whole = seen(values) if mask is None else mask
    return score_in_batches(scorer, values[:, -scorer.length :], whole[:, -scorer.length :])


def same(one: Raw, other: Raw) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def auc(normal: np.ndarray, strange: np.ndarray) -> float:
    above = (strange[:, None] > normal[None, :]).mean() + 0.5 * (strange[:, None] == normal[None, :]).mean()
    return float(above)


every_scorer = pytest.mark.parametrize("name", sorted(SCORERS))


def promised(name: str, what: str) -> None:
    if what in SCORERS[name].not_promised:
        pytest.skip(f"{name} does not promise it")


@every_scorer
def test_it_says_which_rung_it_is_and_fits_the_protocol(name: str) -> None:
    scorer = fitted(name)
    assert scorer.rung is SCORERS[name].rung
    assert isinstance(scorer, Scorer)
    assert 1 <= scorer.length <= LENGTH


@every_scorer
def test_fitted_twice_on_the_same_rows_it_scores_the_same(name: str) -> None:
    training = windows(600, seed=2)
    one, other = (SCORERS[name].fit(training.copy(), seen(training)) for _ in range(2))
    assert same(score(one, windows(100, 3)), score(other, windows(100, 3)))


@every_scorer
def test_rebuilt_from_its_state_it_scores_the_same(name: str) -> None:
    scorer = fitted(name)
    rebuilt = SCORERS[name].rebuild(scorer.state())
    values, mask = windows(100, 3), np.random.default_rng(0).random((100, LENGTH, TAGS)) < 0.9
    assert same(score(scorer, values * mask, mask), score(rebuilt, values * mask, mask))
    assert all(np.asarray(part).dtype.kind in "bif" for part in scorer.state().values())


@every_scorer
def test_faults_score_higher_than_normal_rows(name: str) -> None:
    normal = windows(400, seed=4)
    strange = normal.copy()
    strange[np.arange(400), -1, np.arange(400) % TAGS] += 2.0
    result = auc(score(fitted(name), normal).raw, score(fitted(name), strange).raw)
    assert result > SCORERS[name].least_auc


@every_scorer
def test_the_tag_with_the_fault_is_blamed(name: str) -> None:
    strange = windows(200, seed=5)
    strange[:, -1, 3] += 15.0
    assert (score(fitted(name), strange).contributions.argmax(axis=1) == 3).mean() > SCORERS[name].least_blamed


@every_scorer
def test_a_score_counts_the_last_row_and_not_what_came_long_before(name: str) -> None:
    promised(name, "last row")
    now, past = windows(1, seed=6), windows(1, seed=6)
    now[0, -1, 2] += 8.0
    past[0, 2, 2] += 8.0
    assert score(fitted(name), now).raw[0] > 2 * score(fitted(name), past).raw[0]


@every_scorer
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_contributions_sum_to_one_and_spare_what_was_not_seen(name: str, share: float) -> None:
    mask = np.random.default_rng(1).random((128, LENGTH, TAGS)) >= share
    raw = score(fitted(name), windows(128, 7) * mask, mask)
    known = np.isfinite(raw.raw)
    assert (raw.contributions >= 0).all()
    np.testing.assert_allclose(raw.contributions.sum(axis=1), known.astype(float), atol=1e-9)
    assert (raw.contributions[~mask[:, -1]] == 0).all()
    assert (raw.raw[known] >= 0).all()


@every_scorer
def test_nothing_seen_is_nan_and_never_a_zero(name: str) -> None:
    raw = score(fitted(name), np.zeros((3, LENGTH, TAGS), np.float32), np.zeros((3, LENGTH, TAGS), bool))
    assert np.isnan(raw.raw).all()
    assert (raw.contributions == 0).all()


@every_scorer
def test_what_is_hidden_under_the_mask_does_not_matter(name: str) -> None:
    """Even NaN: windows hold 0.0 there, but a scorer must not come to rely on it."""
    promised(name, "hidden")
    mask = np.random.default_rng(2).random((64, LENGTH, TAGS)) < 0.8
    clean = windows(64, 8)
    assert same(score(fitted(name), clean * mask, mask), score(fitted(name), np.where(mask, clean, np.nan), mask))


@every_scorer
@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_machine_standing_perfectly_still_can_be_fitted_and_scored(name: str, constant: float) -> None:
    promised(name, "still")
    still = np.full((200, LENGTH, TAGS), constant, np.float32)
    scorer = SCORERS[name].fit(still, seen(still))
    raw = score(scorer, still[:5])
    moved = still[:5].copy()
    moved[:, -1, 1] += 4.0
    assert np.isfinite(raw.raw).all()
    assert (score(scorer, moved).raw > raw.raw).all()
    assert np.isfinite(score(scorer, moved).raw).all()


@every_scorer
def test_huge_values_still_give_a_number(name: str) -> None:
    """The soft clip lets 1e30 sigmas through as about 680."""
    far = windows(4, 9)
    far[:, -1, 0] = 680.0
    far[:, :, 1] = -680.0
    assert np.isfinite(score(fitted(name), far).raw).all()


@every_scorer
def test_a_missing_tag_neither_raises_nor_lowers_normal_scores(name: str) -> None:
    promised(name, "missing")
    normal = windows(1500, seed=10)
    usual = score(fitted(name), normal).raw
    for tag in range(TAGS):
        mask = seen(normal)
        mask[:, :, tag] = False
        without = score(fitted(name), normal * mask, mask).raw
        if name == "rules":
            assert (without <= usual).all()  # the worst of fewer tags
        else:
            assert np.median(without) == pytest.approx(np.median(usual), rel=0.2)
            assert np.quantile(without, 0.95) == pytest.approx(np.quantile(usual, 0.95), rel=0.3)


@every_scorer
@settings(max_examples=25, deadline=None)
@given(
    picked=st.lists(st.integers(0, 39), min_size=1, max_size=2 * BATCH + 3),
    holes=st.integers(0, 3),
)
def test_a_score_depends_neither_on_its_batch_nor_on_its_place(name: str, picked: list[int], holes: int) -> None:
    """Bit-equal, for any choice, order and number of companions, with and without missing cells."""
    mask = np.random.default_rng(holes).random((40, LENGTH, TAGS)) >= 0.1 * holes
    values = windows(40, 11) * mask
    alone = score(fitted(name), values, mask)
    among = score(fitted(name), values[picked], mask[picked])
    assert same(among, Raw(*(part[picked] for part in alone)))


# --- what only one of them promises


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_window_pca_is_bit_equal_even_without_fixed_batches(picked: list[int]) -> None:
    values, scorer = windows(40, 12), fitted("window-PCA")
    alone = scorer.score(values, seen(values))
    assert same(scorer.score(values[picked], seen(values[picked])), Raw(*(part[picked] for part in alone)))


def test_window_pca_imputes_a_missing_tag_from_the_others() -> None:
    values = windows(300, 13)
    mask = seen(values)
    mask[:, :, 2] = False
    expected = score(fitted("window-PCA"), values * mask, mask).expected[:, 2]
    assert np.corrcoef(expected, values[:, -1, 2])[0, 1] > 0.9


def test_window_pca_learns_from_rows_with_holes() -> None:
    training = windows(1200, 14)
    mask = np.random.default_rng(3).random(training.shape) < 0.85
    with_holes, whole = fit_pca(training * mask, mask), fit_pca(training, seen(training))
    normal, strange = windows(300, 15), windows(300, 15)
    strange[:, -1, 1] += 2.0
    assert auc(score(with_holes, normal).raw, score(with_holes, strange).raw) > 0.95
    one, other = (score(model, normal).expected[:, 1] for model in (with_holes, whole))
    assert np.corrcoef(one, other)[0, 1] > 0.98


def test_window_pca_finds_a_small_lasting_deviation_that_one_row_cannot_show() -> None:
    """The slow scale: ten rows of a bias below the noise of each."""
    normal, brief, lasting = windows(400, 16), windows(400, 16), windows(400, 16)
    brief[:, -1, 0] += 0.3
    lasting[:, -20:, 0] += 0.3
    scores = [score(fitted("window-PCA"), values).raw for values in (normal, brief, lasting)]
    assert auc(scores[0], scores[2]) > auc(scores[0], scores[1]) + 0.05


def test_a_net_that_draws_nan_says_that_it_does_not_know() -> None:
    broken = Reconstruction(LENGTH, lambda values, mask: np.full_like(values, np.nan), unit())
    raw = score(broken, windows(3, 17))
    assert np.isnan(raw.raw).all()
    assert (raw.contributions == 0).all()


def unit() -> Whitening:
    return Whitening(np.ones(TAGS), np.eye(TAGS), ewma_weights(LENGTH))


def test_tags_without_a_limit_are_not_judged_by_rules() -> None:
    scorer = rules_for([Tag("a"), Tag("b", high=1.0)])
    values = np.array([[[99.0, 0.5]], [[99.0, 0.5]]], np.float32)
    raw = scorer.score(values, np.array([[[True, True]], [[True, False]]]))
    assert raw.raw[0] == pytest.approx(0.5)
    assert raw.contributions[0].tolist() == [0.0, 1.0]
    assert np.isnan(raw.raw[1])


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0.1, 1e6), st.sampled_from(["low", "high"]))
def test_a_value_at_its_limit_scores_exactly_one(low: float, size: float, side: str) -> None:
    for tag in (Tag("t", low=low, high=low + size), Tag("t", low=low), Tag("t", high=low + size)):
        limit = tag.low if side == "low" else tag.high
        if limit is not None:
            centre, scale = rules_scaling(tag)
            value = np.array([[[(limit - centre) / scale]]], np.float32)
            assert rules_for([tag]).score(value, np.ones((1, 1, 1), bool)).raw[0] == pytest.approx(1.0)


def test_beyond_a_limit_the_rule_expects_the_limit() -> None:
    scorer = rules_for([Tag("t", low=0.0, high=1.0)])
    values = np.array([[[1.4]], [[-3.0]], [[0.2]]], np.float32)
    expected = scorer.score(values, np.ones((3, 1, 1), bool)).expected[:, 0]
    assert expected[:2].tolist() == [1.0, -1.0]
    assert np.isnan(expected[2])


def test_a_rolling_z_needs_enough_rows_of_a_tag_before_it_judges_it() -> None:
    values = windows(1, 18)
    mask = seen(values)
    mask[0, :-4, 0] = False
    values[0, -1, 0] = 50.0
    raw = score(fitted("rolling z"), values * mask, mask)
    assert raw.contributions[0, 0] == 0.0
    assert np.isnan(raw.expected[0, 0])


def test_smoothing_keeps_its_size_when_rows_are_missing() -> None:
    noise = np.random.default_rng(4).normal(size=(20_000, 12, 1))
    weights = ewma_weights(12)
    mask = np.random.default_rng(5).random(noise.shape) < 0.5
    mask[:, -1] = True
    assert smoothed(noise, mask, weights).std() == pytest.approx(smoothed(noise, seen(noise), weights).std(), rel=0.03)


# --- rivals


def test_hotelling_is_the_textbooks_t_squared_and_q() -> None:
    """Against the formulas written out by eigenvectors of the covariance, for one row at a time."""
    training, normal = windows(1200, seed=1)[:, -1], windows(50, seed=20)
    spread, axes = np.linalg.eigh(np.cov(training.T.astype(float), bias=True))
    spread, axes = spread[::-1], axes[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(spread) / spread.sum(), 0.9)) + 1
    expected = []
    for row in normal[:, -1].astype(float) - training.mean(axis=0, dtype=float):
        along = axes.T @ row
        t_squared, q = (along[:kept] ** 2 / spread[:kept]).sum(), (along[kept:] ** 2).sum()
        expected.append(math.sqrt((t_squared / kept + q / spread[kept:].sum()) / 2))
    np.testing.assert_allclose(score(fitted("hotelling"), normal).raw, expected, rtol=1e-6)


def test_hotelling_finds_a_broken_relation_that_no_tag_shows_alone() -> None:
    normal = windows(400, 21)
    strange = normal.copy()
    strange[:, -1] = np.roll(strange[:, -1], 57, axis=0)[:, [0, 1, 2, 3, 4]]
    strange[:, -1, 2] = normal[:, -1, 2]
    assert auc(score(fitted("hotelling"), normal).raw, score(fitted("hotelling"), strange).raw) > 0.8


def test_the_forest_scores_as_scikit_learn_does() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    training, strange = windows(1500, 22)[:, -1], windows(200, 23)[:, -1]
    strange[::2] += np.random.default_rng(0).normal(0, 2, strange[::2].shape).astype(np.float32)
    grown = ensemble.IsolationForest(n_estimators=100, random_state=3).fit(training)
    np.testing.assert_allclose(forest_of(grown).anomaly(strange), -grown.score_samples(strange), rtol=1e-9)


def test_a_forest_of_another_seed_is_another_one() -> None:
    training, normal = windows(600, 24), windows(50, 25)
    one, other = (score(fit_isolation_forest_model(training, seen(training), seed), normal).raw for seed in (0, 1))
    assert (one != other).any()


def test_without_scikit_learn_the_forest_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    training = windows(100, 26)
    with pytest.raises(ConfigurationError, match=r"plantwatch\[rivals\]"):
        fit_isolation_forest_model(training, seen(training))


def test_the_mean_error_hears_an_old_fault_as_loudly_as_a_new_one() -> None:
    """Its flaw, pinned: this is what the default's last-row errors are measured against."""
    now, past = windows(1, seed=6), windows(1, seed=6)
    now[0, -1, 2] += 8.0
    past[0, 2, 2] += 8.0
    one, other = (score(fitted("mean error"), values).raw[0] for values in (now, past))
    assert one == pytest.approx(other, rel=0.2)


@pytest.mark.parametrize("view", ["pca", "following", "ahead"])
def test_windows_that_follow_one_another_share_their_steps_and_nothing_else_changes(view: str) -> None:
    """In one call, a step that many windows hold is reckoned once: the bits are those of each window alone."""
    panel, rng = fitted("panel"), np.random.default_rng(5)
    assert isinstance(panel, Panel)
    model, length = getattr(panel.models, view), panel.length
    there = rng.random((length + 20, TAGS)) > 0.05
    there[:, 1] = rng.random(len(there)) > 0.5
    there[: length + 5, 2] = False
    cells = np.where(there, rows(len(there), 6), 0.0).astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view
    values, mask = (np.ascontiguousarray(cut(part, length, axis=0).transpose(0, 2, 1)) for part in (cells, there))
    values[7] *= np.float32(1.5)  # it follows nobody, and nobody follows it
    together = model.residual(values, mask)
    for number in range(len(values)):
        one = slice(number, number + 1)
        for among, alone in zip(together, model.residual(values[one], mask[one]), strict=True):
            np.testing.assert_array_equal(among[one], alone)
