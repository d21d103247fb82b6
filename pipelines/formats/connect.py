"""Kafka Connect's JsonConverter and Debezium (format 7): envelopes around a row of a table.

{"schema": {…}, "payload": row}                                          JsonConverter, schemas.enable=true
{"before", "after": row, "source", "op": "c|u|r|d", "ts_ms"}             Debezium, with or without schema

The row is any shape we know, or a table's own: a column for the machine, one for the time, every other a tag. A delete
says nothing of a machine: it is counted as a tombstone and skipped. A key that Connect wrote is unwrapped too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.formats.cells import judged, number
from pipelines.formats.context import Context
from pipelines.formats.line_protocol import tree_or_lines
from pipelines.formats.naming import tag_names
from pipelines.formats.native import QUALITY, TIME
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT, first, parse_tree
from pipelines.reasons import Reason

EXPECTED: Final = "{schema, payload: row}, or Debezium's {before, after: row, source, op}"
_NO_TAGS: Final = frozenset({"asset", "id", *TIME, *QUALITY})
_META: Final = "__"
"""Columns that Debezium's ExtractNewRecordState adds begin so."""
_DELETE: Final = ("d", "t")


def is_envelope(tree: dict[str, Any]) -> bool:
    """Whether this wraps a row."""
    return "payload" in tree or ("after" in tree and not tree.keys().isdisjoint(("op", "before", "source")))


def unwrapped(tree: dict[str, Any], context: Context) -> tuple[Any, Context]:
    """What is inside, one layer, and the context with Connect's key unwrapped.

    Raises DecodeError(`tombstone`): a delete, a truncate, a null.
    """
    if "payload" in tree:
        inside = tree["payload"]
        if inside is None:
            raise _gone("its payload is null")
        if isinstance(inside, str):
            inside = tree_or_lines(_bytes(inside, tree.get("schema")))
    elif tree.get("op") in _DELETE or tree["after"] is None:
        raise _gone(f"Debezium says op {tree.get('op')!r}, and no row is after it")
    else:
        inside = tree["after"]
    return inside, replace(context, key=_key(context.key))


def rows(tree: dict[str, Any], context: Context) -> Iterator[Row]:
    """The row of a table whose columns are tags. Raises DecodeError."""
    if tree.get(_META + "deleted") in (True, "true"):
        raise _gone("__deleted is true")
    time = first(tree, *TIME)
    columns = {name: value for name, value in tree.items() if name not in _NO_TAGS and not name.startswith(_META)}
    if time is ABSENT or not columns:
        known = ", ".join(map(repr, list(tree)[:8]))
        raise DecodeError(
            Reason.UNKNOWN_FORMAT,
            f"the envelope holds a row with the columns {known[:200]}; expected a shape of docs/formats.md, or columns "
            f"`asset` (or the machine as key), `ts` and one a tag; rename them by Connect's ReplaceField",
        )
    said = first(tree, *QUALITY)
    cells = [judged(number(value), None if said is ABSENT else said) for value in columns.values()]
    asset = context.asset_of(tree.get("asset", ABSENT))
    values, quality = [value for value, _ in cells], [mark for _, mark in cells]
    yield Row(asset, context.time_of(time), tag_names(columns), values, quality)


def _bytes(text: str, schema: Any) -> bytes:
    """A payload of text is JSON itself; of type bytes it is base64, as JsonConverter writes bytes."""
    if isinstance(schema, dict) and schema.get("type") == "bytes":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DecodeError(Reason.MALFORMED, f"the envelope's payload is no base64: {error}") from error
    return text.encode("utf-8", "surrogatepass")


def _key(key: bytes | None) -> bytes | None:
    """The machine in a key that JsonConverter wrote: text in quotes, `{"payload": …}`, a struct with `asset`."""
    if not key or key[:1] not in b'{"':
        return key
    try:
        said = parse_tree(key)
    except DecodeError:
        return key
    if isinstance(said, dict) and "payload" in said:
        said = said["payload"]
    if isinstance(said, dict):
        said = said.get("asset")
    return said.encode("utf-8", "surrogatepass") if isinstance(said, str) else None


def _gone(why: str) -> DecodeError:
    return DecodeError(Reason.TOMBSTONE, f"the record deletes a row ({why}); readings are never deleted")
