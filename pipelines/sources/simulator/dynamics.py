"""Elements that carry something from one hour to the next: first-order lags, dead times, slow random demand.

An hour of one machine is computed as whole arrays; what a filter needs to go on is kept in a `Memory`, which is small
and fit for JSON, so a simulator can be stopped and continued anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

TICK_S = 10.0
"""Seconds between two rows of the simulated plant."""

Array = Float[np.ndarray, " tick"]
"""One quantity over the ticks of one hour."""


@dataclass(slots=True)
class Memory:
    """Filter states of one machine by element name. Every element is stepped exactly once an hour, in any order."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def lag(self, name: str, signal: Array, tau_s: float) -> Array:
        """First-order lag `tau·dy/dt = x − y`, exact for inputs held over a tick; starts in equilibrium.

        >>> memory = Memory()
        >>> memory.lag("temp", np.array([0.0, 1.0, 1.0]), tau_s=10.0).round(3).tolist()
        [0.0, 0.632, 0.865]
        >>> memory.lag("temp", np.array([1.0]), tau_s=10.0).round(3).tolist()
        [0.95]
        """
        keep = float(np.exp(-TICK_S / tau_s))
        before = self.values.get(name, [float(signal[0])])[0]
        result, _ = lfilter([1.0 - keep], [1.0, -keep], signal, zi=[keep * before])
        self.values[name] = [float(result[-1])]
        return np.asarray(result, dtype=np.float64)

    def delay(self, name: str, signal: Array, ticks: int) -> Array:
        """Dead time of `ticks` rows (transport on a belt, in a pipe); before the first row the first value stood.

        >>> Memory().delay("belt", np.array([1.0, 2.0, 3.0]), ticks=2).tolist()
        [1.0, 1.0, 1.0]
        """
        before = np.asarray(self.values.get(name, [float(signal[0])] * ticks))
        line = np.concatenate([before, signal])
        self.values[name] = [float(value) for value in line[len(line) - ticks :]]
        return line[: len(signal)]

    def wander(self, name: str, noise: Array, tau_s: float) -> Array:
        """Smooth random walk around 0 with standard deviation 1: white `noise` (sd 1) through two equal lags."""
        keep = float(np.exp(-TICK_S / tau_s))
        gain = np.sqrt((1.0 - keep**2) ** 3 / (1.0 + keep**2)) / (1.0 - keep) ** 2
        self.values.setdefault(name + ".1", [0.0])
        self.values.setdefault(name + ".2", [0.0])
        return self.lag(name + ".2", self.lag(name + ".1", gain * noise, tau_s), tau_s)

    def hold(self, name: str, signal: Array, held: np.ndarray) -> Array:
        """`signal`, but while `held` (bool per tick) is True the value it had at the last tick before that."""
        before = self.values.get(name, [float(signal[0])])[0]
        line = np.concatenate([[before], signal])
        source = np.maximum.accumulate(np.where(np.concatenate([[False], held]), 0, np.arange(len(line))))
        result = line[source][1:]
        self.values[name] = [float(result[-1])]
        return np.asarray(result, dtype=np.float64)

    def copy(self) -> Memory:
        """An independent copy."""
        return Memory({name: list(values) for name, values in self.values.items()})

    def to_dict(self) -> dict[str, list[float]]:
        """States as plain lists; floats survive JSON exactly."""
        return self.copy().values

    @classmethod
    def from_dict(cls, values: Mapping[str, list[float]]) -> Memory:
        """The memory that `to_dict` wrote."""
        return cls({name: [float(value) for value in states] for name, states in values.items()})
