"""How much memory assets take in the score service: its resident set with more and more of them, windows full."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final, cast

import numpy as np

from anomaly.detector import Detector
from anomaly.domain import Rung
from anomaly.scorers.reconstruction import Reconstruction
from pipelines import topics
from pipelines.bench.meters import hush, rss_bytes
from pipelines.bench.net import VERSION, bench_detector
from pipelines.bench.places import EVENT_START, Places
from pipelines.bench.workload import GROUP, Workload
from pipelines.codec import Serving, encode_serving
from pipelines.ports import NewRecord, Partition, Record
from pipelines.scoring import ScoreWorker
from pipelines.streams import MEMORY

_SERVING: Final = encode_serving(Serving(GROUP, VERSION, 0, Rung.LSTM_AUTOENCODER))
_FULL: Final = MEMORY + 16
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes by number of assets. `later`: with the most assets, after `later_rows` more rows of each."""

    rss: Mapping[int, int]
    later: int
    later_rows: int

    @property
    def per_asset(self) -> float:
        """Bytes that one more asset takes, from the fewest to the most."""
        fewest, most = min(self.rss), max(self.rss)
        return (self.rss[most] - self.rss[fewest]) / max(1, most - fewest)


class _Blank:
    """The bench's detector with a net that draws nothing: its memory is not the assets', and minutes are saved."""

    def __init__(self, workload: Workload) -> None:
        detector = bench_detector(workload)
        scorer = detector.scorer
        assert isinstance(scorer, Reconstruction)
        self._detector = replace(detector, scorer=replace(scorer, predict=lambda values, mask: np.zeros_like(values)))

    def load(self, group: str, version: str) -> Detector:
        """See `ModelSource.load`."""
        return self._detector


class _Nowhere:
    """A log that keeps nothing but its models topic: what is measured is the service alone."""

    def __init__(self) -> None:
        self._models = [Record(Partition(topics.MODELS, 0), 0, f"serving/{GROUP}".encode(), _SERVING, (), 0)]

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        home = Partition(topics.MODELS, 0)
        for record in records:
            if record.topic == topics.MODELS:
                self._models.append(Record(home, len(self._models), record.key, record.value, (), 0))
        return (0,) * len(records)

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        return tuple(self._models[offset : offset + limit]) if partition.topic == topics.MODELS else ()

    def ends(self, topic: str) -> Mapping[Partition, tuple[int, int]]:
        return {Partition(topic, 0): (0, 0)}


def run(places: Places, counts: Sequence[int], later_rows: int, pipe: Connection) -> None:
    """Fill the windows of more and more assets; send the `Memory`. Entry of a process of its own."""
    hush()
    workload = Workload(places.plant, EVENT_START)
    worker = ScoreWorker(cast("Any", _Nowhere()), places.plant, _Blank(workload))
    home = Partition(topics.READINGS, 0)
    worker.assign(home, None, {})
    worker.write()
    offset, done, rss = 0, 0, dict[int, int]()
    for count in counts:
        for rows in ((0, _FULL - 60), (_FULL - 60, 60)):  # the second batch as all that follow
            offset = _feed(worker, workload, range(done, count), rows, offset)
        done = count
        rss[count] = _settled()
    for first in range(_FULL, _FULL + later_rows, 60):
        offset = _feed(worker, workload, range(min(done, 1000)), (first, min(60, _FULL + later_rows - first)), offset)
    pipe.send(Memory(rss, _settled(), later_rows))


def _feed(worker: ScoreWorker, workload: Workload, assets: range, rows: tuple[int, int], offset: int) -> int:
    first, count = rows
    home = Partition(topics.READINGS, 0)
    path, template = workload.column(0, first, count)  # making values for all of them would take longer than judging
    for start in range(assets.start, assets.stop, _BATCH):
        batch = []
        for number in range(start, min(start + _BATCH, assets.stop)):
            key = workload.plant.assets[number].path.encode()
            batch.append(Record(home, offset, key, template.replace(path, key, 1), (), EVENT_START + 10**15))
            offset += 1
        worker.process(batch)
        worker.write()
    return offset


def _settled() -> int:
    gc.collect()
    return rss_bytes()
