"""A metric as Telegraf has it: measurement, labels, fields, time. JSON and line protocol are two writings of it.

The machine is the label `asset`, else the record's key. A field's name is the tag's name, whatever the measurement is
called: that is the name people gave it in Telegraf. A field called `value` says nothing, so there the label `tag`
counts, else the measurement. A text field called `quality` (as Telegraf's OPC UA input writes `Quality`) is no sensor:
it is the quality of all others. Other text is a reading of bad quality; true and false are 1 and 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from anomaly.domain import Quality
from pipelines.formats.cells import BAD, number, plain, settled
from pipelines.formats.context import Context
from pipelines.formats.naming import tag_names
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT
from pipelines.qualities import parse_quality, parse_status

_STATUS: Final = re.compile(r"\(0x([0-9A-Fa-f]{1,8})\)\s*$")
_GOOD: Final = 0
_QUALITY: Final = ("Quality", "quality")


def row(measurement: Any, labels: Mapping[str, Any], fields: Mapping[str, Any], time: int, context: Context) -> Row:
    """The readings of one metric, one a field; `time` in ns. Raises DecodeError."""
    asset = context.asset_of(labels.get("asset", ABSENT))
    quality = _GOOD
    for field in _QUALITY:
        if isinstance(fields.get(field), str):
            quality = int(_quality(fields[field]))
            fields = {name: value for name, value in fields.items() if name != field}
    tags = _tags(measurement, labels, fields)
    numbers = plain(fields.values()) if quality < BAD else None
    if numbers is not None:
        return Row(asset, time, tags, numbers, [quality] * len(tags))
    cells = [settled(number(value), quality) for value in fields.values()]
    return Row(asset, time, tags, [value for value, _ in cells], [mark for _, mark in cells])


def _tags(measurement: Any, labels: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[str, ...]:
    if "value" not in fields:
        return tag_names(fields)
    named = labels.get("tag", measurement)
    if not isinstance(named, str) or named in fields:  # no name, or another field's: two tags would be one
        return tag_names(fields)
    return tag_names(named if field == "value" else field for field in fields)


def _quality(text: str) -> Quality:
    """Of a status as Telegraf's OPC UA input writes it, or any other word.

    >>> _quality("The operation succeeded. StatusGood (0x0)").name, _quality("BadNoCommunication (0x80310000)").name
    ('GOOD', 'BAD')
    """
    status = _STATUS.search(text[-64:])
    return parse_status(int(status[1], 16)) if status else parse_quality(text)
