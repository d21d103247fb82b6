"""Another unit is told by a few conversions only: those that explain no value are passed over, and none is missed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly import jumps
from anomaly.domain import Samples, Tag
from anomaly.sensor_limits import Features, SensorLimits, features
from anomaly.sensors import fit_limits

TAGS = (Tag("temperature", "°C"), Tag("pressure", "bar"), Tag("vibration", "mm/s"), Tag("flow", "m³/h"))
CENTER, NOISE = np.array([70.0, 6.0, 2.0, 40.0]), np.array([0.3, 0.05, 0.15, 0.5])


def healthy(rows: int, seed: int) -> np.ndarray:
    load = np.sin(np.arange(rows) / 90 + seed)[:, None]
    return np.asarray(CENTER * (1 + 0.06 * load) + NOISE * np.random.default_rng(seed).standard_normal((rows, 4)))


def learned(rows: int) -> SensorLimits:
    values = healthy(rows, 99)
    seen, names = np.ones(values.shape, dtype=bool), tuple(tag.name for tag in TAGS)
    begin = np.arange(rows) == 0
    counts, times = np.full(rows, 4, dtype=np.int64), np.arange(rows, dtype=np.int64)
    return fit_limits([Samples("m", names, times, values, seen, np.zeros(seen.shape, np.uint8), begin, counts)], TAGS)


LIMITS = learned(2000)


def strange(seed: int, rows: int) -> np.ndarray:
    """Parts of it in another unit, ramped, far away, huge or missing."""
    rng, values = np.random.default_rng(seed), healthy(rows, seed % 1000)
    for _ in range(rng.integers(1, 6)):
        start, tag = int(rng.integers(0, rows)), int(rng.integers(0, 4))
        part = slice(start, start + int(rng.integers(1, 60)))
        known = jumps.conversions(TAGS[tag].unit)
        other = known[int(rng.integers(0, len(known)))]
        match rng.integers(0, 6):
            case 0 | 1 | 2:
                values[part, tag] = values[part, tag] * other.factor + other.offset
            case 3:
                values[part, tag] += np.linspace(0.0, (other.factor - 1) * CENTER[tag], len(values[part]))
            case 4:
                values[part, tag] = rng.choice([1e305, -1e308, 0.0, np.nan])
            case _:
                values[part] += 12 * NOISE
    return values


def told_by_every_conversion(found: Features, limits: SensorLimits) -> np.ndarray:
    """The long way: each tag by all of its conversions."""
    far = jumps.beyond_usual(found.seen, limits)
    jumped = jumps.alone(jumps.jumps(found, limits, jumps.LEAP))
    tags = [jumps._tag_jumps(found, jumped, limits, t, jumps.conversions(limits.units[t])) for t in range(len(TAGS))]
    return np.asarray(far & np.stack(tags, axis=1))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 120))
def test_a_unit_is_told_as_if_every_conversion_had_been_tried(seed: int, rows: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        found = features(strange(seed, rows))
        assert np.array_equal(jumps.unit_jumps(found, LIMITS), told_by_every_conversion(found, LIMITS))


def test_the_examples_above_hold_units_that_are_told() -> None:
    """Else they would prove nothing."""
    with np.errstate(over="ignore", invalid="ignore"):
        told = [told_by_every_conversion(features(strange(seed, 100)), LIMITS).any() for seed in range(40)]
    assert sum(told) >= 10


def test_a_machine_in_trouble_is_hardly_ever_tried_by_any_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumps, "_tag_jumps", lambda *_: pytest.fail("tried"))
    values = healthy(100, 3)
    values[40:] += 12 * NOISE
    assert not jumps.unit_jumps(features(values), LIMITS).any()
