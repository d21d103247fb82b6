"""Alignment against its slow, obvious twin: plain dictionaries, one reading at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alignment import Aligned, Aligner, AlignmentPolicy, align
from anomaly.blocks import join as join_samples
from anomaly.domain import Quality, Readings, Samples
from anomaly.errors import ConfigurationError, DataError
from anomaly.plain_rows import PlainRows

TICK = 10
TAGS = ("a", "b", "c")
POLICY = AlignmentPolicy.of(TICK)

Row = tuple[int, dict[str, tuple[float, Quality]]]


@dataclass
class Twin:
    """What alignment means, slowly."""

    policy: AlignmentPolicy
    tags: tuple[str, ...] = TAGS
    newest: int | None = None
    kept: dict[tuple[str, int], tuple[float, Quality]] = field(default_factory=dict)
    late: int = 0
    duplicates: int = 0
    ignored: int = 0

    def push(self, time: int, readings: dict[str, tuple[float, Quality]]) -> None:
        known = {tag: reading for tag, reading in readings.items() if tag in self.tags}
        self.ignored += len(readings) - len(known)
        if not known:
            return
        if self.newest is not None and time <= (self.newest - self.policy.lateness) // TICK * TICK:
            self.late += len(known)
        else:
            for tag, reading in known.items():
                if (tag, time) in self.kept:
                    self.duplicates += 1
                else:
                    self.kept[tag, time] = reading
        self.newest = time if self.newest is None else max(self.newest, time)

    def samples(self) -> list[tuple[int, list[float | None], list[Quality], bool, int]]:
        filled = sorted({math.ceil(time / TICK) for _, time in self.kept})
        out, last = [], None
        for tick in filled:
            gap = last is not None and (tick - last) * TICK > self.policy.gap
            first = tick if last is None or gap else last + 1
            for number in range(first, tick + 1):
                out.append(self._sample(number, restart=number == tick and (gap or last is None)))
            last = tick
        return out

    def _sample(self, number: int, restart: bool) -> tuple[int, list[float | None], list[Quality], bool, int]:
        end, values, qualities = number * TICK, [], []
        for tag in self.tags:
            value, quality = self._newest(tag, end)
            values.append(value)
            qualities.append(quality)
        inside = sum(end - TICK < time <= end for _, time in self.kept)
        return end, values, qualities, restart, inside

    def _newest(self, tag: str, end: int) -> tuple[float | None, Quality]:
        times = [time for name, time in self.kept if name == tag and end - self.policy.hold - TICK < time <= end]
        if not times:
            return None, Quality.MISSING
        value, quality = self.kept[tag, max(times)]
        if quality >= Quality.BAD or not math.isfinite(value):
            return None, Quality.BAD
        return value, quality


def block(rows: Sequence[Row], tags: tuple[str, ...] = (*TAGS, "unknown"), asset: str = "s/m") -> Readings:
    values = np.full((len(rows), len(tags)), np.nan)
    quality = np.full((len(rows), len(tags)), Quality.MISSING, dtype=np.uint8)
    for place, (_, readings) in enumerate(rows):
        for tag, (value, code) in readings.items():
            values[place, tags.index(tag)] = value
            quality[place, tags.index(tag)] = code
    return Readings(asset, tags, np.array([time for time, _ in rows], dtype=np.int64), values, quality)


def plain(samples: Samples) -> list[tuple[int, list[float | None], list[Quality], bool, int]]:
    return [
        (
            int(samples.times[row]),
            [float(v) if m else None for v, m in zip(samples.values[row], samples.mask[row], strict=True)],
            [Quality(int(q)) for q in samples.quality[row]],
            bool(samples.restart[row]),
            int(samples.readings[row]),
        )
        for row in range(len(samples))
    ]


def run(blocks: Sequence[Sequence[Row]], policy: AlignmentPolicy) -> tuple[Aligner, Aligned]:
    aligner = Aligner("s/m", TAGS, policy)
    parts = [aligner.push(block(rows)) for rows in blocks]
    parts.append(aligner.flush())
    samples = join_samples([part.samples for part in parts])
    return aligner, Aligned(samples, sum(part.late for part in parts), sum(part.duplicates for part in parts))


readings = st.tuples(
    st.sampled_from([1.0, 2.0, 3.5, -4.0, math.nan, math.inf]),
    st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.UNCERTAIN, Quality.BAD]),
)
contents = st.dictionaries(st.sampled_from([*TAGS, "unknown"]), readings, max_size=4)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Rows roughly in order: stragglers, repeats, holes short and long; times may be negative."""
    now = draw(st.integers(-500, 500))
    rows = []
    for _ in range(draw(st.integers(0, 25))):
        now += draw(st.sampled_from([0, 1, 3, 7, 10, 10, 20, 60, 290, 300, 301, 310, 320, 330, 700]))
        back = draw(st.sampled_from([0, 0, 0, 0, 1, 5, 10, 20, 25, 60, 320]))
        rows.append((now - back, draw(contents)))
    return rows


