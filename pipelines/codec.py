"""Our own values as bytes on the log, and back. Payloads of others are read by `decoding`.

All are UTF-8 JSON, NaN (and ±Inf) being `null`, except blocks of scores (`score_codec`), which are too many for that.
The bytes are a pure function of the values, so that a replay writes the same (guarantee G2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np

from anomaly.domain import Quality, Readings, Rung
from anomaly.errors import DecodeError
from pipelines.ports import AlertEvent
from pipelines.reasons import Reason
from pipelines.score_codec import CONTENT_TYPE, SCORE_DIGITS, decode_scores, encode_scores

__all__ = [
    "CONTENT_TYPE",
    "SCORE_DIGITS",
    "SIZE_LIMIT",
    "Command",
    "CommandKind",
    "Serving",
    "decode_command",
    "decode_event",
    "decode_scores",
    "decode_serving",
    "encode_command",
    "encode_event",
    "encode_readings",
    "encode_scores",
    "encode_serving",
    "split_readings",
]

SIZE_LIMIT: Final = 1 << 20
"""Largest payload, bytes: brokers refuse more by default."""

QUALITY_LETTERS: Final = {Quality.GOOD: "g", Quality.UNCERTAIN: "u", Quality.BAD: "b", Quality.MISSING: "m"}
_LETTERS: Final = np.array([QUALITY_LETTERS[quality] for quality in Quality], dtype=object)
_ORDERED: Final = msgspec.json.Encoder()
_DETERMINISTIC: Final = msgspec.json.Encoder(order="deterministic")


class CommandKind(StrEnum):
    """What a person may ask for."""

    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    CLOSE = "close"
    COMMENT = "comment"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETRAIN = "retrain"


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked for; the commands topic is the audit trail. `time`: when it was asked, ns.

    `target`: alert id, or group for promote, rollback and retrain. `arguments` hold what one kind alone needs (such as
    `until` of shelve), as text.
    """

    id: str
    kind: CommandKind
    target: str
    asset: str
    actor: str
    role: str
    time: int
    note: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Serving:
    """From event time `since` (ns) on, windows of `group` are scored by `version` (guarantee G8)."""

    group: str
    version: str
    since: int
    rung: Rung
    actor: str = ""
    reason: str = ""


_COMMAND: Final = msgspec.json.Decoder(Command)
_SERVING: Final = msgspec.json.Decoder(Serving)


def encode_readings(readings: Readings) -> bytes:
    """A native column batch (format 2), values exact. `decoding.decode` gives back an equal block.

    The quality of a column is written only where it does not follow from the value (number: good, null: bad). The
    result may be over `SIZE_LIMIT`: `split_readings` keeps below it.
    """
    plain = np.where(np.isfinite(readings.values), Quality.GOOD, Quality.BAD)
    odd = np.flatnonzero((plain != readings.quality).any(axis=0))
    columns = {tag: readings.values[:, i].tolist() for i, tag in enumerate(readings.tags)}
    quality = {readings.tags[i]: _LETTERS[readings.quality[:, i]].tolist() for i in odd}
    body = {"asset": readings.asset, "ts": readings.times.tolist(), "values": columns}
    return _ORDERED.encode(body | {"quality": quality} if quality else body)


def split_readings(readings: Readings, limit: int = SIZE_LIMIT) -> list[bytes]:
    """Column batches in row order, each at most `limit` bytes (a single row may be longer)."""
    if not len(readings):
        return []
    encoded = encode_readings(readings)
    if len(encoded) <= limit or len(readings) == 1:
        return [encoded]
    middle = len(readings) // 2
    halves = (_rows(readings, slice(None, middle)), _rows(readings, slice(middle, None)))
    return [part for half in halves for part in split_readings(half, limit)]


def _rows(readings: Readings, rows: slice) -> Readings:
    return Readings(readings.asset, readings.tags, readings.times[rows], readings.values[rows], readings.quality[rows])


def encode_event(event: AlertEvent) -> bytes:
    """An alert's transition, with the whole alert after it."""
    return _DETERMINISTIC.encode(event)


def decode_event(value: bytes) -> AlertEvent:
    """Raises DecodeError("malformed")."""
    try:
        body = msgspec.json.decode(value)
        anomaly, expected = body["alert"]["anomaly"], body["alert"].get("expected", {})
        anomaly["peak"] = _number(anomaly["peak"])
        body["alert"]["expected"] = {
            tag: (_number(actual), _number(wanted)) for tag, (actual, wanted) in expected.items()
        }
        return msgspec.convert(body, AlertEvent)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _malformed("an alert event", value, error) from error


def _number(value: Any) -> Any:
    return float("nan") if value is None else value


def encode_command(command: Command) -> bytes:
    """What a person asked for."""
    return _DETERMINISTIC.encode(command)


def decode_command(value: bytes) -> Command:
    """Raises DecodeError("malformed")."""
    command: Command = _decode(_COMMAND, value, "a command")
    return command


def encode_serving(serving: Serving) -> bytes:
    """Which version serves a group from when on."""
    return _DETERMINISTIC.encode(serving)


def decode_serving(value: bytes) -> Serving:
    """Raises DecodeError("malformed")."""
    serving: Serving = _decode(_SERVING, value, "a serving record")
    return serving


def _decode(decoder: msgspec.json.Decoder[Any], value: bytes, what: str) -> Any:
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(what, value, error) from error


def _malformed(what: str, value: bytes, error: Exception) -> DecodeError:
    return DecodeError(Reason.MALFORMED, f"expected {what}, got {value[:80]!r}… ({len(value)} bytes): {error}")
