"""Every payload ends as readings or as a DecodeError with a reason out of the closed set (guarantees G6, §3 row 16)."""

from __future__ import annotations

import json
import math
import time as wall
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import DecodeError
from pipelines import codec, decoding
from pipelines.decoding import decode
from pipelines.qualities import parse_quality
from pipelines.reasons import Reason
from pipelines.times import iso, parse_time, parse_times

TIME = 1_795_222_923_250_000_000
"""2026-11-21T01:02:03.250Z"""
NOW = TIME + 2 * SECOND
GOOD, UNCERTAIN, BAD, MISSING = (int(quality) for quality in Quality)


def _one(payload: Any, key: bytes | None = None, now: int = NOW) -> Readings:
    value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    (readings,) = decode(value, key, now)
    return readings


def _reason(value: bytes | None, key: bytes | None = b"pump", now: int = NOW) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(value, key, now)
    assert caught.value.reason in set(Reason)
    str(caught.value).encode()
    return str(caught.value.reason)


# --- golden payloads ---------------------------------------------------------------------------------------------


def test_a_native_row_is_one_row_of_readings() -> None:
    readings = _one(
        b'{"asset":"s1/l1/pump-101","ts":"2026-11-21T01:02:03.250Z","values":{"vib_de":2.1,"temp":61.2,"x":3},'
        b'"quality":{"temp":"good","x":"uncertain"}}'
    )
    assert (readings.asset, readings.tags) == ("s1/l1/pump-101", ("vib_de", "temp", "x"))
    assert readings.times.tolist() == [TIME]
    assert readings.times.dtype == np.int64
    assert readings.values.tolist() == [[2.1, 61.2, 3.0]]
    assert readings.quality.tolist() == [[GOOD, GOOD, UNCERTAIN]]
    assert readings.quality.dtype == np.uint8


def test_a_column_batch_is_as_many_rows_as_it_has_times() -> None:
    readings = _one(
        {
            "asset": "a",
            "ts": [TIME - SECOND, TIME],
            "values": {"x": [1, 2.5], "y": [None, "61"]},
            "quality": {"x": ["good", "bad"]},
        }
    )
    assert readings.times.tolist() == [TIME - SECOND, TIME]
    np.testing.assert_array_equal(readings.values, [[1.0, np.nan], [np.nan, np.nan]])
    assert readings.quality.tolist() == [[GOOD, BAD], [BAD, BAD]]


