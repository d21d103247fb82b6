"""Flux scripts: what the reader asks. Names enter only through `influx_names.flux`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pipelines.adapters.influx_lines import SAMPLE, VALUE
from pipelines.adapters.influx_names import flux as literal
from pipelines.adapters.influx_names import stored
from pipelines.adapters.influx_result_lines import CHAMPION

EARLIEST: Final = -9_223_372_036_854_775_806
LATEST: Final = 9_223_372_036_854_775_806
"""The times InfluxDB knows, ns; the last one cannot be asked for."""


def fit(since: int, until: int) -> tuple[int, int] | None:
    """The span within what InfluxDB knows; None if nothing can be in it (Flux calls an empty span an error)."""
    low, high = max(since, EARLIEST), min(until, LATEST)
    return (low, high) if low < high else None


def source(bucket: str, since: int, until: int, measurement: str, *conditions: str) -> str:
    """Rows of one measurement in a span that all conditions hold for."""
    tests = " and ".join((f"r._measurement == {literal(measurement)}", *conditions))
    return (
        f"from(bucket: {literal(bucket)}) |> range(start: time(v: {since}), stop: time(v: {until}))"
        f" |> filter(fn: (r) => {tests})"
    )


def is_asset(asset: str) -> str:
    """Condition: rows of this machine."""
    return f"r.asset == {literal(stored(asset))}"


def one_of(column: str, names: Iterable[str]) -> str:
    """Condition: the column has one of these values."""
    return "(" + " or ".join(f"r.{column} == {literal(name)}" for name in names) + ")"


def samples(bucket: str, asset: str, span: tuple[int, int], tags: Iterable[str] | None = None) -> str:
    """Value fields of one machine, of some tags or all fields there are."""
    fields = [] if tags is None else [one_of("_field", [VALUE + stored(tag) for tag in tags])]
    return source(bucket, *span, SAMPLE, is_asset(asset), *fields)


CHAMPIONS: Final = f"r.role == {literal(CHAMPION)}"


def named(script: str, result: str, *columns: str) -> str:
    """The script's answer under a name, with these columns alone."""
    kept = ", ".join(literal(column) for column in columns)
    return f"{script} |> keep(columns: [{kept}]) |> yield(name: {literal(result)})"


def field_names(bucket: str, asset: str, result: str) -> str:
    """Names of all fields ever stored of one machine; needs `SCHEMA` at the script's head."""
    test = f"r._measurement == {literal(SAMPLE)} and {is_asset(asset)}"
    return (
        f'schema.tagValues(bucket: {literal(bucket)}, tag: "_field", start: time(v: {EARLIEST}), '
        f"stop: time(v: {LATEST}), predicate: (r) => {test}) |> yield(name: {literal(result)})"
    )


def asset_names(bucket: str) -> str:
    """Values of the tag `asset` among samples."""
    return (
        f'{SCHEMA}schema.tagValues(bucket: {literal(bucket)}, tag: "asset", start: time(v: {EARLIEST}), '
        f"stop: time(v: {LATEST}), predicate: (r) => r._measurement == {literal(SAMPLE)})"
    )


SCHEMA: Final = 'import "influxdata/influxdb/schema"\n'
