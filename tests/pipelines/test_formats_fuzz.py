"""Whatever comes in any format, or a mixture of them: readings, or a refusal with a known reason, and soon.

Guarantees §3 row 16: NaN, 1e999, duplicate keys, 5 000-digit integers, 100 000-deep arrays, lone surrogates, byte order
marks, a mebibyte.
"""

from __future__ import annotations

import base64
import copy
import json
import time as wall
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import DecodeError
from pipelines.codec import SIZE_LIMIT
from pipelines.decoding import FUTURE_LIMIT, decode
from pipelines.formats.names import Format
from pipelines.reasons import Reason

NOW = 1_795_300_000 * SECOND
GOLDEN = [
    path.read_bytes()
    for path in sorted((Path(__file__).parent / "golden").iterdir())
    if path.suffix in (".json", ".txt")
]
TREES = [json.loads(value) for value in GOLDEN if value[:1] == b"{"]
LINES = [value.decode() for value in GOLDEN if value[:1] != b"{"]
NAMES = sorted(
    {name for tree in TREES for name in (*tree, "asset", "ts", "values", "q", "metrics", "__deleted", "data")}
)
TOKENS = [
    "NaN", "-Infinity", "1e999", "9" * 5000, "0." + "9" * 3000, '"\\ud800"', '"\\udc00\\ud800"', '"\ufeff"', "[" * 3000,
    "{" * 50, '{"ts":1,"ts":2}', '"fields":{}', '"values":', '"payload":null', '"2026-11-21T01:02:03"', "\\", '"', "=",
    ",", " ", "\n", "#", "i", "u", "\x00", "\\u0000", "true", "null", "{}", "[]", "-", str(2**63), str(2**64), "1e5",
]  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        [10**400, "\ud800", "2026-11-21T01:02:03Z", "2026-11-21T01:02:03", 1_795_222_923, 2**63, "1.5", -0.0]
    ),
)
SCRAPS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=6,
)


EDITS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["scrap", "scrap", "part", "drop", "double", "add"]), SCRAPS),
    max_size=4,
)


