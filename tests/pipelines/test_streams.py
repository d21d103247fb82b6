"""What is remembered of one asset is a function of its records since `rewind` (guarantee G4)."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.blocks import join
from anomaly.detector import rules_detector
from anomaly.domain import SECOND, Asset, Quality, Readings, Samples, Tag
from pipelines import streams
from pipelines.streams import AssetStream, Pushed

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
TAGS = (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "", -9.0, 9.0))
ASSET = Asset("s/a", "g", TAGS, TICK)
MEMORY = 60
"""A short memory, so that examples are short too."""


class Sent(NamedTuple):
    """A record: seconds of its rows after the start, and which tag they carry."""

    seconds: tuple[int, ...]
    tag: str


@pytest.fixture(autouse=True, scope="module")
def _short_memory() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(streams, "MEMORY", MEMORY)
    yield
    patch.undo()


def readings(sent: Sent) -> Readings:
    times = START + SECOND * np.array(sent.seconds, dtype=np.int64)
    values = np.array(sent.seconds, dtype=float).reshape(-1, 1) % 97
    return Readings(ASSET.path, (sent.tag,), times, values, np.full(values.shape, Quality.GOOD, np.uint8))


def push(stream: AssetStream, sent: Sent, offset: int) -> Pushed:
    return stream.push(readings(sent), offset, START + offset)


def new_rows(pushed: Pushed) -> list[tuple[object, ...]]:
    """Every field of every new sample."""
    samples, columns = pushed.samples, [f.name for f in fields(Samples) if f.name not in ("asset", "tags")]
    return [tuple(getattr(samples, name)[i].tobytes() for name in columns) for i in range(pushed.first, len(samples))]


def windows(pushed: Pushed) -> list[tuple[object, ...]]:
    """The windows that end in the new rows, as a detector of the plant would see them."""
    found = rules_detector("g", (ASSET,)).windows(pushed.samples, pushed.first)
    arrays = (found.times, found.values, found.mask, found.faults, found.readings)
    return [(found.state[i], *(a[i].tobytes() for a in arrays)) for i in range(len(found))]


@st.composite
def lives(draw: st.DrawFn) -> list[Sent]:
    """Records of an asset that mostly moves on, with gaps, rows out of order, late ones and duplicates."""
    now, records = 0, []
    for _ in range(draw(st.integers(2, 40))):
        step = draw(st.sampled_from([5, 10, 20, 60, 250, 400, 1200]))
        rows = draw(st.integers(1, 12))
        times = [now + step + i * draw(st.sampled_from([5, 10, 13])) for i in range(rows)]
        back = draw(st.sampled_from([0, 0, 0, 15, 40, 500]))
        times = [max(0, t - back) for t in times]
        if draw(st.booleans()):
            times = draw(st.permutations(times))
        now = max(now, *times)
        records.append(Sent(tuple(times), draw(st.sampled_from(["temp", "flow", "unknown"]))))
    return records


@settings(max_examples=80, deadline=None)
@given(life=lives(), data=st.data())
def test_a_stream_rebuilt_from_its_rewind_offset_goes_on_as_the_uninterrupted_one(
    life: list[Sent], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(life)))
    whole = AssetStream(ASSET)
    for offset in range(cut):
        push(whole, life[offset], offset)
    rewind = whole.rewind
    assert rewind is not None
    rebuilt = AssetStream(ASSET)
    for offset in range(rewind, cut):
        push(rebuilt, life[offset], offset)
    assert rebuilt.watermark == whole.watermark
    assert rebuilt.pending == whole.pending
    for offset in range(cut, len(life)):
        expected, found = push(whole, life[offset], offset), push(rebuilt, life[offset], offset)
        assert new_rows(found) == new_rows(expected)
        assert windows(found) == windows(expected)
        assert (found.late, found.duplicates, found.ignored) == (expected.late, expected.duplicates, expected.ignored)


@settings(max_examples=40, deadline=None)
@given(life=lives(), data=st.data())
def test_a_stream_that_is_cut_again_and_again_needs_no_more_than_it_says(life: list[Sent], data: st.DataObject) -> None:
    """Each crash starts from the rewind of a stream that was itself rebuilt."""
    whole, current = AssetStream(ASSET), AssetStream(ASSET)
    for offset, sent in enumerate(life):
        assert new_rows(push(current, sent, offset)) == new_rows(push(whole, sent, offset))
        assert current.rewind is not None
        if data.draw(st.booleans()):
            rewind, current = current.rewind, AssetStream(ASSET)
            for again in range(rewind, offset + 1):
                push(current, life[again], again)


def test_the_rewind_offset_moves_on_with_the_stream_so_that_a_restart_is_short() -> None:
    stream = AssetStream(ASSET)
    behind = []
    for offset in range(400):
        push(stream, Sent((offset * 10,), "temp"), offset)
        assert stream.rewind is not None
        behind.append(offset - stream.rewind)
    assert max(behind) <= MEMORY + 12 + streams.MERGED


@settings(max_examples=60, deadline=None)
@given(life=lives(), data=st.data())
def test_records_that_follow_each_other_may_be_taken_together(life: list[Sent], data: st.DataObject) -> None:
    one, together, held = AssetStream(ASSET), AssetStream(ASSET), list[Readings]()
    expected, found = list[tuple[object, ...]](), list[tuple[object, ...]]()
    for offset, sent in enumerate(life):
        block = readings(sent)
        expected += new_rows(one.push(block, offset, START + offset))
        follows = together.follows(block, int(held[-1].times[-1]) if held else None)
        if held and (not follows or block.tags != held[0].tags or data.draw(st.booleans())):
            found += new_rows(together.take(join(held)))
            held = []
        together.note(block, offset, START + offset)
        if follows:
            held.append(block)
        else:
            found += new_rows(together.take(block))
    if held:
        found += new_rows(together.take(join(held)))
    assert found == expected
    assert (together.rewind, together.pending, together.newest) == (one.rewind, one.pending, one.newest)


def test_before_any_record_nothing_is_needed() -> None:
    stream = AssetStream(ASSET)
    assert (stream.rewind, stream.watermark, stream.pending) == (None, None, 0)


def test_every_reading_is_counted_once() -> None:
    stream = AssetStream(ASSET)
    sent = [Sent((0, 10, 20, 60), "temp"), Sent((20, 10), "temp"), Sent((60, 60), "flow"), Sent((70,), "unknown")]
    pushed = [push(stream, one, offset) for offset, one in enumerate(sent)]
    ended = sum(int(p.samples.readings[p.first :].sum()) + p.late + p.duplicates + p.ignored for p in pushed)
    assert ended + stream.pending == sum(len(one.seconds) for one in sent)
