"""A plant nobody has described, from its data: assets, tags, ticks, and groups of machines that are alike.

What data cannot tell (engineering ranges, which tag says whether the machine runs) is left open for the plant file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

from anomaly.domain import Asset, Plant, Quality, Readings, Tag
from anomaly.errors import DataError

_STEPS: Final = 50_000
"""So many steps of a tag are enough to know its tick."""
_UNIT: Final = re.compile(r"[\[(]([^\[\]()]{1,16})[\])]\s*$")
_ALIKE: Final = 0.2
"""Ticks that differ by no more than this share are one tick with jitter."""


_NICE: Final = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 25, 30, 40, 50, 60)
"""Cycles that people set, in units of a power of ten of nanoseconds, or in minutes."""
_JITTER: Final = 0.02
"""A tick that is off a cycle people set by no more than this share is that cycle."""
_FEW: Final = 8
"""A tag of so few values may be a state."""


@dataclass(frozen=True, slots=True)
class Span:
    """What values of one tag were seen. `few`: all of them, if they are few."""

    count: int
    low: float
    high: float
    few: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Discovered:
    """The plant, and what a person should know of how it was found."""

    plant: Plant
    notes: tuple[str, ...]
    seen: Mapping[str, Mapping[str, Span]] = field(default_factory=dict)
    """By asset and tag, those left out too."""


@dataclass(slots=True)
class _Seen:
    """What was seen of one tag of one asset."""

    count: int = 0
    low: float = np.inf
    high: float = -np.inf
    last: int | None = None
    steps: list[Int64[np.ndarray, " step"]] = field(default_factory=list)
    kept: int = 0
    few: set[float] | None = field(default_factory=set)

    def span(self) -> Span:
        return Span(self.count, self.low, self.high, tuple(sorted(self.few or ())))

    def add(self, times: Int64[np.ndarray, " row"], values: np.ndarray) -> None:
        self.count += len(values)
        if len(values):
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            if self.few is not None:
                self.few.update(np.unique(values).tolist())
                self.few = self.few if len(self.few) <= _FEW else None
        if len(times) and self.kept < _STEPS:
            before = times[:1] if self.last is None else np.array([self.last])
            steps = np.diff(np.concatenate([before, times]))
            self.steps.append(steps[steps > 0])
            self.kept += len(self.steps[-1])
            self.last = int(times[-1])

    def tick(self) -> float | None:
        steps = np.concatenate(self.steps) if self.steps else np.array([], dtype=np.int64)
        return float(np.median(steps)) if len(steps) else None


def discover_plant(
    found: Iterable[Readings],
    *,
    name: str = "plant",
    timezone: str = "UTC",
    units: Mapping[str, str] | None = None,
    tick: int | None = None,
) -> Discovered:
    """The plant that these readings come from. `tick` (ns) overrules the median step of the data.

    Assets with the same tags and the same tick are one group. A tag without a single number is left out, and said so.
    Raises DataError: no reading at all, no number at all, or only one time, from which no tick follows.
    """
    seen: dict[str, dict[str, _Seen]] = {}
    for block in found:
        _look(seen.setdefault(block.asset, {}), block)
    if not seen:
        raise DataError("no reading came, so there is nothing to discover; expected at least two rows of one asset")
    notes: list[str] = []
    alive = [path for path, tags in seen.items() if any(tag.count for tag in tags.values())]
    if not alive:
        raise DataError(
            f"no tag of {', '.join(list(seen)[:5])} has a single number; is the decimal mark or the column right?"
        )
    ticks = _ticks({path: seen[path] for path in alive}, tick, notes)
    assets = [a for path, tags in seen.items() if (a := _asset(path, tags, units or {}, ticks.get(path, 1), notes))]
    spans = {path: {tag: one.span() for tag, one in tags.items()} for path, tags in seen.items()}
    return Discovered(Plant(name, _grouped(assets), timezone), tuple(notes), spans)


def _look(tags: dict[str, _Seen], block: Readings) -> None:
    came: Bool[np.ndarray, "row tag"] = block.quality != Quality.MISSING
    good = np.isfinite(block.values)
    for i, tag in enumerate(block.tags):
        tags.setdefault(tag, _Seen()).add(block.times[came[:, i]], block.values[good[:, i], i])


def _asset(path: str, tags: Mapping[str, _Seen], units: Mapping[str, str], tick: int, notes: list[str]) -> Asset | None:
    alive = {tag: seen for tag, seen in tags.items() if seen.count}
    dead = [tag for tag in tags if tag not in alive]
    if dead:
        notes.append(f"{path}: {_listed(dead)} without a single number; left out")
    if not alive:
        return None
    still = [tag for tag, seen in alive.items() if seen.low == seen.high]
    if still:
        notes.append(f"{path}: {_listed(still)} always at one value; a model learns nothing from that")
    return Asset(path, "", tuple(Tag(tag, unit=units.get(tag) or _unit(tag)) for tag in alive), tick)


def _tick(tags: Mapping[str, _Seen]) -> int | None:
    """Median step of the asset's tags, ns; None where no tag has two times."""
    ticks = [step for seen in tags.values() if (step := seen.tick()) is not None]
    return _usual(float(np.median(ticks))) if ticks else None


