"""What a simulated machine is: its sensors, its traits, the demand it sees, and the law by which it responds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from anomaly.domain import Asset, Role, Tag
from pipelines.sources.simulator.dynamics import Array, Memory

OFF, START, RUN, RAMP = 0.0, 1.0, 2.0, 3.0
"""Values of every machine's `mode` tag. `RAMP`: running while its set point moves."""

Traits = Mapping[str, float]
"""Numbers of one machine: ratings (in the tag's unit) and factors near 1 that set it apart from its sisters."""

Stress = Mapping[str, Array]
"""Intensity per machine fault and tick: 0 healthy, 1 a fully developed fault of severity 1."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One instrument. `low`, `high`, `noise` (sd) and `resolution` are in `unit`, times the trait `rating` if given."""

    name: str
    unit: str
    low: float
    high: float
    noise: float
    resolution: float
    description: str
    rating: str = ""

    def tag(self, traits: Traits) -> Tag:
        """The tag as the plant file shows it, with its engineering range rounded up to two digits."""
        scale = traits.get(self.rating, 1.0)
        low, high = _two_digits(self.low * scale), _two_digits(self.high * scale)
        return Tag(self.name, self.unit, low, high, description=self.description)


@dataclass(frozen=True, slots=True)
class Drive:
    """What acts on one machine over one hour of ticks."""

    mode: Array
    """`OFF`, `START`, `RUN` or `RAMP`."""
    power: Array
    """0 switched off … 1 switched on; climbs over the start ramp."""
    load: Array
    """Demand on the machine, 0.08 … 0.92, mean about 0.5."""
    second: Array
    """A second demand the machine does not govern (resistance, header pressure, wetness), −1 … 1."""
    ambient: Array
    """Air temperature around it, °C."""
    water: Array
    """Cooling water temperature, °C."""
    rough: Float[np.ndarray, "source tick"]
    """Three white noises, sd 1, for turbulence that several sensors see alike."""


@dataclass(frozen=True, slots=True)
class MachineKind:
    """A type of machine. `factors`: half-width of each trait factor around 1, drawn once for each machine."""

    group: str
    sensors: tuple[Sensor, ...]
    faults: tuple[str, ...]
    factors: Mapping[str, float]
    respond: Callable[[Drive, Traits, Stress, Memory], Mapping[str, Array]]
    """True value of every sensor's quantity, by name."""
    warm_up_s: float = 900.0
    """How long it stays in mode START: until its temperatures have settled."""
    start_ramp_s: float = 60.0
    """From standstill to speed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the plant. `index` keys its random numbers. `pauses`: it is stopped and started now and then."""

    index: int
    path: str
    name: str
    kind: MachineKind
    traits: Traits
    pauses: bool = False

    def asset(self) -> Asset:
        """The asset as the plant file describes it: the mode tag first, then the sensors."""
        what = "Operating mode: 0 off, 1 start, 2 run, 3 ramp"
        mode = Tag("mode", low=OFF, high=RAMP, role=Role.MODE, running=(RUN, RAMP), description=what)
        tags = (mode, *(sensor.tag(self.traits) for sensor in self.kind.sensors))
        return Asset(self.path, self.kind.group, tags, name=self.name)


def _two_digits(value: float) -> float:
    """Away from zero to two significant digits: 183.2 → 190."""
    if value == 0.0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return round(math.copysign(math.ceil(round(abs(value) / unit, 6)) * unit, value), 6)
