"""Event times as devices write them, into nanoseconds UTC: ISO-8601 with a zone, or a number whose unit is its size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from anomaly.domain import SECOND
from anomaly.errors import DecodeError
from pipelines.reasons import Reason

_ISO: Final = re.compile(
    r"(\d{4}-?\d\d-?\d\d[Tt ]\d\d:?\d\d(?::?\d\d)?)(?:[.,](\d{1,12}))? ?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT: Final = 9_200_000_000_000_000_000
"""Times are within the years 1678 to 2261."""
_UNITS: Final = ((10**11, SECOND), (10**14, 1_000_000), (10**17, 1_000), (2**63, 1))
"""A number below the first is in units of the second, ns: s until the year 5138, ms from 1973, µs, ns."""

_PLAIN_LENGTHS: Final = frozenset({20, 24, 27})
"""Of `2026-11-21T01:02:03Z` and the same with milli- and microseconds: the usual texts, which are read faster."""


def parse_time(value: Any) -> int:
    """One time, ns. Raises DecodeError(`bad_time` | `naive_time`).

    >>> parse_time("2026-11-21T01:02:03.250Z") == parse_time("2026-11-21 02:02:03,25+01:00")
    True
    """
    if type(value) is int:
        return _from_integer(value)
    if type(value) is str:
        return _from_text(value)
    if type(value) is float and math.isfinite(value):
        return _from_float(value)
    raise _bad(value)


def parse_times(values: Sequence[Any]) -> Int64[np.ndarray, " row"]:
    """Many times, ns. Raises as `parse_time` does, at the first that is wrong."""
    if set(map(type, values)) == {int}:
        try:
            return _from_integers(np.array(values, dtype=np.int64))
        except OverflowError as error:
            raise _bad(max(values, key=abs)) from error
    return np.array([parse_time(value) for value in values], dtype=np.int64)


def iso(time: int) -> str:
    """A time as people read it in messages, UTC, milliseconds; never fails.

    >>> iso(1_795_222_923_250_000_000)
    '2026-11-21T01:02:03.250Z'
    """
    seconds, rest = divmod(time, SECOND)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def _from_integer(value: int) -> int:
    size = abs(value)
    time = value * next((unit for limit, unit in _UNITS if size < limit), 1)
    if abs(time) > _LIMIT:
        raise _bad(value)
    return time


def _from_float(value: float) -> int:
    """Fractions of a unit, such as `time.time()` writes; exact to what a double holds (0.2 µs for seconds)."""
    size = abs(value)
    unit = next((unit for limit, unit in _UNITS if size < limit), 1)
    whole = math.floor(value)
    time = whole * unit + round((value - whole) * unit)
    if abs(time) > _LIMIT:
        raise _bad(value)
    return time


def _from_integers(values: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    if len(values) and (low := int(values.min())) > 0:  # nearly always: all in one unit
        units = {next(unit for limit, unit in _UNITS if bound < limit) for bound in (low, int(values.max()))}
        if len(units) == 1:
            return np.asarray(values * _within(int(values.max()), units.pop()))
    size = np.abs(np.maximum(values, 1 - 2**63))
    unit: np.ndarray = np.select([size < limit for limit, _ in _UNITS[:-1]], [unit for _, unit in _UNITS[:-1]], 1)
    wrong = size > _LIMIT // unit
    if wrong.any():
        raise _bad(int(values[wrong.argmax()]))
    return np.asarray(values * unit, dtype=np.int64)


def _within(largest: int, unit: int) -> int:
    """The unit, if a time so large in it is a time."""
    if largest * unit > _LIMIT:
        raise _bad(largest)
    return unit


def _from_text(text: str) -> int:
    if len(text) in _PLAIN_LENGTHS and text[-1] == "Z" and text[10] == "T" and text[7] == "-":
        try:
            since = datetime.fromisoformat(text) - _EPOCH
        except ValueError:
            return _from_any_text(text)
        time = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1_000
        if abs(time) <= _LIMIT:
            return time
    return _from_any_text(text)


def _from_any_text(text: str) -> int:
    match = _ISO.fullmatch(text.strip()) if len(text) <= 64 else None
    if match is None:
        raise _bad(text)
    base, fraction, zone = match.groups()
    if zone is None:
        raise DecodeError(Reason.NAIVE_TIME, f"time {text!r} has no zone; expected e.g. '{base}Z' or '{base}+01:00'")
    try:
        moment = datetime.fromisoformat(base.upper() + zone.upper())
        since = moment - _EPOCH
    except (ValueError, OverflowError) as error:
        raise _bad(text) from error
    time = (since.days * 86_400 + since.seconds) * SECOND + int(f"{fraction or 0:0<9}"[:9])
    if abs(time) > _LIMIT:
        raise _bad(text)
    return time


def _bad(value: Any) -> DecodeError:
    shown = repr(value)[:60] if not isinstance(value, int) or abs(value) < 10**60 else "an integer of very many digits"
    return DecodeError(
        Reason.BAD_TIME,
        f"time {shown} is not a time; expected ISO-8601 with a zone, or a number of s, ms, µs or ns since 1970",
    )
