"""Readings as line protocol: one line a row, one float field a tag, fast.

A field `v.<tag>` holds the value. Two floats that no sensor sends stand for what line protocol cannot say (it has no
NaN): `BAD` marks a reading of bad quality, `UNCERTAIN` one of uncertain quality whose value is in `u.<tag>`. So every
write of a reading overwrites the very field that decides, whatever was there before (guarantee G2); a separate quality
field for every value would cost the server twice the work (docs/adr/0010).

The cost of a row is that of its floats: names are escaped once, floats become text in one call for the whole block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
from jaxtyping import UInt8

from anomaly.domain import Quality, Readings
from pipelines.adapters.historian_rows import merge
from pipelines.adapters.influx_names import head, key

SAMPLE: Final = "sample"
VALUE: Final = "v."
DOUBTFUL: Final = "u."
BAD: Final = -np.finfo(np.float64).max.item()
"""The lowest finite float: this reading came and is bad."""
UNCERTAIN: Final = np.nextafter(BAD, 0.0).item()
"""The one above: the value is in `u.<tag>`."""


class _Layout:
    """One asset's tags, with one template for each pattern of qualities that was met."""

    __slots__ = ("_fields", "_head", "_templates")

    def __init__(self, asset: str, tags: tuple[str, ...]) -> None:
        self._head = head(SAMPLE, asset).replace("%", "%%")
        names = [key(tag).replace("%", "%%") for tag in tags]
        self._fields = [
            (
                f"{VALUE}{name}=%s",
                f"{VALUE}{name}={UNCERTAIN!r},{DOUBTFUL}{name}=%s",
                f"{VALUE}{name}={BAD!r}",
                "",
            )
            for name in names
        ]
        self._templates: dict[bytes, str] = {}

    def template(self, pattern: bytes) -> str:
        """A line for rows of these qualities (one byte a tag), with holes for the known values and the time."""
        known = self._templates.get(pattern)
        if known is None:
            fields = [self._fields[i][quality] for i, quality in enumerate(pattern)]
            known = f"{self._head} {','.join(filter(None, fields))} %s"
            if len(self._templates) < _PATTERNS:
                self._templates[pattern] = known
        return known


_PATTERNS: Final = 64
_layout = lru_cache(maxsize=65_536)(_Layout)
_encode: Final = msgspec.json.Encoder().encode


def reading_lines(blocks: Sequence[Readings]) -> list[str]:
    """Line protocol of all blocks, times in ns. Where blocks or rows meet at one (asset, time), the later wins; rows in
    which nothing came give no line.
    """
    by_asset: dict[str, list[Readings]] = {}
    for block in blocks:
        if len(block) and block.tags:
            by_asset.setdefault(block.asset, []).append(block)
    lines: list[str] = []
    for asset, parts in by_asset.items():
        for part in parts if _apart(parts) else [_merged(asset, parts)]:
            lines += _block_lines(part)
    return lines


def _merged(asset: str, parts: Sequence[Readings]) -> Readings:
    return merge(asset, tuple(dict.fromkeys(tag for part in parts for tag in part.tags)), parts)


def _apart(parts: Sequence[Readings]) -> bool:
    """Whether no two rows have the same time."""
    if len(parts) == 1:
        times = parts[0].times
        if len(times) == 1 or bool((times[1:] > times[:-1]).all()):
            return True
    count = sum(len(part) for part in parts)
    return len({time for part in parts for time in part.times.tolist()}) == count


def _block_lines(block: Readings) -> list[str]:
    layout = _layout(block.asset, block.tags)
    if not block.quality.any():
        lines = _filled(layout.template(bytes(len(block.tags))), block.values, block.times)
        if lines is not None:
            return lines
    quality = _believed(block)
    if len(block) == 1:
        return _pattern_lines(layout, block, quality, np.zeros(1, dtype=np.intp), quality[0])
    patterns, which = np.unique(quality, axis=0, return_inverse=True)
    which = which.reshape(-1)
    return [
        line
        for i, pattern in enumerate(patterns)
        for line in _pattern_lines(layout, block, quality, np.flatnonzero(which == i), pattern)
    ]


def _believed(block: Readings) -> UInt8[np.ndarray, "row tag"]:
    """Qualities; what came and is no finite number is bad, whatever it says of itself."""
    wrong = (block.quality < Quality.BAD) & ~np.isfinite(block.values)
    quality: np.ndarray = np.where(wrong, np.uint8(Quality.BAD), np.minimum(block.quality, Quality.MISSING))
    return quality.astype(np.uint8, copy=False)


def _pattern_lines(
    layout: _Layout, block: Readings, quality: np.ndarray, rows: np.ndarray, pattern: np.ndarray
) -> list[str]:
    """Lines of rows that have the same qualities."""
    if (pattern == Quality.MISSING).all():
        return []
    template = layout.template(pattern.tobytes())
    known = np.flatnonzero(pattern < Quality.BAD)
    if not len(known):
        return [template % time for time in block.times[rows].tolist()]
    return _filled(template, block.values[np.ix_(rows, known)], block.times[rows]) or []


def _filled(template: str, values: np.ndarray, times: np.ndarray) -> list[str] | None:
    """The template for each row; None if a value is not finite (then JSON says null)."""
    text = _encode(values.ravel().tolist())
    if b"n" in text:
        return None
    cells = text[1:-1].decode().split(",")
    if len(times) == 1:
        return [template % (*cells, times[0])]
    width = values.shape[1]
    columns = [cells[i::width] for i in range(width)]
    return [template % row for row in zip(*columns, times.tolist(), strict=True)]
