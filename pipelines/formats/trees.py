"""Bytes → JSON tree: strict JSON first, then what gateways write though no standard allows it."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

from anomaly.errors import DecodeError
from pipelines.reasons import Reason

ABSENT: Final = msgspec.UNSET
"""What a payload does not say; `None` is what it says is null."""

_DECODER: Final = msgspec.json.Decoder()
_CONFLUENT_FRAME: Final = b"\x00"
_LONGEST_INTEGER: Final = 400


def parse_tree(value: bytes) -> Any:
    """The JSON value. Raises DecodeError(`malformed` | `encoding` | `too_deep`).

    >>> parse_tree(b'{"x": 1e999}')
    {'x': inf}
    """
    try:
        return _DECODER.decode(value)
    except RecursionError as error:
        raise _too_deep() from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _parse_leniently(value)


def _parse_leniently(value: bytes) -> Any:
    """NaN, Infinity, 1e999, endless integers, a byte order mark."""
    try:
        return json.loads(text_of(value), parse_int=_integer)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise _malformed(value, error) from error


def text_of(value: bytes) -> str:
    """The text, without byte order mark. Raises DecodeError(`encoding`)."""
    try:
        return value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.ENCODING, f"the payload is not UTF-8: {error.reason} at byte {error.start}") from error


def first(tree: dict[str, Any], *names: str) -> Any:
    """What the first of these names that is there says, else `ABSENT`.

    >>> first({"t": 3, "time": None}, "ts", "time", "t") is None
    True
    """
    return next((tree[name] for name in names if name in tree), ABSENT)


def _integer(text: str) -> int | float:
    return int(text) if len(text) < _LONGEST_INTEGER else math.inf


def _too_deep() -> DecodeError:
    return DecodeError(Reason.TOO_DEEP, "the JSON is nested too deep; readings need three levels")


def _malformed(value: bytes, error: ValueError) -> DecodeError:
    if value.startswith(_CONFLUENT_FRAME):
        return DecodeError(
            Reason.MALFORMED,
            "the payload begins with a zero byte, as Avro and Protobuf with a schema registry do; expected JSON "
            "(JsonConverter in Kafka Connect) or line protocol",
        )
    return DecodeError(
        Reason.MALFORMED, f"the payload is neither JSON nor line protocol: {error}; it begins {value[:40]!r}"
    )
