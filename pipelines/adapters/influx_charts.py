"""Long series thinned by InfluxDB itself: the lowest and the highest reading of each window of time, so that every
spike stays and little travels.
"""

from __future__ import annotations

import numpy as np

from anomaly.domain import Quality, Readings
from pipelines.adapters import influx_flux as flux
from pipelines.adapters.historian_rows import empty, spread
from pipelines.adapters.influx_client import InfluxClient, Table
from pipelines.adapters.influx_lines import DOUBTFUL, VALUE
from pipelines.adapters.influx_names import original, stored
from pipelines.adapters.influx_tables import nanoseconds, reading_rows

_COLUMNS = ("_time", "_value", "_field")


def chart(
    client: InfluxClient, bucket: str, asset: str, tags: tuple[str, ...], span: tuple[int, int], points: int
) -> dict[str, Readings]:
    """See `HistorianReader.chart`. A tag with few rows comes whole; so does one with uncertain readings, and is thinned
    here, since only whole rows tell which doubtful value still counts.
    """
    doing = f"read a chart of {asset}"
    counts = _counts(client.query(_survey(bucket, asset, tags, span), doing))
    whole = tuple(tag for tag in tags if tag in counts and (counts[tag][0] <= points or counts[tag][1]))
    thin = tuple(tag for tag in tags if tag in counts and tag not in whole)
    charts = {tag: empty(asset, (tag,), nanoseconds([])) for tag in tags}
    if whole:
        fields = [prefix + stored(tag) for tag in whole for prefix in (VALUE, DOUBTFUL)]
        rows = f"{flux.samples(bucket, asset, span)} |> filter(fn: (r) => {flux.one_of('_field', fields)})"
        charts |= spread(
            reading_rows(asset, whole, client.query(flux.named(rows, "rows", *_COLUMNS), doing)), whole, points
        )
    if thin:
        first, last = min(counts[tag][2] for tag in thin), max(counts[tag][3] for tag in thin)
        width = _width(first, last, points)
        tables = client.query(_windows(bucket, asset, thin, (first, last + 1), width), doing)
        charts |= {tag: _thinned(asset, tag, tables, width or last + 1) for tag in thin}
    return charts


def _survey(bucket: str, asset: str, tags: tuple[str, ...], span: tuple[int, int]) -> str:
    rows = flux.samples(bucket, asset, span, tags)
    return "\n".join(
        (
            flux.named(f"{rows} |> count()", "count", "_value", "_field"),
            flux.named(f"{rows} |> filter(fn: (r) => {flux.IS_UNCERTAIN}) |> count()", "uncertain", "_value", "_field"),
            flux.named(f"{rows} |> first()", "first", "_time", "_field"),
            flux.named(f"{rows} |> last()", "last", "_time", "_field"),
        )
    )


def _counts(tables: list[Table]) -> dict[str, tuple[int, int, int, int]]:
    """Per tag: rows, uncertain rows, first and last time."""
    found: dict[str, dict[str, int]] = {}
    for table in tables:
        for row in table.rows():
            value = int(row["_value"]) if "_value" in row else int(nanoseconds([row["_time"]])[0])
            found.setdefault(original(row["_field"].removeprefix(VALUE)), {})[table.result] = value
    return {
        tag: (of["count"], of.get("uncertain", 0), of["first"], of["last"])
        for tag, of in found.items()
        if "count" in of and "first" in of and "last" in of
    }


def _width(first: int, last: int, points: int) -> int | None:
    """Width of windows so that two points of each make at most `points`; None: one window for all. Windows begin at
    multiples of it, so that the picture stands still while its span moves on.
    """
    windows = max(1, points // 2)
    return None if windows == 1 else -(-(last - first) // (windows - 1)) or 1


def _windows(bucket: str, asset: str, tags: tuple[str, ...], span: tuple[int, int], width: int | None) -> str:
    rows = flux.samples(bucket, asset, span, tags)
    window = "" if width is None else f" |> window(every: {width}ns)"
    return "\n".join(
        flux.named(f"{rows} |> filter(fn: (r) => {condition}){window} |> {pick}()", pick, *_COLUMNS)
        for condition, pick in ((flux.IS_KNOWN, "min"), (flux.IS_KNOWN, "max"), (flux.IS_BAD, "first"))
    )


def _thinned(asset: str, tag: str, tables: list[Table], width: int) -> Readings:
    """The extremes, and the first bad reading of each window in which nothing was known."""
    known = reading_rows(asset, (tag,), [table for table in tables if table.result != "first"])
    bad = reading_rows(asset, (tag,), [table for table in tables if table.result == "first"])
    gaps = ~np.isin(bad.times // width, known.times // width)
    times = np.concatenate([known.times, bad.times[gaps]])
    order = np.argsort(times, kind="stable")
    values = np.concatenate([known.values, bad.values[gaps]])[order]
    quality = np.concatenate([known.quality, bad.quality[gaps]])[order].astype(np.uint8)
    assert not (quality == Quality.MISSING).any()
    return Readings(asset, (tag,), times[order], values, quality)
