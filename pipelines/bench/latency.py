"""How long after a reading was appended its score was, and the alert that was raised at it: read off the topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines import codec, topics
from pipelines.decoding import decode
from pipelines.ports import Log, Partition, Record

LOOKED_AT: Final = (topics.READINGS, topics.SCORES, topics.ALERTS)
_PAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from a reading's append to that of what came of it; `count` of them. All 0 if nothing came."""

    count: int
    p50: float
    p99: float


def latencies(log: Log, starts: Mapping[Partition, int], until: int) -> tuple[Latency, Latency]:
    """To the score, and to the raised alert, of readings from offsets `starts` on with event time up to `until`, ns."""
    came = {
        (block.asset, int(time)): record.time
        for record in _records(log, starts, topics.READINGS)
        for block in decode(record.value, record.key, record.time)
        for time in block.times
        if time <= until
    }
    scored = [
        record.time - came[asset, time]
        for record in _records(log, starts, topics.SCORES)
        for block in [codec.decode_scores(record.value or b"")]
        for asset, time in zip(block.assets, block.times.tolist(), strict=True)
        if (asset, time) in came
    ]
    raised = [
        record.time - came[event.alert.anomaly.asset, event.time]
        for record in _records(log, starts, topics.ALERTS)
        for event in [codec.decode_event(record.value or b"")]
        if event.event == "raised" and (event.alert.anomaly.asset, event.time) in came
    ]
    return _summary(scored), _summary(raised)


def _records(log: Log, starts: Mapping[Partition, int], topic: str) -> Iterable[Record]:
    for partition, start in starts.items():
        position = start
        while partition.topic == topic and (records := log.read(partition, position, _PAGE)):
            yield from records
            position = records[-1].offset + 1


def _summary(spans: list[int]) -> Latency:
    if not spans:
        return Latency(0, 0.0, 0.0)
    p50, p99 = (np.percentile(spans, [50, 99]) / 1e9).tolist()
    return Latency(len(spans), p50, p99)
