"""The cold-start ladder: what to fit next, and when a rung is fitted anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import Rung
from pipelines.ladder import LadderPolicy, next_step

POLICY = LadderPolicy(window_pca_rows=100, lstm_rows=1_000, growth=4.0, settled_rows=20_000)
PCA, NET = Rung.WINDOW_PCA, Rung.LSTM_AUTOENCODER


def rung(rows: int, fitted: dict[Rung, int]) -> Rung | None:
    step = next_step(POLICY, rows, fitted)
    return None if step is None else step.rung


def test_nothing_is_fitted_before_there_is_something_to_learn_from() -> None:
    assert rung(99, {}) is None
    assert rung(100, {}) is PCA


def test_the_net_is_never_fitted_before_the_rung_below() -> None:
    assert rung(50_000, {}) is PCA
    assert rung(50_000, {PCA: 100}) is NET
    assert rung(999, {PCA: 100 * 4}) is None


def test_a_rung_is_fitted_anew_when_its_data_have_grown_fourfold() -> None:
    assert rung(399, {PCA: 100}) is None
    assert rung(400, {PCA: 100}) is PCA
    assert rung(3_999, {PCA: 100, NET: 1_000}) is None
    assert rung(4_000, {PCA: 100, NET: 1_000}) is NET


def test_once_a_net_serves_the_rung_below_is_left_alone() -> None:
    assert rung(3_999, {PCA: 100, NET: 1_000}) is None


def test_enough_is_enough() -> None:
    assert rung(10**9, {PCA: 100, NET: 20_000}) is None


def test_the_reason_names_the_figures() -> None:
    step = next_step(POLICY, 4_000, {PCA: 100, NET: 1_000})
    assert step is not None
    assert step.reason == "data have grown from 1000 to 4000 rows"


@given(st.lists(st.integers(0, 3_000), max_size=200))
def test_a_growing_plant_is_fitted_a_few_times_and_then_no_more(growth: list[int]) -> None:
    """Each step that is taken makes the next one wait: at most a handful of fits a group in its whole life."""
    rows, fitted, fits = 0, dict[Rung, int](), 0
    for more in growth:
        rows += more
        for _ in range(3):
            step = next_step(POLICY, rows, fitted)
            if step is not None:
                fitted[step.rung] = rows
                fits += 1
        assert next_step(POLICY, rows, fitted) is None
    assert fits <= 9
