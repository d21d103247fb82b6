"""Faults by name: which there are, what they do, and how one grows, stays and is repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from anomaly.domain import SECOND


class FaultKind(StrEnum):
    """Is it the machine or the sensor?"""

    MACHINE = "machine"
    INSTRUMENT = "instrument"


MACHINE_FAULTS: Mapping[str, str] = {
    "bearing_wear": "A bearing is worn: vibration, bearing heat, a little more current",
    "cavitation": "Suction pressure too low: bubbles, rough vibration, less flow and head",
    "leak": "Pipe or tube leaks: less arrives than is pumped, pressure falls",
    "fouling": "Deposits on impeller or heat exchanger: less head or heat for the same power",
    "blockage": "Strainer, filter or chute clogs: less flow, pressure builds up on one side",
    "imbalance": "Rotor out of balance: vibration at both ends with speed squared",
    "valve_stuck": "Control valve or damper sticks part way shut",
    "valve_leak": "Compressor valve leaks: hot gas flows back, interstage pressure rises",
    "cooling_loss": "Cooling water fails: everything cooled gets hotter",
    "overheating": "Motor cooling clogs: winding and neighbours heat up",
    "belt_slip": "Belt slips on the drive pulley: slower belt, hot pulley, less pull",
    "misalignment": "Belt runs off centre: more tension, current and vibration",
    "air_leak": "False air enters the boiler: oxygen and losses rise, less air is drawn",
}
"""Faults of the machine, acting on its physics, with one line for people."""

INSTRUMENT_FAULTS: Mapping[str, str] = {
    "sensor_stuck": "The sensor repeats its last value",
    "sensor_drift": "One sensor drifts away from the truth",
    "sensor_spike": "Single values jump far off, up and down",
    "sensor_dropout": "Values come as bad, then no longer at all",
    "unit_change": "The sensor was replaced and now reports in another unit",
    "clock_wrong": "The gateway's clock is an hour ahead or twenty minutes behind",
}
"""Faults of the instrument, acting only on what is reported, with one line for people."""

REPAIR_NS = 60 * SECOND
"""A machine fault fades over this long before its `until`; slow temperatures need a few minutes more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The truth about one fault; times are event times in ns.

    It starts at `onset`, grows linearly, is fully developed at `developed` and over at `until`. `severity` 1 is a fault
    whose clearest sensors end up about 6 to 12 of their noise deviations from where load explains them. `tag` is the
    sensor at fault; None for machine faults and for `clock_wrong`, which moves all tags of the asset. `amount` is the
    fault's own number, signed and for severity 1: seconds of a wrong clock (ahead > 0), direction of a drift.
    """

    asset: str
    name: str
    kind: FaultKind
    tag: str | None
    onset: int
    developed: int
    until: int
    severity: float
    amount: float = 0.0

    def intensity(self, times: Int64[np.ndarray, " tick"]) -> Float[np.ndarray, " tick"]:
        """Severity times how far it has developed at each of `times`; 0 outside [onset, until)."""
        growth = np.clip((times - self.onset) / max(self.developed - self.onset, 1), 0.0, 1.0)
        fade = np.clip((self.until - times) / REPAIR_NS, 0.0, 1.0)
        return self.severity * np.minimum(growth, fade)

    def active(self, times: Int64[np.ndarray, " tick"]) -> np.ndarray:
        """Whether each of `times` lies in [onset, until)."""
        return (times >= self.onset) & (times < self.until)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fault:
        """The fault that `to_dict` wrote."""
        return cls(**{**values, "kind": FaultKind(values["kind"])})
