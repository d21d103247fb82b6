"""Time columns of files → ns UTC: ISO-8601, day and month in any order, names of months, 12-hour clocks, numbers.

A time without a zone needs one to be given; which of two numbers is the day is decided from the data, or refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Int64

from anomaly.domain import SECOND
from anomaly.errors import DataError, DecodeError
from pipelines.times import parse_times

Lines = Sequence[int] | Int64[np.ndarray, " row"]
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = {name: i + 1 for i, name in enumerate(_MONTHS)} | {"mai": 5, "mär": 3, "okt": 10, "dez": 12}
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,19}(?:\.\d{1,9})?(?:[eE]\+?\d\d?)?", re.ASCII)
_COMPACT: Final = re.compile(r"(?:19|20)\d\d[01]\d[0-3]\d[T ]?[0-2]\d[0-5]\d[0-5]\d", re.ASCII)
_FIELDS: Final = (
    r"^(?P<a>\d{1,4})(?P<sep>[-/. ])(?P<b>\d{1,2}|[^\W\d]{3})[^\W\d]{0,6}\.?[-/. ](?P<c>\d{2,4})"
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<half>[AaPp]\.?[Mm]\.?)? ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d:?\d\d|[+-]\d\d)?$"
)
_DATE: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2\d{2,4}", re.ASCII)
_DAY: Final = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How a column is read. `day_first` None: no order to be decided."""

    words: str
    """For the report."""
    day_first: bool | None = None


def detect(texts: Iterable[str], where: str, day_first: bool | None = None) -> TimeFormat:
    """The format of a column, from all its cells. Raises DataError if which is day and which month stays open."""
    first = ""
    dates: dict[str, tuple[int, int]] = {}
    for text in texts:
        first = first or text
        match = _DATE.match(text)
        if match and len(dates) < 100_000:
            dates.setdefault(match[0], (int(match[1]), int(match[3])))
    if not dates:
        return TimeFormat(
            "numbers since 1970" if _NUMBER.fullmatch(first) and not _COMPACT.fullmatch(first) else "ISO-8601"
        )
    decided = day_first if day_first is not None else "." in next(iter(dates)) or _decide(list(dates.items()))
    if decided is None:
        shown = next(iter(dates))
        raise DataError(
            f"{where}: is {shown!r} day or month first? The data do not say; write the dates year first (2026-02-01), "
            "or give day_first=True or False"
        )
    return TimeFormat("day/month/year" if decided else "month/day/year", decided)


def _decide(dates: Sequence[tuple[str, tuple[int, int]]]) -> bool | None:
    """Day first, month first, or not to be known: a number over 12, else the order in which the dates follow."""
    firsts, seconds = [pair[0] for _, pair in dates], [pair[1] for _, pair in dates]
    if max(firsts) > 12 or max(seconds) > 12:
        return max(firsts) > 12 if min(max(firsts), max(seconds)) <= 12 else None
    years = [int(text[-4:]) if text[-4:].isdigit() else 2000 + int(text[-2:]) for text, _ in dates]
    jumps = []
    for days, months in ((firsts, seconds), (seconds, firsts)):
        counted = [y * 372 + m * 31 + d for y, m, d in zip(years, months, days, strict=True)]
        jumps.append(max((abs(b - a) for a, b in itertools.pairwise(counted)), default=0))
    if min(jumps) <= 7 and max(jumps) >= 27:
        return jumps[0] < jumps[1]
    return None


def parse_column(
    cells: pd.Series[Any], form: TimeFormat, zone: str | None, where: str, lines: Lines
) -> Int64[np.ndarray, " row"]:
    """The times of a column's cells, ns. `zone`: IANA name for those without one; `lines`: of each, for messages.

    Raises DataError: not a time, no zone where none was given, zones in some cells only, a time outside 1678 to 2261.
    """
    if isinstance(cells.dtype, pd.DatetimeTZDtype) or cells.dtype.kind == "M":
        return _localized(pd.DatetimeIndex(cells), zone, where, lines)
    if cells.dtype.kind in "iuf":
        return _numbers(cells.tolist(), where, lines)
    texts = cells.astype("str").fillna("").str.strip()
    head = str(texts.iloc[0])
    if _NUMBER.fullmatch(head) and not _COMPACT.fullmatch(head):
        return _numbers(texts.tolist(), where, lines)
    if texts.str.fullmatch(_ISO).all():
        return _iso(texts, zone, where, lines)
    if texts.str.fullmatch(_COMPACT).all():
        digits = texts.str.replace(r"[T ]", "", regex=True)
        parsed = pd.to_datetime(digits, format="%Y%m%d%H%M%S", errors="coerce")
        return _localized(pd.DatetimeIndex(parsed), zone, where, lines, texts)
    return _by_fields(texts, form, zone, where, lines)


def _numbers(cells: Sequence[Any], where: str, lines: Lines) -> Int64[np.ndarray, " row"]:
    try:
        return parse_times([_number(cell) for cell in cells])
    except (DecodeError, ValueError):
        for i, cell in enumerate(cells):
            try:
                parse_times([_number(cell)])
            except (DecodeError, ValueError) as error:
                raise _no_time(cell, where, int(lines[i])) from error
        raise


def _number(cell: Any) -> int | float:
    if isinstance(cell, str):
        return int(cell) if cell.lstrip("-").isdigit() else float(cell)
    return cell if isinstance(cell, float) and not cell.is_integer() else int(cell)


