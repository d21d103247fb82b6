"""Centrifugal pump on a variable-speed drive: pump curve against system curve, affinity laws (Gülich, ch. 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.machine import Drive, MachineKind, Sensor, Stress, Traits

SENSORS = (
    Sensor("speed", "rpm", 0, 3300, 6.0, 1.0, "Shaft speed"),
    Sensor("flow", "m³/h", 0, 1.5, 0.006, 0.001, "Flow behind the pump", rating="flow"),
    Sensor("suction_pressure", "bar", -1, 6, 0.012, 0.005, "Pressure at the suction flange"),
    Sensor("discharge_pressure", "bar", 0, 16, 0.03, 0.01, "Pressure at the discharge flange"),
    Sensor("motor_current", "A", 0, 1.6, 0.006, 0.001, "Motor current", rating="current"),
    Sensor("winding_temp", "°C", -20, 155, 0.35, 0.1, "Motor winding temperature"),
    Sensor("bearing_temp", "°C", -20, 120, 0.25, 0.1, "Drive-end bearing temperature"),
    Sensor("fluid_temp", "°C", -10, 95, 0.3, 0.1, "Temperature of the pumped water"),
    Sensor("vibration_de", "mm/s", 0, 18, 0.07, 0.01, "Vibration velocity RMS, drive end"),
    Sensor("vibration_nde", "mm/s", 0, 18, 0.06, 0.01, "Vibration velocity RMS, non-drive end"),
)


def respond(drive: Drive, traits: Traits, stress: Stress, memory: Memory) -> Mapping[str, Array]:
    """True quantities of one pump over an hour."""
    speed = memory.lag("speed", drive.power * (0.72 + 0.26 * drive.load), 15.0)
    supply = 1.9 + 0.12 * memory.lag("supply", drive.second, 120.0) - 0.25 * stress["cavitation"]
    flow, suction, head = _flow(drive, traits, stress, speed, supply)
    shaft = _shaft_power(traits, stress, speed, flow, head)
    fluid = memory.lag("fluid", drive.water + 2.0 * drive.load, 240.0)
    heat = 40.0 * traits["losses"] * shaft
    friction = 27.0 * speed * traits["friction"] + 5.5 * stress["bearing_wear"] + 2.0 * stress["imbalance"]
    vibration = _vibration(drive, traits, stress, speed, flow)
    return {
        "speed": 3000.0 * speed,
        "flow": memory.lag("flow", flow - 0.1 * stress["leak"] * np.minimum(flow, 1.0), 12.0) * traits["flow"],
        "suction_pressure": suction,
        "discharge_pressure": suction + traits["head"] * head,
        "motor_current": traits["current"] * (0.22 * np.minimum(1.0, 4.0 * speed) + 0.75 * shaft),
        "winding_temp": memory.lag("winding", drive.ambient + 6.0 + heat, 220.0),
        "bearing_temp": memory.lag("bearing", 0.7 * drive.ambient + 0.3 * fluid + friction, 160.0),
        "fluid_temp": fluid,
        "vibration_de": vibration + 0.75 * stress["bearing_wear"] * speed,
        "vibration_nde": 0.8 * vibration + 0.35 * stress["bearing_wear"] * speed,
    }


def _flow(drive: Drive, traits: Traits, stress: Stress, speed: Array, supply: Array) -> tuple[Array, Array, Array]:
    """Where the pump curve H = 1.25 n² − 0.35 Q² meets the system curve; flow, suction (bar) and head (rated)."""
    resistance = 0.45 * traits["system"] * (1.0 + 0.12 * drive.second) * (1.0 - 0.2 * stress["leak"])
    strainer = 0.06 + 0.055 * stress["blockage"]
    loss = 1.0 - 0.05 * stress["cavitation"] - 0.08 * stress["fouling"]
    lift = np.maximum(1.25 * loss * speed**2 - 0.2, 0.0)
    flow = np.sqrt(lift / (0.35 + resistance + strainer)) * (1.0 + 0.003 * drive.rough[0] * (lift > 0))
    suction = supply - traits["head"] * strainer * flow**2
    return flow, suction, np.maximum(1.25 * loss * speed**2 - 0.35 * flow**2, 0.0)


def _shaft_power(traits: Traits, stress: Stress, speed: Array, flow: Array, head: Array) -> Array:
    """Hydraulic power plus losses, 1.0 at nameplate."""
    drag = 0.25 + 0.02 * stress["bearing_wear"] + 0.05 * stress["fouling"]
    power: Array = traits["losses"] * (0.8 * flow * head + drag * speed**3)
    return power


def _vibration(drive: Drive, traits: Traits, stress: Stress, speed: Array, flow: Array) -> Array:
    """RMS velocity at the drive end, mm/s: grows with speed squared and away from the best-efficiency flow."""
    off_best = np.abs(flow - 1.05 * speed)
    bubbles = stress["cavitation"] * np.minimum(1.0, speed) * (0.7 + 0.15 * drive.rough[1])
    residual = 1.6 * traits["balance"] + 0.8 * stress["imbalance"] + 0.15 * stress["blockage"]
    total: Array = 0.05 + residual * speed**2 + 0.8 * off_best + bubbles
    return total


PUMP = MachineKind(
    group="pumps",
    sensors=SENSORS,
    faults=("bearing_wear", "cavitation", "leak", "blockage", "imbalance", "fouling"),
    factors={"system": 0.08, "losses": 0.05, "friction": 0.08, "balance": 0.15},
    respond=respond,
)
