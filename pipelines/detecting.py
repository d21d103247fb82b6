"""How small a fault a version still catches: faults put into normal readings, judged as live, the size bisected.

Everything after the injection is production: alignment, sensor checks, windows, `detect`, the raising rule. A fault is
caught at a place if, within the time given, an alert of the process is raised there, or one of the sensor it is in;
where nothing was put in, none is. A size counts as caught if it is at three of four places, and so is every larger size
tried, up to the end of the tag's engineering range.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.alignment import AlignmentPolicy, align
from anomaly.blocks import join
from anomaly.blocks import rows as rows_of
from anomaly.detector import Detector
from anomaly.domain import SECOND, Asset, Kind, Readings, Samples, Scores, Tag
from anomaly.episode_policy import EpisodePolicy, instrument
from anomaly.episodes import Episodes
from anomaly.errors import DataError
from anomaly.sensors import HORIZON
from anomaly.training_set import TrainingSet
from pipelines.injecting import Fault, Material, inject, largest, material

SHARE: Final = 0.75
"""Share of the places at which a fault must be caught."""
LEAD: Final = 12
"""Rows scored before a fault begins, so that the raising rule comes to it as it does live."""
STEP: Final = 4.0
"""Factor between the sizes of the ladder that is walked down first."""
LADDER: Final = 8
"""Rungs of it: what is caught at its foot, 1/65 536 of the largest size, is called that small."""
HALVINGS: Final = 4
"""Bisections (of the logarithm) after it: the answer is less than 10 % above the smallest size caught."""
_CANDIDATES: Final = 4
_DONORS: Final = 64

ReadingsOf = Callable[[str, int, int], Readings]
"""Readings of an asset in [since, until), ns."""


class Place(NamedTuple):
    """A stretch of normal readings of one asset in which faults begin after `since` and are looked for up to `until`.

    Times in ns. `samples`: the normal rows around it; `donors`: rows of them from which as long a stretch is normal.
    """

    asset: Asset
    readings: Readings
    since: int
    until: int
    samples: Samples
    donors: Int64[np.ndarray, " row"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The smallest size of one fault in one tag that is caught; None: none up to `largest`, in the fault's unit.

    `kind`: as what it is told, at most places. `ranged`: whether the engineering range ends at `largest`.
    """

    tag: Tag
    fault: Fault
    size: float | None
    largest: float
    kind: Kind | None
    places: int
    ranged: bool


def limits(
    detector: Detector,
    places: Sequence[Place],
    tags: Sequence[str],
    policy: EpisodePolicy,
    normal: Mapping[str, tuple[float, float]],
    seed: int = 0,
    on_step: Callable[[str, float], None] = lambda _what, _share: None,
    faults: Sequence[Fault] = tuple(Fault),
) -> tuple[Limit, ...]:
    """The limit of each of the faults in each of the tags. `normal`: middle and span of each tag, see `spread`."""
    found = []
    for number, name in enumerate(tags):
        known = [place for place in places if name in place.readings.tags]
        given = [_material(place, name, normal[name], seed + index) for index, place in enumerate(known)]
        for index, fault in enumerate(faults):
            on_step(f"{name}: {fault.value.replace('_', ' ')}", (number + index / len(faults)) / len(tags))
            found.append(_limit(detector, known, given, fault, policy))
    return tuple(found)


def find_places(
    detector: Detector,
    assets: Mapping[str, Asset],
    normal: TrainingSet,
    readings_of: ReadingsOf,
    minutes: float,
    policy: EpisodePolicy,
    count: int = 4,
    seed: int = 0,
) -> tuple[Place, ...]:
    """At most `count` stretches of normal running, chosen by chance, in which nothing is raised as they are.

    Raises DataError if there is none.
    """
    rows = max(round(minutes * 60 * SECOND / detector.tick), 1)
    needed = rows + detector.length + HORIZON + LEAD
    runs = [_runs(keep, part.restart) for part, keep in zip(normal.samples, normal.keep, strict=True)]
    ends = [(part, int(end)) for part, run in enumerate(runs) for end in np.flatnonzero(run >= needed)]
    if not ends:
        most = max((int(run.max(initial=0)) for run in runs), default=0)
        raise DataError(
            f"the longest stretch of normal rows has {most}; expected {needed} ({rows} for {minutes:g} minutes, the "
            "others before them, for the windows); give fewer --minutes or an earlier --since"
        )
    chosen = np.random.default_rng(seed).permutation(len(ends))[: count * _CANDIDATES]
    found: list[Place] = []
    for part, end in (ends[index] for index in chosen):
        samples = normal.samples[part]
        place = _place(assets[samples.asset], samples, runs[part], end, rows, needed, readings_of)
        if _is_quiet(detector, place, policy):
            found.append(place)
        if len(found) == count:
            break
    if not found:
        raise DataError(
            f"version {detector.version} is not quiet in any of {len(chosen)} stretches of {minutes:g} normal minutes, "
            "so it cannot be said what a fault adds; expected a version that scores them and raises nothing; look at "
            "`plantwatch models compare`, or choose another span by --since"
        )
    return tuple(found)


