"""How a CSV file is written: encoding, separator, decimal mark, and what its columns are for. Detected, reported."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anomaly.errors import DataError
from pipelines.reasons import Reason
from pipelines.sources.columns import LOOKS_LIKE_TIME, Columns, find_columns

_SEPARATORS: Final = (";", "\t", "|", ",")
_SAMPLE_LINES: Final = 500
_COMMA_NUMBER: Final = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][+-]?\d+)?")
_POINT_NUMBER: Final = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one file is written. `decimal` is `.` where no number shows a mark."""

    encoding: str
    separator: str
    decimal: str
    columns: Columns

    def __str__(self) -> str:
        names = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "bar"}
        mark = "comma" if self.decimal == "," else "point"
        return f"{self.columns.shape}, {self.encoding}, separator {names[self.separator]}, decimal {mark}"


class EmptyFileError(DataError):
    """The file holds no data: nothing at all, or no row under its header."""


def detect_dialect(path: Path, head: bytes) -> Dialect:
    """The dialect from the first lines. Raises DataError (EmptyFileError where there is nothing to read)."""
    text, encoding = decode_head(path, head)
    lines = [line for line in text.split("\n") if line.strip()][:_SAMPLE_LINES]
    if not lines:
        raise EmptyFileError(f"{path} is empty; expected a header line and rows of data")
    try:
        separator = _separator(path, lines)
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file we can read: {error}") from error
    header = header_names(path, rows[0])
    if len(rows) < 2:
        raise EmptyFileError(f"{path} has a header ({', '.join(header[:5])}) and no rows; expected rows of data")
    columns = find_columns(path, header, rows[1:])
    return Dialect(encoding, separator, _decimal(columns, header, rows[1:], separator), columns)


def decode_head(path: Path, head: bytes) -> tuple[str, str]:
    """The text and its encoding: UTF-8 with or without mark, else Latin-1. Raises DataError for what is no text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head[:65536]:
        raise DataError(
            f"{path} is UTF-16 or no text at all; expected a CSV file in UTF-8 or Latin-1 (save it again so)"
        )
    if head.startswith(codecs.BOM_UTF8):
        return head.decode("utf-8-sig", errors="replace"), "utf-8-sig"
    try:
        return head.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return head.decode("latin-1"), "latin-1"


def _separator(path: Path, lines: Sequence[str]) -> str:
    """The one that cuts header and rows into the same number of fields (rows may end in one more), the most of them."""
    best, found = (0.0, 0), ""
    for separator in _SEPARATORS:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator)]
        columns = widths[0]
        fitting = sum(width in (columns, columns + 1) for width in widths) / len(widths)
        if columns > 1 and (round(fitting, 2), columns) > best:
            best, found = (round(fitting, 2), columns), separator
    if not found:
        raise DataError(
            f"{path}: no separator found in its header {lines[0][:60]!r}; expected columns separated by comma, "
            "semicolon, tab or |: a time and at least one value"
        )
    return found


def header_names(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns, trimmed; a separator at the end of the line makes no column. Raises DataError."""
    names = tuple(name.strip() for name in header)
    names = names[:-1] if len(names) > 1 and not names[-1] else names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the column {twice[0]!r} comes {names.count(twice[0])} times; names of columns differ")
    for i, name in enumerate(names):
        if (i and not name) or len(name) > 256 or not name.isprintable():
            raise DataError(
                f"{path}: column {i + 1} is named {name[:40]!r}; expected a printable name ({Reason.BAD_NAME})"
            )
    if all(_is_data(name) for name in names):
        raise DataError(
            f"{path} has no header: its first line is {','.join(names)[:60]!r}; put the names of the columns there"
        )
    return names


def _is_data(name: str) -> bool:
    """Whether it is a time or a number, as no column is called.

    >>> _is_data("2026-01-01T00:00:00Z"), _is_data("1e3"), _is_data("temp"), _is_data("inf")
    (True, True, False, False)
    """
    return LOOKS_LIKE_TIME.match(name) is not None or (name[-1:].isdigit() and _is_number(name))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def header_of(path: Path, head: bytes, separator: str) -> tuple[str, ...]:
    """The names in the file's first line that is not blank."""
    text, _ = decode_head(path, head)
    first = next(line for line in text.split("\n") if line.strip())
    return header_names(path, next(csv.reader([first], delimiter=separator)))


def _decimal(columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]], separator: str) -> str:
    """By the numbers that show a mark; where both occur the point, and the others are text."""
    wanted = {*columns.tags, columns.value}
    places = [i for i, name in enumerate(header) if name in wanted]
    cells = [row[i].strip() for row in rows for i in places if i < len(row)]
    commas = sum(_COMMA_NUMBER.fullmatch(cell) is not None for cell in cells)
    points = sum(_POINT_NUMBER.fullmatch(cell) is not None for cell in cells)
    return "," if commas and not points and separator != "," else "."
