"""A plant in which ignoring modes fails: off, start, and two products whose relations between the tags differ."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest
from jaxtyping import Float

from anomaly.alignment import AlignmentPolicy, align
from anomaly.detector import Detector, fit_window_pca
from anomaly.domain import SECOND, Anomaly, Asset, Plant, Readings, Role, Scores, State, Tag
from anomaly.episodes import episodes
from anomaly.registry.manifest import ModeTag
from pipelines.training_service import training_set_from_readings

TICK = 10 * SECOND
OFF, START, RUN_A, RUN_B = 0.0, 1.0, 2.0, 3.0
SIGNALS = (Tag("speed", "rpm"), Tag("flow", "m3/h"), Tag("power", "kW"), Tag("temp", "°C"))
MODE = Tag("state", role=Role.MODE, running=(RUN_A, RUN_B), regimes=True)
RATIOS: Mapping[float, tuple[float, float]] = {
    OFF: (0.0, 0.0),
    START: (0.02, 0.12),
    RUN_A: (0.10, 0.05),
    RUN_B: (0.06, 0.09),
}
"""Flow and power by speed, in each mode."""
SETTLING = 15
"""Rows that flow takes to follow a new mode."""


def mixer(known: bool) -> Asset:
    """The machine; its mode is described as one, or as a mere status."""
    state = MODE if known else replace(MODE, role=Role.STATUS, running=(), regimes=False)
    return Asset("s1/mixer-1", "mixers", (*SIGNALS, state), TICK)


def schedule(rows: int, chance: np.random.Generator) -> Float[np.ndarray, " row"]:
    """Product A, now and then B, now and then a stop and a start: the changes are few, as in a plant."""
    modes: list[float] = []
    mode = RUN_A
    while len(modes) < rows:
        modes += [mode] * int(chance.integers(150, 400))
        if chance.random() < 0.3:
            modes += [OFF] * int(chance.integers(60, 120)) + [START] * 20
        mode = RUN_B if mode == RUN_A else RUN_A
    return np.array(modes[:rows])


def readings(rows: int, seed: int, kick: float = 0.0, during: float = RUN_A) -> Readings:
    """Rows of the plant; with a `kick` (kW) the power is off by so much in the second half of one stretch of a mode."""
    chance = np.random.default_rng(seed)
    mode = schedule(rows, chance)
    load = np.convolve(chance.normal(0, 1, rows + 59), np.ones(60) / 60**0.5, "valid")
    speed = np.where(mode == OFF, 0.0, np.where(mode == START, 400.0, 1000.0 + 60.0 * load))
    flow, power = (speed * np.array([RATIOS[value][place] for value in mode.tolist()]) for place in (0, 1))
    flow = np.convolve(np.concatenate([np.full(SETTLING - 1, flow[0]), flow]), np.ones(SETTLING) / SETTLING, "valid")
    temp = 40.0 + 0.3 * np.convolve(np.concatenate([np.full(39, power[0]), power]), np.ones(40) / 40, "valid")
    values = np.stack([speed, flow, power, temp, mode], axis=1)
    values[:, :4] += chance.normal(0, [2.0, 0.5, 0.5, 0.1], (rows, 4))
    if kick:
        since, until = faulty(mode, during)
        values[since:until, 2] += kick
    names = (*(tag.name for tag in SIGNALS), MODE.name)
    return Readings("s1/mixer-1", names, (1 + np.arange(rows)) * TICK, values, np.zeros(values.shape, np.uint8))


def faulty(mode: Float[np.ndarray, " row"], during: float) -> tuple[int, int]:
    """The second half of the longest unbroken stretch of a mode, after the first 300 rows."""
    edges = [0, *(np.flatnonzero(np.diff(mode)) + 1).tolist(), len(mode)]
    runs = [(a, b) for a, b in itertools.pairwise(edges) if mode[a] == during and a >= 300]
    start, stop = max(runs, key=lambda run: run[1] - run[0])
    return (start + stop) // 2, stop


@cache
def fitted(known: bool) -> Detector:
    plant = Plant("works", (mixer(known),))
    found = training_set_from_readings(plant, "mixers", None, [readings(6000, 0)], 0, 10**15)
    return fit_window_pca(found.training, mixer(known).tags, "v1")


def judged(known: bool, block: Readings) -> Scores:
    detector = fitted(known)
    samples = align(block, block.tags, AlignmentPolicy.of(TICK)).samples
    return detector.detect(detector.windows(samples, 0))


def raised(known: bool, block: Readings) -> tuple[Anomaly, ...]:
    return episodes(judged(known, block))


def caught(known: bool, during: float, kick: float = 25.0) -> bool:
    """Whether an alert is raised within the fault."""
    block = readings(3000, 1, kick, during)
    since, until = (int(row) for row in faulty(block.values[:, 4], during))
    times = int(block.times[since]), int(block.times[until - 1])
    return any(times[0] <= anomaly.onset <= times[1] for anomaly in raised(known, block))


def test_with_modes_no_change_of_mode_raises_an_alert() -> None:
    block = readings(6000, 2)
    changes = np.flatnonzero(np.diff(block.values[:, 4]))
    assert len(changes) > 20
    assert raised(True, block) == ()
    scores = judged(True, block)
    state = np.array([str(one) for one in scores.state])
    running = np.isin(block.values[:, 4], MODE.running)
    assert (state[~running] == State.OFF).all()
    length = fitted(True).length
    mixed = np.zeros(len(block), dtype=bool)
    for row in changes + 1:
        mixed[row : row + length - 1] = True
    assert (state[mixed & running] == State.WARMING_UP).all()
    assert (state[~mixed & running][length:] == State.OK).all()


@pytest.mark.parametrize("during", [RUN_A, RUN_B])
def test_with_modes_a_fault_is_caught_in_each_of_them(during: float) -> None:
    assert caught(True, during)


def test_without_modes_the_same_plant_is_not_watched() -> None:
    false = raised(False, readings(6000, 2))
    missed = [mode for mode in (RUN_A, RUN_B) if not caught(False, mode)]
    assert false or missed


def test_running_modes_that_are_no_regimes_share_a_window() -> None:
    block = readings(3000, 3)
    mode = block.values[:, 4]
    both = np.isin(mode[1:], MODE.running) & np.isin(mode[:-1], MODE.running) & (mode[1:] != mode[:-1])
    change = int(next(row for row in np.flatnonzero(both) + 1 if row > 200))
    one = replace(fitted(True), mode=replace(MODE, regimes=False))
    samples = align(block, block.tags, AlignmentPolicy.of(TICK)).samples
    inside = slice(change, change + one.length - 1)
    assert set(fitted(True).windows(samples, 0).state[inside]) == {State.WARMING_UP}
    assert set(one.windows(samples, 0).state[inside]) == {State.OK}


def test_no_training_window_holds_two_regimes() -> None:
    found = training_set_from_readings(Plant("works", (mixer(True),)), "mixers", None, [readings(3000, 0)], 0, 10**15)
    detector, training = fitted(True), found.training
    mode = training.samples[0].values[:, 4]
    row = {int(time): number for number, time in enumerate(training.samples[0].times.tolist())}
    for least in (None, 5):
        windows = training.windows(detector.scaler, detector.sensors, 24, least=least)
        assert len(windows.times) > 500
        for mask, time in zip(windows.mask, windows.times.tolist(), strict=True):
            rows = np.arange(row[time] - 23, row[time] + 1)[mask.any(axis=1)]
            assert len(set(mode[rows].tolist())) == 1


def test_a_version_that_was_saved_still_knows_its_regimes() -> None:
    for tag in (MODE, replace(MODE, regimes=False)):
        kept = ModeTag.of(tag)
        assert kept is not None
        assert kept.tag() == tag
    older = msgspec.json.decode(
        b'{"name":"state","unit":"","low":null,"high":null,"running":[2,3],"description":""}', type=ModeTag
    )
    assert older.tag() == replace(MODE, regimes=False)