def spread(normal: TrainingSet, tag: str) -> tuple[float, float]:
    """Mean and span (0.1 % to 99.9 % quantile) of a tag's normal values, in its unit; NaN and 0 if there are none."""
    seen = [_seen(part, tag)[keep] for part, keep in zip(normal.samples, normal.keep, strict=True) if tag in part.tags]
    values = np.concatenate([*seen, np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, 0.0
    low, high = np.quantile(values, [0.001, 0.999])
    return float(values.mean()), float(high - low)


def smallest(caught: Callable[[float], bool], most: float) -> float | None:
    """The smallest size caught, every larger one tried being caught too; None if the largest is not.

    >>> size = smallest(lambda size: size > 0.3, 100.0)
    >>> 0.3 < size < 0.33
    True
    >>> smallest(lambda size: False, 100.0)
    """
    if most <= 0 or not caught(most):
        return None
    high = low = most
    for _ in range(LADDER):
        low = high / STEP
        if not caught(low):
            break
        high = low
    else:
        return high
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if caught(middle):
            high = middle
        else:
            low = middle
    return high


def told_as(
    detector: Detector, places: Sequence[Place], blocks: Sequence[Readings], tag: str, policy: EpisodePolicy
) -> list[Kind | None]:
    """As what each of the blocks of readings, one a place, raises an alert within its time; None: not at all.

    What accuses another sensor than `tag` does not count; an empty `tag` counts every alert.
    """
    found: list[Kind | None] = []
    for place, scores in zip(places, _scores(detector, places, blocks), strict=True):
        opened = [
            change.anomaly
            for change in Episodes(place.asset.path, policy).push(scores)
            if change.event == "opened" and change.time <= place.until
        ]
        counted = [a.kind for a in opened if not tag or a.kind is Kind.PROCESS or a.cause == instrument(tag)]
        found.append(counted[0] if counted else None)
    return found


def _scores(detector: Detector, places: Sequence[Place], blocks: Sequence[Readings]) -> list[Scores]:
    """The scores of each block from a little before its place's fault on, all by one call of the model."""
    parts = []
    for place, block in zip(places, blocks, strict=True):
        tags = tuple(known.name for known in place.asset.tags)
        samples = align(block, tags, AlignmentPolicy.of(place.asset.tick)).samples
        first = int(np.searchsorted(samples.times, place.since - LEAD * place.asset.tick, side="right"))
        parts.append(detector.windows(samples, first))
    scores = detector.detect(join(parts))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return [rows_of(scores, slice(end - len(part), end)) for end, part in zip(ends, parts, strict=True)]


def _limit(
    detector: Detector, places: Sequence[Place], given: Sequence[Material], fault: Fault, policy: EpisodePolicy
) -> Limit:
    tag = given[0].tag
    most = min(largest(fault, one) for one in given)
    kinds: dict[float, list[Kind]] = {}

    def caught(size: float) -> bool:
        blocks = [inject(fault, size, one) for one in given]
        kinds[size] = [kind for kind in told_as(detector, places, blocks, tag.name, policy) if kind is not None]
        return len(kinds[size]) >= SHARE * len(places)

    size = smallest(caught, most)
    kind = None if size is None else Counter(kinds[size]).most_common(1)[0][0]
    up, down = tag.high is not None, tag.low is not None
    ends = {Fault.STEP_UP: up, Fault.DRIFT_UP: up, Fault.STEP_DOWN: down, Fault.DRIFT_DOWN: down}
    return Limit(tag, fault, size, most, kind, len(places), ends.get(fault, up and down))


def _place(
    asset: Asset,
    samples: Samples,
    runs: Int64[np.ndarray, " row"],
    end: int,
    rows: int,
    needed: int,
    readings_of: ReadingsOf,
) -> Place:
    """The stretch of `needed` normal rows up to row `end`, the fault being in the last `rows` of them."""
    since, until = int(samples.times[end - rows]), int(samples.times[end])
    readings = readings_of(asset.path, int(samples.times[end - needed + 1]) - asset.tick + 1, until + 1)
    starts = np.flatnonzero(runs >= rows) - rows + 1
    apart = starts[np.abs(starts - (end - rows + 1)) >= rows]
    return Place(asset, readings, since, until, samples, apart)


def _is_quiet(detector: Detector, place: Place, policy: EpisodePolicy) -> bool:
    """Whether the place is judged, and nothing is raised there as it is."""
    if not len(place.readings):
        return False
    (scores,) = _scores(detector, [place], [place.readings])
    if np.isfinite(scores.score).sum() < SHARE * len(scores):
        return False
    return told_as(detector, [place], [place.readings], "", policy) == [None]


def _material(place: Place, name: str, normal: tuple[float, float], seed: int) -> Material:
    tag = next(tag for tag in place.asset.tags if tag.name == name)
    return material(place.readings, tag, place.since, _other(place, name, seed), normal, seed)


def _other(place: Place, name: str, seed: int) -> Float[np.ndarray, " row"]:
    """Values of another normal stretch of the tag at the rows of the place's readings, NaN where there are none.

    Of some stretches chosen by chance it is the one that begins most like the place, so that no step gives it away.
    """
    times, values = place.readings.times, _seen(place.samples, name)
    out = np.full(len(times), np.nan)
    if not len(place.donors):
        return out
    starts = np.random.default_rng(seed).permutation(place.donors)[:_DONORS]
    here = values[int(np.searchsorted(place.samples.times, place.since))]
    distance = np.abs(np.nan_to_num(values[starts], nan=np.inf) - np.nan_to_num(here))
    start = int(starts[int(distance.argmin())])
    ahead = -(-(times - place.since) // place.asset.tick)
    rows = np.flatnonzero((ahead > 0) & (start + ahead - 1 < len(values)))
    out[rows] = values[start + ahead[rows] - 1]
    return out


def _seen(samples: Samples, tag: str) -> Float[np.ndarray, " row"]:
    column = samples.tags.index(tag)
    return np.where(samples.mask[:, column], samples.values[:, column], np.nan)


def _runs(keep: Bool[np.ndarray, " row"], restart: Bool[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """How many rows to keep lie in one piece up to each row, itself included."""
    out = np.zeros(len(keep), np.int64)
    length = 0
    for row, (good, new) in enumerate(zip(keep.tolist(), restart.tolist(), strict=True)):
        length = (0 if new else length) + 1 if good else 0
        out[row] = length
    return out
