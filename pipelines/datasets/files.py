"""Text files of numbers, with errors that say which file, what came and what was expected. Nothing is unpickled."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from anomaly.errors import DataError
from pipelines.sources.file_times import detect, parse_column


def folder(path: Path, what: str) -> Path:
    """The folder, or DataError if it is not one."""
    if not path.is_dir():
        raise DataError(f"{path} is no folder; expected {what}")
    return path


def text_of(path: Path) -> str:
    """A text file, plain or gzip. Raises DataError: missing, unreadable, damaged, or no text."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; it belongs to the data set's layout (see its README)") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected text, or text packed by gzip") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; expected numbers as text") from None


def plain_or_packed(path: Path) -> Path:
    """The file itself, or with `.gz`, whichever is there; the plain name if neither."""
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


def matrix(path: Path, separator: str | None) -> Float[np.ndarray, "row column"]:
    """A table of numbers without a header; `separator` None: any white space. Raises DataError."""
    lines = [line for line in text_of(path).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; expected rows of numbers")
    rows = [line.split(separator) for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}, row {number}: {len(row)} columns, the first row has {len(rows[0])}")
    try:
        return np.array(rows, dtype=float)
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected numbers only") from error


def labels_in(path: Path, rows: int) -> Bool[np.ndarray, " row"]:
    """One 0 or 1 a row, as many as the test has. Raises DataError."""
    found = matrix(path, None)
    if found.shape != (rows, 1):
        raise DataError(f"{path} has {found.shape[0]} rows of {found.shape[1]} columns; expected {rows} labels")
    return as_labels(found[:, 0], str(path))


def as_labels(found: Float[np.ndarray, " row"], where: str) -> Bool[np.ndarray, " row"]:
    """Labels of zeros and ones; raises DataError for anything else."""
    if not np.isin(found, (0.0, 1.0)).all():
        strange = found[~np.isin(found, (0.0, 1.0))][0]
        raise DataError(f"{where}: label {strange} came; expected 0 (normal) or 1 (anomalous) in every row")
    return np.asarray(found == 1.0)


def table(path: Path, separator: str, needed: tuple[str, ...]) -> pd.DataFrame:
    """A CSV with a header, every cell as text (empty: ""). Raises DataError."""
    text_of(path)
    try:
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(
            f"{path} is no table: {error}; expected CSV with a header, separated by {separator!r}"
        ) from error
    lost = [name for name in needed if name not in frame.columns]
    if lost:
        raise DataError(f"{path} has no column {', '.join(lost)}; it has {', '.join(map(str, frame.columns[:12]))}")
    if not len(frame):
        raise DataError(f"{path} has a header and no row; expected rows of data")
    return frame


def times_in(column: pd.Series[Any], path: Path) -> Int64[np.ndarray, " row"]:
    """Times of a column of text, ns; without a zone they are UTC. Raises DataError for one that is no time."""
    form = detect(column.str.strip().tolist(), str(path), day_first=None)
    return parse_column(column, form, "UTC", str(path), range(2, len(column) + 2))


def numbers_in(frame: pd.DataFrame) -> tuple[Float[np.ndarray, "row column"], Bool[np.ndarray, "row column"]]:
    """Numbers of text cells, NaN where there is none; and where something came that is no number."""
    texts = frame.apply(lambda column: column.str.strip())
    values = texts.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    empty = texts.apply(lambda column: column.str.lower().isin(["", "nan", "na", "null"])).to_numpy(bool)
    return values, ~np.isfinite(values) & ~empty


def tick_of(times: Int64[np.ndarray, " row"], path: Path) -> int:
    """The median step, ns, to three digits. Raises DataError if no time differs from another."""
    steps = np.diff(np.unique(times))
    if not len(steps):
        raise DataError(f"{path} has one time only, from which no tick follows; expected at least two")
    return max(round(float(f"{float(np.median(steps)):.3g}")), 1)
