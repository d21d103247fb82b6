"""Every payload format as its producer really writes it (golden/), chosen by setting, header or shape."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import ConfigurationError, DecodeError
from pipelines import metrics
from pipelines.codec import SIZE_LIMIT
from pipelines.decoding import decode, plain_row
from pipelines.formats import hints, quick
from pipelines.formats.names import Format, known_format
from pipelines.formats.reading import read
from pipelines.ports import Partition, Record
from pipelines.reasons import Reason

GOLDEN = Path(__file__).parent / "golden"
TIME = 1_795_222_923_250_000_000
"""2026-11-21T01:02:03.250Z"""
LIVE = 1_795_280_178_988_000_000
"""When Telegraf's rows were written."""
NOW = LIVE + 60 * SECOND
PUMP = "s1/a1/l1/pump-101"
OTHER = "s1/a1/l1/pump-102"
GOOD, UNCERTAIN, BAD, MISSING = (int(quality) for quality in Quality)
NAN = math.nan

Cells = dict[str, tuple[float, int]]
Rows = list[tuple[str, int, Cells]]
"""Asset, time, and value and quality by tag, of every row."""

MQTT: Cells = {"mode": (NAN, BAD), "on": (1.0, GOOD), "temp": (61.0, GOOD), "vib_de": (2.1, GOOD)}
ROW: Cells = {"vib_de": (2.1, GOOD), "temp": (61.2, GOOD)}
TABLE_ROW: Rows = [(PUMP, TIME, {"temp": (61.2, GOOD)})]
BINARY = (
    ("content-type", b"application/json"),
    ("ce_type", b"com.example.plant.reading"),
    ("ce_source", b"/s1/a1/gateway-7"),
    ("ce_subject", PUMP.encode()),
    ("ce_id", b"9f4c1d52"),
    ("ce_time", b"2026-11-21T01:02:03.250000+00:00"),
    ("ce_specversion", b"1.0"),
)
GOLDENS: dict[str, tuple[Format, Rows]] = {
    "native-row.json": (Format.NATIVE, [(PUMP, TIME, ROW | {"temp": (61.2, UNCERTAIN)})]),
    "native-columns.json": (
        Format.NATIVE,
        [(PUMP, TIME, ROW), (PUMP, TIME + SECOND, {"vib_de": (2.2, GOOD), "temp": (NAN, BAD)})],
    ),
    "native-kepware.json": (
        Format.NATIVE,
        [(PUMP, TIME, {"Channel1.Pump101.vib_de": (2.1, GOOD), "Channel1.Pump101.temp": (NAN, BAD)})],
    ),
    "telegraf-mqtt.json": (Format.TELEGRAF, [(PUMP, LIVE, MQTT)]),
    "telegraf-opcua.json": (
        Format.TELEGRAF,
        [(PUMP, 1_795_280_176_003_000_000, {"vib_de": (2.3000000000000003, GOOD)})],
    ),
    "telegraf-seconds.json": (Format.TELEGRAF, [(PUMP, 1_795_280_175 * SECOND, {"vib_de": (2.2, GOOD)})]),
    "telegraf-batch.json": (
        Format.TELEGRAF,
        [
            (PUMP, LIVE, MQTT),
            (PUMP, 1_795_280_179_002_000_000, {"temp": (61.2, GOOD), "vib_de": (2.6, GOOD)}),
            (OTHER, LIVE, MQTT),
        ],
    ),
    "influx-mqtt.txt": (Format.INFLUX, [(OTHER, LIVE, MQTT)]),
    "influx-opcua.txt": (Format.INFLUX, [(PUMP, 1_795_280_175_125_000_000, {"temp": (61.2, GOOD)})]),
    "opcua-pubsub.json": (
        Format.OPCUA,
        [
            (
                PUMP,
                TIME,
                {
                    "vib_de": (2.1, GOOD),
                    "temp": (61.2, UNCERTAIN),
                    "flow": (NAN, BAD),
                    "hours": (184_467_440_737.0, GOOD),
                },
            )
        ],
    ),
    "opcua-keyframe.json": (Format.OPCUA, [(PUMP, TIME, ROW | {"temp": (61.2, UNCERTAIN)})]),
    "connect-wide.json": (Format.CONNECT, [(PUMP, TIME, {"vib_de": (2.1, GOOD), "temp": (NAN, BAD)})]),
    "debezium-create.json": (Format.CONNECT, TABLE_ROW),
    "debezium-create-no-schema.json": (Format.CONNECT, TABLE_ROW),
    "cloudevents-structured.json": (Format.CLOUDEVENTS, [(PUMP, TIME, ROW)]),
    "cloudevents-binary.json": (Format.CLOUDEVENTS, [(PUMP, TIME, ROW)]),
}


