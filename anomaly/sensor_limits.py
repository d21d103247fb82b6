"""What a healthy sensor can do: engineering ranges from the plant file, and limits learned from normal rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly import rolling
from anomaly.domain import Role, Samples, Tag

HORIZON = 48
"""Rows before and with a row that may influence its verdict."""
FILL = 4
"""Rows a value missing in between is bridged."""
FLAT_ROWS = 24
"""Rows over which a signal must not move at all to be flat."""
NOISE_ROWS = 16
NOISE_COUNT = 10
"""A signal is noisy if its second difference is too large in 10 of the last 16 rows: a step or two are not noise."""
LONGEST = HORIZON - FILL - 1
"""Longest run of rows (stuck, missing) that fits the horizon; a tag whose normal runs are longer is not checked."""
REPEATS = 0.005
"""Share of normal rows that repeat the row before, from which a tag counts as coarsely rounded."""
FEWEST = 100
"""Seen normal rows of a tag below which nothing is learned of it."""


class Features(NamedTuple):
    """What verdicts and fits look at; row j depends on at most 2·FILL + 6 rows. NaN where unknown."""

    seen: Float[np.ndarray, "row tag"]
    """Values, NaN where not seen."""
    filled: Float[np.ndarray, "row tag"]
    level: Float[np.ndarray, "row tag"]
    """Median of the five (filled) values before this row."""
    jump: Float[np.ndarray, "row tag"]
    """|value - level|"""
    change: Float[np.ndarray, "row tag"]
    """|value - the one before|"""
    curvature: Float[np.ndarray, "row tag"]
    """|second difference|: sees noise, not ramps."""


def features(seen: Float[np.ndarray, "row tag"]) -> Features:
    """Features of consecutive rows (no restart inside), NaN where not seen."""
    filled = rolling.hold_fill(seen, FILL)
    level = rolling.back(rolling.median_of_five(filled), 1)
    before = rolling.back(filled, 1)
    curvature = np.abs(seen - 2 * before + rolling.back(filled, 2))
    return Features(seen, filled, level, np.abs(seen - level), np.abs(seen - before), curvature)


@dataclass(frozen=True, slots=True, eq=False)
class SensorLimits:
    """Limits per tag, in the tag's unit; NaN (or 0 rows) means no check. All arrays have one entry per tag."""

    tags: tuple[str, ...]
    units: tuple[str, ...]
    low: Float[np.ndarray, " tag"]
    """Engineering range: below it the instrument is not believed."""
    high: Float[np.ndarray, " tag"]
    stuck_rows: Int64[np.ndarray, " tag"]
    """So many rows of exactly the same value are too many."""
    missing_rows: Int64[np.ndarray, " tag"]
    """So many rows without the tag, while others come, are too many."""
    step: Float[np.ndarray, " tag"]
    """Largest plausible distance of a value from the median of the five before."""
    noise: Float[np.ndarray, " tag"]
    """Largest plausible size of most second differences."""
    flat: Float[np.ndarray, " tag"]
    """Smallest plausible range over 24 rows."""
    usual_low: Float[np.ndarray, " tag"]
    """Range of normal values, as learned."""
    usual_high: Float[np.ndarray, " tag"]
    usual_noise: Float[np.ndarray, " tag"]
    """Mean |second difference| of normal rows."""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists fit for JSON; NaN is None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SensorLimits:
        """What `to_dict` gave."""
        texts = {name: tuple(plain[name]) for name in ("tags", "units")}
        rows = {name: np.array(plain[name], dtype=np.int64) for name in ("stuck_rows", "missing_rows")}
        rest = [field.name for field in fields(cls) if field.name not in texts | rows]
        numbers = {name: np.array([np.nan if x is None else x for x in plain[name]], np.float64) for name in rest}
        return cls(**cast(dict[str, Any], texts | rows | numbers))

    def of(self, tags: tuple[str, ...]) -> SensorLimits:
        """The limits of those tags in that order; a tag not known here has none."""
        if tags == self.tags:
            return self
        index = np.array([self.tags.index(tag) if tag in self.tags else -1 for tag in tags], dtype=np.intp)
        picked = {
            field.name: np.append(getattr(self, field.name), 0 if field.name.endswith("_rows") else np.nan)[index]
            for field in fields(self)[2:]
        }
        rows = {name: values.astype(np.int64) for name, values in picked.items() if name.endswith("_rows")}
        units = tuple(self.units[place] if place >= 0 else "" for place in index)
        return SensorLimits(tags=tags, units=units, **(picked | rows))


def _plain(values: Any) -> list[Any]:
    """A field as a list without NaN."""
    if isinstance(values, tuple):
        return list(values)
    return [None if np.isnan(value) else value for value in values.tolist()]


def default_limits(tags: Sequence[Tag]) -> SensorLimits:
    """Limits when nothing has been learned: the engineering ranges, and signals that stay away for 6 rows.

    No stuck or flat rule: a wireless or coarsely rounded sensor repeats one value for hours in good health, and only
    history can tell it from a frozen one.

    >>> default_limits([Tag("t", "°C", -20.0, 150.0)]).high.tolist()
    [150.0]
    """
    unknown = np.full(len(tags), np.nan)
    return SensorLimits(
        tags=tuple(tag.name for tag in tags),
        units=tuple(tag.unit for tag in tags),
        low=np.array([np.nan if tag.low is None else tag.low for tag in tags], dtype=np.float64),
        high=np.array([np.nan if tag.high is None else tag.high for tag in tags], dtype=np.float64),
        stuck_rows=np.zeros(len(tags), dtype=np.int64),
        missing_rows=np.array([6 if tag.role is Role.SIGNAL else 0 for tag in tags], dtype=np.int64),
        **dict.fromkeys(("step", "noise", "flat", "usual_low", "usual_high", "usual_noise"), unknown),
    )