def _changed(tree: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """The tree with parts of it changed, left out, doubled, swapped for parts of other formats."""
    whole = {"tree": copy.deepcopy(tree)}
    for number, what, scrap in edits:
        holder, place = (found := list(_places(whole)))[number % len(found)]
        if what == "scrap":
            holder[place] = scrap
        elif what == "part":
            holder[place] = copy.deepcopy(TREES[number % len(TREES)])
        elif what == "double":
            holder[place] = [holder[place], holder[place]]
        elif what == "add" and isinstance(holder, dict) and holder is not whole:
            holder[NAMES[number % len(NAMES)]] = scrap
        elif what == "drop" and holder is not whole:
            del holder[place]
    return whole["tree"]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of the tree, outermost first: what holds it, and its name or number there."""
    for place in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, place
        if isinstance(tree[place], (dict, list)):
            yield from _places(tree[place])


def _wrapped(tree: Any, layer: int) -> Any:
    text = json.dumps(tree, default=str)
    return [
        tree,
        {"schema": None, "payload": tree},
        {"before": None, "after": tree, "op": "u", "source": {}},
        {"specversion": "1.0", "id": "1", "source": "/", "type": "t", "subject": "s", "data": tree},
        {"specversion": "1.0", "data_base64": base64.b64encode(text.encode()).decode()},
        {"schema": {"type": "string"}, "payload": text},
        {"metrics": [tree, tree]},
        {"MessageType": "ua-data", "Messages": [tree]},
        [tree, tree],
    ][layer]


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """From a format as it should be to noise: trees changed and wrapped, then text cut and spoilt, then bytes."""
    if draw(st.integers(0, 3)) == 0:
        text = "".join(draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=3)))
    else:
        tree = _changed(draw(st.sampled_from(TREES)), draw(EDITS))
        for layer in draw(st.lists(st.integers(0, 8), max_size=3)):
            tree = _wrapped(tree, layer)
        text = json.dumps(tree, ensure_ascii=draw(st.booleans()), default=str)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(TOKENS)) + text[at + draw(st.integers(0, 3)) :]
    value = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\x00", b"\n"])) + text.encode("utf-8", "surrogatepass")
    return draw(st.binary(max_size=60)) if draw(st.integers(0, 30)) == 0 else value


KEYS = st.sampled_from([None, b"", b"pump", b"\xff", b'"pump"', b'{"payload":{"asset":"p"}}', b"{" * 2000])
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_specversion", "ce_subject", "ce_time", "Content-Type", "content-type", "x", "CE_ID"]),
        st.sampled_from([
            b"1.0", b"0.3", b"", b"\xff", b"application/cloudevents+json", b"application/json", b"avro",
            b"application/opcua+uajson", b"2026-11-21T01:02:03Z", b"pump",
        ]),
    ),
    max_size=3,
)  # fmt: skip
FORMATS = st.sampled_from([Format.AUTO, Format.AUTO, Format.AUTO, *Format])
RECORDS: Any = (payloads(), KEYS, st.one_of(st.just([]), HEADERS), FORMATS)


def _check(
    value: bytes, key: bytes | None, headers: list[tuple[str, bytes]], wanted: str, limit_s: float = 2.0
) -> None:
    begin = wall.thread_time()
    try:
        blocks = decode(value, key, NOW, tuple(headers), wanted)
    except DecodeError as error:
        assert error.reason in set(Reason)  # noqa: PT017  # either outcome is right; both are checked
        str(error).encode()
    else:
        assert blocks
        for block in blocks:
            _check_block(block)
    assert wall.thread_time() - begin < limit_s


def _check_block(block: Readings) -> None:
    shape = (len(block.times), len(block.tags))
    assert block.values.shape == block.quality.shape == shape
    assert [a.dtype.name for a in (block.times, block.values, block.quality)] == ["int64", "float64", "uint8"]
    assert block.count > 0
    assert np.array_equal(np.isfinite(block.values), block.quality < Quality.BAD)
    assert block.times.max() <= NOW + FUTURE_LIMIT
    assert len(set(block.tags)) == len(block.tags)
    assert all(type(name) is str and name.isprintable() and name for name in (block.asset, *block.tags))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(*RECORDS)
def test_every_record_is_readings_or_a_reason(
    value: bytes, key: bytes | None, headers: list[tuple[str, bytes]], wanted: str
) -> None:
    _check(value, key, headers, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", list(Format))
def test_ten_thousand_records_are_readings_or_a_reason(wanted: Format) -> None:
    @settings(max_examples=1_500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(*RECORDS[:3])
    def run(value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        _check(value, key, headers, wanted)

    run()


def _filled(head: bytes, part: Callable[[int], bytes], tail: bytes) -> bytes:
    """As many parts as a mebibyte holds."""
    parts, size = [], len(head) + len(tail)
    for number in range(SIZE_LIMIT):
        parts.append(part(number))
        size += len(parts[-1])
        if size > SIZE_LIMIT:
            return head + b"".join(parts[:-1]) + tail
    raise AssertionError("a part of no bytes")


HUGE = {
    "telegraf fields": _filled(b'{"timestamp":1795222923000,"fields":{"z":1', lambda n: b',"%d":1' % n, b"}}"),
    "telegraf metrics": _filled(
        b'{"metrics":[{"fields":{},"timestamp":1}',
        lambda n: b',{"name":"m","fields":{"%d":1},"timestamp":%d}' % (n % 9999, n),
        b"]}",
    ),
    "empty metrics": _filled(
        b'{"metrics":[', lambda n: b'{"timestamp":1,"fields":{}},', b'{"timestamp":1,"fields":{}}]}'
    ),
    "short lines": _filled(b"", lambda n: b"m x=1 %d\n" % n, b""),
    "lines of other tags": _filled(b"", lambda n: b"m t%d=1 %d\n" % (n % 9999, n), b""),
    "escaped lines": _filled(b"", lambda n: b'm\\ ,a=b x="\\"" %d\n' % n, b""),
    "one line": _filled(b"m a=1", lambda n: b",f%d=1" % n, b" 1795222923000"),
    "blanks before a line": b" " * 1_000_000 + b"m x=1 1795222923000",
    "a text without end": b'm x="' + b"\\\\" * 500_000,
    "escapes without end": b"m" + b"\\," * 500_000 + b" x=1",
    "comments": _filled(b"m x=1 1795222923000\n", lambda n: b"#=\n", b""),
    "opc ua payload": _filled(
        b'{"Timestamp":1795222923000,"Payload":{"z":1', lambda n: b',"%d":{"Value":1}' % n, b"}}"
    ),
    "opc ua times": _filled(
        b'{"Payload":{"z":{"Value":1,"SourceTimestamp":1}',
        lambda n: b',"%d":{"Value":1,"SourceTimestamp":%d}' % (n, n),
        b"}}",
    ),
    "opc ua messages": _filled(
        b'{"Messages":[{"MessageType":"ua-keepalive"}', lambda n: b',{"Timestamp":%d,"Payload":{"x":1}}' % n, b"]}"
    ),
    "events": _filled(
        b"[", lambda n: b'{"specversion":"1.0","data":{"v":1,"id":"x","t":1}},', b'{"specversion":"1.0","data":[]}]'
    ),
    "text in text": b'{"payload":"' + b"\\\\" * 500_000 + b'"}',
    "base64": b'{"specversion":"1.0","data_base64":"' + b"QUFB" * 250_000 + b'"}',
    "rows of a table": _filled(b'{"payload":{"ts":1', lambda n: b',"c%d":1' % n, b"}}"),
    "envelopes": b'{"payload":' * 90_000,
    "arrays": b'{"fields":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "digits": b'{"name":"m","fields":{"x":1},"timestamp":' + b"9" * 1_000_000 + b"}",
    "digits in a line": b"m x=" + b"9" * 1_000_000 + b" 1795222923000",
    "a key": b'{"payload":{"ts":1,"x":1}}',
}


@pytest.mark.parametrize("name", HUGE)
def test_the_largest_payloads_of_every_format_are_read_or_refused_soon(name: str) -> None:
    assert len(HUGE[name]) <= SIZE_LIMIT
    key = b'{"payload":' * 90_000 if name == "a key" else b"pump"
    _check(HUGE[name], key, [], Format.AUTO, limit_s=4.0)
