"""When which machine gets which fault: an endless, seeded schedule in cycles of three hours.

Each cycle has six machine faults and three instrument faults on nine machines; five stay healthy. The names are dealt
from shuffled decks: the first three cycles have shown every name, and each keeps coming. The schedule of a cycle
depends on the seed and the cycle's number alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anomaly.domain import SECOND
from pipelines.sources.simulator.faults import INSTRUMENT_FAULTS, MACHINE_FAULTS, Fault, FaultKind
from pipelines.sources.simulator.instruments import CONVERSIONS
from pipelines.sources.simulator.machine import Machine
from pipelines.sources.simulator.randomness import CYCLE, DECK, stream

MINUTE = 60 * SECOND
CYCLE_NS = 180 * MINUTE
MACHINE_PER_CYCLE = 6
INSTRUMENT_PER_CYCLE = 3
FIRST_ONSET_MIN, LAST_ONSET_MIN = 20.0, 138.0
"""Onsets are spread evenly between these minutes of a cycle, each moved by at most two minutes."""


class Schedule:
    """The faults of a whole life. With `script`, exactly those instead of the seeded ones."""

    def __init__(self, seed: int, live_from: int, machines: Sequence[Machine], script: Sequence[Fault] | None) -> None:
        self._seed = seed
        self._live_from = live_from
        self._machines = machines
        self._script = script
        self._cycles: dict[int, tuple[Fault, ...]] = {}

    def overlapping(self, since: int, until: int) -> tuple[Fault, ...]:
        """Faults that are active at some time in [since, until), by onset."""
        if self._script is not None:
            faults: Sequence[Fault] = sorted(self._script, key=lambda fault: fault.onset)
        else:
            first = max(0, (since - self._live_from) // CYCLE_NS)
            last = (until - self._live_from) // CYCLE_NS
            faults = [fault for number in range(first, last + 1) for fault in self._cycle(number)]
        return tuple(fault for fault in faults if fault.onset < until and fault.until > since)

    def _cycle(self, number: int) -> tuple[Fault, ...]:
        if number not in self._cycles:
            start = self._live_from + number * CYCLE_NS
            self._cycles[number] = draw_cycle(self._seed, number, start, self._machines)
        return self._cycles[number]


def draw_cycle(seed: int, number: int, start: int, machines: Sequence[Machine]) -> tuple[Fault, ...]:
    """Faults of cycle `number`, which starts at event time `start` (ns), by onset."""
    rng = stream(seed, CYCLE, number)
    names = deal(seed, 0, tuple(MACHINE_FAULTS), number, MACHINE_PER_CYCLE)
    hosts = _hosts(rng, names, machines)
    free = [machine for machine in machines if machine not in hosts.values()]
    instruments = deal(seed, 1, tuple(INSTRUMENT_FAULTS), number, INSTRUMENT_PER_CYCLE)
    chosen = rng.permutation(len(free))[: len(instruments)]
    slots = _slots(rng, len(names) + len(instruments), "clock_wrong" in instruments)
    faults = [_machine_fault(rng, start, slots.pop(), hosts[name].path, name) for name in names]
    # `slots` ends with the ones that instrument faults may have; the earliest is last, for a wrong clock
    for index, name in zip(chosen, sorted(instruments, key="clock_wrong".__ne__), strict=True):
        faults.append(_instrument_fault(rng, start, slots.pop(), free[index], name))
    return tuple(sorted(faults, key=lambda fault: fault.onset))


def deal(seed: int, deck: int, names: tuple[str, ...], number: int, count: int) -> tuple[str, ...]:
    """The `number`-th hand of `count` different names from an endless row of shuffled decks.

    >>> hands = [deal(1, 0, tuple("abcde"), number, 2) for number in range(3)]
    >>> sorted(set(sum(hands, ())))
    ['a', 'b', 'c', 'd', 'e']
    """
    hand: dict[str, None] = {}
    for position in range(number * count, (number + 2) * count):
        order = stream(seed, DECK, deck, position // len(names)).permutation(len(names))
        hand.setdefault(names[order[position % len(names)]])
    return tuple(hand)[:count]


def _hosts(rng: np.random.Generator, names: Sequence[str], machines: Sequence[Machine]) -> Mapping[str, Machine]:
    """A machine of its own for each name; names that few machines can have choose first."""
    able = {name: [machine for machine in machines if name in machine.kind.faults] for name in names}
    hosts: dict[str, Machine] = {}
    for name in sorted(names, key=lambda name: len(able[name])):
        free = [machine for machine in able[name] if machine not in hosts.values()]
        hosts[name] = free[int(rng.integers(len(free)))]
    return hosts


def _slots(rng: np.random.Generator, count: int, early_clock: bool) -> list[float]:
    """Onset minutes, to be popped: the machine faults' first, the cycle's very first among them, then the rest.

    A wrong clock comes early: when it is set right, what the aligner believes to be late lasts for up to an hour.
    """
    even = np.linspace(FIRST_ONSET_MIN, LAST_ONSET_MIN, count)
    minutes = even + np.concatenate([[0.0], rng.uniform(-2.0, 2.0, count - 1)])
    order = [int(index) for index in rng.permutation(np.arange(1, count))]
    if early_clock:
        order.remove(1)
        order.insert(MACHINE_PER_CYCLE - 1, 1)
    return [float(minutes[index]) for index in reversed([0, *order])]


def _machine_fault(rng: np.random.Generator, start: int, minute: float, path: str, name: str) -> Fault:
    severity = round(float(rng.uniform(0.85, 1.25)), 2)
    onset, grown, until = _times(rng, start, minute)
    return Fault(path, name, FaultKind.MACHINE, None, onset, grown, until, severity)


def _instrument_fault(rng: np.random.Generator, start: int, minute: float, machine: Machine, name: str) -> Fault:
    onset, grown, until = _times(rng, start, minute)
    severity = round(float(rng.uniform(0.85, 1.25)), 2)
    sensors = [sensor for sensor in machine.kind.sensors if name != "unit_change" or sensor.unit in CONVERSIONS]
    tag = sensors[int(rng.integers(len(sensors)))].name
    sign = 1.0 if rng.random() < 0.5 else -1.0
    if name == "clock_wrong":
        ahead = 3600.0 if sign > 0 else -1200.0
        return Fault(machine.path, name, FaultKind.INSTRUMENT, None, onset, onset, until, 1.0, ahead)
    if name == "sensor_drift":
        return Fault(machine.path, name, FaultKind.INSTRUMENT, tag, onset, grown, until, severity, sign)
    return Fault(machine.path, name, FaultKind.INSTRUMENT, tag, onset, onset, until, severity)


def _times(rng: np.random.Generator, start: int, minute: float) -> tuple[int, int, int]:
    """Onset, fully developed and end, ns, on whole seconds."""
    grow, last = float(rng.uniform(3.0, 10.0)), float(rng.uniform(30.0, 40.0))
    whole = [round((minute + later) * 60.0) * SECOND for later in (0.0, grow, last)]
    return start + whole[0], start + whole[1], start + whole[2]
