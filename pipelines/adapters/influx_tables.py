"""Answers of InfluxDB as our blocks: CSV → arrays, markers → qualities. Pure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.domain import Quality, Readings
from pipelines.adapters.historian_rows import empty
from pipelines.adapters.influx_client import Table
from pipelines.adapters.influx_lines import BAD, DOUBTFUL, UNCERTAIN, VALUE
from pipelines.adapters.influx_names import natural, original

if TYPE_CHECKING:
    import pandas as pd


def nanoseconds(times: Sequence[str]) -> Int64[np.ndarray, " row"]:
    """Times as InfluxDB writes them, as ns since 1970.

    >>> nanoseconds(["1970-01-01T00:00:01.5Z", "1970-01-01T00:00:00Z"]).tolist()
    [1500000000, 0]
    """
    return np.array([time.removesuffix("Z") for time in times], dtype="datetime64[ns]").astype(np.int64)


def tag_names(fields: Iterable[str]) -> tuple[str, ...]:
    """Tags whose value fields these are, t2 before t10.

    >>> tag_names(["v.t10", "u.t2", "v.t2"])
    ('t2', 't10')
    """
    names = {original(field.removeprefix(VALUE)) for field in fields if field.startswith(VALUE)}
    return tuple(sorted(names, key=lambda name: (natural(name), name)))


def reading_rows(asset: str, tags: tuple[str, ...], tables: Iterable[Table]) -> Readings:
    """Rows of `_time`, `_value` and `_field` as one block with these tags, in time order; other fields are passed
    over. Of a doubtful value that was overwritten by a good one nothing is seen: the value field decides.
    """
    parts = [found for table in tables if (found := cells(table, tags)) is not None]
    if not parts:
        return empty(asset, tags, np.zeros(0, dtype=np.int64))
    times, rows = np.unique(np.concatenate([time for time, _, _, _ in parts]), return_inverse=True)
    values, columns, doubtful = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    known = np.full((len(times), len(tags)), np.nan)
    spare = np.full(known.shape, np.nan)
    came = np.zeros(known.shape, dtype=bool)
    told = ~doubtful
    known[rows[told], columns[told]] = values[told]
    came[rows[told], columns[told]] = True
    spare[rows[doubtful], columns[doubtful]] = values[doubtful]
    return _block(asset, tags, times, known, came, spare)


def _block(
    asset: str,
    tags: tuple[str, ...],
    times: np.ndarray,
    known: np.ndarray,
    came: np.ndarray,
    spare: np.ndarray,
) -> Readings:
    quality = np.where(came, Quality.GOOD, Quality.MISSING).astype(np.uint8)
    quality[known == BAD] = Quality.BAD
    uncertain = known == UNCERTAIN
    quality[uncertain] = Quality.UNCERTAIN
    values = np.where(uncertain, spare, np.where(known == BAD, np.nan, known))
    rows = came.any(axis=1)
    return Readings(asset, tags, times[rows], values[rows], quality[rows])


def cells(
    table: Table, tags: tuple[str, ...]
) -> (
    tuple[Int64[np.ndarray, " row"], Float[np.ndarray, " row"], Int64[np.ndarray, " row"], Bool[np.ndarray, " row"]]
    | None
):
    """Time, value, column of the tag, and whether it is a doubtful value, of each row whose tag is asked for; None for
    a table of another shape. Floats come back exactly. What is no number was written by somebody else: passed over.
    """
    if not {"_time", "_value", "_field"} <= set(table.columns):
        return None
    import pandas as pd  # noqa: PLC0415  # only who reads many rows has it installed

    try:
        frame = _frame(table, "float64")
    except ValueError:
        frame = _frame(table, "str")
        frame["_value"] = pd.to_numeric(frame["_value"], errors="coerce")
        frame = frame[frame["_value"].notna()]
    times = pd.to_datetime(frame["_time"], format="ISO8601", utc=True).dt.as_unit("ns").astype("int64").to_numpy()
    place = {tag: i for i, tag in enumerate(tags)}
    fields = [str(field) for field in frame["_field"].cat.categories]
    columns = np.array([place.get(original(field[len(VALUE) :]), -1) for field in fields], dtype=np.int64)
    doubtful = np.array([field.startswith(DOUBTFUL) for field in fields], dtype=bool)
    codes = frame["_field"].cat.codes.to_numpy()
    asked = columns[codes] >= 0
    return times[asked], frame["_value"].to_numpy()[asked], columns[codes][asked], doubtful[codes][asked]


def _frame(table: Table, value: str) -> pd.DataFrame:
    """The three columns we need; `value`: type of the values. Raises ValueError if they are of another."""
    import pandas as pd  # noqa: PLC0415  # only who reads many rows has it installed

    return pd.read_csv(
        io.StringIO(table.text),
        usecols=["_time", "_value", "_field"],
        dtype={"_time": "str", "_value": value, "_field": "category"},
        na_filter=False,
    )
