"""Names of machines, sensors and alerts as InfluxDB can hold them, in line protocol and in Flux, and back.

Line protocol has no way to write a line break in a name or a backslash at its end, and drops a field called `time`. So
control characters and backslashes are percent-encoded (and a percent sign that would read as such a code), and every
field named by a user has a prefix. What remains is escaped as line protocol asks.
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/#special-characters
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\\\\\ud800-\udfff]|%(?=[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})")
_ENCODED: Final = re.compile("%(?:u([0-9A-F]{4})|([0-9A-F]{2}))")
_KEY: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_TEXT: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": " ", "\r": " "})
_DIGITS: Final = re.compile(r"(\d+)")


def stored(name: str) -> str:
    r"""The name as InfluxDB holds it. One to one: `original` turns it back.

    >>> stored("flow\\in\n"), stored("50 %"), stored("a%5Cb")
    ('flow%5Cin%0A', '50 %', 'a%255Cb')
    """
    return _UNSAFE.sub(_encode, name)


def original(name: str) -> str:
    r"""Inverse of `stored`.

    >>> original("flow%5Cin%0A"), original(stored("100%25"))
    ('flow\\in\n', '100%25')
    """
    return _ENCODED.sub(lambda found: chr(int(found.group(1) or found.group(2), 16)), name)


def _encode(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"%{code:02X}" if code < 0x100 else f"%u{code:04X}"


def key(name: str) -> str:
    r"""A tag key, tag value or field key of line protocol.

    >>> key("temp in, °C=")
    'temp\\ in\\,\\ °C\\='
    """
    return stored(name).translate(_KEY)


def text(value: str) -> str:
    r"""A string field value of line protocol, quotes included; line breaks become blanks.

    >>> text('say "hi"')
    '"say \\"hi\\""'
    """
    return f'"{value.encode("utf-8", "replace").decode().translate(_TEXT)}"'


def flux(value: str) -> str:
    r"""A string literal of Flux: nothing in `value` can end it, nor begin an interpolation.

    >>> flux('x") |> drop() //'), flux("${1 + 1}")
    ('"x\\") |> drop() //"', '"\\${1 + 1}"')
    """
    safe = value.encode("utf-8", "replace").decode()
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("${", "\\${"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        safe = safe.replace(plain, escaped)
    return f'"{safe}"'


@lru_cache(maxsize=65_536)
def head(measurement: str, asset: str, *more: str) -> str:
    r"""Measurement and tags of a line: site, asset and, in `more`, further tags ready made. Never an empty tag.

    >>> head("sample", "s1/l1/pump 1")
    'sample,site=s1,asset=s1/l1/pump\\ 1'
    """
    site = next((part for part in asset.split("/") if part), asset)
    return ",".join((measurement, f"site={key(site)}", f"asset={key(asset)}", *more))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts t2 before t10.

    >>> sorted(["t10", "t2", "T1"], key=natural)
    ['T1', 't2', 't10']
    """
    parts = _DIGITS.split(name)
    return tuple(
        (1, 0, part.casefold()) if i % 2 == 0 else (0, int(part), part) for i, part in enumerate(parts) if part
    )