def _golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def _rows(blocks: tuple[Readings, ...]) -> Rows:
    return [
        (
            block.asset,
            int(time),
            {
                tag: (float(block.values[i, j]), int(block.quality[i, j]))
                for j, tag in enumerate(block.tags)
                if block.quality[i, j] != MISSING
            },
        )
        for block in blocks
        for i, time in enumerate(block.times)
    ]


def _decode(value: Any, key: bytes | None = None, **more: Any) -> Rows:
    return _rows(decode(value if isinstance(value, bytes) else json.dumps(value).encode(), key, NOW, **more))


def _refused(value: Any, key: bytes | None = b"pump", **more: Any) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        _decode(value, key, **more)
    assert caught.value.reason in set(Reason)
    return caught.value


# --- golden payloads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["auto", "named"])
@pytest.mark.parametrize("name", GOLDENS)
def test_every_producer_is_understood_by_shape_and_by_name(name: str, chosen: str) -> None:
    named, expected = GOLDENS[name]
    key = PUMP.encode() if "kepware" in name else None
    headers = BINARY if "binary" in name else ()
    found = _decode(_golden(name), key, headers=headers, format=named if chosen == "named" else "auto")
    np.testing.assert_equal(found, expected)


def test_every_golden_file_is_expected_to_become_something() -> None:
    files = {path.name for path in GOLDEN.iterdir()} - {"README.md", "connect-key.json", "debezium-delete.json"}
    assert files == set(GOLDENS)
    assert {named for named, _ in GOLDENS.values()} == set(Format) - {Format.AUTO}


@pytest.mark.parametrize("name", sorted(set(GOLDENS) - {"cloudevents-binary.json"}))
def test_a_payload_of_another_format_than_the_setting_says_is_refused_with_both_named(name: str) -> None:
    named, _ = GOLDENS[name]
    foreign = {Format.OPCUA} if named is Format.TELEGRAF else {Format.TELEGRAF}
    for wanted in foreign:
        error = _refused(_golden(name), format=wanted)
        assert error.reason in (Reason.UNKNOWN_FORMAT, Reason.MALFORMED)
        assert "expected" in str(error)


# --- which format ----------------------------------------------------------------------------------------------------


def test_a_header_counts_more_than_the_shape_and_the_setting_more_than_a_header() -> None:
    value = _golden("native-row.json")
    assert _decode(value, headers=(("Content-Type", b"application/json; charset=utf-8"),))[0][0] == PUMP
    assert _decode(value, headers=(("traceparent", b"00-ab"),))[0][0] == PUMP
    foreign = _refused(value, headers=(("content-type", b"application/vnd.confluent.avro"),))
    assert foreign.reason == Reason.UNKNOWN_FORMAT
    assert "avro" in str(foreign)
    assert _decode(value, headers=(("content-type", b"application/vnd.confluent.avro"),), format="native")[0][0] == PUMP
    uajson = (("content-type", b"application/opcua+uajson"),)
    assert _refused(value, headers=uajson).reason == Reason.UNKNOWN_FORMAT
    assert _decode(_golden("opcua-pubsub.json"), headers=uajson)[0][0] == PUMP
    structured = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    assert _decode(_golden("cloudevents-structured.json"), headers=structured)[0][0] == PUMP
    assert _refused(value, headers=structured).reason == Reason.UNKNOWN_FORMAT