policies = st.sampled_from(
    [
        POLICY,
        AlignmentPolicy(tick=TICK, lateness=0, hold=0, gap=0),
        AlignmentPolicy(tick=TICK, lateness=5, hold=7, gap=30),
        AlignmentPolicy(tick=TICK, lateness=100, hold=30, gap=60),
        AlignmentPolicy(tick=TICK, lateness=320, hold=50, gap=310),
    ]
)


def cut(rows: list[Row], places: list[int]) -> list[list[Row]]:
    edges = [0, *sorted(place % (len(rows) + 1) for place in places), len(rows)]
    return [rows[a:b] for a, b in pairwise(edges)]


@settings(max_examples=200, deadline=None)
@given(streams(), st.lists(st.integers(0, 30), max_size=8), policies)
def test_any_stream_in_any_blocks_gives_what_the_slow_twin_gives(
    rows: list[Row], places: list[int], policy: AlignmentPolicy
) -> None:
    twin = Twin(policy)
    for time, content in rows:
        twin.push(time, content)
    aligner, (samples, late, duplicates) = run(cut(rows, places), policy)
    assert plain(samples) == twin.samples()
    assert (late, duplicates, aligner.ignored) == (twin.late, twin.duplicates, twin.ignored)
    assert aligner.pending == 0
    assert np.array_equal(np.isnan(samples.values), ~samples.mask)


@settings(max_examples=80, deadline=None)
@given(streams(), policies)
def test_a_training_file_and_a_live_stream_are_aligned_by_the_same_function(
    rows: list[Row], policy: AlignmentPolicy
) -> None:
    whole = align(block(rows), TAGS, policy)
    _, live = run([[row] for row in rows], policy)
    assert plain(whole.samples) == plain(live.samples)
    assert whole[1:] == live[1:]


@settings(max_examples=80, deadline=None)
@given(streams(), policies)
def test_no_reading_is_lost_or_counted_twice_at_any_moment(rows: list[Row], policy: AlignmentPolicy) -> None:
    aligner, pushed, done = Aligner("s/m", TAGS, policy), 0, 0
    for place in range(0, len(rows), 3):
        some = block(rows[place : place + 3])
        samples, late, duplicates = aligner.push(some)
        pushed += some.count
        done += int(samples.readings.sum()) + late + duplicates
        assert pushed == done + aligner.ignored + aligner.pending
    assert pushed == done + int(aligner.flush().samples.readings.sum()) + aligner.ignored


@settings(max_examples=80, deadline=None)
@given(streams(), policies, st.integers(0, 60))
def test_samples_depend_only_on_readings_a_little_older_than_they_are(
    rows: list[Row], policy: AlignmentPolicy, place: int
) -> None:
    whole = plain(align(block(rows), TAGS, policy).samples)
    if not whole:
        return
    since = whole[place % len(whole)][0]
    recent = [row for row in rows if row[0] > since - policy.hold - 2 * policy.tick]
    after = {time: (values, quality) for time, values, quality, _, _ in whole if time >= since}
    again = {t: (v, q) for t, v, q, _, _ in plain(align(block(recent), TAGS, policy).samples) if t >= since}
    assert again.items() <= after.items()
    assert [t for t, _, _, _, inside in whole if t >= since and inside] == [
        t for t, _, _, _, inside in plain(align(block(recent), TAGS, policy).samples) if t >= since and inside
    ]


def test_a_tick_is_given_out_as_soon_as_the_watermark_reaches_it() -> None:
    aligner = Aligner("s/m", TAGS, POLICY)
    assert Aligner("s/m", TAGS, POLICY).watermark is None
    assert len(aligner.push(block([(10, {"a": (1.0, Quality.GOOD)}), (29, {"a": (1.0, Quality.GOOD)})])).samples) == 0
    assert aligner.push(block([(30, {"a": (2.0, Quality.GOOD)})])).samples.times.tolist() == [10]
    assert aligner.watermark == 10
    assert aligner.push(block([(85, {"a": (2.0, Quality.GOOD)})])).samples.times.tolist() == [20, 30, 40, 50, 60]
    assert aligner.pending == 1


