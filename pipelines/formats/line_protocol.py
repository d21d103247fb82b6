r"""InfluxDB's line protocol (format 5), what Telegraf's Kafka output writes unless told otherwise.

    measurement,label=word,… field=1.5,count=3i,on=t,state="text",… 1795222923250000000

One metric a line. In names `\` escapes comma, blank and equals sign, in text quote and itself; `#` begins a comment.
The time is an integer, nanoseconds as the protocol has it; milliseconds and the like are known by their size. A line
without a time is refused: nobody can know when it was measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.formats import metrics
from pipelines.formats.context import Context
from pipelines.formats.rows import Row
from pipelines.formats.trees import ABSENT, parse_tree, text_of
from pipelines.reasons import Reason

EXPECTED: Final = "measurement,label=word field=1.5,other=2i 1795222923250000000"
_NAME: Final = re.compile(r"(?:\\[,= ]|[^,= \n\\]|\\(?![,= ]))+")
_MEASUREMENT: Final = re.compile(r"(?:\\[, ]|[^, \n\\]|\\(?![, ]))+")
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TOKEN: Final = re.compile(r"[^, \n\"]+")
_TIME: Final = re.compile(r" +(-?[0-9]{1,19})")
_END: Final = re.compile(r"[ \r]*(?:\n|$)")
_ESCAPE: Final = re.compile(r"\\([,= ])")
_TEXT_ESCAPE: Final = re.compile(r'\\(["\\])')
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PLAIN: Final = re.compile(_NUMBER.pattern + "[iu]?")
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_NO_NUMBER: Final = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_TRUTHS: Final = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


def looks_like_lines(value: bytes) -> bool:
    """Whether this can be line protocol: text that begins like no JSON and has a field."""
    start = value[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return start not in b'{["' and b"=" in value and b" " in value


def tree_or_lines(value: bytes) -> Any:
    """What an envelope held as text or bytes: line protocol as it is, else its JSON tree. Raises DecodeError."""
    return value if looks_like_lines(value) else parse_tree(value)


def rows(value: bytes, context: Context) -> Iterator[Row]:
    """One row a line. Raises DecodeError."""
    text = text_of(value)
    if "\\" not in text and '"' not in text and (found := _plain_lines(text)) is not None:
        for measurement, labels, fields, time in found:
            yield metrics.row(measurement, labels, fields, context.time_of(time), context)
        return
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            row, at = _line(text, at, context)
            yield row


def _plain_lines(text: str) -> list[tuple[str, dict[str, str], dict[str, float], int]] | None:
    """All metrics, where every line is as plain as nearly all are: numbers, a time, nothing escaped. Else None."""
    found = []
    try:
        for line in filter(None, text.split("\n")):
            head, body, time = line.split(" ")
            measurement, *labels = head.split(",")
            fields = [field.split("=") for field in body.split(",")]
            numbers = {name: float(word.rstrip("iu")) for name, word in fields if name and _PLAIN.fullmatch(word)}
            words = dict(label.split("=") for label in labels)
            odd = len(numbers) < len(fields) or not (measurement and all(words) and all(words.values()))
            if odd or measurement[0] == "#" or not _INTEGER.fullmatch(time):
                return None
            found.append((measurement, words, numbers, int(time)))
    except ValueError:  # more or fewer parts than a plain line has
        return None
    return found


def _line(text: str, at: int, context: Context) -> tuple[Row, int]:
    found = _MEASUREMENT.match(text, at)
    if found is None:
        raise _malformed(text, at, "a measurement")
    measurement, at = _plain(found[0]), found.end()
    labels: dict[str, Any] = {}
    while text[at : at + 1] == ",":
        label, at = _name(text, at + 1, "a label")
        labels[label], at = _name(text, at, "the label's word", last=True)
    if text[at : at + 1] != " ":
        raise _malformed(text, at, "a blank and the fields")
    fields, at = _fields(text, at)
    found = _TIME.match(text, at)
    time: Any = ABSENT
    if found is not None:
        time, at = int(found[1]), found.end()
    end = _END.match(text, at)
    if end is None:
        raise _malformed(text, at, "a time, or the end of the line")
    return metrics.row(measurement, labels, fields, context.time_of(time), context), end.end()


def _fields(text: str, at: int) -> tuple[dict[str, Any], int]:
    while text[at] == " " and at + 1 < len(text):
        at += 1
    fields: dict[str, Any] = {}
    while True:
        field, at = _name(text, at, "a field")
        fields[field], at = _value(text, at)
        if text[at : at + 1] != ",":
            return fields, at
        at += 1


def _name(text: str, at: int, what: str, *, last: bool = False) -> tuple[str, int]:
    """A name and where what follows begins: behind its equals sign, unless it is the `last` of a pair."""
    found = _NAME.match(text, at)
    if found is None:
        raise _malformed(text, at, what)
    at = found.end()
    if last:
        return _plain(found[0]), at
    if text[at : at + 1] != "=":
        raise _malformed(text, at, f"an equals sign behind {what}")
    return _plain(found[0]), at + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    found = _TEXT.match(text, at)
    if found is not None:
        return _TEXT_ESCAPE.sub(r"\1", found[1]), found.end()
    found = _TOKEN.match(text, at)
    if found is None:
        raise _malformed(text, at, "a value")
    token = found[0].rstrip("\r")
    if token in _TRUTHS:
        return _TRUTHS[token], found.end()
    digits = token.removesuffix("i") if token.endswith("i") else token.removesuffix("u")
    if _NUMBER.fullmatch(digits):
        return float(digits), found.end()
    if token.lower() in _NO_NUMBER:
        return math.nan, found.end()
    raise _malformed(text, at, "a number, true, false or text in quotes")


def _plain(name: str) -> str:
    return _ESCAPE.sub(r"\1", name) if "\\" in name else name


def _malformed(text: str, at: int, expected: str) -> DecodeError:
    return DecodeError(
        Reason.MALFORMED,
        f"the payload is neither JSON nor line protocol: at character {at} came {text[at : at + 24]!r}, "
        f"expected {expected}; a line looks like `{EXPECTED}`",
    )
