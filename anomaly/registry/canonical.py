"""JSON in exactly one spelling, so that a changed byte cannot hide."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anomaly.errors import ModelRefused


def plain(value: Any) -> Any:
    """A copy made of dicts, lists, words and finite numbers; NaN and infinities become None, arrays lists.

    >>> plain({"low": np.array([0.0, np.nan])})
    {'low': [0.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dump(value: Any) -> bytes:
    """The one spelling: sorted keys, no blanks, UTF-8, shortest numbers. Raises ValueError on NaN.

    >>> dump({"b": 1, "a": [0.5]})
    b'{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The object that `data` spells. Raises ModelRefused unless `data` is exactly what `dump` writes for it."""
    try:
        value = json.loads(data)
        same = dump(value) == data
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{what} is no JSON ({error}); the bundle is damaged: train or copy it again") from error
    if not same or not isinstance(value, dict):
        raise ModelRefused(
            f"{what} is not spelled as plantwatch writes it; the bundle was changed: train or copy it again"
        )
    return value
