"""The long way from a payload to blocks of readings: find the format, unwrap what is around, read what is inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from anomaly.domain import Readings
from anomaly.errors import DecodeError
from pipelines.formats import cloudevents, connect, line_protocol, native, opcua, telegraf
from pipelines.formats.context import Context
from pipelines.formats.names import Format
from pipelines.formats.recognising import Headers, by_headers, by_lower_name, by_shape, unknown
from pipelines.formats.rows import Row, joined
from pipelines.formats.trees import parse_tree
from pipelines.reasons import Reason

_LAYERS: Final = 8
"""So many envelopes in one another are opened."""
_ROWS: Final[Mapping[Format | None, Callable[[dict[str, Any], Context], Iterator[Row]]]] = {
    Format.NATIVE: native.rows,
    Format.OPCUA: opcua.rows,
    Format.TELEGRAF: telegraf.rows,
}


def read(value: bytes, key: bytes | None, headers: Headers, wanted: Format) -> list[Readings]:
    """The blocks of one payload; perhaps none. Raises DecodeError."""
    context, inside = Context(key), wanted
    if headers:
        table = by_lower_name(headers)
        said = by_headers(table) if wanted in (Format.AUTO, Format.CLOUDEVENTS) else None
        if said is Format.CLOUDEVENTS and cloudevents.STRUCTURED not in table.get("content-type", b"").decode(
            "latin-1"
        ):
            context, inside = cloudevents.from_headers(table, context), Format.AUTO
        elif said is not None:
            inside = said
    lines = line_protocol.looks_like_lines(value)
    if inside is Format.INFLUX or (inside is Format.AUTO and lines):
        return joined(line_protocol.rows(value, context))
    if lines:
        raise unknown(value, inside)
    return _blocks(parse_tree(value), context, inside)


def _blocks(tree: Any, context: Context, wanted: Format) -> list[Readings]:
    """Of an array every entry counts; entries that delete a row count as nothing unless all do."""
    rows: list[Row] = []
    blocks: list[Readings] = []
    deleted: DecodeError | None = None
    parts = tree if isinstance(tree, list) else [tree]
    for part in parts:
        try:
            for found in _part(part, context, wanted):
                rows.append(found) if isinstance(found, Row) else blocks.append(found)
        except DecodeError as error:
            if error.reason != Reason.TOMBSTONE:
                raise
            deleted = error
    if deleted is not None and not rows and not blocks:
        raise deleted
    return blocks + joined(rows)


def _part(tree: Any, context: Context, wanted: Format) -> Iterator[Row | Readings]:
    """Rows and column blocks of one object, its envelopes opened one by one."""
    found = by_shape(tree) if isinstance(tree, dict) else None
    if wanted not in (Format.AUTO, Format.CONNECT, found):
        raise unknown(tree, wanted)
    of_table = wanted is Format.CONNECT
    for _ in range(_LAYERS):
        if found is Format.CONNECT:
            tree, context = connect.unwrapped(tree, context)
            of_table = True
        elif found is Format.CLOUDEVENTS:
            tree, context = cloudevents.unwrapped(tree, context)
        else:
            return _content(tree, context, of_table)
        found = by_shape(tree) if isinstance(tree, dict) else None
    raise DecodeError(Reason.TOO_DEEP, f"more than {_LAYERS} envelopes in one another; expected one or two")


def _content(tree: Any, context: Context, of_table: bool) -> Iterator[Row | Readings]:
    """What is inside all envelopes: an object, an array of them, or line protocol."""
    if isinstance(tree, bytes):
        yield from line_protocol.rows(tree, context)
        return
    for part in tree if isinstance(tree, list) else [tree]:
        found = by_shape(part) if isinstance(part, dict) else None
        if found is Format.NATIVE and native.is_columns(part):
            yield native.columns(part, context)
        elif found in _ROWS:
            yield from _ROWS[found](part, context)
        elif of_table and isinstance(part, dict) and found is None:
            yield from connect.rows(part, context)
        else:
            raise unknown(part)
