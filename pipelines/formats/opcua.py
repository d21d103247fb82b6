"""OPC UA PubSub with JSON encoding (format 6): OPC 10000-14 §7.2.5 for the messages, 10000-6 §5.4 for the values.

{"MessageType": "ua-data", "Messages": [{"Timestamp", "DataSetWriterName", "Payload": {tag: field}}]}

The header may be left out (a data set message alone, or an array of them), and one message may stand without its
array. A field is a DataValue (`Value`, `SourceTimestamp`, `StatusCode`), a Variant (`Type`, `Body`) or the bare value.
The machine is the record's key, else the name of the data set's writer, else the publisher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

from anomaly.domain import Quality
from anomaly.errors import DecodeError
from pipelines.formats.cells import number, settled
from pipelines.formats.context import Context
from pipelines.formats.naming import tag_names
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT, first
from pipelines.qualities import parse_quality, parse_status
from pipelines.reasons import Reason

EXPECTED: Final = (
    '{MessageType: "ua-data", Messages: [{Timestamp, Payload: {tag: {Value, SourceTimestamp, StatusCode}}}]}'
)
_KEY_FRAME: Final = "ua-keyframe"
_DATA_VALUE: Final = frozenset({"Value", "SourceTimestamp", "StatusCode", "ServerTimestamp", "Status"})


class _Field(NamedTuple):
    """One value of a payload. `time`: as written, or `ABSENT`."""

    tag: str
    value: float
    quality: int
    time: Any


def is_opcua(tree: dict[str, Any]) -> bool:
    """Whether this is a network message or a data set message, right or not."""
    return "Messages" in tree or "Payload" in tree or str(tree.get("MessageType", "")).startswith("ua-")


def rows(tree: dict[str, Any], context: Context) -> Iterator[Row]:
    """One row a time of each data set message. Raises DecodeError(`tombstone`): metadata, a keep-alive."""
    messages = tree.get("Messages", [tree])
    publisher = tree.get("PublisherId", ABSENT)
    idle = True
    for message in messages if isinstance(messages, list) else [messages]:
        if not isinstance(message, dict):
            raise _unknown()
        if "Payload" not in message:
            continue
        idle = False
        named = message.get("DataSetWriterName", publisher)
        yield from _message(message, replace(context, asset=named if context.asset is ABSENT else context.asset))
    if idle:
        raise DecodeError(Reason.TOMBSTONE, "a message of metadata, or one that only says that its sender lives")


def _message(message: dict[str, Any], context: Context) -> Iterator[Row]:
    payload = message["Payload"]
    if not isinstance(payload, dict):
        raise _unknown()
    tag_names(payload)
    worst = int(_status(message["Status"])) if "Status" in message else 0
    common = message.get("Timestamp", ABSENT)
    times: dict[int, list[_Field]] = {}
    for tag, said in payload.items():
        field = _field(tag, said, worst)
        own = ABSENT if message.get("MessageType") == _KEY_FRAME and common is not ABSENT else field.time
        times.setdefault(context.time_of(common if own is ABSENT else own), []).append(field)
    asset = context.asset_of() if times else ""
    for time, fields in times.items():
        yield Row(asset, time, tuple(f.tag for f in fields), [f.value for f in fields], [f.quality for f in fields])


def _field(tag: str, said: Any, worst: int) -> _Field:
    value, quality, time = said, worst, ABSENT
    if isinstance(said, dict) and _DATA_VALUE & said.keys():
        value, time = said.get("Value"), first(said, "SourceTimestamp", "ServerTimestamp")
        quality = max(worst, int(_status(first(said, "StatusCode", "Status"))))
    if isinstance(value, dict):  # a Variant, of an encoding that can be turned back
        value = value.get("Body", value.get("Value"))
    found, quality = settled(number(_unquoted(value)), quality)
    return _Field(tag, found, quality, time)


def _unquoted(value: Any) -> Any:
    """Integers of 64 bits are text in OPC UA's JSON (10000-6 §5.4.2.3)."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    return value


def _status(said: Any) -> Quality:
    """A StatusCode: nothing said is good; a number, `{"Code", "Symbol"}`, or the symbol.

    >>> _status({"Code": 2147549184, "Symbol": "Bad"}).name, _status(0).name, _status("UncertainSubNormal").name
    ('BAD', 'GOOD', 'UNCERTAIN')
    """
    if isinstance(said, dict):
        said = first(said, "Code", "Symbol")
    if said is ABSENT or said is None:
        return Quality.GOOD
    return parse_status(said) if type(said) is int else parse_quality(said)


def _unknown() -> DecodeError:
    return DecodeError(Reason.UNKNOWN_FORMAT, f"the payload is not OPC UA PubSub's JSON; expected {EXPECTED}")
