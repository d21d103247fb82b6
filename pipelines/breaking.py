"""Sensors broken on purpose, in the rows to be judged: does quality fall gently, and is the sensor blamed?

    how = breakage_of("stuck:2")
    found = broken(series, how, task.train, seed=0)      # the same series, two of its tags stuck from some row on

What is broken, and from when, follows from the seed and the series' name alone. Training rows are never touched.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int64, UInt8

from anomaly.domain import Quality, Readings
from anomaly.errors import ConfigurationError
from pipelines.datasets.bench import Series
from pipelines.suggesting import did_you_mean

DRIFT_SPREADS = 5.0
"""How far a drifting sensor goes, in normal spreads of its tag."""
DRIFT_ROWS = 240
"""Rows that it takes for that; then it stays there."""
ONSET = (0.2, 0.4)
"""Part of the rows to be judged within which a sensor gets stuck or begins to drift."""


class Way(StrEnum):
    """How a sensor is broken: it sends nothing at all, repeats its last value, or departs slowly from the truth."""

    MISSING = "missing"
    STUCK = "stuck"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Breakage:
    """How, and how many tags of each series (all of them where it has fewer; 0: none, to compare with)."""

    way: Way
    tags: int

    def __str__(self) -> str:
        return f"{self.way}:{self.tags}"


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """A series with `tags` broken from row `since` on."""

    series: Series
    tags: tuple[str, ...]
    since: int


def breakage_of(text: str) -> Breakage:
    """What `--break` says. Raises ConfigurationError.

    >>> str(breakage_of("drift:4")), breakage_of("stuck").tags
    ('drift:4', 1)
    """
    way, _, count = text.partition(":")
    if way not in tuple(Way):
        raise ConfigurationError(
            f"--break {text!r}{did_you_mean(way, tuple(Way))}; expected WAY:TAGS, for instance missing:2 or drift:4"
        )
    if not (count or "1").isascii() or not (count or "1").isdigit():
        raise ConfigurationError(f"--break {text!r}: {count!r} is no number of tags; expected for instance {way}:2")
    return Breakage(Way(way), int(count or "1"))


def broken(series: Series, how: Breakage, train: Readings, seed: int) -> Broken:
    """The series with some of its sensors broken in the rows that are judged. Pure: equal arguments, equal rows.

    Sensors of tags that move in the training rows are taken first: a constant one that gets stuck is as good as new.
    """
    chance = np.random.default_rng(zlib.crc32(f"{seed} {how.way} {series.name}".encode()))
    fresh = np.flatnonzero(~series.learned)
    if not len(fresh):
        return Broken(series, (), len(series.learned))
    spread = _spread(train, series.rows.tags)
    order = chance.permutation(len(spread))
    picked = np.sort(order[np.argsort(spread[order] <= 0, kind="stable")][: how.tags])
    since = int(fresh[0] if how.way is Way.MISSING else fresh[int(chance.uniform(*ONSET) * len(fresh))])
    values, quality = series.rows.values.copy(), series.rows.quality.copy()
    rows = fresh[fresh >= since]
    for column in picked.tolist():
        if how.way is Way.MISSING:
            values[rows, column], quality[rows, column] = np.nan, Quality.MISSING
        elif how.way is Way.STUCK:
            _stick(values, quality, rows, column)
        else:
            size = float(spread[column]) if spread[column] > 0 else 1.0
            values[rows, column] += float(chance.choice([-1.0, 1.0])) * size * _ramp(len(rows))
    altered = replace(series, rows=replace(series.rows, values=values, quality=quality))
    return Broken(altered, tuple(series.rows.tags[column] for column in picked.tolist()), since)


def _stick(
    values: Float[np.ndarray, "row tag"],
    quality: UInt8[np.ndarray, "row tag"],
    rows: Int64[np.ndarray, " some"],
    tag: int,
) -> None:
    """From the first of the rows on, whenever a value comes it is the last good one before."""
    good = np.flatnonzero(np.isfinite(values[: rows[0] + 1, tag]))
    came = rows[np.isfinite(values[rows, tag])]
    if not len(came):
        return
    values[came, tag] = values[good[-1] if len(good) else came[0], tag]
    quality[came, tag] = Quality.GOOD


def _ramp(rows: int) -> Float[np.ndarray, " row"]:
    return DRIFT_SPREADS * np.minimum(np.arange(1, rows + 1) / DRIFT_ROWS, 1.0)


def _spread(train: Readings, tags: Sequence[str]) -> Float[np.ndarray, " tag"]:
    """Normal spread of each tag, as the sd of a normal distribution between its 5 % and 95 %; 0 where nothing moves."""
    found = np.zeros(len(tags))
    for place, tag in enumerate(tags):
        if tag in train.tags:
            cells = train.values[:, train.tags.index(tag)]
            cells = cells[np.isfinite(cells)]
            if len(cells):
                low, high = np.quantile(cells, [0.05, 0.95])
                found[place] = (high - low) / 3.29
    return found
