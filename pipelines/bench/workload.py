"""A plant made for measuring: any number of like machines with eight correlated tags, and their readings as messages.

Everything is a function of the asset's number and the row's, so that the same row is never made twice differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Tag
from pipelines.codec import encode_readings

GROUP: Final = "bench"
TAGS: Final = tuple(
    Tag(name, unit, low, high)
    for name, unit, low, high in (
        ("vib_de", "mm/s", -20.0, 40.0),
        ("vib_nde", "mm/s", -20.0, 40.0),
        ("temp_de", "°C", -20.0, 150.0),
        ("temp_nde", "°C", -20.0, 150.0),
        ("flow", "m³/h", -50.0, 200.0),
        ("pressure", "bar", -5.0, 25.0),
        ("current", "A", -50.0, 200.0),
        ("speed", "rpm", 0.0, 4000.0),
    )
)
_LEVEL: Final = np.array([3.0, 2.5, 62.0, 58.0, 80.0, 6.0, 55.0, 1480.0])
_SWING: Final = np.array([0.4, 0.3, 3.0, 3.0, 6.0, 0.4, 4.0, 12.0])
_NOISE: Final = np.array([0.15, 0.12, 0.2, 0.2, 0.8, 0.05, 0.5, 1.5])
TICK: Final = SECOND // 10
"""A row an asset comes so often, ns: quick, so that a minute shows alerts."""
_PERIOD: Final = 4096
"""Rows after which the noise repeats (another phase for each asset)."""


def bench_plant(assets: int, tick: int = TICK) -> Plant:
    """So many machines of one group. `tick` in ns."""
    return Plant(
        "bench", tuple(Asset(f"bench/area-{i // 100}/machine-{i:05d}", GROUP, TAGS, tick) for i in range(assets))
    )


class Workload:
    """Readings of a bench plant from event time `start` (ns) on. Every `faulty`-th asset goes wrong at times."""

    def __init__(self, plant: Plant, start: int, *, seed: int = 1, faulty: int = 0) -> None:
        self.plant = plant
        self.start = start
        self._faulty = faulty
        self._noise = np.random.default_rng(seed).standard_normal((_PERIOD, len(TAGS)))

    def values(self, number: int, first: int, rows: int) -> Float[np.ndarray, "row tag"]:
        """Values of asset `number` at rows `first` … `first + rows - 1`, as a gateway rounds them."""
        row = np.arange(first, first + rows)
        load = np.sin(2 * np.pi * (row + 37 * number) / 900)[:, None]
        noise = self._noise[(row + 131 * number) % _PERIOD]
        values = _LEVEL + load * _SWING + noise * _NOISE
        if self._faulty and number % self._faulty == 0:
            values[:, :4] += np.where((row % 600) >= 480, 1.0, 0.0)[:, None] * 12 * (_NOISE + _SWING)[:4]
        return np.asarray(np.round(values, 4))

    def block(self, number: int, first: int, rows: int) -> Readings:
        """Readings of one asset."""
        asset = self.plant.assets[number]
        values = self.values(number, first, rows)
        times = self.start + (np.arange(first, first + rows, dtype=np.int64) + 1) * asset.tick
        names = tuple(tag.name for tag in TAGS)
        return Readings(asset.path, names, times, values, np.full(values.shape, Quality.GOOD, np.uint8))

    def columns(self, first: int, rows: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of one native column batch an asset, each of `rows` rows."""
        for number in range(len(self.plant.assets)):
            yield self.column(number, first, rows)

    def column(self, number: int, first: int, rows: int) -> tuple[bytes, bytes]:
        """The one of asset `number`."""
        return self.plant.assets[number].path.encode(), encode_readings(self.block(number, first, rows))

    def natives(self, first: int, rows: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of native rows, row by row as they would come: every asset's first row, then the second …"""
        blocks = [self.block(number, first, rows) for number in range(len(self.plant.assets))]
        keys = [asset.path.encode() for asset in self.plant.assets]
        for row in range(rows):
            for key, block in zip(keys, blocks, strict=True):
                yield key, native_row(block, row)


def native_row(block: Readings, row: int) -> bytes:
    """Row `row` of a block, as formats.md writes a native row."""
    time = np.datetime_as_string(block.times[row].astype("datetime64[ns]"), unit="ms")
    values = dict(zip(block.tags, block.values[row].tolist(), strict=True))
    return json.dumps({"asset": block.asset, "ts": f"{time}Z", "values": values}, separators=(",", ":")).encode()