def test_avro_of_a_schema_registry_is_told_what_to_set_instead() -> None:
    assert "JsonConverter" in str(_refused(b"\x00\x00\x00\x00\x07\x0aabcde"))


def test_an_unknown_shape_says_what_came_and_what_was_expected() -> None:
    error = _refused({"temperature": 21.5, "room": "kitchen"})
    assert error.reason == Reason.UNKNOWN_FORMAT
    assert "'temperature', 'room'" in str(error)
    assert "{asset, ts, values: {tag: number}}" in str(error)


def test_a_format_that_nobody_knows_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'telegraf'"):
        known_format("telegraph")


# --- Telegraf and line protocol --------------------------------------------------------------------------------------


def _metric(**more: Any) -> dict[str, Any]:
    return {"name": "m", "tags": {"asset": "a"}, "fields": {"x": 1.5}, "timestamp": TIME // 10**6} | more


def test_the_machine_is_the_label_asset_else_the_key() -> None:
    assert _decode(_metric(), b"k")[0][0] == "a"
    assert _decode(_metric(tags={"host": "edge"}), b"k")[0][0] == "k"
    assert _decode(b"m,host=edge x=1.5 1795222923250000000", b"k")[0][0] == "k"
    assert _refused(_metric(tags={}), None).reason == Reason.NO_ASSET


@pytest.mark.parametrize("unit", [10**9, 10**6, 10**3, 1])
def test_the_unit_of_telegraf_s_time_follows_from_its_size(unit: int) -> None:
    assert _decode(_metric(timestamp=TIME // unit))[0][1] == TIME // unit * unit


def test_whole_seconds_are_taken_counted_and_told_once() -> None:
    hints._desk.said.clear()
    before = metrics.totals().get("plantwatch_payload_hints_total{whole_seconds}", 0)
    with capture_logs() as said:
        for _ in range(3):
            _decode(_metric(timestamp=TIME // SECOND))
    assert [line["log_level"] for line in said] == ["warning"]
    assert "json_timestamp_units" in said[0]["text"]
    assert metrics.totals()["plantwatch_payload_hints_total{whole_seconds}"] == before + 3


def test_a_field_is_a_tag_and_a_field_called_value_is_named_by_the_label_tag_or_the_measurement() -> None:
    assert set(_decode(_metric(fields={"x": 1, "y": 2}))[0][2]) == {"x", "y"}
    assert set(_decode(_metric(fields={"value": 1}))[0][2]) == {"m"}
    assert set(_decode(_metric(fields={"value": 1}, tags={"asset": "a", "tag": "temp"}))[0][2]) == {"temp"}
    assert set(_decode(_metric(fields={"value": 1, "m": 2}))[0][2]) == {"value", "m"}


@pytest.mark.parametrize(
    ("said", "quality"),
    [
        ("The operation succeeded. StatusGood (0x0)", GOOD),
        (
            "Whatever was updating this value has stopped doing so. StatusUncertainLastUsableValue (0x40900000)",
            UNCERTAIN,
        ),
        ("Communications have been lost. StatusBadNoCommunication (0x80310000)", BAD),
        ("uncertain", UNCERTAIN),
    ],
)
def test_the_status_that_telegraf_writes_of_opc_ua_is_the_quality_and_no_tag(said: str, quality: int) -> None:
    for name in ("Quality", "quality"):
        expected = {"x": (1.5 if quality < BAD else NAN, quality)}
        np.testing.assert_equal(_decode(_metric(fields={"x": 1.5, name: said}))[0][2], expected)
        line = f'm,asset=a x=1.5,{name}="{said}" {TIME}'.encode()
        np.testing.assert_equal(_decode(line)[0][2], expected)
    assert set(_decode(_metric(fields={"quality": 98.5}))[0][2]) == {"quality"}


def test_line_protocol_is_read_with_all_its_escapes_and_kinds_of_values() -> None:
    lines = (
        "# a comment\n"
        r"my\ pump\,\ old,asset=s1/a\ b\,c\=d,x\=y=z vib\ de=1.5,count=3i,un=7u,on=t,off=False,"
        r'state="run\"ning, \\ 1=2 ' + "\nnext" + r'",nan=NaN,e=-1.5e-3 1795222923250000000' + "\r\n"
        "\n"
        "m,asset=b x=1 1795222923250\n"
    ).encode()
    np.testing.assert_equal(
        _decode(lines),
        [
            (
                "s1/a b,c=d",
                TIME,
                {
                    "vib de": (1.5, GOOD),
                    "count": (3.0, GOOD),
                    "un": (7.0, GOOD),
                    "on": (1.0, GOOD),
                    "off": (0.0, GOOD),
                    "state": (NAN, BAD),
                    "nan": (NAN, BAD),
                    "e": (-0.0015, GOOD),
                },
            ),
            ("b", TIME, {"x": (1.0, GOOD)}),
        ],
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("m,asset=a x=1", Reason.BAD_TIME),
        ("m,asset=a 1795222923250000000", Reason.MALFORMED),
        ("m,asset=a x=abc 1795222923250000000", Reason.MALFORMED),
        ('m,asset=a x="open 1795222923250000000', Reason.MALFORMED),
        ("m,asset x=1 1795222923250000000", Reason.MALFORMED),
        ("m,asset=a=b x=1 1795222923250000000", Reason.MALFORMED),
        ("m,asset=a x=1,=2 1795222923250000000", Reason.MALFORMED),
        ("m,asset=a x=1 1795222923250000000 7", Reason.MALFORMED),
        ("m,asset=a x=1 99999999999999999999", Reason.MALFORMED),
        (",asset=a x=1 1795222923250000000", Reason.MALFORMED),
        ("m,asset=a x=1_0 1795222923250000000", Reason.MALFORMED),
    ],
)
def test_a_line_that_is_wrong_says_where(line: str, reason: Reason) -> None:
    error = _refused(line.encode())
    assert error.reason == reason
    assert "expected" in str(error)


WORDS = st.text("ab ,=\\ä", min_size=1, max_size=6).filter(lambda word: word.strip() and not word.endswith("\\"))


def _escaped(word: str, also: str = "=") -> str:
    return "".join("\\" + letter if letter in ", " + also else letter for letter in word)


@given(WORDS, st.dictionaries(WORDS, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_what_is_written_as_line_protocol_is_read_back(asset: str, fields: dict[str, float]) -> None:
    body = ",".join(f"{_escaped(name)}={value!r}" for name, value in fields.items())
    found = _decode(f"pump,asset={_escaped(asset)} {body} {TIME}\n".encode())
    assert found == [(asset, TIME, {name: (value, GOOD) for name, value in fields.items()})]


# --- OPC UA ----------------------------------------------------------------------------------------------------------


def _opcua(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"MessageType": "ua-data", "Messages": list(messages)} | more


def test_the_machine_is_the_key_else_the_writer_else_the_publisher() -> None:
    message = {"Timestamp": "2026-11-21T01:02:03.25Z", "Payload": {"x": {"Value": 1.5}}}
    named = message | {"DataSetWriterName": "writer"}
    assert _decode(_opcua(named, PublisherId="publisher"), b"key")[0][0] == "key"
    assert _decode(_opcua(named, PublisherId="publisher"))[0][0] == "writer"
    assert _decode(_opcua(message, PublisherId="publisher"))[0][0] == "publisher"
    assert _refused(_opcua(message), None).reason == Reason.NO_ASSET


def test_headers_of_opc_ua_may_be_left_out_and_values_may_be_bare() -> None:
    message = {"Timestamp": "2026-11-21T01:02:03.25Z", "Payload": {"x": 1.5, "n": "-7", "f": "NaN", "b": True}}
    expected = {"x": (1.5, GOOD), "n": (-7.0, GOOD), "f": (NAN, BAD), "b": (1.0, GOOD)}
    for body in (message, [message], _opcua(message), {"MessageType": "ua-data", "Messages": message}):
        np.testing.assert_equal(_decode(body, b"k"), [("k", TIME, expected)])


def test_values_of_one_message_may_have_times_of_their_own() -> None:
    payload = {
        "x": {"Value": 1.5, "SourceTimestamp": "2026-11-21T01:02:03.25Z"},
        "y": {"Value": 2.5, "SourceTimestamp": "2026-11-21T01:02:04.25Z", "StatusCode": 0x80000000},
    }
    found = _decode(_opcua({"Timestamp": "2026-11-21T01:02:05Z", "Payload": payload}), b"k")
    np.testing.assert_equal(found, [("k", TIME, {"x": (1.5, GOOD)}), ("k", TIME + SECOND, {"y": (NAN, BAD)})])


def test_a_key_frame_says_that_its_values_hold_now() -> None:
    payload = {"x": {"Value": 1.5, "SourceTimestamp": "2026-11-20T11:00:00Z"}}
    message = {"Timestamp": "2026-11-21T01:02:03.25Z", "MessageType": "ua-keyframe", "Payload": payload}
    assert _decode(_opcua(message), b"k")[0][1] == TIME
    assert _decode(_opcua(message | {"MessageType": "ua-deltaframe"}), b"k")[0][1] < TIME


@pytest.mark.parametrize(
    "body",
    [
        {"MessageType": "ua-metadata", "MessageId": "1", "PublisherId": "p", "MetaData": {}},
        _opcua({"MessageType": "ua-keepalive", "Timestamp": "2026-11-21T01:02:03Z"}),
    ],
)
def test_messages_that_hold_no_values_on_purpose_are_skipped(body: Any) -> None:
    assert _refused(body).reason == Reason.TOMBSTONE


# --- Kafka Connect and Debezium --------------------------------------------------------------------------------------


def test_the_key_that_connect_wrote_is_unwrapped() -> None:
    row = {"schema": None, "payload": {"ts": TIME, "temp": 1.5}}
    for key in (
        _golden("connect-key.json"),
        b'"s1/a1/l1/pump-101"',
        PUMP.encode(),
        json.dumps({"schema": {}, "payload": {"asset": PUMP}}).encode(),
        json.dumps({"asset": PUMP}).encode(),
    ):
        assert _decode(row, key) == [(PUMP, TIME, {"temp": (1.5, GOOD)})]
    assert _refused(row, b'{"payload": {"id": 7}}').reason == Reason.NO_ASSET


@pytest.mark.parametrize(
    "value",
    [
        None,
        _golden("debezium-delete.json"),
        b'{"schema": null, "payload": null}',
        b'{"before": {"id": 1}, "after": null, "op": "d"}',
        b'{"before": null, "after": null, "source": {}, "op": "t"}',
        b'{"schema": null, "payload": {"asset": "a", "ts": 1795222923, "temp": 1, "__deleted": "true"}}',
    ],
)
def test_a_delete_is_a_tombstone_and_never_a_reading(value: bytes | None) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(value, b"a", NOW)
    assert caught.value.reason == Reason.TOMBSTONE


def test_an_array_with_a_delete_keeps_all_its_readings() -> None:
    row = {"asset": "a", "ts": TIME, "values": {"x": 1}}
    assert len(_decode([row, {"before": row, "after": None, "op": "d"}])) == 1


def test_a_row_of_a_table_is_its_columns_and_what_debezium_adds_is_no_tag() -> None:
    row = {"id": 7, "asset": "a", "ts": TIME // 1000, "temp": 1.5, "note": "x", "__op": "c", "__deleted": "false"}
    expected = [("a", TIME, {"temp": (1.5, GOOD), "note": (NAN, BAD)})]
    np.testing.assert_equal(_decode({"payload": row}), expected)
    np.testing.assert_equal(_decode(row, format="connect"), expected)
    assert _refused(row).reason == Reason.UNKNOWN_FORMAT
    assert "`ts`" in str(_refused({"payload": {"recorded_at": 1, "temp": 1}}))


def test_an_envelope_may_hold_text_bytes_and_any_other_format() -> None:
    inner = _golden("telegraf-mqtt.json")
    line = _golden("influx-mqtt.txt").decode()
    for body in (
        {"schema": {"type": "string"}, "payload": inner.decode()},
        {"schema": {"type": "bytes"}, "payload": base64.b64encode(inner).decode()},
        {"payload": {"payload": json.loads(inner)}},
    ):
        np.testing.assert_equal(_decode(body), [(PUMP, LIVE, MQTT)])
    np.testing.assert_equal(_decode({"schema": {"type": "string"}, "payload": line}), [(OTHER, LIVE, MQTT)])
    assert _refused({"schema": {"type": "bytes"}, "payload": "no base64!"}).reason == Reason.MALFORMED


def test_envelopes_without_end_are_refused() -> None:
    assert _refused(b'{"payload":' * 200 + b"{}" + b"}" * 200).reason == Reason.TOO_DEEP


# --- CloudEvents -----------------------------------------------------------------------------------------------------


def _event(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/x", "type": "reading"} | more


def test_subject_and_time_of_an_event_stand_in_for_what_its_data_do_not_say() -> None:
    bare = _event(subject="sub", time="2026-11-21T01:02:03.25Z", data={"values": {"x": 1.5}})
    assert _decode(bare) == [("sub", TIME, {"x": (1.5, GOOD)})]
    assert _decode(bare, b"key")[0][0] == "key"
    full = _event(subject="sub", time="2026-11-21T01:02:09Z", data={"asset": "own", "ts": TIME, "values": {"x": 1.5}})
    assert _decode(full, b"key") == [("own", TIME, {"x": (1.5, GOOD)})]


def test_an_event_may_hold_any_other_format_as_object_text_or_base64() -> None:
    inner = _golden("telegraf-mqtt.json")
    line = _golden("influx-mqtt.txt")
    for event in (
        _event(data=json.loads(inner)),
        _event(data=inner.decode(), datacontenttype="application/json"),
        _event(data_base64=base64.b64encode(inner).decode()),
        [_event(data=json.loads(inner))],
    ):
        np.testing.assert_equal(_decode(event), [(PUMP, LIVE, MQTT)])
    np.testing.assert_equal(_decode(_event(data=line.decode())), [(OTHER, LIVE, MQTT)])
    np.testing.assert_equal(_decode(line, headers=(("ce_specversion", b"1.0"),)), [(OTHER, LIVE, MQTT)])


def test_an_event_that_is_wrong_is_refused() -> None:
    assert _refused(_event(specversion="7", data={})).reason == Reason.UNKNOWN_FORMAT
    assert _refused(_event()).reason == Reason.NO_READINGS
    assert _refused(_event(data_base64="!")).reason == Reason.MALFORMED
    assert _refused(b"{}", headers=(("ce_specversion", b"0.3"),)).reason == Reason.UNKNOWN_FORMAT


# --- the short way and the long way ----------------------------------------------------------------------------------

NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.none(), st.just(10**400))
ODD = st.one_of(NUMBERS, st.booleans(), st.text(max_size=3), st.lists(NUMBERS, max_size=2))
TIMES = st.one_of(
    st.sampled_from([TIME, TIME // 10**6, "2026-11-21T01:02:03Z", "2026-11-21T01:02:03.25Z", "2026-W47-6T01:02:03Z"]),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
)


@st.composite
def our_payloads(draw: st.DrawFn) -> dict[str, Any]:
    """Rows and column batches, mostly in order."""
    cell = draw(st.sampled_from([NUMBERS, ODD]))
    count = draw(st.integers(0, 3))
    columns = draw(st.booleans())
    values = st.lists(cell, min_size=count, max_size=draw(st.sampled_from([count, count + 1]))) if columns else cell
    time = st.lists(TIMES, min_size=count, max_size=count) if columns else TIMES
    body = {"ts": draw(time), "values": draw(st.dictionaries(st.text("xyä", max_size=2), values, max_size=3))}
    words = st.sampled_from(["good", "uncertain", "bad", "missing", None, 192])
    said = st.dictionaries(st.sampled_from("xy"), words | st.lists(words, min_size=count, max_size=count), max_size=2)
    optional = {"asset": st.sampled_from(["a", None, ""]), "quality": words | said, "unit": st.just("mm")}
    return body | {name: draw(more) for name, more in optional.items() if draw(st.booleans())}


@given(our_payloads())
def test_the_short_way_reads_what_the_long_way_reads(body: dict[str, Any]) -> None:
    value = json.dumps(body).encode()
    short = quick.read(value, b"k")
    if short is not None:
        [long] = read(value, b"k", (), Format.NATIVE)
        block, newest = short
        assert (block.asset, block.tags, newest) == (long.asset, long.tags, int(long.times.max()))
        for name in ("times", "values", "quality"):
            np.testing.assert_array_equal(getattr(block, name), getattr(long, name))
            assert getattr(block, name).dtype == getattr(long, name).dtype
        assert block.count > 0


@given(our_payloads())
def test_a_plain_row_is_what_the_long_way_reads_to_the_bit(body: dict[str, Any]) -> None:
    record = Record(Partition("plantwatch.readings", 0), 7, b"k", json.dumps(body).encode(), (), 2**62)
    row = plain_row(record)
    if row is not None:
        [long] = read(record.value or b"", b"k", (), Format.NATIVE)
        block = row.rows().readings()
        assert (block.asset, block.tags, row.rows().count) == (long.asset, long.tags, long.count)
        for name in ("times", "values", "quality"):
            one, other = getattr(block, name), getattr(long, name)
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize(
    "value",
    [
        b'{"ts":1795222923,"values":{"x":1,"y":null}}',
        b'{"ts":1795222923,"values":{"x":1e999}}',
        b'{"ts":1795222923,"values":{"x":' + b"9" * 400 + b"}}",
        b'{"ts":1795222923,"values":{"x":NaN}}',
        b'{"ts":1795222923,"values":{"x":"1"}}',
        b'{"ts":1795222923,"values":{"x":true}}',
        b'{"ts":1795222923,"values":{"x":1},"quality":{"x":"bad"}}',
        b'{"ts":1795222923,"values":{"x":1},"q":192}',
        b'{"ts":1795222923,"values":{}}',
        b'{"ts":[1795222923],"values":{"x":[1]}}',
        b'{"ts":"soon","values":{"x":1}}',
        b'{"values":{"x":1}}',
        b"[]",
        b"",
        None,
    ],
)
def test_what_is_odd_in_any_way_is_no_plain_row(value: bytes | None) -> None:
    assert plain_row(Record(Partition("plantwatch.readings", 0), 7, b"k", value, (), 2**62)) is None


def test_a_row_from_the_future_of_another_format_or_too_large_is_no_plain_row() -> None:
    value, home = b'{"asset":"a","ts":1795222923,"values":{"x":1}}', Partition("plantwatch.readings", 0)
    now, mqtt = 1795222923 * 10**9, (("content-type", b"application/vnd.telegraf+json"),)
    assert plain_row(Record(home, 7, None, value, (), now)) is not None
    assert plain_row(Record(home, 7, None, value, (), now - 300 * 10**9)) is not None
    assert plain_row(Record(home, 7, None, value, (), now - 300 * 10**9 - 1)) is None
    assert plain_row(Record(home, 7, None, value, (), now), "telegraf") is None
    assert plain_row(Record(home, 7, None, value + b" " * SIZE_LIMIT, (), now)) is None
    assert plain_row(Record(home, 7, None, value, mqtt, now), "native") is not None
    assert plain_row(Record(home, 7, None, value, (("ce_specversion", b"1.0"),), now)) is None


def test_usual_payloads_go_the_short_way() -> None:
    for name in ("native-columns.json",):
        assert quick.read(_golden(name), None) is not None
    assert quick.read(b'{"asset":"a","ts":"2026-11-21T01:02:03.250Z","values":{"x":1,"y":null}}', None) is not None
    assert quick.read(b'{"ts":1795222923,"values":{"x":1}}', b"k") is not None
