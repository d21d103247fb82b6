"""The demonstration plant: fourteen machines of five types, each a little different from its sisters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from anomaly.domain import Plant
from pipelines.sources.simulator.machine import Machine, MachineKind
from pipelines.sources.simulator.physics.boiler import BOILER
from pipelines.sources.simulator.physics.compressor import COMPRESSOR
from pipelines.sources.simulator.physics.conveyor import CONVEYOR
from pipelines.sources.simulator.physics.fan import FAN
from pipelines.sources.simulator.physics.pump import PUMP
from pipelines.sources.simulator.randomness import TRAITS, stream

TIMEZONE = "Europe/Berlin"


class Nameplate(NamedTuple):
    """A machine as bought. `pauses`: stopped and started now and then."""

    path: str
    name: str
    kind: MachineKind
    ratings: Mapping[str, float]
    pauses: bool = False


RAW_1 = {"belt": 1.9, "throughput": 320, "current": 58}
RAW_2 = {"belt": 1.8, "throughput": 300, "current": 55}
SHIPPING = {"belt": 1.3, "throughput": 150, "current": 34}
NAMEPLATES = (
    Nameplate("utilities/cooling/pump-101", "Cooling pump 101", PUMP, {"flow": 180, "head": 4.2, "current": 62}),
    Nameplate("utilities/cooling/pump-102", "Cooling pump 102", PUMP, {"flow": 175, "head": 4.0, "current": 60}),
    Nameplate("utilities/cooling/pump-103", "Cooling pump 103", PUMP, {"flow": 120, "head": 4.6, "current": 48}, True),
    Nameplate("process/water/pump-201", "Process water pump 201", PUMP, {"flow": 90, "head": 5.5, "current": 41}),
    Nameplate("utilities/air/compressor-101", "Air compressor 101", COMPRESSOR, {"flow": 1450, "current": 235}),
    Nameplate("utilities/air/compressor-102", "Air compressor 102", COMPRESSOR, {"flow": 1200, "current": 198}),
    Nameplate("handling/raw/conveyor-101", "Raw material conveyor 101", CONVEYOR, RAW_1, True),
    Nameplate("handling/raw/conveyor-102", "Raw material conveyor 102", CONVEYOR, RAW_2),
    Nameplate("handling/shipping/conveyor-201", "Shipping conveyor 201", CONVEYOR, SHIPPING, True),
    Nameplate("utilities/steam/boiler-101", "Steam boiler 101", BOILER, {"steam": 10, "fuel": 760, "air": 8400}),
    Nameplate("utilities/steam/boiler-102", "Steam boiler 102", BOILER, {"steam": 8, "fuel": 610, "air": 6800}),
    Nameplate("process/drying/fan-301", "Dryer exhaust fan 301", FAN, {"flow": 14, "current": 88}),
    Nameplate("process/drying/fan-302", "Dryer supply fan 302", FAN, {"flow": 12, "current": 76}),
    Nameplate("process/hall/fan-401", "Hall ventilation fan 401", FAN, {"flow": 18, "current": 95}, True),
)


def machines(seed: int) -> tuple[Machine, ...]:
    """The fourteen machines; `seed` draws how each one differs from its sisters."""
    return tuple(_machine(index, plate, seed) for index, plate in enumerate(NAMEPLATES))


def demo_plant(seed: int = 0) -> Plant:
    """The plant file of the simulated plant.

    >>> plant = demo_plant(seed=1)
    >>> len(plant.assets), sorted(plant.groups())
    (14, ['boilers', 'compressors', 'conveyors', 'fans', 'pumps'])
    >>> plant.assets[0].path
    'northworks/utilities/cooling/pump-101'
    """
    assets = tuple(machine.asset() for machine in machines(seed))
    return Plant("northworks", assets, timezone=TIMEZONE)


def _machine(index: int, plate: Nameplate, seed: int) -> Machine:
    draws = stream(seed, TRAITS, index).uniform(-1.0, 1.0, len(plate.kind.factors))
    factors = {name: 1.0 + width * draw for (name, width), draw in zip(plate.kind.factors.items(), draws, strict=True)}
    traits = {**plate.ratings, **{name: float(np.round(value, 4)) for name, value in factors.items()}}
    return Machine(index, f"northworks/{plate.path}", plate.name, plate.kind, traits, plate.pauses)
