"""The quick way of live rows equals the slow, obvious one to the bit: faults, windows and scores."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.blocks import rows as take_rows
from anomaly.detector import ONE_BY_ONE, Detector
from anomaly.domain import Rung, Samples, Scores, Tag
from anomaly.judging import judge
from anomaly.newest_faults import Ask, Known, newest_faults
from anomaly.quiet import surely_healthy
from anomaly.sensors import HORIZON, check
from anomaly.strips import Piece, lay
from anomaly.windows import sliding


def beside(name: str) -> ModuleType:
    """Another test file, for the machines it makes."""
    spec = importlib.util.spec_from_file_location(f"beside_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MACHINES, DETECTORS = beside("test_windows"), beside("test_detector")


def damaged(rows: int, seed: int) -> Samples:
    found: Samples = MACHINES.damaged(rows, seed)
    return found


def columns(blocks: list[Samples]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, mask, quality = zip(*((block.values, block.mask, block.quality) for block in blocks), strict=True)
    return np.concatenate(values), np.concatenate(mask), np.concatenate(quality)


def equal(one: Scores, other: Scores) -> None:
    for field in fields(Scores):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert a.tobytes() == np.ascontiguousarray(b).tobytes(), field.name
        else:
            assert a == b, field.name


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 150)), min_size=1, max_size=5), st.data())
def test_what_is_surely_healthy_has_no_fault(machines: list[tuple[int, int]], data: st.DataObject) -> None:
    limits = MACHINES.LIMITS
    blocks = [damaged(rows, seed) for seed, rows in machines]
    starts = np.cumsum([0, *(len(block) for block in blocks[:-1])])
    for block, healthy in zip(blocks, surely_healthy(*columns(blocks), starts, limits), strict=True):
        assert not (healthy and check(block, limits).any())


def test_healthy_machines_are_mostly_found_so_without_a_full_check() -> None:
    make, limits = MACHINES.healthy, MACHINES.LIMITS
    blocks = [make(100, seed) for seed in range(40)]
    assert surely_healthy(*columns(blocks), np.arange(40) * 100, limits).mean() > 0.9


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 70), min_size=1, max_size=8), st.integers(0, 40))
def test_newest_faults_are_those_over_everything(seed: int, blocks: list[int], extra: int) -> None:
    limits = MACHINES.LIMITS
    samples = damaged(sum(blocks), seed)
    whole, known, start, memory = check(samples, limits), None, 0, HORIZON + extra
    for block in blocks:
        begin, stop = max(0, start - memory), start + block
        part = take_rows(samples, slice(begin, stop))
        other = damaged(30, seed + 1)
        faults, _ = newest_faults([Ask(part, start - begin, known), Ask(other, 0, None)], limits)
        assert np.array_equal(faults, whole[begin:stop])
        known, start = Known(limits, int(part.times[-1]), faults[-memory:]), stop


def test_what_other_limits_said_is_not_believed() -> None:
    windows = MACHINES
    samples = damaged(120, 5)
    known = Known(windows.NO_LIMITS, int(samples.times[99]), np.full((100, 4), 7, np.uint8))
    [faults] = newest_faults([Ask(samples, 100, known)], windows.LIMITS)
    assert np.array_equal(faults, check(samples, windows.LIMITS))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 120), st.floats(0, 1)), min_size=1, max_size=5),
    st.integers(1, 20),
    st.sampled_from(MACHINES.MODES),
    st.sampled_from([("temperature", "flow"), ("flow", "level"), ("temperature", "pressure", "flow", "mode")]),
)
def test_windows_of_a_strip_are_those_of_each_machine(
    machines: list[tuple[int, int, float]], length: int, mode: Tag | None, tags: tuple[str, ...]
) -> None:
    limits = MACHINES.LIMITS
    pieces = []
    for seed, rows, share in machines:
        samples = damaged(rows, seed)
        pieces.append(Piece(samples, int(share * rows), rows, check(samples, limits)))
    strip, start = lay(pieces, length, tags, mode), 0
    for number, piece in enumerate(pieces):
        wanted = sliding(piece.samples, piece.first, length, tags, limits, mode)
        part = strip.windows(slice(start, start + len(wanted)))
        start += len(wanted)
        assert set(part.piece.tolist()) <= {number}
        at = part.ends[:, None] - np.arange(length)[::-1]
        assert np.array_equal(strip.values[at], wanted.values)
        assert np.array_equal(strip.mask[at], wanted.mask)
        assert [("ok", "warming_up", "off")[code] for code in part.state] == list(wanted.state)
        for name in ("times", "faults", "readings"):
            assert np.array_equal(getattr(part, name), getattr(wanted, name)), name
        seen = wanted.mask.sum(axis=(1, 2)), wanted.mask[:, -1].sum(axis=1)
        assert all(np.array_equal(a, b) for a, b in zip(part.seen(), seen, strict=True))
    assert start == len(strip)


@pytest.mark.parametrize("rung", list(Rung))
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_a_strip_are_those_of_the_detector(rung: Rung, seed: int) -> None:
    make = DETECTORS
    detector: Detector = make.fitted(rung)
    pieces, wanted = [], []
    for number, asset in enumerate((*make.ASSETS, "s/a/l/never-seen")):
        samples = make.machine(asset, 160, 10 * seed + number)
        make.hide(samples, slice(100, 103 + 10 * seed), slice(0, 1 + number))
        samples.values[130:, number] += 60.0
        samples.values[60:62, 6] = 0.0
        samples.restart[20 * seed + 40 * number] = True
        pieces.append(Piece(samples, 40 * number, 160, check(samples, detector.sensors)))
        wanted.append(detector.detect(detector.windows(samples, 40 * number)))
    strip, start = lay(pieces, detector.length, detector.tags, detector.mode), 0
    scores = judge(detector, strip)
    assert scores.anomalous.any() or rung in ONE_BY_ONE
    for whole in wanted:
        equal(take_rows(scores, slice(start, start + len(whole))), whole)
        start += len(whole)
    equal(judge(detector, strip.windows(slice(5, 70))), take_rows(scores, slice(5, 70)))
    assert len(judge(detector, strip.windows(slice(0, 0)))) == 0