def test_a_value_is_held_for_five_ticks_and_then_missing() -> None:
    rows = [(5, {"a": (1.0, Quality.GOOD)}), *((10 * i, {"b": (2.0, Quality.GOOD)}) for i in range(1, 9))]
    samples = align(block(rows), TAGS, POLICY).samples
    assert samples.mask[:, 0].tolist() == [True] * 6 + [False] * 2
    assert samples.quality[-1].tolist() == [Quality.MISSING, Quality.GOOD, Quality.MISSING]


def test_a_bad_reading_hides_the_good_one_before_it() -> None:
    rows = [(10, {"a": (1.0, Quality.GOOD)}), (18, {"a": (9.0, Quality.BAD)}), (30, {"a": (2.0, Quality.UNCERTAIN)})]
    samples = align(block(rows), TAGS, POLICY).samples
    assert samples.quality[:, 0].tolist() == [Quality.GOOD, Quality.BAD, Quality.UNCERTAIN]
    assert samples.mask[:, 0].tolist() == [True, False, True]


def test_infinite_and_undefined_values_are_bad_whatever_their_quality_says() -> None:
    samples = align(block([(10, {"a": (math.inf, Quality.GOOD), "b": (math.nan, Quality.GOOD)})]), TAGS, POLICY).samples
    assert samples.quality[0].tolist() == [Quality.BAD, Quality.BAD, Quality.MISSING]
    assert samples.readings.tolist() == [2]


def test_after_a_gap_longer_than_the_limit_history_restarts() -> None:
    rows = [(10, {"a": (1.0, Quality.GOOD)}), (310, {"a": (1.0, Quality.GOOD)}), (620, {"a": (1.0, Quality.GOOD)})]
    samples = align(block(rows), TAGS, POLICY).samples
    assert np.flatnonzero(samples.restart).tolist() == [0, 31]  # 10..310 is just short enough, 320..610 is left out
    assert samples.times[-2:].tolist() == [310, 620]


def test_a_clock_years_ahead_makes_no_rows_for_the_years_between() -> None:
    rows = [(10, {"a": (1.0, Quality.GOOD)}), (2**61, {"a": (1.0, Quality.GOOD)}), (20, {"a": (1.0, Quality.GOOD)})]
    samples, late, _ = align(block(rows), TAGS, POLICY)
    assert len(samples) == 2
    assert late == 1


def test_columns_in_another_order_and_missing_columns_are_understood() -> None:
    samples = align(
        block([(10, {"c": (3.0, Quality.GOOD), "a": (1.0, Quality.GOOD)})], ("c", "a")), TAGS, POLICY
    ).samples
    assert samples.tags == TAGS
    assert samples.mask[0].tolist() == [True, False, True]
    assert samples.values[0, [0, 2]].tolist() == [1.0, 3.0]


def test_after_a_flush_what_is_not_newer_is_late() -> None:
    aligner = Aligner("s/m", TAGS, POLICY)
    aligner.push(block([(15, {"a": (1.0, Quality.GOOD)})]))
    assert aligner.flush().samples.times.tolist() == [20]
    assert aligner.push(block([(20, {"a": (1.0, Quality.GOOD)})])).late == 1
    assert aligner.push(block([(21, {"a": (1.0, Quality.GOOD)})])).late == 0
    assert aligner.push(block([(20, {"b": (1.0, Quality.GOOD)})])).late == 1
    assert aligner.flush().samples.times.tolist() == [30]


def test_an_aligner_refuses_another_assets_readings_and_an_impossible_policy() -> None:
    with pytest.raises(DataError, match="s/other"):
        Aligner("s/m", TAGS, POLICY).push(block([], asset="s/other"))
    with pytest.raises(DataError, match="named twice"):
        Aligner("s/m", ("a", "a"), POLICY)
    with pytest.raises(ConfigurationError, match="hold ≤ gap"):
        AlignmentPolicy(tick=10, lateness=0, hold=20, gap=10)