def _usual(step: float) -> int:
    """The cycle that people set nearest to a median step (ns), if it is near; else the step, to three digits.

    >>> [_usual(step) for step in (1.0087e9, 1.13e9, 59.4e9, 899e9, 0.0)]
    [1000000000, 1130000000, 60000000000, 900000000000, 1]
    """
    if step < 1:
        return 1
    ten = 10 ** int(np.log10(step))
    cycles = [nice * unit for unit in (ten / 10, ten, 60e9) for nice in _NICE]
    nearest = min(cycles, key=lambda cycle: abs(cycle - step))
    return round(nearest) if abs(nearest - step) <= _JITTER * step else round(float(f"{step:.3g}"))


def _ticks(seen: Mapping[str, Mapping[str, _Seen]], given: int | None, notes: list[str]) -> dict[str, int]:
    """The tick of each asset, ns; one with a single row gets that of the others. Raises DataError if there is none."""
    own = {path: given or _tick(tags) for path, tags in seen.items()}
    known = sorted(tick for tick in own.values() if tick is not None)
    if not known:
        raise DataError(
            f"{', '.join(list(seen)[:5])} has one row (or one time) only, from which no tick follows; expected at "
            "least two rows at different times"
        )
    single = [path for path, tick in own.items() if tick is None]
    if single:
        notes.append(f"{_listed(single)} with one row (or one time) only; the tick of the others is taken")
    return {path: tick or known[len(known) // 2] for path, tick in own.items()}


def _listed(tags: list[str]) -> str:
    """The first of them by name, and how many more there are.

    >>> _listed(["a"]), _listed([f"t{n}" for n in range(7)])
    ('a', 't0, t1, t2, t3, t4 and 2 more')
    """
    return ", ".join(tags[:5]) + (f" and {len(tags) - 5} more" if len(tags) > 5 else "")


def _unit(tag: str) -> str:
    """Of a tag called like `Temp [°C]`.

    >>> _unit("Temp [°C]"), _unit("vib_de")
    ('°C', '')
    """
    match = _UNIT.search(tag)
    return match[1].strip() if match else ""


def _grouped(assets: list[Asset]) -> tuple[Asset, ...]:
    """The assets with their groups' names and ticks, in the order they came."""
    groups: list[list[Asset]] = []
    for asset in assets:
        mates = next((group for group in groups if _alike(group[0], asset)), None)
        if mates is None:
            groups.append([asset])
        else:
            mates.append(asset)
    taken: set[str] = set()
    home: dict[str, tuple[str, Asset]] = {}
    for group in groups:
        title = _title(group, taken)
        taken.add(title)
        home |= {asset.path: (title, group[0]) for asset in group}
    return tuple(Asset(a.path, home[a.path][0], home[a.path][1].tags, home[a.path][1].tick) for a in assets)


def _alike(one: Asset, other: Asset) -> bool:
    names = {tag.name for tag in one.tags} == {tag.name for tag in other.tags}
    return names and abs(one.tick - other.tick) <= _ALIKE * one.tick


def _title(group: list[Asset], taken: set[str]) -> str:
    """What its machines are called, without their numbers: pump-101, pump-102 → pump."""
    words = [asset.path.rsplit("/", 1)[-1] for asset in group]
    bare = {re.sub(r"[-_ .]*\d+[a-z]?$", "", word) for word in words}
    title = bare.pop() if len(bare) == 1 else words[0]
    title = title or words[0]
    return next(name for name in (title, *(f"{title}-{n}" for n in range(2, 100_000))) if name not in taken)
