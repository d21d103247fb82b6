"""Tables as files hold them (CSV in chunks, Parquet in batches) → data frames with the line of each row."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from anomaly.errors import DataError
from pipelines.sources.columns import Columns, find_columns
from pipelines.sources.csv_dialect import Dialect, EmptyFileError, decode_head, header_names
from pipelines.sources.csv_lines import LineChunk, chunks, unreadable

_EXTRA: Final = "\0extra"
"""A last column that only rows with a separator at their end have; it must be empty."""
_BATCH: Final = 50_000
DAMAGE: Final = (pa.ArrowException, KeyError, ValueError, TypeError, OverflowError, NotImplementedError)
"""What the Parquet reader raises over damaged files (its own errors, and what its code trips over)."""


def csv_frames(path: Path, dialect: Dialect, header: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """Frames of the file's rows, indexed by line number; words as text, numbers as numbers where all of a chunk are.

    Raises DataError: the file cannot be read, a row has more fields than the header, a line is too long.
    """
    for i, chunk in enumerate(chunks(path)):
        text, _ = decode_head(path, chunk.content)
        skip = 0
        if i == 0:
            skip = next(n for n, line in enumerate(text.split("\n"), 1) if line.strip())
            text = text.split("\n", skip)[skip] if text.count("\n") >= skip else ""
        if text.strip():
            frame = _parse(path, text, dialect, header, LineChunk(b"", chunk.line + skip))
            yield frame.dropna(how="all")


def _parse(path: Path, text: str, dialect: Dialect, header: tuple[str, ...], chunk: LineChunk) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text),
                sep=dialect.separator,
                decimal=dialect.decimal,
                names=[*header, _EXTRA],
                header=None,
                index_col=False,
                dtype=dict.fromkeys(dialect.columns.texts, "str"),
                na_values=[""],
                keep_default_na=False,
                skip_blank_lines=False,
                low_memory=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        if "EOF inside string" in str(error):
            raise DataError(f"{path}: a quote is opened from line {chunk.line} on and never closed") from error
        raise _too_wide(path, chunk.line, len(header), str(error)) from error
    extra = frame.pop(_EXTRA)
    if extra.notna().any():
        odd = int(extra.notna().to_numpy().argmax())
        raise DataError(f"{path}: line {chunk.line + odd} has more fields than the header's {len(header)} columns")
    frame.index = pd.RangeIndex(chunk.line, chunk.line + len(frame))
    return frame


def _too_wide(path: Path, first: int, columns: int, said: str) -> DataError:
    """A row with too many fields; the parser counts lines from the chunk's beginning."""
    where = re.search(r"in line (\d+), saw (\d+)", said)
    line = f"line {first + int(where[1]) - 1} has {where[2]} fields," if where else f"a row from line {first} on has"
    return DataError(
        f"{path}: {line} more fields than the header's {columns} columns; is a separator inside a value? Put it in "
        "quotes, or mend the row"
    )


def parquet_columns(path: Path) -> Columns:
    """The use of the columns of a Parquet file. Raises DataError (EmptyFileError where it has no rows)."""
    try:
        with pq.ParquetFile(path) as file:
            names = header_names(path, list(file.schema_arrow.names))
            types = {field.name: field.type for field in file.schema_arrow}
            first = next((_bare(batch) for batch in file.iter_batches(batch_size=100)), None)
    except OSError as error:
        raise unreadable(path, error) from error
    except DAMAGE as error:
        raise DataError(f"{path} is no Parquet file, or a damaged one: {error!r}") from error
    if first is None or first.empty:
        raise EmptyFileError(f"{path} has columns ({', '.join(names[:5])}) and no rows; expected rows of data")
    stamped = [name for name in names if pa.types.is_timestamp(types[name])]
    order = [*stamped, *(name for name in names if name not in stamped)]
    return find_columns(path, order, [[_shown(first[name].iloc[row]) for name in order] for row in range(len(first))])


def _bare(batch: pa.RecordBatch) -> pd.DataFrame:
    """The columns, without what pandas may have noted of its index."""
    frame: pd.DataFrame = batch.replace_schema_metadata(None).to_pandas()
    return frame


def _shown(cell: Any) -> str:
    return cell.isoformat() if isinstance(cell, pd.Timestamp) else str(cell)


def parquet_frames(path: Path) -> Iterator[pd.DataFrame]:
    """Frames of the file's rows, indexed by row number from 1. Raises DataError."""
    row = 1
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                frame = _bare(batch)
                frame.index = pd.RangeIndex(row, row + len(frame))
                row += len(frame)
                yield frame
    except OSError as error:
        raise unreadable(path, error) from error
    except DAMAGE as error:
        raise DataError(f"{path} is damaged from row {row} on: {error!r}") from error


def lines_of(frame: pd.DataFrame) -> np.ndarray:
    """Line number of each row, for messages."""
    return frame.index.to_numpy(dtype=np.int64)
