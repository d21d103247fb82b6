"""The simulated plant as a source of readings: advance event time, get what the plant sent.

It knows event time only; whoever calls `advance` decides how fast that passes. Hours are generated whole, one machine
at a time, from random numbers keyed by (seed, machine, hour) and the filter states at the hour's start, and handed out
in slices: the bytes do not depend on how `advance` is called, nor on being stopped and restored in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anomaly.domain import SECOND, Plant, Readings
from anomaly.errors import ConfigurationError
from pipelines.sources.simulator.delivery import Delivered, deliver
from pipelines.sources.simulator.demand import drive
from pipelines.sources.simulator.dynamics import TICK_S, Memory
from pipelines.sources.simulator.faults import INSTRUMENT_FAULTS, MACHINE_FAULTS, Fault, FaultKind
from pipelines.sources.simulator.instruments import CONVERSIONS, measure
from pipelines.sources.simulator.machine import Machine
from pipelines.sources.simulator.plant import TIMEZONE, machines
from pipelines.sources.simulator.randomness import HOUR, TRAITS, stream
from pipelines.sources.simulator.schedule import CYCLE_NS, Schedule

TICK_NS = round(TICK_S) * SECOND
HOUR_NS = 3600 * SECOND
TICKS = HOUR_NS // TICK_NS
HISTORY_S = 36 * 3600
SNAPSHOT_FORMAT = 1


class Simulator:
    """One life of the demonstration plant.

    `start_ns`: event time of the start, rounded down to a tick. The first `history_s` seconds have no fault; after
    `live_from` faults come on schedule, or exactly `script` if it is given (an empty one: a plant that never fails).
    Raises ConfigurationError for a negative seed, start or history, or a script that names what is not there.
    """

    def __init__(
        self, seed: int, start_ns: int, history_s: int = HISTORY_S, script: Sequence[Fault] | None = None
    ) -> None:
        for what, value in (("seed", seed), ("start_ns", start_ns), ("history_s", history_s)):
            if value < 0:
                raise ConfigurationError(f"simulator: {what} is {value}; expected 0 or more")
        self.seed = seed
        self.start = start_ns // TICK_NS * TICK_NS
        self.history_s = history_s
        self.live_from = self.start + -(-history_s * SECOND // TICK_NS) * TICK_NS
        self._machines = machines(seed)
        self._script = None if script is None else tuple(script)
        _check_script(self._script or (), self._machines)
        self._schedule = Schedule(seed, self.live_from, self._machines, self._script)
        self._now = self.start
        self._hour = -1
        self._before: dict[str, Memory] = {}
        self._after: dict[str, Memory] = {machine.path: Memory() for machine in self._machines}
        self._rows: dict[str, Delivered] = {}

    @property
    def now(self) -> int:
        """Event time up to which everything was handed out, ns."""
        return self._now

    @property
    def plant(self) -> Plant:
        """The plant file of this life."""
        return Plant("northworks", tuple(machine.asset() for machine in self._machines), timezone=TIMEZONE)

    def faults(self, until: int | None = None) -> tuple[Fault, ...]:
        """The truth: every fault with onset before `until` (default: now), by onset."""
        return self._schedule.overlapping(self.start, self._now if until is None else until)

    def advance(self, until: int) -> list[Readings]:
        """Everything that arrives in (now, until], one block per asset that sent something, rows as they arrive.

        A time not after `now` gives nothing and changes nothing.
        """
        parts: dict[str, list[Readings]] = {machine.path: [] for machine in self._machines}
        while self._now < until:
            hour = (self._now - self.start) // HOUR_NS
            stop = min(until, self.start + (hour + 1) * HOUR_NS)
            self._generate(hour)
            for machine in self._machines:
                block = self._slice(machine, stop)
                if len(block):
                    parts[machine.path].append(block)
            self._now = stop
        return [_joined(blocks) for blocks in parts.values() if blocks]

    def to_dict(self) -> dict[str, Any]:
        """A snapshot fit for JSON, some kilobytes, from which `from_dict` goes on exactly here."""
        begun = (self._now - self.start) // HOUR_NS == self._hour
        memories = self._before if begun else self._after
        return {
            "format": SNAPSHOT_FORMAT,
            "seed": self.seed,
            "start": self.start,
            "history_s": self.history_s,
            "now": self._now,
            "memory": {path: memory.to_dict() for path, memory in memories.items()},
            "script": None if self._script is None else [fault.to_dict() for fault in self._script],
        }

    @classmethod
    def from_dict(cls, snapshot: Mapping[str, Any]) -> Simulator:
        """The simulator that wrote `snapshot`. Raises ConfigurationError if it is not one of ours."""
        if snapshot.get("format") != SNAPSHOT_FORMAT:
            found = snapshot.get("format")
            raise ConfigurationError(f"simulator snapshot: format {found!r}; expected {SNAPSHOT_FORMAT}. Start afresh.")
        try:
            script = snapshot["script"]
            faults = None if script is None else tuple(Fault.from_dict(values) for values in script)
            simulator = cls(snapshot["seed"], snapshot["start"], snapshot["history_s"], faults)
            simulator._now = snapshot["now"]
            memories = {path: Memory.from_dict(snapshot["memory"][path]) for path in simulator._after}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"simulator snapshot: damaged ({error!r}). Start afresh.") from error
        simulator._after = memories
        return simulator

    def _slice(self, machine: Machine, until: int) -> Readings:
        tags = ("mode", *(sensor.name for sensor in machine.kind.sensors))
        return self._rows[machine.path].readings(machine.path, tags, self._now, until)

    def _generate(self, hour: int) -> None:
        """Make `hour` the current one. Hours come strictly in order."""
        if hour == self._hour:
            return
        self._before = {path: memory.copy() for path, memory in self._after.items()}
        ticks = self.start + hour * HOUR_NS + TICK_NS * np.arange(1, TICKS + 1, dtype=np.int64)
        near = self._schedule.overlapping(int(ticks[0]) - CYCLE_NS, int(ticks[-1]) + CYCLE_NS)
        for machine in self._machines:
            own = [fault for fault in near if fault.asset == machine.path]
            self._rows[machine.path] = self._machine_hour(machine, hour, ticks, own)
        self._hour = hour

    def _machine_hour(self, machine: Machine, hour: int, ticks: np.ndarray, faults: Sequence[Fault]) -> Delivered:
        rng = stream(self.seed, HOUR, machine.index, hour)
        memory = self._after[machine.path]
        acting = drive(self.seed, self.start, machine, ticks, faults, rng.standard_normal((5, TICKS)), memory)
        stress = {name: np.zeros(TICKS) for name in MACHINE_FAULTS}
        for fault in faults:
            if fault.name in stress:
                stress[fault.name] = stress[fault.name] + fault.intensity(ticks)
        truth = machine.kind.respond(acting, machine.traits, stress, memory)
        values, quality = measure(machine, ticks, truth, faults, rng, memory)
        values = np.column_stack([acting.mode, values])
        quality = np.column_stack([np.zeros(TICKS, dtype=np.uint8), quality])
        phase = float(stream(self.seed, TRAITS, machine.index, 1).uniform(0.5, 0.8))
        return deliver(ticks, TICK_NS, values, quality, faults, rng, phase)


def _joined(blocks: Sequence[Readings]) -> Readings:
    """Blocks of one asset as one."""
    if len(blocks) == 1:
        return blocks[0]
    return Readings(
        blocks[0].asset,
        blocks[0].tags,
        np.concatenate([block.times for block in blocks]),
        np.concatenate([block.values for block in blocks]),
        np.concatenate([block.quality for block in blocks]),
    )


def _check_script(script: Sequence[Fault], plant: Sequence[Machine]) -> None:
    """Every scripted fault must be one that its machine can have."""
    by_path = {machine.path: machine for machine in plant}
    for fault in script:
        machine = by_path.get(fault.asset)
        if machine is None:
            raise ConfigurationError(f"fault {fault.name}: no asset {fault.asset!r}; there are {', '.join(by_path)}")
        if not fault.onset <= fault.developed <= fault.until:
            raise ConfigurationError(f"fault {fault.name} of {fault.asset}: expected onset ≤ developed ≤ until")
        check = _check_machine_fault if fault.kind is FaultKind.MACHINE else _check_instrument_fault
        check(fault, machine)


def _check_machine_fault(fault: Fault, machine: Machine) -> None:
    if fault.name not in machine.kind.faults:
        can = ", ".join(machine.kind.faults)
        raise ConfigurationError(f"fault {fault.name}: {machine.kind.group} cannot have it; they can have {can}")


def _check_instrument_fault(fault: Fault, machine: Machine) -> None:
    sensors = {sensor.name: sensor for sensor in machine.kind.sensors}
    if fault.name not in INSTRUMENT_FAULTS:
        raise ConfigurationError(f"no instrument fault {fault.name!r}; there are {', '.join(INSTRUMENT_FAULTS)}")
    if fault.name == "clock_wrong":
        return
    if fault.tag is None:
        raise ConfigurationError(f"fault {fault.name} of {fault.asset} needs a tag: one of {', '.join(sensors)}")
    if fault.tag not in sensors:
        raise ConfigurationError(
            f"fault {fault.name}: {fault.asset} has no tag {fault.tag!r}, but {', '.join(sensors)}"
        )
    if fault.name == "unit_change" and sensors[fault.tag].unit not in CONVERSIONS:
        raise ConfigurationError(f"fault unit_change: no other unit for {sensors[fault.tag].unit} ({fault.tag})")
