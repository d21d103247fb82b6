"""Sensor faults of the newest rows of many machines, when those of the rows before are known already.

`sensors.check` over everything is what it must equal (property test); it is asked only where `quiet` cannot rule every
fault out, and only for the rows that are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from anomaly.blocks import rows as rows_of
from anomaly.domain import Samples
from anomaly.quiet import surely_healthy
from anomaly.sensors import HORIZON, SensorLimits, check


class Known(NamedTuple):
    """Verdicts by `limits` of the rows up to time `until` (ns) of one machine, oldest first."""

    limits: SensorLimits
    until: int
    faults: UInt8[np.ndarray, "row tag"]


class Ask(NamedTuple):
    """Samples of one machine, of which those from row `first` on are new, and what is known of those before."""

    samples: Samples
    first: int
    known: Known | None


def newest_faults(asks: Sequence[Ask], limits: SensorLimits) -> list[UInt8[np.ndarray, "row tag"]]:
    """`SensorFault` of each row and tag of each machine's samples.

    With at least `HORIZON` rows before row `first`, or all there ever were, those of the new rows are what `check` says
    over everything.
    """
    found = [np.zeros((0, 0), np.uint8)] * len(asks)
    by_tags: dict[tuple[str, ...], list[int]] = {}
    for place, ask in enumerate(asks):
        if len(ask.samples) > ask.first and _is_known(ask, limits):
            by_tags.setdefault(ask.samples.tags, []).append(place)
        else:
            found[place] = check(ask.samples, limits)
    for tags, places in by_tags.items():
        healthy = _healthy([asks[place] for place in places], limits.of(tags)).tolist()
        for place, is_healthy in zip(places, healthy, strict=True):
            found[place] = _continued(asks[place], limits, is_healthy)
    return found


def _is_known(ask: Ask, limits: SensorLimits) -> bool:
    """Whether the rows before the first are judged already, and by these limits."""
    if ask.first == 0:
        return True
    known = ask.known
    if known is None or known.limits is not limits or len(known.faults) < ask.first:
        return False
    return known.until == int(ask.samples.times[ask.first - 1])


def _healthy(asks: Sequence[Ask], limits: SensorLimits) -> np.ndarray:
    cuts = [slice(max(0, ask.first - HORIZON), None) for ask in asks]
    counts = [len(ask.samples) - cut.start for ask, cut in zip(asks, cuts, strict=True)]
    values, mask, quality = (
        np.concatenate([getattr(ask.samples, name)[cut] for ask, cut in zip(asks, cuts, strict=True)])
        for name in ("values", "mask", "quality")
    )
    return surely_healthy(values, mask, quality, np.cumsum(counts) - counts, limits)


def _continued(ask: Ask, limits: SensorLimits, healthy: bool) -> UInt8[np.ndarray, "row tag"]:
    first = ask.first
    out = np.zeros(ask.samples.values.shape, dtype=np.uint8)
    if first and ask.known is not None:
        out[:first] = ask.known.faults[len(ask.known.faults) - first :]
    if not healthy:
        start = max(0, first - HORIZON)
        out[first:] = check(rows_of(ask.samples, slice(start, None)), limits)[first - start :]
    return out
