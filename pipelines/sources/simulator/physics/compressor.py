"""Two-stage reciprocating air compressor with intercooler: polytropic compression, valves, oil and cooling water."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.machine import Drive, MachineKind, Sensor, Stress, Traits

SENSORS = (
    Sensor("speed", "rpm", 0, 1200, 2.5, 0.5, "Crankshaft speed"),
    Sensor("air_flow", "Nm³/h", 0, 1.5, 0.006, 0.001, "Air delivered", rating="flow"),
    Sensor("interstage_pressure", "bar", 0, 6, 0.015, 0.005, "Pressure between the stages"),
    Sensor("discharge_pressure", "bar", 0, 14, 0.03, 0.01, "Pressure behind stage 2"),
    Sensor("stage1_temp", "°C", -20, 220, 0.5, 0.1, "Air temperature behind stage 1"),
    Sensor("stage2_temp", "°C", -20, 220, 0.5, 0.1, "Air temperature behind stage 2"),
    Sensor("oil_temp", "°C", -20, 110, 0.25, 0.1, "Oil temperature"),
    Sensor("oil_pressure", "bar", 0, 8, 0.015, 0.005, "Oil pressure"),
    Sensor("motor_current", "A", 0, 1.6, 0.006, 0.001, "Motor current", rating="current"),
    Sensor("vibration", "mm/s", 0, 28, 0.12, 0.01, "Frame vibration velocity RMS"),
    Sensor("water_temp", "°C", -5, 60, 0.15, 0.05, "Cooling water inlet temperature"),
)
POLYTROPIC = 0.23
"""(n − 1)/n with n = 1.3, a water-jacketed cylinder."""


def respond(drive: Drive, traits: Traits, stress: Stress, memory: Memory) -> Mapping[str, Array]:
    """True quantities of one compressor over an hour."""
    speed = memory.lag("speed", drive.power * (0.66 + 0.32 * drive.load), 20.0)
    moving = np.minimum(1.0, 2.0 * speed)
    header = 1.0 + moving * (6.3 + 0.5 * memory.lag("header", drive.second, 90.0) + 0.3 * drive.load)
    ratio = header ** (0.5 + 0.022 * stress["valve_leak"]) * traits["stages"] ** moving
    water = memory.lag("water", drive.water, 300.0)
    between = water + moving * (9.0 + 6.0 * speed + 6.0 * stress["cooling_loss"] + 3.0 * stress["fouling"])
    stage1 = _compressed(drive.ambient + 3.0, ratio) + 1.5 * stress["cooling_loss"]
    stage2 = _compressed(between, header / ratio) + moving * 11.0 * stress["valve_leak"]
    swept = speed * (1.0 - 0.035 * stress["valve_leak"] * moving) * (1.06 - 0.03 * ratio)
    work = traits["losses"] * swept * (np.log(header) + 0.35) / 2.4
    oil = memory.lag("oil", _oil(drive, traits, stress, speed, water), 200.0)
    shake = 1.3 * traits["balance"] * speed**2 + 1.1 * work + 1.2 * stress["bearing_wear"] + 0.4 * stress["valve_leak"]
    return {
        "speed": 980.0 * speed,
        "air_flow": traits["flow"] * memory.lag("flow", swept * (1.0 + 0.003 * drive.rough[0]), 12.0),
        "interstage_pressure": ratio * (1.0 + 0.03 * stress["fouling"] * moving) - 1.0,
        "discharge_pressure": header - 1.0 + 0.01 * drive.rough[0] * moving,
        "stage1_temp": memory.lag("stage1", stage1, 100.0),
        "stage2_temp": memory.lag("stage2", stage2, 100.0),
        "oil_temp": oil,
        "oil_pressure": _oil_pressure(traits, stress, speed, oil),
        "motor_current": traits["current"] * (0.2 * moving + 0.8 * work),
        "vibration": 0.05 + moving * shake + 0.03 * np.abs(drive.rough[1]) * moving,
        "water_temp": water,
    }


def _compressed(celsius: Array, ratio: Array) -> Array:
    """Temperature after polytropic compression by `ratio`, °C."""
    return (celsius + 273.15) * ratio**POLYTROPIC - 273.15


def _oil(drive: Drive, traits: Traits, stress: Stress, speed: Array, water: Array) -> Array:
    """Equilibrium temperature of the oil, °C."""
    friction = 24.0 * traits["friction"] * speed
    return 0.4 * drive.ambient + 0.6 * water + friction + 4.0 * stress["bearing_wear"] + 3.0 * stress["cooling_loss"]


def _oil_pressure(traits: Traits, stress: Stress, speed: Array, oil: Array) -> Array:
    """Gear pump against the bearings: falls as the oil thins and as clearances open, bar."""
    moving = np.minimum(1.0, 3.0 * speed)
    return moving * (2.6 + 1.6 * speed - 0.012 * (oil - 50.0) - 0.14 * stress["bearing_wear"]) * traits["system"]


COMPRESSOR = MachineKind(
    group="compressors",
    sensors=SENSORS,
    faults=("valve_leak", "cooling_loss", "bearing_wear", "fouling"),
    factors={"stages": 0.02, "losses": 0.05, "friction": 0.08, "balance": 0.12, "system": 0.04},
    respond=respond,
)