def _iso(texts: pd.Series[str], zone: str | None, where: str, lines: Lines) -> Int64[np.ndarray, " row"]:
    zoned = texts.str.contains(r"Z$|:\d\d(?:\.\d+)?[+-]\d\d:?\d\d$", regex=True).to_numpy(dtype=bool)
    _same_kind(zoned, texts, where, lines)
    try:
        parsed = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=bool(zoned[0]))
        return _localized(pd.DatetimeIndex(parsed), zone, where, lines, texts)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: a time from line {lines[0]} on is outside the years 1678 to 2261") from error


def _same_kind(zoned: np.ndarray, texts: pd.Series[str], where: str, lines: Lines) -> None:
    if zoned.any() and not zoned.all():
        odd = int(np.argmin(zoned == zoned[0]))
        raise DataError(
            f"{where}: line {lines[0]} has the time {texts.iloc[0]!r}, line {lines[odd]} {texts.iloc[odd]!r}: one with "
            "a zone, one without; write the zone in every row, or in none and give --timezone"
        )


def _localized(
    times: pd.DatetimeIndex, zone: str | None, where: str, lines: Lines, texts: pd.Series[str] | None = None
) -> Int64[np.ndarray, " row"]:
    wrong = np.asarray(times.isna())
    if wrong.any():
        odd = int(wrong.argmax())
        raise _no_time("" if texts is None else texts.iloc[odd], where, int(lines[odd]))
    if times.tz is None:
        if zone is None:
            shown = times[0].isoformat() if texts is None else texts.iloc[0]
            raise DataError(
                f"{where}: time {shown!r} at line {lines[0]} has no zone; give the zone the clock showed, "
                "for example --timezone Europe/Berlin (or UTC), or `timezone` in the plant file or the settings"
            )
        times = _in_zone(times, zone)
    try:
        return np.asarray(times.as_unit("ns").asi8, dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: a time from line {lines[0]} on is outside the years 1678 to 2261") from error


def _in_zone(times: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    """Local clock → instant. The hour that comes twice in autumn: by order if that tells, else winter time."""
    try:
        return times.tz_localize(zone, ambiguous="infer", nonexistent="shift_forward")
    except ValueError:
        later = np.zeros(len(times), dtype=bool)
        return times.tz_localize(zone, ambiguous=later, nonexistent="shift_forward")


def _by_fields(
    texts: pd.Series[str], form: TimeFormat, zone: str | None, where: str, lines: Lines
) -> Int64[np.ndarray, " row"]:
    parts = texts.str.extract(_FIELDS)
    wrong = parts["a"].isna().to_numpy(dtype=bool)
    if wrong.any():
        raise _no_time(texts.iloc[int(wrong.argmax())], where, int(lines[int(wrong.argmax())]))
    zoned = parts["zone"].notna().to_numpy(dtype=bool)
    _same_kind(zoned, texts, where, lines)
    local, valid = _assemble(parts, form)
    if not valid.all():
        odd = int(valid.argmin())
        raise _no_time(texts.iloc[odd], where, int(lines[odd]))
    if zoned.all():
        return local - np.array([_offset(text) for text in parts["zone"]], dtype=np.int64)
    return _localized(pd.DatetimeIndex(local.view("datetime64[ns]")), zone, where, lines, texts)


def _assemble(parts: pd.DataFrame, form: TimeFormat) -> tuple[Int64[np.ndarray, " row"], np.ndarray]:
    """Clock time as ns since 1970, and where it is one that exists."""
    a, c = _ints(parts["a"]), _ints(parts["c"])
    named = parts["b"].str.lower().map(_MONTH)
    b = np.where(named.notna(), named.fillna(0), pd.to_numeric(parts["b"], errors="coerce").fillna(0)).astype(np.int64)
    year_first = (parts["a"].str.len() == 4).to_numpy(dtype=bool)
    swap = ~year_first & named.isna().to_numpy(dtype=bool) & (form.day_first is False)
    day, month = np.where(swap, b, np.where(year_first, c, a)), np.where(swap, a, b)
    year = np.where(year_first, a, np.where(c < 100, c + 2000, c))
    hour = _hours(_ints(parts["hour"]), parts["half"])
    minute, second = _ints(parts["minute"]), _ints(parts["second"])
    fraction = _ints(parts["fraction"].fillna("0").str.pad(9, side="right", fillchar="0"))
    safe = np.clip(month, 1, 12)
    months = ((np.clip(year, 1700, 2250) - 1970) * 12 + safe - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    valid = (month == safe) & (days.astype("datetime64[M]") == months) & (year >= 1700) & (year <= 2250)
    valid &= (hour < 24) & (minute < 60) & (second < 60) & (day >= 1)
    clock = ((hour * 60 + minute) * 60 + second) * SECOND + fraction
    return np.asarray(days.astype(np.int64) * _DAY + clock, dtype=np.int64), valid


def _ints(column: pd.Series[Any]) -> Int64[np.ndarray, " row"]:
    return pd.to_numeric(column, errors="coerce").fillna(0).to_numpy(dtype=np.int64)


def _hours(hour: Int64[np.ndarray, " row"], half: pd.Series[Any]) -> Int64[np.ndarray, " row"]:
    letter = half.str[:1].str.lower()
    morning, evening = (letter == "a").to_numpy(dtype=bool), (letter == "p").to_numpy(dtype=bool)
    twelve = np.where((morning | evening) & (hour > 12), 99, hour % 12 + 12 * evening)
    return np.asarray(np.where(morning | evening, twelve, hour), dtype=np.int64)


def _offset(zone: str) -> int:
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 60 + int(digits[2:])) * 60 * SECOND


def _no_time(cell: Any, where: str, line: int) -> DataError:
    return DataError(
        f"{where}: {str(cell)[:60]!r} at line {line} is not a time; expected for example 2026-11-21T01:02:03Z, "
        "21.11.2026 01:02:03, or a number of s, ms, µs or ns since 1970"
    )
