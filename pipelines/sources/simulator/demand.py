"""What the plant asks of a machine: daily cycle, slow random demand, set-point ramps, planned stops, weather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from anomaly.domain import SECOND
from pipelines.sources.simulator.dynamics import Array, Memory
from pipelines.sources.simulator.faults import Fault
from pipelines.sources.simulator.machine import OFF, RAMP, RUN, START, Drive, Machine
from pipelines.sources.simulator.randomness import AMBIENT, PAUSE, SETPOINT, stream

DAY_S = 86_400.0
SETPOINT_SLOT_S = 10_800.0
"""The set point moves once in each slot of this length."""
PAUSE_SLOT_S = 21_600.0
"""A machine that pauses does so at most once in each slot of this length, for 20 to 60 minutes."""
PAUSE_CHANCE = 0.85
CALM_BEFORE_S, CALM_AFTER_S = 2_700.0, 1_200.0
"""No planned stop so shortly before a fault (counted from the end of its warm-up) or after one."""


def drive(
    seed: int,
    start: int,
    machine: Machine,
    times: Int64[np.ndarray, " tick"],
    faults: Sequence[Fault],
    noise: Float[np.ndarray, "source tick"],
    memory: Memory,
) -> Drive:
    """What acts on `machine` at `times` (event time, ns). `faults`: those near, they put off planned stops.

    `noise`: five white noises of sd 1, two for demand and three for turbulence.
    """
    seconds = (times - start) / SECOND
    level, moving = _set_point(seed, machine, seconds)
    slow = memory.wander("demand", noise[0], 700.0)
    clock = times / SECOND % DAY_S / DAY_S
    daily = np.sin(2.0 * np.pi * (clock - 0.3 - 0.004 * machine.index))
    load = 0.5 + 0.42 * np.tanh(0.7 * daily + 0.8 * level + 0.5 * slow)
    second = np.tanh(0.8 * memory.wander("second", noise[1], 900.0))
    power, mode = _mode(machine, seconds, _pauses(seed, start, machine, seconds, faults), moving)
    ambient, water = weather(seed, times)
    return Drive(mode, power, load, second, ambient, water, noise[2:5])


def weather(seed: int, times: Int64[np.ndarray, " tick"]) -> tuple[Array, Array]:
    """Air and cooling water temperature of the whole plant, °C: a daily cycle and weather that changes over hours."""
    phases = stream(seed, AMBIENT).uniform(0.0, 2.0 * np.pi, 4)
    seconds = times / SECOND
    day = 2.0 * np.pi * (seconds % DAY_S / DAY_S - 0.38)
    hours = np.array([3.1, 5.3, 8.9, 14.7])
    slow = np.sin(2.0 * np.pi * (seconds[:, None] / 3600.0) / hours + phases)
    ambient = 19.0 + 4.5 * np.sin(day) + slow @ np.array([0.5, 0.6, 0.7, 0.6])
    water = 21.0 + 1.5 * np.sin(day - 0.5) + slow @ np.array([0.2, 0.5, -0.6, 0.4])
    return ambient, water


def _set_point(seed: int, machine: Machine, seconds: Array) -> tuple[Array, np.ndarray]:
    """Set point −1 … 1 and whether it is moving. Levels follow the golden ratio, so a day has seen the whole range."""
    first, last = int(seconds[0] // SETPOINT_SLOT_S), int(seconds[-1] // SETPOINT_SLOT_S)
    level = np.full(len(seconds), _level(seed, machine, first - 1))
    moving = np.zeros(len(seconds), dtype=bool)
    for slot in range(first, last + 1):
        when, how_long = stream(seed, SETPOINT, machine.index, slot).uniform([0.15, 360.0], [0.85, 720.0])
        share = np.clip((seconds - (slot + when) * SETPOINT_SLOT_S) / how_long, 0.0, 1.0)
        level += share * (_level(seed, machine, slot) - _level(seed, machine, slot - 1))
        moving |= (share > 0.0) & (share < 1.0)
    return level, moving


def _level(seed: int, machine: Machine, slot: int) -> float:
    offset = float(stream(seed, SETPOINT, machine.index).random())
    return 2.0 * ((offset + 0.618034 * (slot + 1)) % 1.0) - 1.0


def _pauses(
    seed: int, start: int, machine: Machine, seconds: Array, faults: Sequence[Fault]
) -> list[tuple[float, float]]:
    """Planned stops near the hour as (begin, end) in seconds since the start; none that would hide a fault."""
    if not machine.pauses:
        return []
    slots = range(max(0, int(seconds[0] // PAUSE_SLOT_S) - 1), int(seconds[-1] // PAUSE_SLOT_S) + 1)
    result = []
    for slot in slots:
        chance, when, how_long = stream(seed, PAUSE, machine.index, slot).random(3)
        begin = (slot + 0.06 + 0.6 * when) * PAUSE_SLOT_S
        end = begin + 1200.0 + 2400.0 * how_long
        again = end + machine.kind.warm_up_s + CALM_BEFORE_S
        clash = any(
            (fault.onset - start) / SECOND < again and (fault.until - start) / SECOND + CALM_AFTER_S > begin
            for fault in faults
        )
        if chance < PAUSE_CHANCE and not clash:
            result.append((begin, end))
    return result


def _mode(
    machine: Machine, seconds: Array, pauses: Sequence[tuple[float, float]], moving: np.ndarray
) -> tuple[Array, Array]:
    """Power 0 … 1 and mode at each tick."""
    power = np.ones(len(seconds))
    mode = np.where(moving, RAMP, RUN)
    for begin, end in pauses:
        ramp = np.clip((seconds - end) / machine.kind.start_ramp_s, 0.0, 1.0)
        power = np.where(seconds >= begin, ramp, power)
        mode = np.where((seconds >= end) & (seconds < end + machine.kind.warm_up_s), START, mode)
        mode = np.where((seconds >= begin) & (seconds < end), OFF, mode)
    return power, mode
