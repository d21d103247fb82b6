"""Scaling: robust, per asset, there and back, and never deafened."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import Quality, Samples, State, Windows
from anomaly.errors import DataError
from anomaly.scaling import Scaler, fit_scaler, soft_clip, undo_soft_clip

TAGS = ("t", "p")


def samples(values: np.ndarray, asset: str = "a", tags: tuple[str, ...] = TAGS) -> Samples:
    rows = len(values)
    mask = np.isfinite(values)
    return Samples(
        asset=asset,
        tags=tags,
        times=np.arange(rows, dtype=np.int64),
        values=values,
        mask=mask,
        quality=np.where(mask, Quality.GOOD, Quality.MISSING).astype(np.uint8),
        restart=np.arange(rows) == 0,
        readings=mask.sum(axis=1).astype(np.int64),
    )


def windows(values: np.ndarray, assets: tuple[str, ...], tags: tuple[str, ...] = TAGS) -> Windows:
    mask = np.isfinite(values)
    count = len(values)
    return Windows(
        tags=tags,
        assets=assets,
        times=np.arange(count, dtype=np.int64),
        values=np.where(mask, values, 0.0),
        mask=mask,
        faults=np.zeros((count, len(tags)), np.uint8),
        state=(State.OK,) * count,
        readings=np.zeros(count, np.int64),
    )


def fit(*blocks: Samples) -> Scaler:
    return fit_scaler(blocks, TAGS, [np.ones(len(block), bool) for block in blocks])


def normal(rows: int, seed: int, center: tuple[float, float] = (50.0, -3.0), scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(center, scale, (rows, 2))


def test_normal_rows_come_out_with_centre_zero_and_scale_one_for_each_asset() -> None:
    hot, cold = samples(normal(4000, 1)), samples(normal(4000, 2, (5.0, 900.0), 0.1), "b")
    scaler = fit(hot, cold)
    for block in (hot, cold):
        z = scaler.scale_windows(windows(block.values[:, None, :], (block.asset,) * 4000))
        assert np.abs(np.median(z, axis=(0, 1))).max() < 1e-6
        assert np.abs(z.std(axis=(0, 1)) - 1).max() < 0.05


def test_wild_rows_hardly_move_the_centre_and_a_few_of_them_not_the_scale_either() -> None:
    values = normal(4000, 1)
    wild = values.copy()
    wild[::25] = 1e6
    clean, dirty = fit(samples(values)), fit(samples(wild))
    assert np.abs(clean.center["a"] - dirty.center["a"]).max() < 0.2
    few = values.copy()
    few[:3] = 1e6
    assert np.abs(np.log(fit(samples(few)).scale["a"] / clean.scale["a"])).max() < 0.05


def test_rows_not_kept_are_not_learned() -> None:
    values = normal(400, 1)
    values[200:] += 1000
    keep = np.arange(400) < 200
    scaler = fit_scaler([samples(values)], TAGS, [keep])
    assert np.abs(scaler.center["a"] - [50, -3]).max() < 1


def test_several_blocks_of_one_asset_are_learned_together() -> None:
    scaler = fit(samples(np.full((100, 2), 10.0)), samples(np.full((100, 2), 20.0)))
    assert set(scaler.center) == {"a"}
    assert scaler.center["a"].tolist() == [15.0, 15.0]


def test_an_asset_never_seen_takes_what_its_group_has() -> None:
    scaler = fit(samples(normal(500, 1)), samples(normal(500, 2, (60.0, -3.0)), "b"))
    z = scaler.scale_windows(windows(np.full((1, 1, 2), 55.0), ("new",)))
    assert abs(z[0, 0, 0]) < 0.5
    assert scaler.default_scale[0] > 3  # the assets differ by ten, and the new one may be either


def test_a_scale_is_never_below_a_hundredth_of_the_range_and_never_zero() -> None:
    values = np.full((1000, 2), 7.0)
    values[::50, 0] = 107.0
    scaler = fit(samples(values))
    assert scaler.scale["a"].tolist() == [1.0, 0.07]
    assert fit(samples(np.zeros((100, 2)))).scale["a"].tolist() == [1.0, 1.0]


def test_a_tag_an_asset_hardly_saw_or_never_saw_moving_takes_the_scale_of_its_group() -> None:
    lively = normal(500, 1)
    quiet = np.column_stack([np.full(500, 50.0), np.where(np.arange(500) < 10, 5.0, np.nan)])
    scaler = fit(samples(lively), samples(quiet, "b"))
    assert scaler.scale["b"].tolist() == scaler.default_scale.tolist()
    assert scaler.center["b"][1] == scaler.default_center[1]


def test_nothing_seen_at_all_still_gives_a_scaler() -> None:
    scaler = fit(samples(np.full((10, 2), np.nan)))
    assert scaler.default_center.tolist() == [0.0, 0.0]
    assert scaler.default_scale.tolist() == [1.0, 1.0]
    assert fit_scaler([], TAGS, []).default_scale.tolist() == [1.0, 1.0]


def test_tags_are_found_by_name_not_by_place() -> None:
    values = normal(500, 1)
    swapped = samples(values[:, ::-1], "b", ("p", "t"))
    scaler = fit(samples(values), swapped)
    assert scaler.center["a"].tolist() == scaler.center["b"].tolist()


def test_masked_cells_are_exactly_zero_whatever_lies_there() -> None:
    block = windows(np.full((2, 3, 2), 50.0), ("a", "a"))
    block.values[0, 0] = 1e300
    block.mask[0, 0] = False
    z = fit(samples(normal(500, 1))).scale_windows(block)
    assert z.dtype == np.float32
    assert z[0, 0].tolist() == [0.0, 0.0]


def test_the_largest_numbers_stay_finite() -> None:
    block = windows(np.array([[[1.7e308, -1.7e308]]]), ("a",))
    scaler = fit(samples(normal(500, 1, scale=1e-9)))
    z = scaler.scale_windows(block)
    assert np.isfinite(z).all()
    assert np.isfinite(scaler.unscale(z[:, 0].astype(np.float64) * 100, ("a",))).all()


def test_windows_of_other_tags_are_refused() -> None:
    with pytest.raises(DataError, match="fit it again"):
        fit(samples(normal(500, 1))).scale_windows(windows(np.zeros((1, 1, 2)), ("a",), ("p", "t")))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), st.sampled_from(["a", "b", "new"]))
def test_unscaling_undoes_scaling(row: list[float], asset: str) -> None:
    scaler = fit(samples(normal(100, 1)), samples(normal(100, 2, (5.0, 900.0), 0.1), "b"))
    z = scaler.scale_windows(windows(np.array([[row]]), (asset,)))[:, 0].astype(np.float64)
    back = scaler.unscale(z, (asset,))[0]
    distance = np.abs(row - scaler.center.get(asset, scaler.default_center))
    assert (np.abs(back - row) <= 1e-5 * distance + 1e-9).all()  # z is of single precision
    assert np.isnan(scaler.unscale(np.full((1, 2), np.nan), (asset,))).all()


@given(st.lists(st.floats(-1e20, 1e20), min_size=2, max_size=20))
def test_the_soft_clip_keeps_order_and_leaves_small_values_alone(values: list[float]) -> None:
    z = np.sort(np.array(values))
    clipped = soft_clip(z)
    assert (np.diff(clipped) >= 0).all()
    assert np.array_equal(clipped[np.abs(z) <= 10], z[np.abs(z) <= 10])
    assert np.allclose(undo_soft_clip(clipped), z, rtol=1e-6)
    assert np.abs(clipped).max() < 500


def test_a_scaler_survives_being_written_as_json() -> None:
    scaler = fit(samples(normal(100, 1)), samples(normal(100, 2), "b"))
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    block = windows(normal(6, 3).reshape(3, 2, 2), ("a", "b", "new"))
    assert np.array_equal(scaler.scale_windows(block), again.scale_windows(block))
    assert again.tags == TAGS


def test_a_window_is_scaled_the_same_alone_and_among_others() -> None:
    scaler = fit(samples(normal(100, 1)), samples(normal(100, 2), "b"))
    values = normal(20, 3).reshape(10, 2, 2)
    assets = tuple("ab"[i % 2] for i in range(10))
    together = scaler.scale_windows(windows(values, assets))
    for place in range(10):
        assert np.array_equal(
            scaler.scale_windows(windows(values[place : place + 1], assets[place : place + 1]))[0], together[place]
        )
    assert scaler.scale_windows(windows(np.zeros((0, 2, 2)), ())).shape == (0, 2, 2)
