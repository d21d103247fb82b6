"""Training sets: what is learned from, and that nothing learned from is ever calibrated on."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.cross_fit import raw_by_asset
from anomaly.domain import SECOND, Role, Samples, Tag
from anomaly.errors import DataError, TooFewRowsError
from anomaly.scaling import Scaler, fit_scaler
from anomaly.scorers.rules import rules_for
from anomaly.sensors import default_limits
from anomaly.training_set import FOLDS, TrainingSet

TAGS = ("a", "b")
MODE = Tag("mode", role=Role.MODE, running=(1.0,))
LIMITS = default_limits([Tag("a", role=Role.STATUS), Tag("b", role=Role.STATUS), MODE])


def segment(asset: str, rows: int, start: int = 0, seed: int = 0) -> Samples:
    """Rows whose first tag holds the row's own number, so that a test can tell where a window came from."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(start, start + rows, dtype=float)
    values = np.stack([numbers, rng.normal(size=rows), np.ones(rows)], axis=1)
    seen = np.ones(values.shape, bool)
    return Samples(
        asset=asset,
        tags=(*TAGS, "mode"),
        times=np.arange(start, start + rows, dtype=np.int64) * 10 * SECOND,
        values=values,
        mask=seen,
        quality=np.zeros(values.shape, np.uint8),
        restart=np.arange(rows) == 0,
        readings=np.full(rows, 3, np.int64),
    )


def training(*parts: Samples, normal: list[np.ndarray] | None = None) -> TrainingSet:
    return TrainingSet("g", TAGS, parts, tuple(normal or [np.ones(len(p), bool) for p in parts]), MODE)


def plain_scaler(rows: int) -> Scaler:
    """Numbers below `rows` come out between 0 and 1."""
    size = np.array([float(rows), 1.0])
    return Scaler(TAGS, {}, {}, np.zeros(2), size)


def numbers(part: TrainingSet) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for samples in part.samples:
        found.setdefault(samples.asset, []).extend(samples.values[:, 0].tolist())
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 80)), min_size=1, max_size=8))
def test_every_row_lands_in_exactly_one_part_of_a_split(pieces: list[tuple[str, int]]) -> None:
    parts, offset = [], 0
    for asset, rows in pieces:
        parts.append(segment(asset, rows, offset))
        offset += rows
    whole = training(*parts)
    split = whole.split()
    for asset, all_rows in numbers(whole).items():
        three = [numbers(part).get(asset, []) for part in (split.fit, split.stopping, split.calibration)]
        assert sorted(chain(*three)) == all_rows
        if len(all_rows) >= 20:
            assert min(map(len, three)) > 0
            assert max(three[2]) == all_rows[-1]  # the newest are for the alert line
    fit, held_back = split
    assert fit.rows + held_back.rows == whole.rows


def test_no_window_reaches_from_one_part_into_another() -> None:
    whole = training(segment("x", 400), segment("y", 200, 1000))
    fit, held_back = whole.split()
    scaler = plain_scaler(1)
    seen: dict[str, set[float]] = {"fit": set(), "held": set()}
    for name, part in (("fit", fit), ("held", held_back)):
        for window in part.windows(scaler, LIMITS, 12).values[:, :, 0]:
            assert (window[1:] >= window[:-1]).all()
            seen[name].update(np.round(window, 4).tolist())
    assert seen["fit"]
    assert seen["held"]
    assert not seen["fit"] & seen["held"]


def test_folds_hold_each_row_back_once_and_never_fit_on_it() -> None:
    whole = training(segment("x", 123), segment("x", 77, 123), segment("y", 50, 500))
    folds = whole.folds()
    assert len(folds) == FOLDS
    held = [numbers(fold.held_back) for fold in folds]
    assert sorted(chain(*(h.get("x", []) for h in held))) == numbers(whole)["x"]
    for fold in folds:
        fitted, left = numbers(fold.fit), numbers(fold.held_back)
        assert all(not set(fitted[asset]) & set(left.get(asset, [])) for asset in fitted)
        assert sum(map(len, fitted.values())) + sum(map(len, left.values())) == 250


