"""Payloads of the readings topic → readings, or a DecodeError whose reason is one of `Reason` (guarantee G6).

Shapes (formats.md §1): a native row, a native column batch, a narrow reading (aliases `tagname id`, `timestamp time t`,
`v`, `q`), Kepware's `{"timestamp", "values": [{"id", "v", "q", "t"}]}`, and a JSON array of rows or narrow readings.
What is no finite number (null, NaN, 1e999, text) is a reading of bad quality. A key that comes twice: the last counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from jaxtyping import Float
from msgspec import UNSET

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import DecodeError
from pipelines.blocks import Item, blocks
from pipelines.codec import SIZE_LIMIT
from pipelines.qualities import parse_quality
from pipelines.reasons import Reason
from pipelines.times import iso, parse_time, parse_times

TAG_LIMIT: Final = 10_000
NAME_LIMIT: Final = 256
"""Longest name of an asset or tag, characters."""
FUTURE_LIMIT: Final = 300 * SECOND
"""A reading may be dated so far after its append time, ns."""


class _Envelope(msgspec.Struct):
    """Every name we know; what a payload does not have is UNSET. Other names are skipped without being built."""

    asset: Any = UNSET
    tag: Any = UNSET
    tagname: Any = UNSET
    id: Any = UNSET
    ts: Any = UNSET
    timestamp: Any = UNSET
    time: Any = UNSET
    t: Any = UNSET
    value: Any = UNSET
    v: Any = UNSET
    values: Any = UNSET
    quality: Any = UNSET
    q: Any = UNSET


_DECODER: Final = msgspec.json.Decoder(_Envelope | list[_Envelope])
_MISSING: Final = int(Quality.MISSING)
_BAD: Final = int(Quality.BAD)
_NUMBERS: Final = frozenset({float, int, bool})
_PLAIN: Final = frozenset({float, int, type(None)})


def decode(value: bytes | None, key: bytes | None, append_time: int) -> tuple[Readings, ...]:
    """The readings of one record, in the order they came; never none. Raises DecodeError(reason in `Reason`), no other.

    `key` names the asset where the payload does not. `append_time` (ns) is the log's clock: a reading dated more than
    five minutes after it refuses the whole payload, because one clock that is wrong must not move a watermark.
    """
    payload = _parse(_sized(value))
    if isinstance(payload, list):
        found = blocks(_bounded(_items(payload, key)))
    elif isinstance(_time(payload), list):
        found = [_columns(payload, key)]
    elif isinstance(payload.values, dict):
        found = [_row(payload, key)]
    else:
        found = blocks(_bounded(_items([payload], key)))
    found = [block for block in found if block.count]
    if not found:
        raise DecodeError(Reason.NO_READINGS, "the payload is in order, but holds no reading")
    _refuse_future(found, append_time)
    return tuple(found)


def _sized(value: bytes | None) -> bytes:
    if value is None:
        raise DecodeError(Reason.TOMBSTONE, "the record has no value (a tombstone); readings are never deleted")
    if len(value) > SIZE_LIMIT:
        raise DecodeError(
            Reason.OVERSIZE, f"{len(value)} bytes came, at most {SIZE_LIMIT} are taken; send smaller batches"
        )
    if not value.strip():
        raise DecodeError(Reason.EMPTY, "the payload is empty; expected a JSON object")
    return value


def _parse(value: bytes) -> _Envelope | list[_Envelope]:
    try:
        payload: _Envelope | list[_Envelope] = _DECODER.decode(value)
    except RecursionError as error:
        raise DecodeError(Reason.TOO_DEEP, "the JSON is nested too deep; readings need three levels") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _parse_leniently(value)
    return payload


def _parse_leniently(value: bytes) -> _Envelope | list[_Envelope]:
    """What strict JSON refuses, but gateways write: NaN, Infinity, 1e999, endless integers, a byte order mark."""
    try:
        tree = json.loads(value.decode("utf-8-sig"), parse_int=_integer)
        return msgspec.convert(tree, _Envelope | list[_Envelope])
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.ENCODING, f"the payload is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise DecodeError(Reason.TOO_DEEP, "the JSON is nested too deep; readings need three levels") from error
    except msgspec.ValidationError as error:
        raise _unknown_format() from error
    except ValueError as error:
        raise DecodeError(Reason.MALFORMED, f"the payload is not JSON: {error}; it begins {value[:40]!r}") from error


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 400 else math.inf


def _unknown_format() -> DecodeError:
    return DecodeError(
        Reason.UNKNOWN_FORMAT,
        "the payload has no shape we know; expected {asset, ts, values: {tag: number}}, the same with arrays, "
        "or {asset, tag, ts, value}",
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not UNSET), UNSET)


def _time(payload: _Envelope) -> Any:
    return _first(payload.ts, payload.timestamp, payload.time, payload.t)


def _required_time(payload: _Envelope) -> Any:
    time = _time(payload)
    if time is UNSET:
        raise DecodeError(
            Reason.BAD_TIME, "the payload has no time; expected `ts` in ISO-8601 with a zone, or a number"
        )
    return time


def _asset(payload: _Envelope, key: bytes | None) -> str:
    if payload.asset is not UNSET and payload.asset is not None:
        return _name(payload.asset, "asset")
    if not key:
        raise DecodeError(Reason.NO_ASSET, "neither the payload nor the record's key names an asset; set one of them")
    try:
        return _name(key.decode(), "asset")
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.BAD_NAME, f"the record's key {key[:40]!r} is not UTF-8 text") from error


def _name(name: Any, what: str) -> str:
    """The name, if people can read it: printable text (which a lone surrogate is not) of 1 to 256 characters."""
    if type(name) is str and 0 < len(name) <= NAME_LIMIT and name.isprintable() and not name.isspace():
        return name
    shown = ascii(name[: NAME_LIMIT + 1] if isinstance(name, str) else type(name).__name__)[:80]
    raise DecodeError(Reason.BAD_NAME, f"{shown} cannot name a {what}; expected 1 to {NAME_LIMIT} printable characters")


def _tags(values: Any) -> tuple[str, ...]:
    if not isinstance(values, dict):
        raise _unknown_format()
    if len(values) > TAG_LIMIT:
        raise _too_many(len(values))
    return tuple(_name(tag, "tag") for tag in values)


def _too_many(count: int) -> DecodeError:
    return DecodeError(Reason.TOO_MANY_TAGS, f"{count} tags came in one payload, at most {TAG_LIMIT} are taken")


def _number(value: Any) -> float:
    """The value, or NaN if it is no finite number. true and false are 1 and 0."""
    if type(value) not in _NUMBERS:
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _cells(payload: _Envelope) -> list[tuple[str, float, int]]:
    """Tag, value and quality of each value of a native row."""
    tags = _tags(payload.values)
    said = _first(payload.quality, payload.q)
    codes = said if isinstance(said, dict) else {} if said is UNSET else dict.fromkeys(tags, said)
    return [(tag, *_judged(_number(payload.values[tag]), codes.get(tag))) for tag in tags]


def _judged(number: float, code: Any) -> tuple[float, int]:
    """No finite number ⇒ bad, unless no reading came; bad or missing ⇒ NaN."""
    quality = int(parse_quality(code))
    if math.isnan(number) and quality != _MISSING:
        quality = _BAD
    return (math.nan if quality >= _BAD else number), quality


def _row(payload: _Envelope, key: bytes | None) -> Readings:
    cells, time = _cells(payload), parse_time(_required_time(payload))
    return Readings(
        _asset(payload, key),
        tuple(tag for tag, _, _ in cells),
        np.array([time], dtype=np.int64),
        np.array([[value for _, value, _ in cells]]),
        np.array([[quality for _, _, quality in cells]], dtype=np.uint8),
    )


def _columns(payload: _Envelope, key: bytes | None) -> Readings:
    tags = _tags(payload.values)
    times = parse_times(_time(payload))
    values = np.empty((len(times), len(tags)))
    quality = np.zeros((len(times), len(tags)), dtype=np.uint8)
    said = _first(payload.quality, payload.q)
    for i, tag in enumerate(tags):
        values[:, i] = _column(_long(payload.values[tag], len(times), f"values of {tag!r}"))
        codes = said.get(tag) if isinstance(said, dict) else None if said is UNSET else said
        if isinstance(codes, list):
            quality[:, i] = [parse_quality(code) for code in _long(codes, len(times), f"quality of {tag!r}")]
        elif codes is not None:
            quality[:, i] = parse_quality(codes)
    quality[~np.isfinite(values) & (quality != _MISSING)] = _BAD
    values[quality >= _BAD] = np.nan
    return Readings(_asset(payload, key), tags, times, values, quality)


def _long(column: Any, rows: int, what: str) -> list[Any]:
    if isinstance(column, list) and len(column) == rows:
        return column
    came = f"{len(column)} entries" if isinstance(column, list) else f"a {type(column).__name__}"
    raise DecodeError(Reason.LENGTH_MISMATCH, f"{what}: {came} came, but `ts` has {rows} times; they must match")


def _column(column: list[Any]) -> Float[np.ndarray, " row"]:
    if set(map(type, column)) <= _PLAIN:
        try:
            return np.array(column, dtype=np.float64)
        except OverflowError:
            pass
    return np.array([_number(value) for value in column], dtype=np.float64)


def _items(payloads: Sequence[_Envelope], key: bytes | None) -> Iterator[Item]:
    for payload in payloads:
        if isinstance(payload.values, list):
            yield from _kepware(payload, key)
        elif isinstance(payload.values, dict) and not isinstance(_time(payload), list):
            asset, time = _asset(payload, key), parse_time(_required_time(payload))
            yield from (Item(asset, time, *cell) for cell in _cells(payload))
        else:
            yield _narrow(payload, _asset(payload, key), _required_time(payload))


def _kepware(payload: _Envelope, key: bytes | None) -> Iterator[Item]:
    asset = _asset(payload, key)
    try:
        parts = msgspec.convert(payload.values, list[_Envelope])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _unknown_format() from error
    for part in parts:
        time = _time(part)
        yield _narrow(part, asset, _required_time(payload) if time is UNSET else time)


def _narrow(payload: _Envelope, asset: str, time: Any) -> Item:
    tag = _first(payload.tag, payload.tagname, payload.id)
    value = _first(payload.value, payload.v)
    if tag is UNSET or value is UNSET:
        raise _unknown_format()
    said = _first(payload.quality, payload.q)
    number, quality = _judged(_number(value), None if said is UNSET else said)
    return Item(asset, parse_time(time), _name(tag, "tag"), number, quality)


def _bounded(items: Iterable[Item]) -> list[Item]:
    """All items, if they name no more tags than are taken."""
    found = list(items)
    tags = len({item.tag for item in found})
    if tags > TAG_LIMIT:
        raise _too_many(tags)
    return found


def _refuse_future(blocks: Sequence[Readings], append_time: int) -> None:
    newest = max(int(block.times.max()) for block in blocks)
    if newest > append_time + FUTURE_LIMIT:
        raise DecodeError(
            Reason.FUTURE_DATED,
            f"a reading is dated {iso(newest)}, but it came at {iso(append_time)}; set the device's clock",
        )
