"""Belt conveyor: force balance of belt and load (DIN 22101), transport dead time, drive pulley and gearbox."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.machine import Drive, MachineKind, Sensor, Stress, Traits

SENSORS = (
    Sensor("drive_speed", "rpm", 0, 1800, 2.5, 1.0, "Motor speed"),
    Sensor("belt_speed", "m/s", 0, 1.5, 0.003, 0.001, "Belt speed at the tail", rating="belt"),
    Sensor("throughput", "t/h", 0, 1.6, 0.01, 0.001, "Belt scale before the head", rating="throughput"),
    Sensor("belt_tension", "kN", 0, 60, 0.22, 0.05, "Tension at the drive pulley"),
    Sensor("motor_current", "A", 0, 1.6, 0.006, 0.001, "Motor current", rating="current"),
    Sensor("motor_temp", "°C", -20, 155, 0.35, 0.1, "Motor winding temperature"),
    Sensor("gearbox_temp", "°C", -20, 120, 0.25, 0.1, "Gearbox oil temperature"),
    Sensor("pulley_temp", "°C", -20, 110, 0.25, 0.1, "Drive pulley bearing temperature"),
    Sensor("gearbox_vibration", "mm/s", 0, 18, 0.06, 0.01, "Gearbox vibration velocity RMS"),
    Sensor("hall_temp", "°C", -30, 60, 0.2, 0.1, "Air temperature at the drive"),
)
BELT_TICKS = 6
"""Transport from the feed to the belt scale, ticks."""


def respond(drive: Drive, traits: Traits, stress: Stress, memory: Memory) -> Mapping[str, Array]:
    """True quantities of one conveyor over an hour."""
    speed = memory.lag("speed", drive.power * (0.76 + 0.2 * drive.load), 12.0)
    belt = speed * (1.0 - 0.025 * stress["belt_slip"])
    feed = drive.power * (0.4 + 0.5 * drive.load + 0.05 * drive.second)
    scale = memory.delay("transport", feed, BELT_TICKS) * (1.0 - 0.07 * stress["blockage"])
    filled = memory.lag("filled", feed / np.maximum(belt, 0.3), 40.0) + 0.16 * stress["blockage"]
    tension = _tension(drive, traits, stress, filled, speed)
    torque = traits["losses"] * tension / 30.0
    gear = 24.0 * traits["friction"] * speed * (0.5 + 0.5 * torque)
    heat = 42.0 * (0.3 * speed + 0.7 * torque) * (1.0 + 0.17 * stress["overheating"])
    hall = memory.lag("hall", drive.ambient, 200.0)
    return {
        "drive_speed": 1480.0 * speed,
        "belt_speed": traits["belt"] * belt,
        "throughput": traits["throughput"] * memory.lag("scale", scale, 15.0),
        "belt_tension": tension,
        "motor_current": traits["current"] * (0.25 * np.minimum(1.0, 4.0 * speed) + 0.7 * torque),
        "motor_temp": memory.lag("motor", hall + 5.0 + heat * np.minimum(1.0, speed), 220.0),
        "gearbox_temp": memory.lag(
            "gearbox", hall + 4.0 + gear + 4.0 * stress["bearing_wear"] + 3.0 * stress["overheating"], 180.0
        ),
        "pulley_temp": memory.lag(
            "pulley", hall + 12.0 * speed * (0.6 + 0.4 * torque) + 4.0 * stress["belt_slip"], 150.0
        ),
        "gearbox_vibration": _vibration(drive, traits, stress, speed, torque),
        "hall_temp": hall,
    }


def _tension(drive: Drive, traits: Traits, stress: Stress, filled: Array, speed: Array) -> Array:
    """Pull at the drive pulley, kN: pre-tension, then friction of belt and load and the lift of the load."""
    moving = np.minimum(1.0, 5.0 * speed)
    friction = 9.0 * traits["system"] * (1.0 + 0.06 * drive.second) + 3.0 * stress["misalignment"]
    slip = 1.0 - 0.05 * stress["belt_slip"]
    tension: Array = 4.0 + moving * slip * (friction + 14.0 * filled) + 0.12 * drive.rough[0] * moving
    return tension


def _vibration(drive: Drive, traits: Traits, stress: Stress, speed: Array, torque: Array) -> Array:
    """Gear mesh and bearing vibration, mm/s."""
    moving = np.minimum(1.0, speed)
    faults = 0.75 * stress["bearing_wear"] + 0.4 * stress["misalignment"] + 0.15 * stress["blockage"]
    mesh = 0.9 * traits["balance"] * speed**2 + 0.7 * torque * speed
    vibration: Array = 0.05 + mesh + faults * moving + 0.02 * np.abs(drive.rough[1]) * moving
    return vibration


CONVEYOR = MachineKind(
    group="conveyors",
    sensors=SENSORS,
    faults=("belt_slip", "misalignment", "blockage", "bearing_wear", "overheating"),
    factors={"system": 0.08, "losses": 0.05, "friction": 0.08, "balance": 0.15},
    respond=respond,
    start_ramp_s=40.0,
)
