"""A folder of CSV and Parquet files, or one of them → readings, asset by asset, each asset's files in order of time.

Files are wide (a time and one column a tag) or narrow (time, tag, value). How each is written is detected and reported:
encoding, separator, decimal mark, format of times. What cannot be decided is refused with the mend, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from anomaly.domain import Quality, Readings
from anomaly.errors import ConfigurationError, DataError
from pipelines.settings_sources import known_timezone
from pipelines.sources.columns import Columns
from pipelines.sources.csv_dialect import Dialect, EmptyFileError, detect_dialect, header_of
from pipelines.sources.csv_lines import head, unreadable
from pipelines.sources.file_times import TimeFormat, detect, parse_column
from pipelines.sources.frame_readings import FileReport, in_order, narrow, wide
from pipelines.sources.tables import csv_frames, lines_of, parquet_columns, parquet_frames

LABELS: Final = frozenset({"anomaly", "changepoint", "label", "is_anomaly", "attack", "fault"})
"""Columns of benchmark files that tell the truth; they are no sensors."""
READINGS: Final = "readings"
"""A folder of this name directly below is where `plantwatch simulate` puts files; it is no part of an asset's path."""
TAG_LIMIT: Final = 10_000
ORDER_BYTES: Final = 256 << 20
"""Files up to this size whose rows go back in time are put in order in memory."""
_CSV: Final = frozenset({".csv", ".tsv"})
_PARQUET: Final = frozenset({".parquet", ".pq"})
_SEQUENCE: Final = re.compile(r"(?:part|file|data|export)?[-_ ]?\d*(?:[-_.T ]\d+)*", re.ASCII | re.IGNORECASE)
_DATED: Final = re.compile(r"[-_. ](?:(?:19|20)\d\d(?:[-_.]?\d\d){0,2}(?:[-_T]\d{2,6})?|part[-_]?\d+)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, understood from its beginning."""

    path: Path
    asset: str
    columns: Columns
    header: tuple[str, ...]
    dialect: Dialect | None
    form: TimeFormat
    begin: int
    """Its first time, ns."""


class Folder:
    """Readings of a folder (with all below it) or of one file.

    `timezone`: IANA name for times without a zone. `asset`: the asset of everything that names none. `day_first`: for
    dates like 01/02/2026 where the data do not tell. `ignore`: columns that are no sensors. After `blocks()` is
    exhausted `reports` tell what was found. Raises DataError and ConfigurationError, whose text says how to mend it.
    """

    def __init__(
        self,
        path: Path,
        *,
        timezone: str | None = None,
        asset: str | None = None,
        day_first: bool | None = None,
        ignore: Collection[str] = LABELS,
    ) -> None:
        if timezone is not None:
            try:
                known_timezone(timezone)
            except ValueError as error:
                raise ConfigurationError(str(error)) from error
        self.path = path
        self.reports: list[FileReport] = []
        self._zone = timezone
        self._asset = asset
        self._day_first = day_first
        self._ignore = {name.lower() for name in ignore}

    def files(self) -> tuple[Path, ...]:
        """The files with readings, sorted by name; numbers in names count as numbers. Raises DataError if none."""
        try:
            if self.path.is_file():
                return (self.path,)
            if not self.path.is_dir():
                raise DataError(
                    f"{self.path} does not exist; expected a folder of CSV or Parquet files, or one of them"
                )
            found = [
                p for p in self.path.rglob("*") if _kind(p) and p.is_file() and not _hidden(p.relative_to(self.path))
            ]
        except OSError as error:
            raise unreadable(self.path, error) from error
        if not found:
            raise DataError(
                f"{self.path} holds no file named .csv, .tsv, .parquet or .pq; expected some (a file of another name "
                "is read if it is given itself)"
            )
        return tuple(sorted(found, key=_natural))

    def blocks(self) -> Iterator[Readings]:
        """Blocks of readings in order of asset, then of time. Memory is bounded by `ORDER_BYTES` of one file."""
        self.reports = []
        files = self.files()
        sources, empty = [], []
        for path in files:
            try:
                sources.append(self._understand(path))
            except EmptyFileError as error:
                empty.append(error)
                self.reports.append(FileReport(path, notes=[str(error)]))
        if not sources:
            raise empty[0]
        for source in sorted(sources, key=lambda source: (source.asset, source.begin)):
            yield from self._read(source)

    def tags(self) -> Mapping[str, tuple[str, ...]]:
        """Every tag found so far, by asset."""
        found: dict[str, dict[str, None]] = {}
        for report in self.reports:
            for asset, tags in report.tags.items():
                found.setdefault(asset, {}).update(dict.fromkeys(tags))
        return {asset: tuple(tags) for asset, tags in found.items()}

    def units(self) -> Mapping[str, str]:
        """Units by tag, as far as files say so."""
        return {tag: unit for report in self.reports for tag, unit in report.units.items()}

    def notes(self) -> tuple[str, ...]:
        """What a person should know of the files read so far."""
        every = self.tags()
        told: list[str] = []
        for report in self.reports:
            told += [f"{report.path.name}: {note}" for note in report.notes]
            for tag, count in report.bad.items():
                told.append(f"{report.path.name}: {count} cells of {tag!r} are no numbers; taken as bad readings")
            for asset, tags in report.tags.items():
                gone = [tag for tag in every[asset] if tag not in tags]
                told += (
                    [f"{report.path.name}: {asset} has no {', '.join(gone[:5])} here, as in its other files"]
                    if gone
                    else []
                )
            if report.duplicates:
                told.append(f"{report.path.name}: {report.duplicates} rows have the time of an earlier row")
        return tuple(told)

    def _understand(self, path: Path) -> _Source:
        asset = self._asset or _asset_of(path, self.path)
        dialect: Dialect | None = None
        header: tuple[str, ...] = ()
        if _kind(path) == "parquet":
            columns = self._tags_only(path, parquet_columns(path))
            first = _first(path, parquet_frames(path))
        else:
            start = head(path)
            found = detect_dialect(path, start)
            dialect = replace(found, columns=self._tags_only(path, found.columns))
            columns, header = dialect.columns, header_of(path, start, dialect.separator)
            first = _first(path, csv_frames(path, dialect, header))
        form = self._time_format(path, first, columns, dialect, header)
        begin = parse_column(_times(first.iloc[:1], columns), form, self._zone, str(path), lines_of(first.iloc[:1]))
        return _Source(path, asset, columns, header, dialect, form, int(begin[0]))

    def _tags_only(self, path: Path, columns: Columns) -> Columns:
        tags = tuple(tag for tag in columns.tags if tag.lower() not in self._ignore)
        if columns.tags and not tags:
            raise DataError(
                f"{path} has only columns that are no sensors ({', '.join(columns.tags[:5])}); expected a tag"
            )
        if len(tags) > TAG_LIMIT:
            raise DataError(f"{path} has {len(tags)} tags, at most {TAG_LIMIT} are taken; split it by asset")
        return replace(columns, tags=tags)

    def _time_format(
        self, path: Path, first: pd.DataFrame, columns: Columns, dialect: Dialect | None, header: tuple[str, ...]
    ) -> TimeFormat:
        try:
            return detect(_texts(first, columns), str(path), self._day_first)
        except DataError:
            if dialect is None:
                raise
        frames = csv_frames(path, dialect, header)
        return detect((text for frame in frames for text in _texts(frame, columns)), str(path))

    def _read(self, source: _Source) -> Iterator[Readings]:
        report = FileReport(source.path, str(source.dialect or f"{source.columns.shape}, Parquet"), source.form.words)
        self.reports.append(report)
        found = self._of_file(source, report)
        if _size(source.path) <= ORDER_BYTES:
            held = list(found)
            if report.backward:
                report.notes.append(f"{report.backward} rows go back in time; the file was put in order of time")
                held = in_order(held)
            yield from held
        else:
            yield from found
            if report.backward:
                report.notes.append(f"{report.backward} rows go back in time; the file is too large to put in order")

    def _of_file(self, source: _Source, report: FileReport) -> Iterator[Readings]:
        newest: dict[str, int] = {}
        columns, path = source.columns, source.path
        decimal = source.dialect.decimal if source.dialect else "."
        frames = csv_frames(path, source.dialect, source.header) if source.dialect else parquet_frames(path)
        for frame in frames:
            if not len(frame):
                continue
            times = parse_column(_times(frame, columns), source.form, self._zone, str(path), lines_of(frame))
            if columns.unit:
                _note_units(report, frame, columns)
            made = (
                narrow(frame, times, columns, source.asset, decimal, path)
                if columns.tag
                else wide(frame, times, columns, source.asset, decimal)
            )
            for block in made:
                _count(report, block, newest)
                yield block


def _note_units(report: FileReport, frame: pd.DataFrame, columns: Columns) -> None:
    """Keep the unit of each tag. Raises DataError where a tag changes it: its numbers would not be comparable."""
    for tag, unit in frame[[columns.tag, columns.unit]].dropna().drop_duplicates().itertuples(index=False):
        known = report.units.setdefault(str(tag).strip(), str(unit).strip())
        if known != str(unit).strip():
            raise DataError(
                f"{report.path}: tag {tag!r} comes in {known!r} and in {str(unit).strip()!r}; convert one, or give "
                "it a tag of its own"
            )


def _count(report: FileReport, block: Readings, newest: dict[str, int]) -> None:
    """Add a block to the report."""
    report.rows += len(block)
    report.readings += block.count
    known = report.tags.get(block.asset, ())
    report.tags[block.asset] = tuple(dict.fromkeys((*known, *block.tags))) if known != block.tags else known
    wrong = np.count_nonzero(block.quality == Quality.BAD, axis=0)
    report.bad.update({block.tags[i]: int(wrong[i]) for i in np.flatnonzero(wrong)})
    before = np.concatenate([[newest.get(block.asset, block.times[0])], block.times[:-1]])
    report.backward += int(np.count_nonzero(block.times < before))
    report.duplicates += len(block) - len(np.unique(block.times))
    newest[block.asset] = int(block.times[-1])


def _first(path: Path, frames: Iterator[pd.DataFrame]) -> pd.DataFrame:
    for frame in frames:
        if len(frame):
            return frame
    raise EmptyFileError(f"{path} has a header and rows in which every cell is empty; expected rows of data")


def _times(frame: pd.DataFrame, columns: Columns) -> pd.Series[str]:
    if len(columns.time) == 1:
        return frame[columns.time[0]]
    date, clock = (frame[name].fillna("").astype("str").str.strip() for name in columns.time)
    return date + " " + clock


def _texts(frame: pd.DataFrame, columns: Columns) -> list[str]:
    """The time cells that differ in their date, as text."""
    cells = frame[columns.time[0]]
    if cells.dtype.kind in "iufM":
        return [str(cells.iloc[0])]
    return [str(text).strip() for text in cells.dropna().unique()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return "csv" if suffix in _CSV else "parquet" if suffix in _PARQUET else ""


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d{1,18})", str(path))]


def _asset_of(path: Path, root: Path) -> str:
    """From the path below the root: a file called by a number or date is a piece of its folder's asset.

    >>> _asset_of(Path("d/s/a/pump-1.csv"), Path("d")), _asset_of(Path("d/valve1/0.csv"), Path("d"))
    ('s/a/pump-1', 'valve1')
    >>> _asset_of(Path("d/readings/s/a/pump-1.csv"), Path("d"))
    's/a/pump-1'
    >>> _asset_of(Path("d/pump-1_2026-11.csv"), Path("d")), _asset_of(Path("d/2026-11.csv"), Path("d"))
    ('pump-1', 'd')
    """
    below = path.relative_to(root) if path != root else Path(path.name)
    if len(below.parts) > 1 and below.parts[0] == READINGS:
        below = below.relative_to(READINGS)
    if _SEQUENCE.fullmatch(below.stem):
        folder = below.parent.as_posix()
        return folder if folder != "." else path.absolute().parent.name or "asset"
    return below.with_name(_DATED.sub("", below.stem)).as_posix()
