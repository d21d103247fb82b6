"""Gas-fired steam boiler: steam demand, firing, feedwater and drum balance, flue gas and excess air."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.machine import Drive, MachineKind, Sensor, Stress, Traits

SENSORS = (
    Sensor("steam_flow", "t/h", 0, 1.5, 0.006, 0.001, "Steam delivered", rating="steam"),
    Sensor("steam_pressure", "bar", 0, 16, 0.02, 0.005, "Drum pressure"),
    Sensor("drum_level", "%", 0, 100, 0.35, 0.1, "Drum level"),
    Sensor("feedwater_flow", "t/h", 0, 1.6, 0.008, 0.001, "Feedwater flow", rating="steam"),
    Sensor("feedwater_temp", "°C", 0, 140, 0.3, 0.1, "Feedwater temperature"),
    Sensor("fuel_flow", "Nm³/h", 0, 1.5, 0.006, 0.001, "Gas to the burner", rating="fuel"),
    Sensor("combustion_air", "Nm³/h", 0, 1.5, 0.007, 0.001, "Combustion air", rating="air"),
    Sensor("flue_gas_temp", "°C", 0, 350, 0.8, 0.1, "Flue gas behind the boiler"),
    Sensor("oxygen", "%", 0, 21, 0.05, 0.01, "Oxygen in the flue gas"),
    Sensor("stack_pressure", "Pa", -200, 400, 1.5, 0.5, "Pressure in the flue behind the boiler"),
)
BURNER_TICKS = 2
"""Dead time from a change of demand to the burner, ticks."""


def respond(drive: Drive, traits: Traits, stress: Stress, memory: Memory) -> Mapping[str, Array]:
    """True quantities of one boiler over an hour."""
    steam = memory.lag("steam", drive.power * (0.35 + 0.62 * drive.load), 40.0)
    make_up = 82.0 + 12.0 * drive.power + 3.0 * drive.second + 0.2 * (drive.ambient - 15.0)
    feed_temp = memory.lag("feed_temp", make_up, 240.0)
    demand = memory.delay("burner", steam, BURNER_TICKS)
    heat = demand * (1.0 + 0.0016 * (94.0 - feed_temp)) * traits["losses"]
    waste = 1.0 + 0.055 * stress["fouling"] + 0.035 * stress["air_leak"] + 0.05 * stress["leak"]
    fuel = memory.lag("fuel", heat * waste, 25.0)
    excess = 3.0 + 1.6 * (1.0 - drive.load) * drive.power + 0.15 * drive.second
    oxygen = np.where(drive.power > 0.5, excess, 20.8)
    oxygen = memory.lag("oxygen", oxygen + 0.55 * stress["air_leak"] * drive.power, 30.0)
    air = fuel * (1.0 + oxygen.clip(0.0, 8.0) / 14.0) / 1.25
    feed = memory.lag("feed", steam * traits["system"] + 0.055 * stress["leak"], 30.0)
    feed = feed - 0.06 * stress["valve_stuck"]
    gap = feed - steam * traits["system"] - 0.055 * stress["leak"]
    return {
        "steam_flow": traits["steam"] * steam * (1.0 + 0.003 * drive.rough[0]),
        "steam_pressure": _pressure(drive, stress, memory, steam),
        "drum_level": memory.lag("level", 52.0 + 70.0 * gap - 2.0 * stress["leak"], 150.0) + 0.15 * drive.rough[1],
        "feedwater_flow": traits["steam"] * feed * (1.0 + 0.003 * drive.rough[2]),
        "feedwater_temp": feed_temp,
        "fuel_flow": traits["fuel"] * fuel,
        "combustion_air": traits["air"] * air * (1.0 - 0.03 * stress["air_leak"]),
        "flue_gas_temp": _flue(drive, traits, stress, memory, fuel, oxygen),
        "oxygen": oxygen,
        "stack_pressure": 70.0 * air**2 + 5.0 * stress["leak"] + 6.0 * stress["fouling"] + 0.5 * drive.rough[2],
    }


def _pressure(drive: Drive, stress: Stress, memory: Memory, steam: Array) -> Array:
    """Drum pressure, bar: held by the burner, sags while the steam draw grows faster than the fire."""
    hot = memory.lag("hot", np.where(drive.power > 0.5, 1.0, 0.55), 200.0)
    draw = memory.lag("draw", steam, 60.0) - steam
    pressure: Array = hot * (10.0 + 0.25 * drive.second - 0.12 * stress["leak"]) + 6.0 * draw
    return pressure


def _flue(drive: Drive, traits: Traits, stress: Stress, memory: Memory, fuel: Array, oxygen: Array) -> Array:
    """Flue gas temperature, °C: climbs with firing and excess air, and as the tubes foul."""
    firing = np.where(drive.power > 0.5, 95.0 + 85.0 * fuel * traits["friction"] + 3.0 * oxygen, 60.0)
    faults = 14.0 * stress["fouling"] - 9.0 * stress["leak"] + 3.0 * stress["air_leak"]
    return memory.lag("flue", firing + 0.5 * (drive.ambient - 15.0) + faults, 90.0)


BOILER = MachineKind(
    group="boilers",
    sensors=SENSORS,
    faults=("fouling", "leak", "valve_stuck", "air_leak"),
    factors={"losses": 0.04, "friction": 0.06, "system": 0.02},
    respond=respond,
    warm_up_s=1200.0,
    start_ramp_s=300.0,
)
