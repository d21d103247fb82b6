"""Which format a record has: what the topic is set to, else what its headers say, else its shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.formats import cloudevents, connect, line_protocol, native, opcua, telegraf
from pipelines.formats.names import Format
from pipelines.formats.trees import parse_tree
from pipelines.reasons import Reason

Headers = Iterable[tuple[str, bytes]]

_EXPECTED: Final[Mapping[Format, str]] = {
    Format.NATIVE: native.EXPECTED,
    Format.TELEGRAF: telegraf.EXPECTED,
    Format.INFLUX: line_protocol.EXPECTED,
    Format.OPCUA: opcua.EXPECTED,
    Format.CONNECT: connect.EXPECTED,
    Format.CLOUDEVENTS: cloudevents.EXPECTED,
}
_CONTENT_TYPE: Final = ("content-type", "contenttype", "ce_datacontenttype")
_TELLING: Final = re.compile(r"ce_|content-?type", re.IGNORECASE).match
_FOREIGN: Final = ("avro", "protobuf", "cbor", "msgpack", "xml", "parquet", "uadp")
_BY_TYPE: Final = {
    cloudevents.STRUCTURED: Format.CLOUDEVENTS,
    "application/cloudevents-batch+json": Format.CLOUDEVENTS,
    "application/opcua+uajson": Format.OPCUA,
    "application/vnd.influxdb.line-protocol": Format.INFLUX,
}


def say_nothing(headers: Headers) -> bool:
    """Whether no header tells a format (tracing and the like do not)."""
    return not any(_TELLING(name) for name, _ in headers)


def by_headers(headers: Mapping[str, bytes]) -> Format | None:
    """The format that headers (by lower-case name) name, or None. Raises DecodeError: one that we do not read."""
    if any(name.startswith(cloudevents.BINARY) for name in headers):
        return Format.CLOUDEVENTS
    kind = content_type(headers)
    if any(foreign in kind for foreign in _FOREIGN):
        raise DecodeError(
            Reason.UNKNOWN_FORMAT,
            f"content type {kind[:80]!r} came; expected JSON or line protocol (in Kafka Connect: JsonConverter)",
        )
    return _BY_TYPE.get(kind)


def content_type(headers: Mapping[str, bytes]) -> str:
    """Of the value, lower case, without parameters; empty if no header says it."""
    said = next((headers[name] for name in _CONTENT_TYPE if name in headers), b"")
    return said.decode("utf-8", "replace").split(";")[0].strip().lower()


def by_lower_name(headers: Headers) -> dict[str, bytes]:
    """Headers as a table; of a name that comes twice the last counts, as Kafka's own clients have it."""
    return {name.lower(): value or b"" for name, value in headers}


def format_of(value: bytes, headers: Headers, wanted: Format) -> Format | None:
    """The format of a payload that is in order, envelope first; None if none is known. Raises DecodeError."""
    if wanted is not Format.AUTO:
        return wanted
    said = by_headers(by_lower_name(headers))
    if said is not None or line_protocol.looks_like_lines(value):
        return said or Format.INFLUX
    tree = parse_tree(value)
    first = tree[0] if isinstance(tree, list) and tree else tree
    return by_shape(first) if isinstance(first, dict) else None


def by_shape(tree: dict[str, Any]) -> Format | None:
    """The format that a JSON object has, or None."""
    if cloudevents.is_event(tree):
        return Format.CLOUDEVENTS
    if native.is_native(tree):
        return Format.NATIVE
    if opcua.is_opcua(tree):
        return Format.OPCUA
    if telegraf.is_telegraf(tree):
        return Format.TELEGRAF
    return Format.CONNECT if connect.is_envelope(tree) else None


def unknown(tree: Any, wanted: Format = Format.AUTO) -> DecodeError:
    """Refusal of a shape that nobody reads, or that is not the format wanted: what came, what was expected."""
    if isinstance(tree, dict):
        names = ", ".join(ascii(name)[:40] for name in list(tree)[:8])
        came = f"an object with the names {names}" if names else "an empty object"
    elif isinstance(tree, bytes):
        came = f"text such as {tree[:40]!r}"
    else:
        came = f"a {type(tree).__name__}" if tree is not None else "null"
    if wanted is Format.AUTO:
        expected = "one of the formats of docs/formats.md, such as " + native.EXPECTED
    else:
        expected = f"{wanted}, as readings_format says: {_EXPECTED[wanted]}"
    return DecodeError(Reason.UNKNOWN_FORMAT, f"the payload is {came}; expected {expected}")
