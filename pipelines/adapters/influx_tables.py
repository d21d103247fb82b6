"""Answers of InfluxDB as our blocks: CSV → arrays, markers → qualities. Pure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int64

from anomaly.domain import Quality, Readings
from pipelines.adapters.historian_rows import empty
from pipelines.adapters.influx_client import Table
from pipelines.adapters.influx_lines import BAD, UNCERTAIN, VALUE
from pipelines.adapters.influx_names import natural, original


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
    cells = [found for table in tables if (found := _cells(table)) is not None]
    if not cells:
        return empty(asset, tags, np.zeros(0, dtype=np.int64))
    times, place = np.unique(np.concatenate([time for time, _, _ in cells]), return_inverse=True)
    values = np.concatenate([value for _, value, _ in cells])
    fields = np.concatenate([field for _, _, field in cells])
    column = {tag: i for i, tag in enumerate(tags)}
    known = np.full((len(times), len(tags)), np.nan)
    came = np.zeros(known.shape, dtype=bool)
    doubtful = np.full(known.shape, np.nan)
    for field in dict.fromkeys(fields.tolist()):
        at = column.get(original(field[len(VALUE) :]))
        mine = fields == field
        if at is None:
            continue
        target = known if field.startswith(VALUE) else doubtful
        target[place[mine], at] = values[mine]
        if target is known:
            came[place[mine], at] = True
    return _block(asset, tags, times, known, came, doubtful)


def _block(
    asset: str,
    tags: tuple[str, ...],
    times: np.ndarray,
    known: np.ndarray,
    came: np.ndarray,
    doubtful: np.ndarray,
) -> Readings:
    quality = np.where(came, Quality.GOOD, Quality.MISSING).astype(np.uint8)
    quality[known == BAD] = Quality.BAD
    uncertain = known == UNCERTAIN
    quality[uncertain] = Quality.UNCERTAIN
    values = np.where(uncertain, doubtful, np.where(known == BAD, np.nan, known))
    rows = came.any(axis=1)
    return Readings(asset, tags, times[rows], values[rows], quality[rows])


def _cells(table: Table) -> tuple[Int64[np.ndarray, " row"], Float[np.ndarray, " row"], np.ndarray] | None:
    """Time, value and field name of each row; None for a table of another shape. Floats come back exactly."""
    if not {"_time", "_value", "_field"} <= set(table.columns):
        return None
    import pandas as pd  # noqa: PLC0415  # only who reads many rows has it installed

    frame = pd.read_csv(
        io.StringIO(table.text),
        usecols=["_time", "_value", "_field"],
        dtype={"_time": "str", "_value": "float64", "_field": "category"},
        na_filter=False,
    )
    times = pd.to_datetime(frame["_time"], format="ISO8601", utc=True).dt.as_unit("ns").astype("int64").to_numpy()
    names = np.array(frame["_field"].cat.categories.tolist(), dtype=object)
    return times, frame["_value"].to_numpy(), names[frame["_field"].cat.codes.to_numpy()]
