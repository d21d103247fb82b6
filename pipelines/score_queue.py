"""What waits to be scored: new rows of assets, laid out as one strip for each detector that is to judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from anomaly.blocks import rows
from anomaly.detector import Detector
from anomaly.domain import Samples
from anomaly.newest_faults import Ask, Known, newest_faults
from anomaly.strips import OK, WARMING_UP, Piece, Strip, lay
from pipelines.streams import MEMORY, AssetStream


class Home(NamedTuple):
    """Where an output belongs: its partition, and the newest record of the readings that it came from."""

    number: int
    offset: int


class Job(NamedTuple):
    """Windows of one asset that end at rows `first` to `stop` - 1 of its samples, to be judged by one detector.

    Those up to time `emitted` (ns) are out already; they are counted, but not scored again.
    """

    home: Home
    detector: Detector
    stream: AssetStream
    samples: Samples
    first: int
    stop: int
    emitted: int


class Laid(NamedTuple):
    """A strip ready to be judged; homes by asset."""

    detector: Detector
    strip: Strip
    homes: Mapping[str, Home]


def lay_out(jobs: Sequence[Job]) -> tuple[list[Laid], dict[int, Counter[str]]]:
    """One strip a detector, and per partition what its windows count as: readings `warming_up` and `scored`, and
    windows by rung (`w:…`).
    """
    by_detector: dict[int, list[Job]] = {}
    for job in jobs:
        by_detector.setdefault(id(job.detector), []).append(job)
    laid, counts = [], dict[int, Counter[str]]()
    for group in by_detector.values():
        detector = group[0].detector
        strip = lay(_pieces(group, detector), detector.length, detector.tags, detector.mode)
        _count(strip, group, counts)
        fresh = strip.times > np.array([job.emitted for job in group], dtype=np.int64)[strip.piece]
        if fresh.any():
            wanted = strip if fresh.all() else strip.windows(fresh)
            laid.append(Laid(detector, wanted, {job.samples.asset: job.home for job in group}))
    return laid, counts


def _pieces(group: Sequence[Job], detector: Detector) -> list[Piece]:
    """The jobs' rows with their sensor faults, which the streams remember for the next time."""
    parts = [job.samples if job.stop == len(job.samples) else rows(job.samples, slice(None, job.stop)) for job in group]
    asks = [Ask(part, job.first, job.stream.known) for part, job in zip(parts, group, strict=True)]
    pieces = []
    for job, part, faults in zip(group, parts, newest_faults(asks, detector.sensors), strict=True):
        kept = faults if len(faults) <= MEMORY else faults[-MEMORY:].copy()
        job.stream.known = Known(detector.sensors, int(part.times[-1]), kept)
        pieces.append(Piece(part, job.first, job.stop, faults))
    return pieces


def _count(strip: Strip, group: Sequence[Job], counts: dict[int, Counter[str]]) -> None:
    numbers = np.array([job.home.number for job in group])[strip.piece]
    warming = strip.state == WARMING_UP
    for number in np.unique(numbers).tolist():
        mine = numbers == number
        found = counts.setdefault(number, Counter())
        found["warming_up"] += int(strip.readings[mine & warming].sum())
        found["scored"] += int(strip.readings[mine & ~warming].sum())
        found[f"w:{group[0].detector.rung}"] += int(np.count_nonzero(strip.state[mine] == OK))