def test_every_block_begins_anew() -> None:
    for part in training(segment("x", 300)).split():
        assert all(samples.restart[0] for samples in part.samples)


def test_windows_are_wholly_normal_wholly_running_and_oldest_first() -> None:
    part, normal = segment("x", 200), np.ones(200, bool)
    normal[60:65] = False
    part.values[120:125, 2] = 0.0  # stopped
    found = training(part, normal=[normal]).windows(plain_scaler(1), LIMITS, 10)
    part_numbers = part.values[:, 0]
    last = {np.float32(n) for n in (*range(9, 60), *range(74, 120), *range(134, 200))}
    expected = [n for n in part_numbers if np.float32(n) in last]
    assert len(found.values) == len(expected) == len(found.assets)
    assert (np.diff(found.values[:, -1, 0]) > 0).all()


def test_a_cap_on_windows_spreads_them_evenly() -> None:
    whole = training(segment("x", 1000), segment("y", 500))
    found = whole.windows(plain_scaler(1500), LIMITS, 5, most=100)
    assert 80 <= len(found.assets) <= 110
    assert 1.7 < found.assets.count("x") / found.assets.count("y") < 2.3


def test_a_window_whose_last_row_saw_nothing_is_not_learned_from() -> None:
    part = segment("x", 50)
    part.mask[30, :2] = False
    part.values[30, :2] = np.nan
    found = training(part).windows(plain_scaler(50), LIMITS, 5)
    assert len(found.assets) == 50 - 4 - 1


def test_only_normal_running_rows_count() -> None:
    part, normal = segment("x", 100), np.ones(100, bool)
    normal[:10] = False
    part.values[50:70, 2] = 0.0
    part.mask[60:70, 2] = False  # an unknown mode counts as running
    assert training(part, normal=[normal]).rows == 100 - 10 - 10


def test_tick_and_span_come_from_the_rows() -> None:
    whole = training(segment("x", 5), segment("x", 5, 100))
    assert whole.tick == 10 * SECOND
    assert whole.span == (0, 104 * 10 * SECOND)


def test_a_set_without_rows_says_so() -> None:
    empty = TrainingSet("g", TAGS, (), (), None)
    assert empty.rows == 0
    assert empty.windows(plain_scaler(1), LIMITS, 5).values.shape == (0, 5, 2)
    for ask in (lambda: empty.tick, lambda: empty.span):
        with pytest.raises(TooFewRowsError, match="history"):
            ask()


def test_pieces_that_do_not_fit_together_are_refused() -> None:
    part = segment("x", 5)
    with pytest.raises(DataError, match="1 segments but 0 normal"):
        TrainingSet("g", TAGS, (part,), ())
    with pytest.raises(DataError, match="5 rows, its normal mask 4"):
        TrainingSet("g", TAGS, (part,), (np.ones(4, bool),))
    with pytest.raises(DataError, match="none of the signals"):
        TrainingSet("g", ("speed",), (part,), (np.ones(5, bool),))


def test_raw_scores_are_kept_apart_by_asset_in_order_of_time() -> None:
    whole = training(segment("x", 20), segment("y", 10, 100), segment("x", 20, 20))
    windows = whole.windows(plain_scaler(100), LIMITS, 1)
    raws = raw_by_asset(rules_for([Tag("a", high=1.0), Tag("b")]), windows)
    assert {asset: len(raw) for asset, raw in raws.items()} == {"x": 40, "y": 10}
    assert (np.diff(raws["x"]) > 0).all()


def test_scaling_is_learned_from_kept_rows_only() -> None:
    part, normal = segment("x", 200), np.ones(200, bool)
    part.values[100:, 1] += 1000.0
    normal[100:] = False
    whole = training(part, normal=[normal])
    assert abs(fit_scaler(whole.samples, whole.tags, whole.keep).center["x"][1]) < 1.0
