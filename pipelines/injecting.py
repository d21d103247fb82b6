"""Faults of a chosen size put into normal readings: what `plantwatch detectability` tries on a version."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from anomaly.domain import SECOND, Quality, Readings, Tag

HOUR: Final = 3600 * SECOND
SPANS: Final = 10.0
"""A tag without an engineering limit is moved by up to so many of its normal spans."""


class Fault(StrEnum):
    """What is done to a tag from one moment on, and what its size is.

    `STEP_…`: moved at once, in units. `DRIFT_…`: moved ever further, in units per hour. `NOISE`: normal noise added,
    its sd in units. `LOST_RELATION`: mixed with another stretch of its own normal values, mean and spread kept; the
    share of its correlation with the other tags that is lost, 0..1 (1: wholly another stretch).
    """

    STEP_UP = "step_up"
    STEP_DOWN = "step_down"
    DRIFT_UP = "drift_up"
    DRIFT_DOWN = "drift_down"
    NOISE = "noise"
    LOST_RELATION = "lost_relation"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One tag of one stretch of normal readings, and what faults in it are made of. One entry a reading row.

    `after`: rows the fault lies in, with a value. `hours`: since its onset. `dice`: standard normal numbers. `other`:
    values of another normal stretch of the tag, NaN where there is none. `middle`: the tag's normal mean.
    `span`: its normal values from the 0.1 % to the 99.9 % quantile.
    """

    readings: Readings
    tag: Tag
    after: Bool[np.ndarray, " row"]
    hours: Float[np.ndarray, " row"]
    dice: Float[np.ndarray, " row"]
    other: Float[np.ndarray, " row"]
    middle: float
    span: float

    @property
    def values(self) -> Float[np.ndarray, " row"]:
        """The tag's normal values, in its unit."""
        return self.readings.values[:, self.readings.tags.index(self.tag.name)]


def material(
    readings: Readings, tag: Tag, since: int, other: Float[np.ndarray, " row"], normal: tuple[float, float], seed: int
) -> Material:
    """The tag of readings that a fault begins in right after `since` (ns). `normal`: its middle and its span."""
    column = readings.tags.index(tag.name)
    came = (readings.quality[:, column] < Quality.BAD) & np.isfinite(readings.values[:, column])
    hours = (readings.times - since) / HOUR
    dice = np.random.default_rng(seed).standard_normal(len(readings))
    return Material(readings, tag, came & (hours > 0), hours, dice, other, *normal)


def largest(fault: Fault, given: Material) -> float:
    """The largest size at which every value is still within the engineering range; 0 if there is none.

    Where the range is open, `SPANS` normal spans. Noise is cut off at the ends of the range, as sensors do.
    """
    tag, values, hours = given.tag, given.values[given.after], given.hours[given.after]
    if not len(values):
        return 0.0
    if fault is Fault.LOST_RELATION:
        return 1.0 if np.isfinite(given.other[given.after]).any() else 0.0
    far = SPANS * given.span
    up = far if tag.high is None else max(tag.high - float(values.max()), 0.0)
    down = far if tag.low is None else max(float(values.min()) - tag.low, 0.0)
    if fault is Fault.NOISE:
        return (tag.high - tag.low) / 2 if tag.low is not None and tag.high is not None else far
    room = up if fault in (Fault.STEP_UP, Fault.DRIFT_UP) else down
    return room if fault in (Fault.STEP_UP, Fault.STEP_DOWN) else room / float(hours.max())


def inject(fault: Fault, size: float, given: Material) -> Readings:
    """The readings with a fault of that size in the tag.

    >>> rows = Readings("a", ("t",), np.arange(3) * HOUR, np.zeros((3, 1)), np.zeros((3, 1), np.uint8))
    >>> given = material(rows, Tag("t", "°C"), 0, np.full(3, np.nan), (0.0, 1.0), 0)
    >>> inject(Fault.DRIFT_UP, 1.5, given).values[:, 0].tolist()
    [0.0, 1.5, 3.0]
    """
    readings, tag = given.readings, given.tag
    values = readings.values.copy()
    column = readings.tags.index(tag.name)
    moved = _moved(fault, size, given)
    low, high = (-math.inf if tag.low is None else tag.low), (math.inf if tag.high is None else tag.high)
    usual = given.values[given.after]
    if len(usual):  # what is normal beyond the range stays what it is
        moved = np.clip(moved, min(low, float(usual.min())), max(high, float(usual.max())))
    values[given.after, column] = moved[given.after]
    return replace(readings, values=values)


def _moved(fault: Fault, size: float, given: Material) -> Float[np.ndarray, " row"]:
    usual = given.values
    if fault is Fault.NOISE:
        return usual + size * given.dice
    if fault is Fault.LOST_RELATION:
        kept = 1.0 - size
        mixed = given.middle + kept * (usual - given.middle) + math.sqrt(1 - kept**2) * (given.other - given.middle)
        return np.where(np.isfinite(mixed), mixed, usual)
    way = 1.0 if fault in (Fault.STEP_UP, Fault.DRIFT_UP) else -1.0
    return usual + way * size * (1.0 if fault in (Fault.STEP_UP, Fault.STEP_DOWN) else given.hours)
