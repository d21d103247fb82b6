"""Blocks of scores as bytes on the log, and back: the one payload that every judged row goes through three times.

A message is MessagePack: names as text, columns as raw little-endian arrays in row order, so that a reader copies bytes
instead of parsing digits. One row of `numbers` holds score, coverage and isolated, then contributions, expected and
actual of every tag. The bytes are a pure function of the values: numbers are rounded to fixed significant digits and
every NaN is the same NaN (guarantee G2). Bytes that begin with `{` are the JSON that earlier versions wrote
(docs/adr/0009-scores-as-arrays.md).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from jaxtyping import Float, Int64

from anomaly.domain import Rung, Scores, State
from anomaly.errors import DecodeError
from anomaly.rounding import significant
from pipelines.reasons import Reason

CONTENT_TYPE: Final = b"application/vnd.plantwatch.scores+msgpack"
SCORE_DIGITS: Final = 6
ACTUAL_DIGITS: Final = 9
"""Significant digits of what a sensor said; a model's own numbers have `SCORE_DIGITS`."""
MESSAGE_BYTES: Final = 900_000
"""A longer block is cut into several messages: brokers refuse more than 1 MB by default."""

_STATES: Final = tuple(State)
_CODES: Final = {state: code for code, state in enumerate(_STATES)}
_SINGLE: Final = 3
"""Numbers of a row that are not per tag."""


class _Wire(msgspec.Struct):
    """One asset's block. `faults`: a byte a tag and row; `state`: a byte a row, the place of the state in `State`."""

    asset: str
    tags: tuple[str, ...]
    times: bytes
    numbers: bytes
    faults: bytes
    state: bytes
    version: str
    rung: Rung


class _JsonWire(msgspec.Struct):
    """The same as JSON, null for NaN: what lies on topics written before this format."""

    asset: str
    tags: tuple[str, ...]
    times: list[int]
    score: list[float | None]
    contributions: list[list[float | None]]
    expected: list[list[float | None]]
    actual: list[list[float | None]]
    coverage: list[float | None]
    isolated: list[float | None]
    faults: list[list[int]]
    state: tuple[State, ...]
    version: str
    rung: Rung


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Wire)
_JSON: Final = msgspec.json.Decoder(_JsonWire)


def encode_scores(scores: Scores) -> list[tuple[str, bytes]]:
    """Messages `(asset, bytes)`, assets in order of first appearance, rows in theirs; a long block takes several."""
    if not len(scores):
        return []
    numbers, times, faults = _numbers(scores), scores.times.astype("<i8"), scores.faults
    state = np.frombuffer(bytes([_CODES[state] for state in scores.state]), np.uint8)
    step = max(1, MESSAGE_BYTES // (numbers.shape[1] * 8 + faults.shape[1] + 9))
    found = []
    for asset, rows in _by_asset(scores.assets):
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            wire = _Wire(
                asset=asset,
                tags=scores.tags,
                times=times[part].tobytes(),
                numbers=numbers[part].tobytes(),
                faults=faults[part].tobytes(),
                state=state[part].tobytes(),
                version=scores.version,
                rung=scores.rung,
            )
            found.append((asset, _ENCODER.encode(wire)))
    return found


def _numbers(scores: Scores) -> Float[np.ndarray, "row number"]:
    """All floats of each row, rounded, every NaN the same."""
    single = np.stack([scores.score, scores.coverage, scores.isolated], axis=1)
    own = significant(np.concatenate([single, scores.contributions, scores.expected], axis=1), SCORE_DIGITS)
    numbers = np.concatenate([own, significant(scores.actual, ACTUAL_DIGITS)], axis=1)
    numbers[np.isnan(numbers)] = np.nan
    return numbers.astype("<f8", copy=False)


def _by_asset(assets: tuple[str, ...]) -> list[tuple[str, Int64[np.ndarray, " row"]]]:
    """Rows of each asset, in order."""
    numbers: dict[str, int] = {}
    place = np.array([numbers.setdefault(asset, len(numbers)) for asset in assets], dtype=np.intp)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(1, len(numbers)))
    return list(zip(numbers, np.split(order, cuts), strict=True))


def decode_scores(value: bytes) -> Scores:
    """The block of one asset. Raises DecodeError("malformed")."""
    try:
        return _from_json(_JSON.decode(value)) if value[:1] == b"{" else _from_wire(_DECODER.decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError, IndexError) as error:
        message = f"expected a block of scores, got {value[:80]!r}… ({len(value)} bytes): {error}"
        raise DecodeError(Reason.MALFORMED, message) from error


def _from_wire(wire: _Wire) -> Scores:
    """Raises ValueError where the lengths disagree, IndexError for a state that is none."""
    tags = len(wire.tags)
    times = np.frombuffer(wire.times, "<i8")
    rows = len(times)
    numbers = np.frombuffer(wire.numbers, "<f8").reshape(rows, _SINGLE + 3 * tags)
    if len(wire.state) != rows:
        message = f"{len(wire.state)} states for {rows} rows"
        raise ValueError(message)
    first, second, third = _SINGLE + tags, _SINGLE + 2 * tags, _SINGLE + 3 * tags
    return Scores(
        tags=wire.tags,
        assets=(wire.asset,) * rows,
        times=times,
        score=numbers[:, 0],
        contributions=numbers[:, _SINGLE:first],
        expected=numbers[:, first:second],
        actual=numbers[:, second:third],
        coverage=numbers[:, 1],
        isolated=numbers[:, 2],
        faults=np.frombuffer(wire.faults, np.uint8).reshape(rows, tags),
        state=tuple([_STATES[code] for code in wire.state]),
        version=wire.version,
        rung=wire.rung,
    )


def _from_json(wire: _JsonWire) -> Scores:
    rows, columns = len(wire.times), len(wire.tags)
    if len(wire.state) != rows:
        message = f"{len(wire.state)} states for {rows} rows"
        raise ValueError(message)
    return Scores(
        tags=wire.tags,
        assets=(wire.asset,) * rows,
        times=_array(wire.times, (rows,), np.int64),
        score=_array(wire.score, (rows,)),
        contributions=_array(wire.contributions, (rows, columns)),
        expected=_array(wire.expected, (rows, columns)),
        actual=_array(wire.actual, (rows, columns)),
        coverage=_array(wire.coverage, (rows,)),
        isolated=_array(wire.isolated, (rows,)),
        faults=_array(wire.faults, (rows, columns), np.uint8),
        state=wire.state,
        version=wire.version,
        rung=wire.rung,
    )


def _array(values: list[Any], shape: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
    """The nested list as an array of that very shape, null as NaN. Raises ValueError, OverflowError."""
    array: np.ndarray = np.array(values, dtype=dtype)
    if array.size == 0 and 0 in shape and len(values) == shape[0]:
        return array.reshape(shape)
    if array.shape != shape:
        message = f"a column of shape {array.shape} where {shape} was expected"
        raise ValueError(message)
    return array
