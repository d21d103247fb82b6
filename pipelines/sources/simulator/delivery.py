"""How rows travel: stamped by the gateway a little unevenly, now and then late or twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8

from anomaly.domain import SECOND, Readings
from pipelines.sources.simulator.faults import Fault

MILLISECOND = 1_000_000
LATE_SHARE, DUPLICATE_SHARE, UNEVEN_SHARE = 0.003, 0.002, 0.02
"""Shares of the rows that come one or two ticks late, come twice, or are stamped unevenly."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """Rows of one machine and hour in the order in which they arrive."""

    arrivals: Int64[np.ndarray, " row"]
    """When each row can first be had, event time in ns; not decreasing."""
    times: Int64[np.ndarray, " row"]
    """What the gateway stamped, ns."""
    values: Float[np.ndarray, "row tag"]
    quality: UInt8[np.ndarray, "row tag"]

    def readings(self, asset: str, tags: tuple[str, ...], after: int, until: int) -> Readings:
        """Rows that arrive in (after, until]."""
        first, last = np.searchsorted(self.arrivals, [after, until], side="right")
        return Readings(asset, tags, self.times[first:last], self.values[first:last], self.quality[first:last])


def deliver(
    ticks: Int64[np.ndarray, " tick"],
    tick_ns: int,
    values: Float[np.ndarray, "tick tag"],
    quality: UInt8[np.ndarray, "tick tag"],
    faults: Sequence[Fault],
    rng: np.random.Generator,
    phase: float,
) -> Delivered:
    """Send the rows of one hour. `phase` 0 … 1: where within a tick this gateway samples.

    No row of an hour's last three ticks is late, so nothing crosses into the next hour.
    """
    luck, spread, uneven = rng.random((3, len(ticks)))
    jitter = np.where(uneven < UNEVEN_SHARE, 0.9 * (spread - 0.5), 0.06 * (spread - 0.5))
    stamped = ticks + np.round((phase - 1.0 + jitter) * tick_ns / MILLISECOND).astype(np.int64) * MILLISECOND
    for fault in faults:
        if fault.name == "clock_wrong":
            stamped = stamped + fault.active(ticks) * round(fault.amount * SECOND)
    inner = np.arange(len(ticks)) < len(ticks) - 3
    late = np.where(inner & (luck < LATE_SHARE), 1 + (luck < LATE_SHARE / 2), 0)
    twice = inner & (luck > 1.0 - DUPLICATE_SHARE)
    # a late row arrives just after the row of its new tick; a second copy one tick after the first
    rows = np.concatenate([np.arange(len(ticks)), np.flatnonzero(twice)])
    moved = np.concatenate([late * tick_ns + (late > 0), np.full(int(twice.sum()), tick_ns + 1)])
    arrivals = ticks[rows] + moved
    order = np.argsort(arrivals, kind="stable")
    rows = rows[order]
    return Delivered(arrivals[order], stamped[rows], values[rows], quality[rows])
