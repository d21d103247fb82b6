"""Lengths and points of time as people type them on the command line."""

from __future__ import annotations

import re
from typing import Final

from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError, DecodeError
from pipelines.times import parse_time

_UNITS: Final = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND, "w": 604_800 * SECOND}
_LENGTH: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw])", re.ASCII)


def duration(text: str, option: str) -> int:
    """A length of time, ns. Raises ConfigurationError, naming the option.

    >>> duration("1.5h", "--for") // SECOND
    5400
    """
    match = _LENGTH.fullmatch(text.strip().lower())
    length = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if length <= 0:
        raise ConfigurationError(f"{option} {text!r}: expected a length of time such as 90s, 30m, 2h or 7d")
    return length


def point(text: str, newest: int, option: str = "--since") -> int:
    """A point of time, ns: a time with a zone, or so long before `newest`. Raises ConfigurationError.

    >>> point("2h", 10_000 * SECOND) // SECOND, point("1970-01-01T01:00:00+01:00", 0)
    (2800, 0)
    """
    if _LENGTH.fullmatch(text.strip().lower()):
        return max(0, newest - duration(text, option))
    try:
        return parse_time(text)
    except DecodeError as error:
        raise ConfigurationError(
            f"{option}: {error}; or a length of time before the newest data, such as 7d"
        ) from error