class _Normal(NamedTuple):
    """Normal rows of all blocks, one under the other; windows never span blocks or restarts."""

    seen: Float[np.ndarray, "row tag"]
    jump: Float[np.ndarray, "row tag"]
    curvature: Float[np.ndarray, "row tag"]
    roughness: Float[np.ndarray, "row tag"]
    extent: Float[np.ndarray, "row tag"]
    run: Int64[np.ndarray, "row tag"]
    absent: Int64[np.ndarray, "row tag"]


def fit_limits(
    samples: Sequence[Samples], tags: Sequence[Tag], running: Sequence[Bool[np.ndarray, " row"]] | None = None
) -> SensorLimits:
    """Learn what healthy sensors of a group do from its normal rows; `running` picks the rows to believe.

    Each limit stands far beyond the worst that was seen (factors below), so that an unusual process stays a process.
    A tag seen normal in fewer than 100 rows keeps its defaults; one that is often constant is never called stuck.
    """
    names = tuple(tag.name for tag in tags)
    defaults = default_limits(tags)
    parts = [
        _normal(segment, kept, names)
        for block, rows in zip(samples, running or [np.ones(len(block), bool) for block in samples], strict=True)
        for segment, kept in _segments(block, rows)
    ]
    if not parts:
        return defaults
    normal = _Normal(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    fitted = [
        _fit_tag(_Normal(*(column[:, place] for column in normal)))
        if tag.role is Role.SIGNAL and np.isfinite(normal.seen[:, place]).sum() >= FEWEST
        else {}
        for place, tag in enumerate(tags)
    ]
    learned = {
        name: np.array([limits.get(name, getattr(defaults, name)[place]) for place, limits in enumerate(fitted)])
        for name in ("missing_rows", "stuck_rows", "step", "noise", "flat", "usual_low", "usual_high", "usual_noise")
    }
    return SensorLimits(tags=names, units=defaults.units, low=defaults.low, high=defaults.high, **learned)


def _segments(
    block: Samples, keep: Bool[np.ndarray, " row"]
) -> list[tuple[tuple[Samples, slice], Bool[np.ndarray, " _row"]]]:
    """Rows between restarts."""
    edges = [0, *(np.flatnonzero(block.restart[1:]) + 1).tolist(), len(block)]
    slices = [slice(start, stop) for start, stop in pairwise(edges)]
    return [((block, rows), keep[rows]) for rows in slices]


def _normal(segment: tuple[Samples, slice], keep: Bool[np.ndarray, " row"], names: tuple[str, ...]) -> _Normal:
    """Features of the normal rows of one segment."""
    block, rows = segment
    seen = np.full((len(keep), len(names)), np.nan)
    for place, name in enumerate(names):
        if name in block.tags:
            column = block.tags.index(name)
            believed = block.mask[rows, column] & keep
            seen[believed, place] = block.values[rows, column][believed]
    here = features(seen)
    whole = rolling.trailing_count(np.isfinite(here.filled), FLAT_ROWS) == FLAT_ROWS
    extent = rolling.trailing_max(here.filled, FLAT_ROWS) - rolling.trailing_min(here.filled, FLAT_ROWS)
    others = np.isfinite(seen).any(axis=1) & keep
    absent = np.where(np.isnan(seen) & others[:, None], 1.0, np.nan)
    return _Normal(
        seen=seen,
        jump=here.jump,
        curvature=here.curvature,
        roughness=_most(here.curvature),
        extent=np.where(whole, extent, np.nan),
        run=np.where(np.isfinite(seen), rolling.run_length(here.filled), 0),
        absent=rolling.run_length(absent),
    )


def _most(curvature: Float[np.ndarray, "row tag"]) -> Float[np.ndarray, "row tag"]:
    """What 10 of the last 16 values reach or exceed; NaN for the first rows."""
    out = np.full(curvature.shape, np.nan)
    if len(curvature) >= NOISE_ROWS:
        views = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(curvature), NOISE_ROWS, axis=0)
        place = NOISE_ROWS - NOISE_COUNT
        for tag in range(curvature.shape[1]):
            out[NOISE_ROWS - 1 :, tag] = np.partition(views[:, tag], place, axis=1)[:, place]
    return out


def _fit_tag(normal: _Normal) -> dict[str, float | int]:
    """Limits of one tag from its (one-dimensional) features."""
    seen = normal.seen[np.isfinite(normal.seen)]
    low, high = np.quantile(seen, [0.001, 0.999])
    limits: dict[str, float | int] = {"usual_low": float(low), "usual_high": float(high)}
    run, absent = int(normal.run.max()), int(normal.absent.max())
    shortest = 12 if np.mean(normal.run > 1) < REPEATS else 30
    limits["stuck_rows"] = max(shortest, 3 * run) if 3 * run <= LONGEST else 0
    limits["missing_rows"] = max(3, 2 * absent + 1) if 2 * absent + 1 <= LONGEST else 0
    jump = normal.jump[np.isfinite(normal.jump)]
    if len(jump) and jump.max() > 0:
        heavy = jump.max() > 5 * np.quantile(jump, 0.99)
        limits["step"] = float(max(8 * jump.max(), 2 * np.ptp(seen)) if heavy else 4 * jump.max())
    curvature = normal.curvature[np.isfinite(normal.curvature)]
    if len(curvature) and curvature.max() > 0:
        limits["usual_noise"] = float(curvature.mean())
        limits["noise"] = float(max(4 * np.nanmax(normal.roughness), 1.5 * np.quantile(curvature, 0.999)))
    extent = normal.extent[np.isfinite(normal.extent)]
    if len(extent) and extent.min() > 0:
        limits["flat"] = float(0.1 * extent.min())
    return limits
