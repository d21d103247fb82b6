"""Long series thinned by InfluxDB itself: the lowest and the highest reading of each window of time, so that every
spike stays and little travels.

InfluxDB does that out of its index only if it is asked for plain extremes. `BAD` and `UNCERTAIN` are lower than any
reading, so they show as the lowest of a window; windows that hold them and readings too are then read whole, here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from anomaly.domain import Quality, Readings
from pipelines.adapters import influx_flux as flux
from pipelines.adapters.historian_rows import empty, extremes, spread
from pipelines.adapters.influx_client import InfluxClient, Table
from pipelines.adapters.influx_lines import BAD, DOUBTFUL, UNCERTAIN, VALUE
from pipelines.adapters.influx_names import original, stored
from pipelines.adapters.influx_tables import cells, nanoseconds, reading_rows

_COLUMNS = ("_time", "_value", "_field")


class _Extent(NamedTuple):
    """How many rows of a tag there are, and from when to when, ns."""

    rows: int
    first: int
    last: int


class _Windows(NamedTuple):
    """Lowest and highest stored value of each window of one tag, in time order."""

    low_times: Int64[np.ndarray, " window"]
    low: Float[np.ndarray, " window"]
    high_times: Int64[np.ndarray, " window"]
    high: Float[np.ndarray, " window"]

    @property
    def bad(self) -> Bool[np.ndarray, " window"]:
        """Nothing but bad readings."""
        bad: np.ndarray = self.high == BAD
        return bad

    @property
    def mixed(self) -> Bool[np.ndarray, " window"]:
        """Markers and readings, or uncertain readings: the extremes do not tell all."""
        mixed: np.ndarray = (self.low <= UNCERTAIN) & ~self.bad
        return mixed


def chart(
    client: InfluxClient, bucket: str, asset: str, tags: tuple[str, ...], span: tuple[int, int], points: int
) -> dict[str, Readings]:
    """See `HistorianReader.chart`. A tag with at most `points` rows comes whole."""
    asked = _Asked(client, bucket, asset)
    extents = asked.extents(tags, span)
    charts = {tag: empty(asset, (tag,), nanoseconds([])) for tag in tags}
    whole = tuple(tag for tag, extent in extents.items() if extent.rows <= points)
    if whole:
        charts |= spread(asked.rows(whole, span), whole, points)
    thin = tuple(tag for tag, extent in extents.items() if extent.rows > points)
    if thin:
        first, last = min(extents[tag].first for tag in thin), max(extents[tag].last for tag in thin)
        charts |= asked.thinned(thin, (first, last + 1), _width(first, last, points))
    return charts


def _width(first: int, last: int, points: int) -> int | None:
    """Width of windows so that two points of each make at most `points`; None: one window for all. Windows begin at
    multiples of it, so that the picture stands still while its span moves on.
    """
    windows = max(1, points // 2)
    return None if windows == 1 else -(-(last - first) // (windows - 1)) or 1


class _Asked(NamedTuple):
    """Questions about the samples of one asset."""

    client: InfluxClient
    bucket: str
    asset: str

    def extents(self, tags: tuple[str, ...], span: tuple[int, int]) -> dict[str, _Extent]:
        """Of each tag that has rows."""
        rows = flux.samples(self.bucket, self.asset, span, tags)
        asked = (("count", "_value"), ("first", "_time"), ("last", "_time"))
        tables = self._query("\n".join(flux.named(f"{rows} |> {what}()", what, at, "_field") for what, at in asked))
        found: dict[str, dict[str, int]] = {}
        for table in tables:
            for row in table.rows():
                value = int(row["_value"]) if table.result == "count" else int(nanoseconds([row["_time"]])[0])
                found.setdefault(original(row["_field"].removeprefix(VALUE)), {})[table.result] = value
        return {
            tag: _Extent(at["count"], at["first"], at["last"])
            for tag in tags
            if len(at := found.get(tag, {})) == len(asked)
        }

    def rows(self, tags: tuple[str, ...], span: tuple[int, int]) -> Readings:
        """All rows of these tags."""
        fields = [prefix + stored(tag) for tag in tags for prefix in (VALUE, DOUBTFUL)]
        script = f"{flux.samples(self.bucket, self.asset, span)} |> filter(fn: (r) => {flux.one_of('_field', fields)})"
        return reading_rows(self.asset, tags, self._query(flux.named(script, "rows", *_COLUMNS)))

    def thinned(self, tags: tuple[str, ...], span: tuple[int, int], width: int | None) -> dict[str, Readings]:
        """The extremes of each window, and one bad reading of each window in which nothing else came."""
        rows = flux.samples(self.bucket, self.asset, span, tags)
        window = "" if width is None else f" |> window(every: {width}ns)"
        tables = self._query(
            "\n".join(flux.named(f"{rows}{window} |> {end}()", end, *_COLUMNS) for end in ("min", "max"))
        )
        found = dict(zip(tags, _windows(tables, tags), strict=True))
        mixed = tuple(tag for tag in tags if found[tag].mixed.any())
        charts = {tag: _drawn(self.asset, tag, found[tag]) for tag in tags}
        if mixed:
            spans = [_mixed_span(found[tag], width, span) for tag in mixed]
            read = self.rows(mixed, (min(low for low, _ in spans), max(high for _, high in spans)))
            charts |= {tag: _mended(charts[tag], read, tag, found[tag], width) for tag in mixed}
        return charts

    def _query(self, script: str) -> list[Table]:
        return self.client.query(script, f"read a chart of {self.asset}")


def _windows(tables: list[Table], tags: tuple[str, ...]) -> list[_Windows]:
    ends = {}
    for end in ("min", "max"):
        parts = [part for table in tables if table.result == end and (part := cells(table, tags)) is not None]
        times, values, columns = (np.concatenate([part[i] for part in parts]) for i in range(3))
        order = np.lexsort((times, columns))
        ends[end] = times[order], values[order], columns[order]
    (low_times, low, places), (high_times, high, _) = ends["min"], ends["max"]
    mine = [places == column for column in range(len(tags))]
    return [_Windows(low_times[at], low[at], high_times[at], high[at]) for at in mine]


def _number(times: Int64[np.ndarray, " row"], width: int | None) -> Int64[np.ndarray, " row"]:
    """Which window each time is in."""
    return np.zeros(len(times), dtype=np.int64) if width is None else times // width


def _mixed_span(windows: _Windows, width: int | None, span: tuple[int, int]) -> tuple[int, int]:
    """From the first to the last window that must be read whole."""
    if width is None:
        return span
    numbers = _number(windows.low_times[windows.mixed], width)
    return int(numbers[0]) * width, (int(numbers[-1]) + 1) * width


def _drawn(asset: str, tag: str, windows: _Windows) -> Readings:
    """What the extremes alone tell."""
    plain = windows.low > UNCERTAIN
    times = np.concatenate([windows.low_times[plain], windows.high_times[plain], windows.high_times[windows.bad]])
    values = np.concatenate([windows.low[plain], windows.high[plain], np.full(int(windows.bad.sum()), np.nan)])
    times, first = np.unique(times, return_index=True)
    values = values[first]
    quality = np.where(np.isnan(values), Quality.BAD, Quality.GOOD).astype(np.uint8)
    return Readings(asset, (tag,), times, values[:, None], quality[:, None])


def _mended(drawn: Readings, read: Readings, tag: str, windows: _Windows, width: int | None) -> Readings:
    """With the extremes of mixed windows, out of their rows."""
    column = read.tags.index(tag)
    wanted = np.isin(_number(read.times, width), _number(windows.low_times[windows.mixed], width))
    rows = np.flatnonzero(wanted & (read.quality[:, column] != Quality.MISSING))
    kept = rows[extremes(read.values[rows, column], _number(read.times[rows], width))]
    times = np.concatenate([drawn.times, read.times[kept]])
    order = np.argsort(times, kind="stable")
    values = np.concatenate([drawn.values[:, 0], read.values[kept, column]])[order]
    quality = np.concatenate([drawn.quality[:, 0], read.quality[kept, column]])[order].astype(np.uint8)
    return Readings(drawn.asset, drawn.tags, times[order], values[:, None], quality[:, None])
