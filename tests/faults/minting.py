"""Readings made up by rule: each value follows from (asset, row), so that whoever sees one can say if it is right.

A machine runs quietly under a changing load; now and then it shakes, and now and then one of its sensors speaks
nonsense, so that alerts of both kinds come and go. Event time runs on a tick of one second from some hours ago on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np

from anomaly.domain import SECOND, Asset, Plant, Tag

TICK: Final = SECOND
TAGS: Final = (
    Tag("temp", "°C", -20.0, 150.0),
    Tag("flow", "m³/h", 0.0, 120.0),
    Tag("vib", "mm/s", 0.0, 50.0),
    Tag("amps", "A", 0.0, 200.0),
)
NAMES: Final = tuple(tag.name for tag in TAGS)
GROUP: Final = "machines"
ID_HEADER: Final = "x-mint"
_BLOCK: Final = 1024
_SHAKES_EVERY, _SHAKES_FOR = 420, 40
_NONSENSE_EVERY, _NONSENSE_FOR = 700, 30


def bench_plant(assets: int) -> Plant:
    """A plant of so many equal machines, one group."""
    paths = [f"bench/hall/line-{i % 3}/machine-{i:03d}" for i in range(assets)]
    return Plant("bench", tuple(Asset(path, GROUP, TAGS, TICK) for path in paths))


@lru_cache(maxsize=4096)
def _noise(asset: str, block: int) -> np.ndarray:
    digits = [int.from_bytes(asset.encode()[-8:], "little"), block]
    noise: np.ndarray = np.random.default_rng(digits).uniform(-1.0, 1.0, (_BLOCK, len(NAMES)))
    return noise


def values_of(asset: str, row: int, *, healthy: bool = False) -> dict[str, float]:
    """What the sensors of an asset say at its row (0, 1, 2 …), in their units. `healthy`: without any trouble."""
    noise = _noise(asset, row // _BLOCK)[row % _BLOCK]
    phase = int.from_bytes(asset.encode()[-2:], "little") % 97
    load = math.sin(2 * math.pi * (row + 7 * phase) / 240)
    temp = 60 + 8 * load + 0.6 * noise[0]
    flow = 40 + 6 * load + 0.5 * noise[1]
    vib = 3 + 0.5 * load + 0.2 * noise[2]
    amps = 80 + 12 * load + 0.9 * noise[3]
    if not healthy and row > 120:
        if (row + 31 * phase) % _SHAKES_EVERY < _SHAKES_FOR:
            vib, amps, temp = vib * 4 + 6, amps + 60, temp + 25
        if (row + 53 * phase) % _NONSENSE_EVERY < _NONSENSE_FOR:
            flow = 900.0
    return {name: round(float(v), 4) for name, v in zip(NAMES, (temp, flow, vib, amps), strict=True)}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of one asset at event time `time` (ns). None stands for a reading whose value is no number."""

    asset: str
    time: int
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Minted:
    """One record: its bytes, and what they mean. `poison`: why it must become a dead letter, or empty.

    A record without a value is a tombstone: it says nothing, and is counted and passed over.
    """

    id: int
    key: bytes | None
    value: bytes | None
    rows: tuple[Row, ...] = ()
    poison: str = ""

    @property
    def readings(self) -> int:
        """Readings it holds; a record that nobody can read counts as one."""
        return 0 if self.value is None else 1 if self.poison else sum(len(row.values) for row in self.rows)


def encode(rows: Sequence[Row]) -> bytes:
    """Rows of one asset as a native column batch, in their order."""
    tags = list(rows[0].values)
    columns = {tag: [row.values[tag] for row in rows] for tag in tags}
    body = {"asset": rows[0].asset, "ts": [row.time for row in rows], "values": columns}
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass(slots=True)
class Mint:
    """Makes records one after the other. `start`: event time of row 0, ns; a multiple of the tick."""

    plant: Plant
    start: int
    made: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Next row of each asset."""
    shift: dict[str, int] = field(default_factory=dict)
    """How much an asset's clock is off all along, ns."""
    extra: dict[str, dict[str, float]] = field(default_factory=dict)
    """Tags that an asset sends though the plant file does not have them."""

    def next(self, asset: str, rows: int = 5) -> Minted:
        """The asset's next rows, in order."""
        first = self.rows.get(asset, 0)
        self.rows[asset] = first + rows
        return self.of([self.row(asset, first + i) for i in range(rows)])

    def skip(self, asset: str, rows: int) -> None:
        """The asset says nothing for so many rows."""
        self.rows[asset] = self.rows.get(asset, 0) + rows

    def row(self, asset: str, number: int) -> Row:
        """The row of that number as the machine means it."""
        values: dict[str, float | None] = {**values_of(asset, number), **self.extra.get(asset, {})}
        return Row(asset, self.time(number) + self.shift.get(asset, 0), values)

    def time(self, number: int) -> int:
        """Event time of a row: somewhere inside its tick, ns."""
        return self.start + number * TICK - (number * 7919 % 900) * 1_000_000

    def of(self, rows: Sequence[Row]) -> Minted:
        """A record that holds those rows, of one asset and with the same tags."""
        return self._minted(rows[0].asset.encode(), encode(rows), tuple(rows))

    def poison(self, key: bytes | None, value: bytes | None, reason: str) -> Minted:
        """A record that must become a dead letter for that reason."""
        return self._minted(key, value, (), reason)

    def as_sent(self, key: bytes | None, value: bytes, rows: Sequence[Row]) -> Minted:
        """A record whose bytes are given, and what they mean."""
        return self._minted(key, value, tuple(rows))

    def _minted(self, key: bytes | None, value: bytes | None, rows: tuple[Row, ...], poison: str = "") -> Minted:
        self.made += 1
        return Minted(self.made, key, value, rows, poison)
