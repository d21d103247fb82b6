"""CloudEvents 1.0 (format 8): an envelope around any other format, by the Kafka protocol binding.

Structured (content type `application/cloudevents+json`, §3.3): {"specversion", "id", "source", "type", "data": {…}}
Binary (§3.2): the attributes are headers `ce_…`, the value is the data, `content-type` is the data's.

Where the data and the key do not name the machine, `subject` does; where the data have no time, `time` is theirs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.formats.context import Context
from pipelines.formats.line_protocol import tree_or_lines
from pipelines.formats.trees import ABSENT
from pipelines.reasons import Reason

EXPECTED: Final = "{specversion, id, source, type, data: {…}}, or headers ce_specversion, ce_id, ce_source, ce_type"
STRUCTURED: Final = "application/cloudevents+json"
BINARY: Final = "ce_"


def is_event(tree: dict[str, Any]) -> bool:
    """Whether this is an event in structured mode."""
    return "specversion" in tree


def unwrapped(tree: dict[str, Any], context: Context) -> tuple[Any, Context]:
    """The data (a tree, or bytes that are line protocol), and the context with what the event says of them.

    Raises DecodeError: another version, no data.
    """
    _check_version(tree["specversion"])
    around = _around(tree, context)
    if tree.get("data") is not None:
        data = tree["data"]
        return (tree_or_lines(data.encode("utf-8", "surrogatepass")) if isinstance(data, str) else data), around
    if isinstance(tree.get("data_base64"), str):
        try:
            return tree_or_lines(base64.b64decode(tree["data_base64"], validate=True)), around
        except (binascii.Error, ValueError) as error:
            raise DecodeError(Reason.MALFORMED, f"data_base64 of the event is no base64: {error}") from error
    raise DecodeError(Reason.NO_READINGS, "the event has no data; expected readings in `data`")


def from_headers(headers: Mapping[str, bytes], context: Context) -> Context:
    """What an event in binary mode says beside its data; `headers` by lower-case name. Raises DecodeError."""
    said = {
        name.removeprefix(BINARY): value.decode("utf-8", "replace")
        for name, value in headers.items()
        if name.startswith(BINARY)
    }
    _check_version(said.get("specversion", "1.0"))
    return _around(said, context)


def _around(said: Mapping[str, Any], context: Context) -> Context:
    asset = said.get("subject", said.get("partitionkey", ABSENT))
    return replace(
        context, asset=asset if context.asset is ABSENT else context.asset, time=said.get("time", context.time)
    )


def _check_version(version: Any) -> None:
    if not (isinstance(version, str) and version.startswith("1.")):
        shown = ascii(version)[:40]
        raise DecodeError(Reason.UNKNOWN_FORMAT, f"specversion {shown} of CloudEvents is not known; expected '1.0'")
