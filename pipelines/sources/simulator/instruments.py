"""From true quantities to what is reported: noise, resolution, faults of the instrument, lost values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int64, UInt8

from anomaly.domain import Quality
from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.faults import Fault
from pipelines.sources.simulator.machine import Machine, Sensor

CONVERSIONS: Mapping[str, Callable[[Array], Array]] = {
    "°C": lambda value: value * 1.8 + 32.0,  # → °F
    "bar": lambda value: value * 14.5038,  # → psi
    "mm/s": lambda value: value / 25.4,  # → in/s
    "m³/h": lambda value: value * 4.40287,  # → US gal/min
    "kN": lambda value: value * 224.809,  # → lbf
    "m/s": lambda value: value * 196.850,  # → ft/min
}
"""What a sensor reports after somebody set it to another unit, by the unit it should report in."""

DRIFT_SIGMAS = 16.0
"""A drift of severity 1 ends up so many noise deviations from the truth."""
SPIKE_SHARE = 0.12
"""Share of the values that jump while a sensor spikes."""
SPIKE_SIGMAS = 60.0
DROPOUT_BAD_TICKS = 30
"""A sensor that drops out first says so (quality bad) for so many rows, then nothing comes any more."""
LOST_SHARE, UNCERTAIN_SHARE = 3e-4, 1e-4
"""Single values that get lost, or are marked uncertain, on a healthy plant."""


def measure(
    machine: Machine,
    times: Int64[np.ndarray, " tick"],
    truth: Mapping[str, Array],
    faults: Sequence[Fault],
    rng: np.random.Generator,
    memory: Memory,
) -> tuple[Float[np.ndarray, "tick sensor"], UInt8[np.ndarray, "tick sensor"]]:
    """Reported values (NaN where none is to be used) and qualities of all sensors of one hour."""
    sensors = machine.kind.sensors
    noise = rng.standard_normal((len(times), len(sensors)))
    luck = rng.random((len(times), len(sensors)))
    jumps = rng.random((len(times), 2))
    quality = np.zeros((len(times), len(sensors)), dtype=np.uint8)
    quality[luck < LOST_SHARE + UNCERTAIN_SHARE] = Quality.UNCERTAIN
    quality[luck < LOST_SHARE] = Quality.MISSING
    columns = []
    for number, sensor in enumerate(sensors):
        own = [fault for fault in faults if fault.tag == sensor.name]
        scale = machine.traits.get(sensor.rating, 1.0)
        value = truth[sensor.name] + sensor.noise * scale * noise[:, number]
        for fault in own:
            value = _distorted(value, sensor, sensor.noise * scale, fault, times, jumps)
            quality[:, number] = _dropped(quality[:, number], fault, times)
        stuck = [fault.active(times) for fault in own if fault.name == "sensor_stuck"]
        held = np.any(stuck, axis=0) if stuck else np.zeros(len(times), dtype=bool)
        columns.append(memory.hold(f"held.{sensor.name}", _read_off(value, sensor, scale), held))
    values = np.column_stack(columns)
    values[quality >= Quality.BAD] = np.nan
    return values, quality


def _distorted(
    value: Array, sensor: Sensor, noise: float, fault: Fault, times: Int64[np.ndarray, " tick"], jumps: np.ndarray
) -> Array:
    """The value under faults that change numbers."""
    match fault.name:
        case "sensor_drift":
            return value + fault.amount * DRIFT_SIGMAS * noise * fault.intensity(times)
        case "sensor_spike":
            hit = fault.active(times) & (jumps[:, 0] < SPIKE_SHARE)
            size = fault.severity * SPIKE_SIGMAS * noise * (0.7 + 0.6 * np.abs(2.0 * jumps[:, 1] - 1.0))
            return np.where(hit, value + np.sign(jumps[:, 1] - 0.5) * size, value)
        case "unit_change":
            return np.where(fault.active(times), CONVERSIONS[sensor.unit](value), value)
        case _:
            return value


def _dropped(quality: np.ndarray, fault: Fault, times: Int64[np.ndarray, " tick"]) -> np.ndarray:
    """Qualities under a dropout."""
    if fault.name != "sensor_dropout":
        return quality
    active = fault.active(times)
    rows = (times - fault.onset) // max(int(times[1] - times[0]), 1)
    return np.where(active, np.where(rows < DROPOUT_BAD_TICKS, Quality.BAD, Quality.MISSING), quality)


def _read_off(value: Array, sensor: Sensor, scale: float) -> Array:
    """The value on the instrument's scale: its resolution, and nothing below zero where there is nothing."""
    if sensor.low >= 0.0:
        value = np.maximum(value, sensor.low * scale)
    step = resolution(sensor, scale)
    decimals = max(0, int(np.ceil(-np.log10(step))))
    return np.round(np.round(value / step) * step, decimals)


def resolution(sensor: Sensor, scale: float) -> float:
    """Smallest step of the display: 1, 2 or 5 times a power of ten, not above `sensor.resolution · scale`."""
    power = 10.0 ** np.floor(np.log10(sensor.resolution * scale))
    ratio = sensor.resolution * scale / power
    return float(power * (5.0 if ratio >= 5.0 else 2.0 if ratio >= 2.0 else 1.0))
