"""A text file as chunks of whole lines, in bounded memory whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from anomaly.errors import DataError

LINE_LIMIT: Final = 16 << 20
"""Longest line, bytes; 10 000 columns of 20 characters are 200 kB."""
CHUNK_BYTES: Final = 4 << 20
HEAD_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LineChunk:
    """Whole lines, and the number (from 1) of the first in its file."""

    content: bytes
    line: int


def chunks(path: Path, size: int = CHUNK_BYTES) -> Iterator[LineChunk]:
    """Chunks of whole lines of about `size` bytes; a quoted cell with a line break in it is never cut.

    Raises DataError: the file cannot be read, or has a line over `LINE_LIMIT` (of which no more than that is read).
    """
    try:
        with path.open("rb") as file:
            yield from _chunks(file, path, size)
    except OSError as error:
        raise unreadable(path, error) from error


def _chunks(file: IO[bytes], path: Path, size: int) -> Iterator[LineChunk]:
    line = 1
    while lines := _some_lines(file, path, size, line):
        content = b"".join(lines)
        yield LineChunk(content, line)
        line += len(lines)


def _some_lines(file: IO[bytes], path: Path, size: int, first: int) -> list[bytes]:
    lines: list[bytes] = []
    total = quotes = 0
    while total < size or quotes % 2:
        line = file.readline(LINE_LIMIT + 1)
        if not line:
            break
        if len(line) > LINE_LIMIT or total > size + LINE_LIMIT:
            what = "is over 16 MiB long" if len(line) > LINE_LIMIT else "is in a quoted cell that does not end"
            raise DataError(f"{path}: line {first + len(lines)} {what}; is this a CSV file with line breaks?")
        lines.append(line)
        total += len(line)
        quotes += line.count(b'"')
    return lines


def head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Whole lines from the beginning, about `size` bytes. Raises as `chunks` does."""
    return next((chunk.content for chunk in chunks(path, size)), b"")


def unreadable(path: Path, error: OSError) -> DataError:
    """What the file system says, in our words."""
    return DataError(f"{path} cannot be read: {error.strerror or error}; check the disk and the file's rights")