@pytest.mark.parametrize(
    "payload",
    [
        {"asset": "a", "tag": "x", "ts": TIME, "value": 2.5, "quality": "Good", "unit": "mm/s"},
        {"asset": "a", "tagname": "x", "timestamp": TIME // 1_000_000, "v": 2.5, "q": True},
        {"asset": "a", "id": "x", "t": TIME // 1_000, "v": 2.5, "q": 192},
        {"asset": "a", "tag": "x", "time": "2026-11-21T02:02:03.25+01:00", "value": 2.5},
        {"timestamp": TIME, "asset": "a", "values": [{"id": "x", "v": 2.5, "q": True, "t": TIME // 1_000_000}]},
        {"timestamp": TIME, "asset": "a", "values": [{"id": "x", "v": 2.5}]},
        [{"asset": "a", "tag": "x", "ts": TIME, "value": 2.5}],
        [{"asset": "a", "ts": TIME, "values": {"x": 2.5}}],
    ],
)
def test_narrow_readings_are_known_by_their_aliases(payload: Any) -> None:
    readings = _one(payload)
    assert (readings.asset, readings.tags, readings.times.tolist()) == ("a", ("x",), [TIME])
    assert (readings.values.tolist(), readings.quality.tolist()) == ([[2.5]], [[GOOD]])


def test_a_batch_of_narrow_readings_shares_rows_by_time_and_keeps_every_duplicate() -> None:
    batch = [
        {"asset": asset, "tag": tag, "ts": TIME + 1000 * row, "value": value}
        for asset, tag, row, value in [
            ("a", "x", 0, 1),
            ("a", "y", 0, 2),
            ("b", "x", 0, 9),
            ("a", "x", 1, 3),
            ("a", "x", 0, 4),
        ]
    ]
    first, second = decode(json.dumps(batch).encode(), None, NOW)
    assert (first.asset, second.asset, first.tags) == ("a", "b", ("x", "y"))
    assert first.times.tolist() == [TIME, TIME + 1000, TIME]
    np.testing.assert_array_equal(first.values, [[1, 2], [3, np.nan], [4, np.nan]])
    assert first.quality.tolist() == [[GOOD, GOOD], [GOOD, MISSING], [GOOD, MISSING]]
    assert first.count + second.count == len(batch)


def test_the_key_names_the_asset_where_the_payload_does_not() -> None:
    assert _one({"ts": TIME, "values": {"x": 1}}, key="s/ä".encode()).asset == "s/ä"
    assert _one({"asset": None, "ts": TIME, "values": {"x": 1}}, key=b"k").asset == "k"
    assert _one({"asset": "own", "ts": TIME, "values": {"x": 1}}, key=b"k").asset == "own"
    assert _reason(b'{"ts":1795222923,"values":{"x":1}}', key=None) == Reason.NO_ASSET
    assert _reason(b'{"ts":1795222923,"values":{"x":1}}', key=b"\xff") == Reason.BAD_NAME


@pytest.mark.parametrize(
    "value",
    ["null", '"12.5"', "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "[1]", '{"a":1}', "9" * 309],
)
def test_what_is_no_finite_number_is_a_bad_reading_and_harms_no_other(value: str) -> None:
    for text in (
        f'{{"asset":"a","ts":{TIME},"values":{{"x":{value},"y":7}}}}',
        f'{{"asset":"a","ts":[{TIME}],"values":{{"x":[{value}],"y":[7]}}}}',
    ):
        readings = _one(text.encode())
        np.testing.assert_array_equal(readings.values, [[np.nan, 7]])
        assert readings.quality.tolist() == [[BAD, GOOD]]
    narrow = _one(f'{{"asset":"a","tag":"x","ts":{TIME},"value":{value}}}'.encode())
    assert narrow.quality.tolist() == [[BAD]]
    assert np.isnan(narrow.values).all()


def test_booleans_are_numbers_and_a_bad_quality_takes_the_value_away() -> None:
    readings = _one({"asset": "a", "ts": TIME, "values": {"on": True, "off": False, "x": 5}, "quality": {"x": 0}})
    np.testing.assert_array_equal(readings.values, [[1, 0, np.nan]])
    assert readings.quality.tolist() == [[GOOD, GOOD, BAD]]
    whole = _one({"asset": "a", "ts": [TIME], "values": {"x": [5], "y": [6]}, "quality": "uncertain"})
    assert whole.quality.tolist() == [[UNCERTAIN, UNCERTAIN]]
    assert _one({"asset": "a", "ts": TIME, "values": {"x": 5}, "q": "bad"}).quality.tolist() == [[BAD]]


def test_a_byte_order_mark_is_no_obstacle_and_of_duplicate_keys_the_last_counts() -> None:
    assert _one(b"\xef\xbb\xbf" + f'{{"asset":"a","ts":{TIME},"values":{{"x":1}}}}'.encode()).values.tolist() == [[1.0]]
    assert _one(f'{{"asset":"a","ts":5,"ts":{TIME},"values":{{"x":1,"x":2}}}}'.encode()).values.tolist() == [[2.0]]


# --- each reason ---------------------------------------------------------------------------------------------------

ROW = f'"ts":{TIME},"values":{{"x":1}}'
REFUSED: list[tuple[Reason, bytes | None]] = [
    (Reason.TOMBSTONE, None),
    (Reason.EMPTY, b""),
    (Reason.EMPTY, b" \r\n"),
    (Reason.OVERSIZE, b" " * (1 << 20) + b"{"),
    (Reason.ENCODING, '{"asset":"pümp"}'.encode("utf-16")),
    (Reason.ENCODING, f'{{"asset":"p\xfcmp",{ROW}}}'.encode("latin-1")),
    (Reason.MALFORMED, b"pump,vib=1 17"),
    (Reason.MALFORMED, b'{"asset":"a","ts":'),
    (Reason.MALFORMED, b"[" * 900 + b"x"),
    (Reason.MALFORMED, f"{{{ROW}}}{{{ROW}}}".encode()),
    (Reason.TOO_DEEP, b"[" * 100_000),
    (Reason.TOO_DEEP, b'{"values":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"),
    (Reason.TOO_DEEP, b'{"nan":NaN,"a":' * 60_000),
    (Reason.UNKNOWN_FORMAT, b"3"),
    (Reason.UNKNOWN_FORMAT, b'"text"'),
    (Reason.UNKNOWN_FORMAT, b"null"),
    (Reason.UNKNOWN_FORMAT, b"[[1]]"),
    (Reason.UNKNOWN_FORMAT, b'{"name":"cpu","tags":{},"timestamp":1795222923}'),
    (Reason.UNKNOWN_FORMAT, f'{{"ts":[{TIME}],"values":[1]}}'.encode()),
    (Reason.UNKNOWN_FORMAT, f'{{"ts":{TIME},"values":[1]}}'.encode()),
    (Reason.BAD_NAME, f'{{"asset":"",{ROW}}}'.encode()),
    (Reason.BAD_NAME, f'{{"asset":7,{ROW}}}'.encode()),
    (Reason.BAD_NAME, f'{{"asset":"a\\u0000b",{ROW}}}'.encode()),
    (Reason.BAD_NAME, f'{{"asset":"\\ud800",{ROW}}}'.encode()),
    (Reason.BAD_NAME, f'{{"ts":{TIME},"values":{{"\\udfff":1}}}}'.encode()),
    (Reason.BAD_NAME, f'{{"ts":{TIME},"values":{{"":1}}}}'.encode()),
    (Reason.BAD_NAME, f'{{"ts":{TIME},"values":{{"{"x" * 257}":1}}}}'.encode()),
    (Reason.NO_READINGS, f'{{"ts":{TIME},"values":{{}}}}'.encode()),
    (Reason.NO_READINGS, b'{"ts":[],"values":{"x":[]}}'),
    (Reason.NO_READINGS, b"[]"),
    (Reason.NO_READINGS, f'{{"ts":{TIME},"values":{{"x":1}},"quality":{{"x":"missing"}}}}'.encode()),
    (Reason.LENGTH_MISMATCH, f'{{"ts":[{TIME}],"values":{{"x":[1,2]}}}}'.encode()),
    (Reason.LENGTH_MISMATCH, f'{{"ts":[{TIME}],"values":{{"x":1}}}}'.encode()),
    (Reason.LENGTH_MISMATCH, f'{{"ts":[{TIME}],"values":{{"x":[1]}},"quality":{{"x":[1,2]}}}}'.encode()),
    (Reason.TOO_MANY_TAGS, f'{{"ts":{TIME},"values":{json.dumps({str(i): 1 for i in range(10_001)})}}}'.encode()),
    (Reason.TOO_MANY_TAGS, json.dumps([{"ts": TIME, "id": str(i), "v": 1} for i in range(10_001)]).encode()),
    (Reason.BAD_TIME, b'{"values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":null,"values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":true,"values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":1e999,"values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":' + b"9" * 5000 + b',"values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":[' + b"9" * 19 + b'],"values":{"x":[1]}}'),
    (Reason.BAD_TIME, b'{"ts":"yesterday","values":{"x":1}}'),
    (Reason.BAD_TIME, b'{"ts":"2026-13-01T00:00:00Z","values":{"x":1}}'),
    (Reason.NAIVE_TIME, b'{"ts":"2026-11-21T01:02:03","values":{"x":1}}'),
    (Reason.NAIVE_TIME, b'{"ts":["2026-11-21 01:02:03.5"],"values":{"x":[1]}}'),
    (Reason.FUTURE_DATED, f'{{"ts":{NOW + 300 * SECOND + 1},"values":{{"x":1}}}}'.encode()),
]


@pytest.mark.parametrize(("reason", "value"), REFUSED, ids=[f"{r}-{i}" for i, (r, _) in enumerate(REFUSED)])
def test_each_refusal_has_its_reason_and_is_quick(reason: Reason, value: bytes | None) -> None:
    begin = wall.thread_time()
    assert _reason(value) == reason
    assert wall.thread_time() - begin < 1.0


def test_every_reason_has_a_golden_refusal() -> None:
    assert {reason for reason, _ in REFUSED} | {Reason.NO_ASSET} == set(Reason)


def test_five_minutes_ahead_is_still_taken() -> None:
    assert _one({"asset": "a", "ts": NOW + 300 * SECOND, "values": {"x": 1}}).times.tolist() == [NOW + 300 * SECOND]


# --- times and qualities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "time"),
    [
        (1_795_222_923, TIME - 250_000_000),
        (1_795_222_923.25, TIME),
        (TIME // 1_000_000, TIME),
        (TIME // 1_000, TIME),
        (TIME, TIME),
        (0, 0),
        (-5, -5 * SECOND),
        ("2026-11-21T01:02:03.250Z", TIME),
        ("2026-11-21t01:02:03,25z", TIME),
        ("2026-11-21 01:02:03.250 +00:00", TIME),
        ("20261121T020203.25+0100", TIME),
        ("2026-11-20T19:32:03.250-05:30", TIME),
        ("2026-11-21T01:02:03.123456789Z", TIME - 250_000_000 + 123_456_789),
        ("2026-11-21T01:02Z", TIME - 3_250_000_000),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
    ],
)
def test_times_are_read_by_zone_or_by_magnitude(written: Any, time: int) -> None:
    assert parse_time(written) == time
    assert parse_times([written, written]).tolist() == [time, time]


@pytest.mark.parametrize("seconds", ["23:59:60", "24:00:00", "25:00:00", "01:02:03+99:00"])
def test_times_no_clock_shows_are_refused(seconds: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_time(f"2026-11-21T{seconds}Z")
    assert caught.value.reason == Reason.BAD_TIME


@given(st.integers(-(2**70), 2**70))
def test_one_time_and_many_agree_for_every_integer(value: int) -> None:
    def outcome(read: Callable[[], int]) -> object:
        try:
            return read()
        except DecodeError as error:
            return str(error.reason)

    assert outcome(lambda: parse_time(value)) == outcome(lambda: int(parse_times([0, value])[1]))
    assert isinstance(iso(value), str)


@pytest.mark.parametrize(
    ("code", "quality"),
    [
        ("GoodClamped", Quality.GOOD),
        ("Uncertain_LastUsableValue", Quality.UNCERTAIN),
        ("bad", Quality.BAD),
        ("192", Quality.GOOD),
        ("what?", Quality.BAD),
        (216, Quality.GOOD),
        (64, Quality.UNCERTAIN),
        (0, Quality.BAD),
        (128, Quality.BAD),
        (500, Quality.BAD),
        (0x002D0000, Quality.GOOD),
        (0x408F0000, Quality.UNCERTAIN),
        (0x80050000, Quality.BAD),
        (2**40, Quality.BAD),
        (-1, Quality.BAD),
        (192.0, Quality.GOOD),
        (float("nan"), Quality.BAD),
        (False, Quality.BAD),
        ([], Quality.BAD),
    ],
)
def test_quality_is_understood_in_every_dialect_and_what_is_not_understood_is_bad(code: Any, quality: Quality) -> None:
    assert parse_quality(code) is quality


# --- properties ----------------------------------------------------------------------------------------------------

NASTY = st.sampled_from([
    "NaN", "-Infinity", "1e999", "-1e-999", "9" * 5000, "0." + "9" * 3000, '"\\ud800"', '"\\udc00\\ud800"',
    '"\ufeff"', "[" * 3000, "]" * 5, "{" * 50, '{"ts":1,"ts":2}', '"2026-11-21T01:02:03"', '"2026-11-21T01:02:03Z"',
    '"\\u0000"', "null", "true", "{}", "[]", '""', str(TIME), str(TIME // 10**9), str(2**63), str(-(2**63)),
    "\x00", '"', ",", "18e17",
])  # fmt: skip
NAMES = st.sampled_from(
    "asset ts t time timestamp values value v quality q tag tagname id unit x".split()  # noqa: SIM905  # a list of words
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just(TIME),
    st.just("2026-11-21T01:02:03Z"),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Bytes from noise to almost right: a document, a few cuts, a few nasty tokens put in."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        fields = draw(st.lists(st.tuples(NAMES, st.one_of(NASTY, TREES.map(json.dumps))), max_size=6))
        text = "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"
    else:
        shape = st.dictionaries(NAMES, TREES, max_size=6)
        body = draw(TREES if kind == 2 else st.one_of(shape, st.lists(shape, max_size=4)))
        text = json.dumps(body, ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(NASTY) + text[at + draw(st.integers(0, 3)) :]
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-16"])), "surrogatepass"
    )


MOST_CPU_S = 3.0
"""A megabyte of the worst takes 0.4 s; what grows with the square of its size takes minutes."""


def _check_outcome(value: bytes, key: bytes | None) -> None:
    begin = wall.thread_time()
    try:
        blocks = decode(value, key, NOW)
        took = wall.thread_time() - begin
    except DecodeError as error:
        took = wall.thread_time() - begin
        assert error.reason in set(Reason)  # noqa: PT017  # either outcome is right; both are checked
        str(error).encode()
    else:
        assert blocks
        for block in blocks:
            _check_block(block)
    assert took < MOST_CPU_S


def _check_block(block: Readings) -> None:
    shape = (len(block.times), len(block.tags))
    assert block.values.shape == block.quality.shape == shape
    assert [a.dtype.name for a in (block.times, block.values, block.quality)] == ["int64", "float64", "uint8"]
    assert block.count > 0
    assert np.array_equal(np.isfinite(block.values), block.quality < BAD)
    assert not np.isinf(block.values).any()
    assert block.times.max() <= NOW + decoding.FUTURE_LIMIT
    assert len(set(block.tags)) == len(block.tags)
    assert all(name.isprintable() and name for name in (block.asset, *block.tags))


KEYS = st.sampled_from([None, b"", b"pump", b"\xff"])


@given(payloads(), KEYS)
def test_every_payload_is_readings_or_a_reason(value: bytes, key: bytes | None) -> None:
    _check_outcome(value, key)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(payloads(), KEYS)
def test_ten_thousand_payloads_are_readings_or_a_reason(value: bytes, key: bytes | None) -> None:
    _check_outcome(value, key)


HUGE = {
    "numbers of a megabyte": b'{"ts":1795222923,"values":{"x":' + b"1" * 1_040_000 + b"}}",
    "fractions of a megabyte": b'{"ts":NaN,"values":{"x":0.' + b"1" * 1_040_000 + b"}}",
    "narrow readings that share nothing": json.dumps(
        [{"t": i, "v": 1, "id": f"{i % 9999}"} for i in range(27_000)], separators=(",", ":")
    ).encode(),
    "rows of one value": json.dumps(
        [{"t": i, "values": {f"{i % 9999}": 1}} for i in range(27_000)], separators=(",", ":")
    ).encode(),
    "empty objects": b"[" + b"{}," * 349_000 + b"{}]",
    "escapes": b'{"ts":1795222923,"values":{"' + b"\\u0041" * 170_000 + b'":1}}',
    "bad numbers in a column": b'{"ts":[1],"values":{"x":[' + b"1e999," * 170_000 + b"1]}}",
}


@pytest.mark.parametrize("name", HUGE)
def test_the_largest_payloads_take_no_more_than_their_size_asks_for(name: str) -> None:
    assert len(HUGE[name]) <= codec.SIZE_LIMIT
    _check_outcome(HUGE[name], b"pump")


FINITE = st.floats(allow_nan=False, allow_infinity=False)


# Raw parts: the shape checker of the tests draws random numbers when a value is made, which a strategy must not.
Parts = tuple[tuple[str, ...], list[int], list[list[int]], list[list[float]]]


@st.composite
def block_parts(draw: st.DrawFn) -> Parts:
    """Tags, times, quality and values of a block of readings."""
    names = st.text("abcÄ°_-/ ", min_size=1, max_size=5).filter(str.strip)
    tags = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    times = draw(st.lists(st.integers(TIME - 10**15, TIME), min_size=1, max_size=6))
    codes = st.lists(st.integers(0, 3), min_size=len(tags), max_size=len(tags))
    quality = draw(st.lists(codes, min_size=len(times), max_size=len(times)))
    values = [[draw(FINITE) if code < BAD else math.nan for code in row] for row in quality]
    return tuple(tags), times, quality, values


@given(block_parts())
def test_what_we_encode_we_decode_to_the_same_block(parts: Parts) -> None:
    tags, times, quality, values = parts
    block = Readings("s/a", tags, np.array(times), np.array(values), np.array(quality, dtype=np.uint8))
    if not block.count:
        assert _reason(codec.encode_readings(block)) == Reason.NO_READINGS
        return
    back = _one(codec.encode_readings(block))
    assert (back.asset, back.tags) == (block.asset, block.tags)
    for name in ("times", "values", "quality"):
        np.testing.assert_array_equal(getattr(back, name), getattr(block, name))


def test_a_batch_cut_into_parts_decodes_to_all_its_rows() -> None:
    rows = 500
    block = Readings(
        "a", ("x",), TIME - np.arange(rows), np.arange(rows)[:, None] / 3, np.zeros((rows, 1), dtype=np.uint8)
    )
    parts = [_one(part) for part in codec.split_readings(block, limit=3000)]
    np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), block.values)
