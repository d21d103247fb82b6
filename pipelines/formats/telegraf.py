"""Telegraf's JSON (format 4): `{"name", "tags", "fields", "timestamp"}`, or many in `{"metrics": […]}`.

Telegraf writes the time in the unit of `json_timestamp_units`, which is not in the payload: it follows from the size.
Its default unit is the second, which cuts the time; said once a process, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.formats import metrics
from pipelines.formats.context import Context
from pipelines.formats.hints import Hint, give
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT
from pipelines.reasons import Reason

EXPECTED: Final = "{name, tags: {}, fields: {}, timestamp}, or {metrics: […]} of them (outputs.kafka, data_format json)"
_SECONDS: Final = 10**11
"""A time below it is in whole seconds (see `pipelines.times`)."""


def is_telegraf(tree: dict[str, Any]) -> bool:
    """Whether this is a metric, or a batch of them, right or not."""
    return "fields" in tree or "metrics" in tree


def rows(tree: dict[str, Any], context: Context) -> Iterator[Row]:
    """One row a metric. Raises DecodeError."""
    batch = tree["metrics"] if "fields" not in tree and "metrics" in tree else [tree]
    if not isinstance(batch, list):
        raise _unknown()
    for metric in batch:
        yield _metric(metric, context)


def _metric(metric: Any, context: Context) -> Row:
    fields, labels = (metric.get("fields"), metric.get("tags") or {}) if isinstance(metric, dict) else (None, None)
    if not isinstance(fields, dict) or not isinstance(labels, dict):
        raise _unknown()
    time = metric.get("timestamp", ABSENT)
    moment = context.time_of(time)
    if type(time) is int and abs(time) < _SECONDS:
        give(Hint.WHOLE_SECONDS)
    return metrics.row(metric.get("name"), labels, fields, moment, context)


def _unknown() -> DecodeError:
    return DecodeError(Reason.UNKNOWN_FORMAT, f"the payload is not Telegraf's JSON; expected {EXPECTED}")
