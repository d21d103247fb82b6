"""Centrifugal fan with an inlet damper: fan laws, duct resistance, filter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.machine import Drive, MachineKind, Sensor, Stress, Traits

SENSORS = (
    Sensor("speed", "rpm", 0, 1700, 4.0, 1.0, "Impeller speed"),
    Sensor("damper_position", "%", 0, 100, 0.6, 0.1, "Inlet damper, 100 % is open"),
    Sensor("air_flow", "m³/s", 0, 1.5, 0.007, 0.001, "Air flow", rating="flow"),
    Sensor("static_pressure", "Pa", -200, 3500, 12.0, 1.0, "Static pressure behind the fan"),
    Sensor("motor_current", "A", 0, 1.6, 0.006, 0.001, "Motor current", rating="current"),
    Sensor("winding_temp", "°C", -20, 155, 0.35, 0.1, "Motor winding temperature"),
    Sensor("bearing_temp", "°C", -20, 120, 0.25, 0.1, "Bearing temperature"),
    Sensor("inlet_temp", "°C", -30, 60, 0.2, 0.1, "Temperature of the air drawn in"),
    Sensor("vibration_de", "mm/s", 0, 18, 0.07, 0.01, "Vibration velocity RMS, drive end"),
    Sensor("vibration_nde", "mm/s", 0, 18, 0.06, 0.01, "Vibration velocity RMS, non-drive end"),
)


def respond(drive: Drive, traits: Traits, stress: Stress, memory: Memory) -> Mapping[str, Array]:
    """True quantities of one fan over an hour."""
    speed = memory.lag("speed", drive.power * (0.68 + 0.3 * drive.load), 25.0)
    wanted = memory.lag("damper", 72.0 + 12.0 * drive.load + 5.0 * drive.second, 40.0)
    damper = wanted - 16.0 * stress["valve_stuck"]
    flow, pressure = _flow(drive, traits, stress, speed, damper)
    shaft = traits["losses"] * (0.75 * flow * pressure + (0.3 + 0.02 * stress["bearing_wear"]) * speed**3)
    heat = 42.0 * traits["losses"] * shaft * (1.0 + 0.3 * stress["overheating"])
    friction = 25.0 * speed * traits["friction"] + 4.5 * stress["bearing_wear"] + 2.0 * stress["imbalance"]
    inlet = memory.lag("inlet", drive.ambient + 1.5, 180.0)
    vibration = 0.05 + (1.8 * traits["balance"] + 0.75 * stress["imbalance"]) * speed**2
    vibration = vibration + 0.5 * (1.0 - damper / 100.0) * speed + 0.02 * np.abs(drive.rough[1]) * speed
    return {
        "speed": 1500.0 * speed,
        "damper_position": damper,
        "air_flow": memory.lag("flow", flow, 10.0) * traits["flow"],
        "static_pressure": 2200.0 * pressure,
        "motor_current": traits["current"] * (0.2 * np.minimum(1.0, 4.0 * speed) + 0.8 * shaft),
        "winding_temp": memory.lag("winding", drive.ambient + 6.0 + heat, 220.0),
        "bearing_temp": memory.lag("bearing", inlet + friction + 2.2 * stress["overheating"], 160.0),
        "inlet_temp": inlet,
        "vibration_de": vibration + 0.7 * stress["bearing_wear"] * speed,
        "vibration_nde": 0.75 * vibration + 0.4 * stress["bearing_wear"] * speed,
    }


def _flow(drive: Drive, traits: Traits, stress: Stress, speed: Array, damper: Array) -> tuple[Array, Array]:
    """Fan curve p = 1.2 n² − 0.3 Q² against damper, filter and duct; flow and static pressure, rated."""
    throttle = 0.12 * (80.0 / damper) ** 2
    duct = 0.62 * traits["system"] * (1.0 + 0.05 * drive.second + 0.2 * stress["blockage"])
    wheel = 1.2 * (1.0 - 0.12 * stress["fouling"])
    density = 293.0 / (273.0 + drive.ambient)
    flow = speed * np.sqrt(wheel / (0.3 + throttle + duct)) * (1.0 + 0.004 * drive.rough[0])
    return flow, density * duct * flow**2


FAN = MachineKind(
    group="fans",
    sensors=SENSORS,
    faults=("bearing_wear", "imbalance", "blockage", "valve_stuck", "overheating", "fouling"),
    factors={"system": 0.08, "losses": 0.05, "friction": 0.08, "balance": 0.15},
    respond=respond,
    start_ramp_s=90.0,
)
