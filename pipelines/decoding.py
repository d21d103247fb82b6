"""Payloads of the readings topic → readings, or a DecodeError whose reason is one of `Reason` (guarantee G6).

The formats are in `pipelines/formats`, one a module (docs/formats.md shows an example of each). What is no finite
number (null, NaN, 1e999, text) is a reading of bad quality. A key that comes twice: the last counts.
"""

from __future__ import annotations

from typing import Final

from anomaly.domain import SECOND, Readings
from anomaly.errors import DecodeError
from anomaly.plain_rows import PlainRow
from pipelines.codec import SIZE_LIMIT
from pipelines.formats import quick
from pipelines.formats.names import Format, known_format
from pipelines.formats.reading import read
from pipelines.formats.recognising import Headers, say_nothing
from pipelines.ports import Record
from pipelines.reasons import Reason
from pipelines.times import iso

FUTURE_LIMIT: Final = 300 * SECOND
"""A reading may be dated so far after its append time, ns."""
_OURS: Final = (Format.AUTO, Format.NATIVE)


def decode(
    value: bytes | None,
    key: bytes | None,
    append_time: int,
    headers: Headers = (),
    format: str = Format.AUTO,  # noqa: A002  # the word of the setting
) -> tuple[Readings, ...]:
    """The readings of one record, in the order they came; never none. Raises DecodeError(reason in `Reason`), no other.

    `key` names the asset where the payload does not. `append_time` (ns) is the log's clock: a reading dated more than
    five minutes after it refuses the whole payload, because one clock that is wrong must not move a watermark.
    `format` is a name of `Format`; `auto`: a header says it (`content-type`, `ce_…`), else the shape.
    """
    if value is None:
        raise DecodeError(Reason.TOMBSTONE, "the record has no value (a tombstone); readings are never deleted")
    if len(value) > SIZE_LIMIT:
        raise DecodeError(
            Reason.OVERSIZE, f"{len(value)} bytes came, at most {SIZE_LIMIT} are taken; send smaller batches"
        )
    if _is_ours(headers, format):
        found = quick.read(value, key)
        if found is not None:
            _refuse_future(found[1], append_time)
            return (found[0],)
    return _decode_any(value, key, append_time, headers, known_format(format))


def plain_row(record: Record, format: str = Format.AUTO) -> PlainRow | None:  # noqa: A002  # as above
    """What `decode` makes of the record, if that is one row of ours in which all is good. Raises nothing.

    None: ask `decode`. It spares the arrays, which cost more than all else where rows come singly.
    """
    value = record.value
    if value is None or len(value) > SIZE_LIMIT or not _is_ours(record.headers, format):
        return None
    row = quick.read_row(value, record.key)
    return row if row is not None and row.time <= record.time + FUTURE_LIMIT else None


def _is_ours(headers: Headers, wanted: str) -> bool:
    """Whether the payload may be taken for one of ours, if it looks like it."""
    return wanted in _OURS and (not headers or wanted != Format.AUTO or say_nothing(headers))


def _decode_any(
    value: bytes, key: bytes | None, append_time: int, headers: Headers, wanted: Format
) -> tuple[Readings, ...]:
    if not value.strip():
        raise DecodeError(Reason.EMPTY, "the payload is empty; expected JSON or line protocol")
    blocks = tuple(block for block in read(value, key, headers, wanted) if block.count)
    if not blocks:
        raise DecodeError(Reason.NO_READINGS, "the payload is in order, but holds no reading")
    _refuse_future(max(int(block.times.max()) for block in blocks), append_time)
    return blocks


def _refuse_future(newest: int, append_time: int) -> None:
    if newest > append_time + FUTURE_LIMIT:
        raise DecodeError(
            Reason.FUTURE_DATED,
            f"a reading is dated {iso(newest)}, but it came at {iso(append_time)}; set the device's clock",
        )
