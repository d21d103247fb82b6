"""What the columns of a table are for: the time, perhaps an asset, then tags (wide) or tag and value (narrow)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anomaly.errors import DataError

_TIMES: Final = (
    "timestamp", "time", "datetime", "date_time", "date time", "ts", "date", "time_stamp", "eventtime", "event_time",
    "zeitstempel", "zeit", "datum", "horodatage", "t",
)  # fmt: skip
_DATES: Final = ("date", "datum", "day")
_CLOCKS: Final = ("time", "zeit", "uhrzeit", "clock")
_ASSETS: Final = ("asset", "asset_id", "machine", "machine_id", "machineid", "device", "device_id", "equipment")
_TAGS: Final = ("tag", "tagname", "tag_name", "signal", "sensor", "variable", "channel", "item", "point")
_VALUES: Final = ("value", "v", "val", "wert", "reading")
_QUALITIES: Final = ("quality", "q", "status", "quality_code")
_UNITS: Final = ("unit", "uom", "units", "einheit")
LOOKS_LIKE_TIME: Final = re.compile(
    r"\d{4}[-/.]\d\d?[-/.]\d\d?([T ]|$)|\d{1,2}[-/.](\d{1,2}|[A-Za-z]{3})[-/.]\d{2,4}([T ,]|$)|\d{9,19}(\.\d+)?$"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns by what they are for; `time` is one column, or a date and a clock time. Wide: `tag` is empty."""

    time: tuple[str, ...]
    tags: tuple[str, ...] = ()
    asset: str = ""
    tag: str = ""
    value: str = ""
    quality: str = ""
    unit: str = ""

    @property
    def shape(self) -> str:
        """In a word."""
        return "narrow" if self.tag else "wide"

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are words, not numbers."""
        return tuple(name for name in (*self.time, self.asset, self.tag, self.quality, self.unit) if name)


def find_columns(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns:
    """The use of each column, by its name, the time also by its cells. Raises DataError: no time, or no tag."""
    time = _time(path, header, rows)
    rest = [name for name in header if name not in time and name]
    asset = _first(rest, _ASSETS)
    tag, value = _first(rest, _TAGS), _first(rest, _VALUES)
    if tag and value:
        quality, unit = _first(rest, _QUALITIES), _first(rest, _UNITS)
        return Columns(time, asset=asset, tag=tag, value=value, quality=quality, unit=unit)
    tags = tuple(name for name in rest if name != asset)
    if not tags:
        raise DataError(f"{path} has a time ({' + '.join(time)}) and no column of values; expected at least one tag")
    return Columns(time, tags=tags, asset=asset)


def _time(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    date, clock = _first(header, _DATES), _first(header, _CLOCKS)
    if date and clock and date != clock and ":" not in _cell(header, rows, date):
        return date, clock
    named = _first(header, _TIMES)
    if named and not (named.lower() == "t" and not LOOKS_LIKE_TIME.match(_cell(header, rows, named))):
        return (named,)
    seen = next((name for name in header if LOOKS_LIKE_TIME.match(_cell(header, rows, name))), None)
    if seen is None:
        raise DataError(
            f"{path}: none of its columns ({', '.join(header[:6])}{'…' if len(header) > 6 else ''}) is a time; "
            "expected a column named `timestamp` or one that holds dates"
        )
    return (seen,)


def _first(names: Collection[str], known: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower[word] for word in known if word in by_lower), "")


def _cell(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> str:
    """The column's first cell that is not empty."""
    place = list(header).index(name)
    return next((row[place].strip() for row in rows if place < len(row) and row[place].strip()), "")
