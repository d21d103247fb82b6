"""Rows that come singly take a short way through the services: what comes out is what the long way gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.detector import rules_detector
from anomaly.domain import SECOND, Asset, Plant, Readings, Scores, Tag
from anomaly.plain_rows import PlainRow
from pipelines import recording, scoring, topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.held import Held
from pipelines.partition_state import IDLE_LIMIT, PartitionState
from pipelines.ports import AlertEvent, Partition, Record
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.streams import AssetStream

TICK = 10 * SECOND
START = 1_800_000_000 * SECOND
TAGS = (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "m³/h", -5.0, 5.0))
ASSETS = tuple(Asset(path, "g", TAGS, TICK) for path in ("s/a", "s/b", "s/c"))
PLANT = Plant("test", ASSETS)
HOME = Partition(topics.READINGS, 0)


class NoModels:
    """Rules alone."""

    def load(self, group: str, version: str) -> Any:
        return rules_detector(group, ASSETS, version)


class Written:
    """What the record service wrote, write by write."""

    def __init__(self) -> None:
        self.writes: list[list[Readings]] = []

    def write(
        self, readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        self.writes.append(list(readings))

    def heartbeat(self, part: str, time: int, status: Any) -> None:
        raise NotImplementedError


@st.composite
def altered(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A row in which something is not as it should be."""
    temp = body["values"]["temp"]
    changes: list[dict[str, Any]] = [
        {"values": {"temp": temp, "flow": None}},
        {"values": {"flow": 1.0, "temp": temp}},
        {"values": {"temp": temp}},
        {"values": {"nobody_knows": temp, "flow": 1.0}},
        {"quality": {"temp": "bad"}},
        {"quality": {"temp": "uncertain"}},
        {"asset": "s/unknown"},
        {"ts": body["ts"] + 10**7 * SECOND},
        {"ts": "soon"},
    ]
    change = draw(st.sampled_from(changes))
    return {**body, **change}


