"""Our own shapes (formats 1 to 3): a row, a batch of columns, single values as gateways name them.

{"asset", "ts", "values": {tag: number}, "quality": {tag: word}}        one row
the same with arrays, one entry a time of `ts`                           a batch of columns
{"asset", "tag", "ts", "value", "quality"}                               narrow; aliases below
{"timestamp", "values": [{"id", "v", "q", "t"}]}                         Kepware's IoT gateway
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from anomaly.domain import Readings
from anomaly.errors import DecodeError
from pipelines.formats.cells import BAD, MISSING, judged, number
from pipelines.formats.context import Context
from pipelines.formats.naming import name, tag_names
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT, first
from pipelines.qualities import parse_quality
from pipelines.reasons import Reason
from pipelines.times import parse_times

TIME: Final = ("ts", "timestamp", "time", "t")
TAG: Final = ("tag", "tagname", "id")
VALUE: Final = ("value", "v")
QUALITY: Final = ("quality", "q")
EXPECTED: Final = (
    "{asset, ts, values: {tag: number}}, the same with arrays, or {asset, tag, ts, value} (see docs/formats.md)"
)
_PLAIN: Final = frozenset({float, int, type(None)})


def is_native(tree: dict[str, Any]) -> bool:
    """Whether this is one of our shapes, right or not."""
    return "values" in tree or is_narrow(tree)


def is_narrow(tree: dict[str, Any]) -> bool:
    """Whether this is one value of one tag."""
    return not tree.keys().isdisjoint(VALUE) and not tree.keys().isdisjoint(TAG)


def is_columns(tree: dict[str, Any]) -> bool:
    """Whether this is a batch of columns."""
    return "values" in tree and isinstance(first(tree, *TIME), list)


def rows(tree: dict[str, Any], context: Context) -> Iterator[Row]:
    """A native row, a narrow reading or a batch of them; no columns. Raises DecodeError."""
    values = tree.get("values", ABSENT)
    if isinstance(values, dict):
        yield _row(tree, values, context)
    elif isinstance(values, list):
        asset = context.asset_of(tree.get("asset", ABSENT))
        common = first(tree, *TIME)
        for part in values:
            if not isinstance(part, dict):
                raise _unknown()
            yield _narrow(part, asset, context, common)
    else:
        yield _narrow(tree, context.asset_of(tree.get("asset", ABSENT)), context)


def _unknown() -> DecodeError:
    return DecodeError(Reason.UNKNOWN_FORMAT, f"the payload has none of our own shapes; expected {EXPECTED}")


def _row(tree: dict[str, Any], values: dict[str, Any], context: Context) -> Row:
    tags = tag_names(values)
    said = first(tree, *QUALITY)
    codes = said if isinstance(said, dict) else {} if said is ABSENT else dict.fromkeys(tags, said)
    cells = [judged(number(values[tag]), codes.get(tag)) for tag in tags]
    time = context.time_of(first(tree, *TIME))
    asset = context.asset_of(tree.get("asset", ABSENT))
    return Row(asset, time, tags, [value for value, _ in cells], [quality for _, quality in cells])


def _narrow(tree: dict[str, Any], asset: str, context: Context, common: Any = ABSENT) -> Row:
    tag, value, time = first(tree, *TAG), first(tree, *VALUE), first(tree, *TIME)
    if tag is ABSENT or value is ABSENT:
        raise _unknown()
    said = first(tree, *QUALITY)
    cell = judged(number(value), None if said is ABSENT else said)
    moment = context.time_of(common if time is ABSENT else time)
    return Row(asset, moment, (name(tag, "tag"),), (cell[0],), (cell[1],))


def columns(tree: dict[str, Any], context: Context) -> Readings:
    """A batch of columns. Raises DecodeError."""
    found = tree["values"]
    if not isinstance(found, dict):
        raise _unknown()
    tags = tag_names(found)
    times = parse_times(first(tree, *TIME))
    values = np.empty((len(times), len(tags)))
    for i, tag in enumerate(tags):
        values[:, i] = _column(_long(found[tag], len(times), f"values of {tag!r}"))
    quality = said_quality(first(tree, *QUALITY), tags, len(times))
    quality[~np.isfinite(values) & (quality != MISSING)] = BAD
    values[quality >= BAD] = np.nan
    return Readings(context.asset_of(tree.get("asset", ABSENT)), tags, times, values, quality)


def said_quality(said: Any, tags: tuple[str, ...], rows: int) -> UInt8[np.ndarray, "row tag"]:
    """What the payload says of its columns: one word for all, one a column, or one a value."""
    quality = np.zeros((rows, len(tags)), dtype=np.uint8)
    for i, tag in enumerate(tags if said is not ABSENT else ()):
        codes = said.get(tag) if isinstance(said, dict) else said
        if isinstance(codes, list):
            quality[:, i] = [parse_quality(code) for code in _long(codes, rows, f"quality of {tag!r}")]
        elif codes is not None:
            quality[:, i] = parse_quality(codes)
    return quality


def _long(column: Any, rows: int, what: str) -> list[Any]:
    if isinstance(column, list) and len(column) == rows:
        return column
    came = f"{len(column)} entries" if isinstance(column, list) else f"a {type(column).__name__}"
    raise DecodeError(Reason.LENGTH_MISMATCH, f"{what}: {came} came, but `ts` has {rows} times; they must match")


def _column(column: list[Any]) -> Float[np.ndarray, " row"]:
    if set(map(type, column)) <= _PLAIN:
        try:
            return np.array(column, dtype=np.float64)
        except OverflowError:
            pass
    return np.array([number(value) for value in column], dtype=np.float64)
