"""Cutting and joining blocks: a row keeps its values whatever block it lies in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.blocks import join, rows
from anomaly.domain import Readings, State, Windows


def readings(count: int, asset: str = "s/a") -> Readings:
    values = np.arange(2.0 * count).reshape(count, 2)
    return Readings(asset, ("p", "q"), np.arange(count, dtype=np.int64), values, np.zeros((count, 2), dtype=np.uint8))


@given(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3))
def test_cut_and_joined_again_is_the_same(count: int, cuts: list[int]) -> None:
    block = readings(count)
    edges = sorted({0, count, *(cut for cut in cuts if cut <= count)})
    edges = edges if len(edges) > 1 else [0, 0]
    parts = [rows(block, slice(a, b)) for a, b in itertools.pairwise(edges)]
    joined = join(parts)
    assert joined.asset == block.asset
    assert np.array_equal(joined.times, block.times)
    assert np.array_equal(joined.values, block.values)


def test_columns_that_are_tuples_follow_a_mask_as_arrays_do() -> None:
    shape = (3, 1, 1)
    windows = Windows(
        tags=("p",),
        assets=("a", "b", "c"),
        times=np.array([1, 2, 3], dtype=np.int64),
        values=np.zeros(shape),
        mask=np.ones(shape, dtype=bool),
        faults=np.zeros((3, 1), dtype=np.uint8),
        state=(State.OK, State.OFF, State.WARMING_UP),
        readings=np.ones(3, dtype=np.int64),
    )
    chosen = rows(windows, np.array([True, False, True]))
    assert (chosen.assets, chosen.state, chosen.times.tolist()) == (("a", "c"), (State.OK, State.WARMING_UP), [1, 3])


def test_blocks_of_two_assets_are_not_joined() -> None:
    with pytest.raises(ValueError, match="differ in asset"):
        join([readings(1), readings(1, "s/b")])