@st.composite
def lives(draw: st.DrawFn) -> list[Record]:
    """Records of three machines: mostly rows that follow on, and now and then anything else that may come."""
    sent = {asset.path: START for asset in ASSETS}
    append_time, records = START, []
    for offset in range(draw(st.integers(1, 70))):
        asset = draw(st.sampled_from(ASSETS)).path
        sent[asset] += draw(st.sampled_from([TICK] * 12 + [TICK // 2, 3 * TICK, 40 * TICK]))
        time = sent[asset] - draw(st.sampled_from([0] * 12 + [TICK, 2 * TICK, 60 * TICK]))
        temp = draw(st.sampled_from([20.0, 21, 22.5, 300.0]))
        body: dict[str, Any] = {"asset": asset, "ts": time, "values": {"temp": temp, "flow": 1.5}}
        odd = draw(st.sampled_from([None] * 24 + ["columns", "idle", "alter"]))
        if odd == "columns":
            sent[asset] += 2 * TICK
            body |= {"ts": [time, time + TICK, time + 2 * TICK], "values": {"temp": [1, 2, 3], "flow": [1, None, 1]}}
        elif odd == "idle":
            append_time += draw(st.sampled_from([IDLE_LIMIT, 120 * SECOND, 400 * SECOND]))
        elif odd == "alter":
            body = draw(altered(body))
        append_time = max(append_time + SECOND // 10, *sent.values())
        value = b"{" if draw(st.integers(0, 60)) == 0 else json.dumps(body).encode()
        records.append(Record(HOME, offset, asset.encode(), value, (), append_time))
    return records


def polls(records: Sequence[Record], sizes: Sequence[int]) -> list[Sequence[Record]]:
    """The records in polls of those sizes, over and over."""
    found, start = list[Sequence[Record]](), 0
    while start < len(records):
        size = sizes[len(found) % len(sizes)]
        found.append(records[start : start + size])
        start += size
    return found


def scored(records: Sequence[Record], sizes: Sequence[int], committed: int) -> list[object]:
    """All that the score service appends, commits and counts."""
    log = MemoryLog(MemoryClock(START))
    log.create(topics.partitions(1), topics.COMPACTED)
    worker, found = ScoreWorker(log, PLANT, NoModels()), list[object]()
    worker.assign(HOME, committed, {"r": 0})
    for batch in polls(records, sizes):
        worker.process(batch)
        found.append(dict(worker.write()))
        found.append(worker.counts())
    for topic in (topics.SCORES, topics.DEAD_LETTERS):
        found += [(r.key, r.value, r.headers) for r in log.read(Partition(topic, 0), 0, 10_000)]
    return found


def recorded(records: Sequence[Record], sizes: Sequence[int]) -> list[object]:
    """All that the record service writes and commits."""
    log, historian = MemoryLog(MemoryClock(START)), Written()
    log.create(topics.partitions(1), topics.COMPACTED)
    worker, found = RecordWorker(log, historian), list[object]()
    worker.assign(HOME, None, {})
    for batch in polls(records, sizes):
        worker.process(batch)
        found.append(dict(worker.write()))
    for write in historian.writes:
        found += [
            (b.asset, b.tags, b.times.tobytes(), b.values.shape, b.values.tobytes(), b.quality.tobytes()) for b in write
        ]
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(life=lives(), sizes=st.lists(st.sampled_from([1, 3, 8, 40]), min_size=1, max_size=4), data=st.data())
def test_scores_commits_and_counts_are_those_of_the_long_way(
    life: list[Record], sizes: list[int], data: st.DataObject
) -> None:
    committed = data.draw(st.sampled_from([0, 0, len(life) // 2]))
    short = scored(life, sizes, committed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "plain_row", lambda *_: None)
        long = scored(life, sizes, committed)
    assert short == long


@settings(max_examples=80, deadline=None)
@given(life=lives(), sizes=st.lists(st.sampled_from([1, 3, 8, 40]), min_size=1, max_size=4))
def test_what_is_recorded_is_what_the_long_way_records(life: list[Record], sizes: list[int]) -> None:
    short = recorded(life, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "plain_row", lambda *_: None)
        long = recorded(life, sizes)
    assert short == long


def rows_of(count: int) -> list[Record]:
    bodies = [
        (asset, {"asset": asset.path, "ts": START + row * TICK, "values": {"temp": 20.0 + row, "flow": 1.5}})
        for row in range(count)
        for asset in ASSETS
    ]
    return [
        Record(HOME, offset, asset.path.encode(), json.dumps(body).encode(), (), START + 10**6 * SECOND)
        for offset, (asset, body) in enumerate(bodies)
    ]


def test_orderly_rows_do_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    records = rows_of(20)
    first, rest = records[:9], records[9:]
    log = MemoryLog(MemoryClock(START))
    log.create(topics.partitions(1), topics.COMPACTED)
    worker = ScoreWorker(log, PLANT, NoModels())
    worker.assign(HOME, 0, {})
    worker.process(first)
    monkeypatch.setattr(scoring, "decode", lambda *_: pytest.fail("decoded the long way"))
    monkeypatch.setattr("anomaly.plain_rows.PlainRows.readings", lambda *_: pytest.fail("made arrays of readings"))
    worker.process(rest[:30])
    worker.process(rest[30:])
    assert worker.counts()["acknowledged"] == 2 * len(records)


def test_rows_of_one_poll_are_recorded_as_one_block_a_machine() -> None:
    historian = Written()
    worker = RecordWorker(MemoryLog(MemoryClock(START)), historian)
    worker.process(rows_of(20))
    worker.write()
    [blocks] = historian.writes
    assert [(block.asset, len(block)) for block in blocks] == [(asset.path, 20) for asset in ASSETS]
    assert np.array_equal(blocks[0].values[:, 0], 20.0 + np.arange(20))


def test_a_row_waits_with_those_before_it_only_where_a_block_would() -> None:
    stream, state = AssetStream(ASSETS[0]), PartitionState(0, next_offset=100)
    row = PlainRow(ASSETS[0].path, ("temp", "flow"), START, [20.0, 1.5])
    stream.note(row.rows(), 100, START)
    held = Held(state, stream, refilling=False, offset=100, blocks=[row.rows()])

    def asked(offset: int, append_time: int, **other: Any) -> tuple[bool, bool]:
        following = row._replace(**({"time": START + TICK} | other))
        record = Record(HOME, offset, None, b"", (), append_time)
        return held.takes(following.rows(), offset < 100, append_time), held.take_row(following, record)

    assert asked(99, START) == (False, False)
    assert asked(101, START + IDLE_LIMIT + 1) == (False, False)
    assert asked(101, START, time=START) == (False, False)
    assert asked(101, START, tags=("flow", "temp")) == (False, False)
    assert asked(101, START + IDLE_LIMIT) == (True, True)
    assert (held.offset, stream.last_append, len(held.blocks[0])) == (101, START + IDLE_LIMIT, 2)