def test_a_hundred_thousand_rows_in_order_are_aligned_in_one_go() -> None:
    times = np.arange(1, 100_001, dtype=np.int64) * TICK
    values = np.arange(300_000, dtype=np.float64).reshape(-1, 3)
    samples, late, duplicates = align(
        Readings("s/m", TAGS, times, values, np.zeros(values.shape, np.uint8)), TAGS, POLICY
    )
    assert np.array_equal(samples.times, times)
    assert np.array_equal(samples.values, values)
    assert (late, duplicates, int(samples.readings.sum())) == (0, 0, 300_000)


# --- plain rows: the quick way ----------------------------------------------------------------------------------------


@st.composite
def orderly(draw: st.DrawFn) -> list[Row]:
    """Rows that mostly come one a tick with all tags; now and then something else does."""
    now, rows = draw(st.integers(-50, 50)), []
    all_good = {tag: (float(place), Quality.GOOD) for place, tag in enumerate(TAGS)}
    for number in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([10, 10, 10, 10, 10, 10, 10, 9, 11, 3, 17, 60, 320]))
        content = {tag: (value + number, quality) for tag, (value, quality) in all_good.items()}
        if draw(st.integers(0, 9)) == 0:
            content = draw(contents)
        rows.append((now - draw(st.sampled_from([0] * 12 + [10, 25, 320])), content))
    return rows


def as_plain(rows: Sequence[Row]) -> PlainRows | None:
    """The rows, if all are plain."""
    for _, content in rows:
        if tuple(sorted(content)) != TAGS or any(
            quality != Quality.GOOD or not math.isfinite(value) for value, quality in content.values()
        ):
            return None
    values = [[content[tag][0] for tag in TAGS] for _, content in rows]
    return PlainRows("s/m", TAGS, [time for time, _ in rows], values) if rows else None


def bits(samples: Samples) -> list[object]:
    columns = (samples.times, samples.values, samples.mask, samples.quality, samples.restart, samples.readings)
    return [(column.dtype, column.shape, column.tobytes()) for column in columns]


@settings(max_examples=300, deadline=None)
@given(orderly(), st.lists(st.integers(0, 40), max_size=12), policies, st.integers(0, 40))
def test_plain_rows_give_what_they_would_give_as_readings(
    rows: list[Row], places: list[int], policy: AlignmentPolicy, flush: int
) -> None:
    long, short = Aligner("s/m", TAGS, policy), Aligner("s/m", TAGS, policy)
    for number, part in enumerate(cut(rows, places)):
        wanted = long.push(block(part))
        plain_rows = as_plain(part)
        given_out = None if plain_rows is None else short.push_plain(plain_rows)
        if given_out is None:
            found = short.push(block(part) if plain_rows is None else plain_rows.readings())
        else:
            found = Aligned(given_out, 0, 0)
        assert bits(found.samples) == bits(wanted.samples)
        assert found[1:] == wanted[1:]
        assert (short.pending, short.watermark, short.ignored) == (long.pending, long.watermark, long.ignored)
        if number == flush:
            assert bits(short.flush().samples) == bits(long.flush().samples)
    assert bits(short.flush().samples) == bits(long.flush().samples)


def test_orderly_rows_go_the_quick_way_after_the_first() -> None:
    aligner, done = Aligner("s/m", TAGS, POLICY), []
    for number in range(20):
        rows = PlainRows("s/m", TAGS, [number * 20 + 10, number * 20 + 20], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        samples = aligner.push_plain(rows)
        done.append(samples is not None)
        if samples is None:
            aligner.push(rows.readings())
    assert done == [False, False] + [True] * 18


def test_a_value_is_held_over_a_hole_though_the_quick_way_gave_it_out_and_then_brought_nothing() -> None:
    aligner = Aligner("s/m", TAGS, POLICY)
    aligner.push(PlainRows("s/m", TAGS, [10, 20, 30], [[1.0] * 3, [2.0] * 3, [3.0] * 3]).readings())
    for time, ends in ((40, [20]), (60, [30, 40]), (61, [])):
        samples = aligner.push_plain(PlainRows("s/m", TAGS, [time], [[float(time)] * 3]))
        assert samples is not None
        assert samples.times.tolist() == ends
    samples = aligner.push(block([(90, {"a": (9.0, Quality.GOOD)})])).samples
    assert samples.times.tolist() == [50, 60, 70]
    assert samples.values[:, 0].tolist() == [40.0, 60.0, 61.0]
