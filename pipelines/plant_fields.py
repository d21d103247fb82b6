"""What each field of a plant file may hold, and a reader that collects every mistake, not only the first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from anomaly.domain import SECOND, Role
from pipelines.settings_sources import known_timezone
from pipelines.suggesting import did_you_mean

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "min": 60 * SECOND,
    "h": 3600 * SECOND,
}
_DURATION: Final = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-zµ]+)", re.ASCII)
_LONGEST: Final = 24 * 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Field:
    """`expected` in words; `read` gives the value or raises ValueError, with its own words where it knows better."""

    expected: str
    read: Callable[[Any], Any]


@dataclass(slots=True)
class Reader:
    """Reads tables of one file; `mistakes` are lines fit for a person."""

    file: str
    mistakes: list[str] = field(default_factory=list)

    def mistake(self, where: str, what: str) -> None:
        """Note one: at which place of the file, and what is wrong there."""
        self.mistakes.append(f"{self.file}: {where}{': ' if where else ''}{what}")

    def table(self, where: str, table: Any, fields: Mapping[str, Field], required: Sequence[str]) -> dict[str, Any]:
        """The values of a table that are right; the others become mistakes."""
        if not isinstance(table, dict):
            self.mistake(where, f"{table!r} came, a table was expected")
            return {}
        for key in table:
            if key not in fields:
                self.mistake(where, f"unknown key {key!r}{did_you_mean(key, fields)}")
        for key in required:
            if key not in table:
                self.mistake(where, f"`{key}` is missing; expected {fields[key].expected}")
        found = {key: self._value(where, key, table[key], spec) for key, spec in fields.items() if key in table}
        return {key: value for key, value in found.items() if value is not None}

    def _value(self, where: str, key: str, came: Any, spec: Field) -> Any:
        try:
            return spec.read(came)
        except ValueError as error:
            told = str(error) or f"expected {spec.expected}"
            self.mistake(where, f"{key} = {_shown(came)}: {told}")
            return None


def _shown(came: Any) -> str:
    text = repr(came)
    return text if len(text) <= 60 else text[:57] + "…"


def _text(came: Any) -> str:
    if not isinstance(came, str) or len(came) > 256 or not came.isprintable():
        raise ValueError
    return came


def _name(came: Any) -> str:
    if not _text(came).strip():
        raise ValueError
    return str(came)


def _number(came: Any) -> float:
    if isinstance(came, bool) or not isinstance(came, int | float) or abs(came) > 1e300 or not math.isfinite(came):
        raise ValueError
    return float(came)


def _positive(came: Any) -> float:
    if _number(came) <= 0:
        raise ValueError
    return float(came)


def _numbers(came: Any) -> tuple[float, ...]:
    if not isinstance(came, list):
        raise ValueError
    return tuple(_number(item) for item in came)


def _tables(came: Any) -> list[Any]:
    if not isinstance(came, list):
        raise ValueError
    return came


def _flag(came: Any) -> bool:
    if not isinstance(came, bool):
        raise ValueError
    return came


def _role(came: Any) -> Role:
    if not isinstance(came, str) or came not in set(Role):
        raise ValueError(f"expected one of signal, mode, status{did_you_mean(str(came), Role)}")
    return Role(came)


def parse_duration(came: Any) -> int:
    """A tick, ns: a number of seconds or a text with its unit, above 0, at most a day. Raises ValueError.

    >>> parse_duration("500 ms"), parse_duration(10)
    (500000000, 10000000000)
    """
    if isinstance(came, str):
        match = _DURATION.fullmatch(came.strip())
        if match is None or match[2] not in _UNITS:
            raise ValueError
        duration = round(Decimal(match[1]) * _UNITS[match[2]])
    else:
        duration = round(Decimal(_number(came)) * SECOND)
    if not 0 < duration <= _LONGEST:
        raise ValueError
    return duration


NAME: Final = Field("a printable text of 1 to 256 characters", _name)
TEXT: Final = Field("a printable text of at most 256 characters", _text)
NUMBER: Final = Field("a finite number", _number)
POSITIVE: Final = Field("a number above 0", _positive)
NUMBERS: Final = Field("a list of numbers, such as [1, 2]", _numbers)
TABLES: Final = Field("a list of tables", _tables)
DURATION: Final = Field(
    "a number of seconds, or a text such as '10 s', '500 ms', '1 min'; at most 24 h", parse_duration
)
FLAG: Final = Field("true or false", _flag)
ROLE: Final = Field("one of signal, mode, status", _role)
ZONE: Final = Field("an IANA time zone such as 'Europe/Berlin'", lambda came: known_timezone(_name(came)))
