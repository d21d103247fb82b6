"""Is it the machine or the sensor? Instrument faults of each tag at each row: causal, pure, of finite memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, UInt8

from anomaly import rolling
from anomaly.domain import Quality, Samples, SensorFault
from anomaly.jumps import alone, jumps, unit_jumps
from anomaly.sensor_limits import (
    FLAT_ROWS,
    HORIZON,
    NOISE_COUNT,
    NOISE_ROWS,
    Features,
    SensorLimits,
    default_limits,
    features,
    fit_limits,
)

__all__ = ["HORIZON", "SensorLimits", "check", "default_limits", "fit_limits"]

BURST_ROWS = 24
BURST = 3
"""So many spikes within 24 rows are a loose contact: the tag is not believed until they are out of sight."""


def check(samples: Samples, limits: SensorLimits) -> UInt8[np.ndarray, "row tag"]:
    """`SensorFault` of each tag of the samples at each row, from the last 48 rows since the last restart.

    Strange moves (spike, noise, flat) are a sensor's only if hardly another tag makes them at the same time: what all
    tags do, the machine does. Where several faults hold, the most telling one is given: bad quality, missing, unit
    jump, out of range, stuck, noise, spike, flat. Tags without limits are only checked for bad quality.
    """
    limits = limits.of(samples.tags)
    out = np.zeros(samples.values.shape, dtype=np.uint8)
    edges = [0, *(np.flatnonzero(samples.restart[1:]) + 1).tolist(), len(samples)]
    with np.errstate(over="ignore", invalid="ignore"):
        for start, stop in pairwise(edges):
            if stop > start:
                _check_segment(samples, slice(start, stop), limits, out[start:stop])
    return out


def _check_segment(samples: Samples, rows: slice, limits: SensorLimits, out: UInt8[np.ndarray, "row tag"]) -> None:
    """Verdicts of consecutive rows, the weakest written first."""
    seen = samples.mask[rows] & np.isfinite(samples.values[rows])
    quality = samples.quality[rows]
    found = features(np.where(seen, samples.values[rows], np.nan))
    calm = _calm(found, limits)
    jumped = jumps(found, limits)
    stuck = (limits.stuck_rows > 0) & (rolling.run_length(found.filled) >= limits.stuck_rows)
    out[seen & calm & _flat(found, limits, stuck)] = SensorFault.FLAT
    out[seen & calm & _spikes(jumped)] = SensorFault.SPIKE
    out[seen & calm & alone(_noisy(found, limits))] = SensorFault.NOISE
    out[seen & stuck & ~_standing_still(found, limits, stuck)] = SensorFault.STUCK
    out[(found.seen < limits.low) | (found.seen > limits.high)] = SensorFault.OUT_OF_RANGE
    out[calm & unit_jumps(found, limits)] = SensorFault.UNIT_JUMP
    out[_missing(seen, limits)] = SensorFault.MISSING
    out[quality == Quality.BAD] = SensorFault.BAD_QUALITY


def _calm(found: Features, limits: SensorLimits) -> Bool[np.ndarray, "row tag"]:
    """Where hardly another tag is outside its usual range: in an upset, a wild signal is the process."""
    margin = 0.25 * (limits.usual_high - limits.usual_low)
    outside = (found.seen > limits.usual_high + margin) | (found.seen < limits.usual_low - margin)
    verdict: np.ndarray = outside.sum(axis=1, keepdims=True) - outside <= 1 + outside.shape[1] // 16
    return verdict


def _spikes(jumped: Bool[np.ndarray, "row tag"]) -> Bool[np.ndarray, "row tag"]:
    """Implausible steps, and the rows after a burst of them. A new level is believed once it fills the median."""
    if not jumped.any():
        return jumped
    spike = alone(jumped)
    begins = spike.copy()
    begins[1:] &= ~spike[:-1]
    return spike | (rolling.trailing_count(begins, BURST_ROWS) >= BURST)


def _noisy(found: Features, limits: SensorLimits) -> Bool[np.ndarray, "row tag"]:
    """Most of the last rows jump about more than is plausible; noise may grow in proportion to the level."""
    usual = np.fmax(np.abs(limits.usual_low), np.abs(limits.usual_high))
    grown = np.fmax(1.0, np.abs(found.level) / np.where(usual > 0, usual, np.nan))
    rough = found.curvature > limits.noise * grown
    verdict: np.ndarray = rolling.trailing_count(rough, NOISE_ROWS) >= NOISE_COUNT
    return verdict


def _flat(found: Features, limits: SensorLimits, stuck: Bool[np.ndarray, "row tag"]) -> Bool[np.ndarray, "row tag"]:
    """Hardly any movement over 24 rows, at a usual level, where there always is some: unless others went quiet too."""
    extent = rolling.trailing_max(found.filled, FLAT_ROWS) - rolling.trailing_min(found.filled, FLAT_ROWS)
    whole = rolling.trailing_count(np.isfinite(found.filled), FLAT_ROWS) == FLAT_ROWS
    flat = (
        whole
        & (extent > 0)
        & (extent < limits.flat)
        & (found.level >= limits.usual_low)
        & (found.level <= limits.usual_high)
    )
    quiet = (flat | stuck).sum(axis=1)
    verdict: np.ndarray = flat & (quiet <= 1 + flat.shape[1] // 16)[:, None]
    return verdict


def _standing_still(
    found: Features, limits: SensorLimits, stuck: Bool[np.ndarray, "row tag"]
) -> Bool[np.ndarray, "row tag"]:
    """Several tags stuck, and not all where they usually are: a machine at rest.

    All frozen in the middle of normal running is no rest: something between the sensors and us repeats old values.
    """
    usual = (found.filled >= limits.usual_low) & (found.filled <= limits.usual_high)
    count = stuck.sum(axis=1)
    resting = (count > 1 + stuck.shape[1] // 16) & ((stuck & usual).sum(axis=1) < 0.9 * count)
    verdict: np.ndarray = stuck & resting[:, None]
    return verdict


def _missing(seen: Bool[np.ndarray, "row tag"], limits: SensorLimits) -> Bool[np.ndarray, "row tag"]:
    """Not seen for too many rows in which other tags were; if all are away it is the data path, not a sensor."""
    if seen.all():
        return np.zeros_like(seen)
    away = np.where(~seen & seen.any(axis=1, keepdims=True), 1.0, np.nan)
    verdict: np.ndarray = (limits.missing_rows > 0) & (rolling.run_length(away) >= limits.missing_rows)
    return verdict
