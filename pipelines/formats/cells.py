"""What is a number, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final

from anomaly.domain import Quality
from pipelines.qualities import parse_quality

MISSING: Final = int(Quality.MISSING)
BAD: Final = int(Quality.BAD)
_PLAIN: Final = frozenset({float, int})
_NUMBERS: Final = frozenset({float, int, bool})


def number(value: Any) -> float:
    """The value, or NaN if it is no finite number. true and false are 1 and 0.

    >>> number(True), number("12.5"), number(10**400)
    (1.0, nan, nan)
    """
    if type(value) not in _NUMBERS:
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def plain(values: Collection[Any]) -> list[float] | None:
    """All of them, if all are finite numbers, as they nearly always are; else None: judge them one by one.

    >>> plain([1, 2.5]), plain([1, True]), plain([math.inf])
    ([1.0, 2.5], None, None)
    """
    if not _PLAIN.issuperset(map(type, values)):
        return None
    try:
        found = list(map(float, values))
    except OverflowError:
        return None
    return found if math.isfinite(sum(found)) else None


def judged(value: float, code: Any) -> tuple[float, int]:
    """Value and quality of one reading, `code` being what its source says of it."""
    return settled(value, int(parse_quality(code)))


def settled(value: float, quality: int) -> tuple[float, int]:
    """No finite number ⇒ bad, unless no reading came; bad or missing ⇒ NaN."""
    if math.isnan(value) and quality != MISSING:
        quality = BAD
    return (math.nan if quality >= BAD else value), quality
