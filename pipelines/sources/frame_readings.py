"""A data frame of one file → readings: what each cell says, and how many said nothing that is a number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Quality, Readings
from anomaly.errors import DataError
from pipelines.blocks import Item, blocks
from pipelines.qualities import parse_quality
from pipelines.sources.columns import Columns
from pipelines.sources.tables import lines_of

_GOOD, _BAD, _MISSING = int(Quality.GOOD), int(Quality.BAD), int(Quality.MISSING)
_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_WORDS: Final = {"true": 1.0, "false": 0.0}


@dataclass(slots=True)
class FileReport:
    """What was found in one file; filled while it is read."""

    path: Path
    dialect: str = ""
    """How it is written, in words."""
    time_format: str = ""
    rows: int = 0
    readings: int = 0
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By asset."""
    bad: Counter[str] = field(default_factory=Counter)
    """Cells by tag that are text, NaN or infinite: readings of bad quality."""
    units: dict[str, str] = field(default_factory=dict)
    """By tag, where a column says so."""
    backward: int = 0
    """Rows older than the row before them, of the same asset."""
    duplicates: int = 0
    """Rows whose time their asset has already in the same block."""
    notes: list[str] = field(default_factory=list)


def wide(
    frame: pd.DataFrame, times: Int64[np.ndarray, " row"], columns: Columns, asset: str, decimal: str
) -> Iterator[Readings]:
    """A block for each asset of the frame. An empty cell is no reading; text, NaN and infinity are bad ones."""
    values, quality = _matrix(frame, columns.tags, decimal)
    if not columns.asset:
        yield Readings(asset, columns.tags, times, values, quality)
        return
    names = frame[columns.asset].fillna("").astype("str").str.strip().to_numpy(dtype=object)
    for name in dict.fromkeys(names):
        rows = names == name
        yield Readings(str(name) or asset, columns.tags, times[rows], values[rows], quality[rows])


def _matrix(
    frame: pd.DataFrame, tags: tuple[str, ...], decimal: str
) -> tuple[Float[np.ndarray, "row tag"], UInt8[np.ndarray, "row tag"]]:
    values = np.empty((len(frame), len(tags)))
    missing = np.empty(values.shape, dtype=bool)
    plain = [i for i, tag in enumerate(tags) if _is_plain(frame[tag])]
    values[:, plain] = frame[[tags[i] for i in plain]].to_numpy(dtype=np.float64)
    missing[:, plain] = np.isnan(values[:, plain])
    for i in set(range(len(tags))).difference(plain):
        missing[:, i] = frame[tags[i]].isna()
        values[:, i] = _numbers(frame[tags[i]], missing[:, i], decimal)
    return _judged(values, missing)


def _is_plain(cells: pd.Series[Any]) -> bool:
    return isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "iufb"


def _numbers(cells: pd.Series[Any], missing: Bool[np.ndarray, " row"], decimal: str) -> Float[np.ndarray, " row"]:
    each = zip(cells.tolist(), missing, strict=True)
    return np.array([math.nan if gone else _number(cell, decimal) for cell, gone in each], dtype=np.float64)


def _judged(values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, NaN where they are not finite, and the quality of each."""
    finite = np.isfinite(values)
    quality = np.where(finite, _GOOD, np.where(missing, _MISSING, _BAD)).astype(np.uint8)
    return np.where(finite, values, np.nan), quality


def _number(cell: Any, decimal: str) -> float:
    text = str(cell).strip().lower()
    if decimal == ",":
        text = text.replace(".", "") if _THOUSANDS.fullmatch(text) else text
        text = text.replace(",", ".")
    try:
        return math.nan if "_" in text else _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        return math.nan


def narrow(
    frame: pd.DataFrame, times: Int64[np.ndarray, " row"], columns: Columns, asset: str, decimal: str, path: Path
) -> list[Readings]:
    """Readings of one time of an asset share a row. Raises DataError for a row without a tag's name."""
    names = frame[columns.tag].fillna("").astype("str").str.strip()
    for line, name in zip(lines_of(frame), names, strict=True):
        if not name or len(name) > 256 or not name.isprintable():
            raise DataError(f"{path}: line {line} names the tag {name[:40]!r}; expected a printable name")
    values, quality = (part[:, 0] for part in _matrix(frame, (columns.value,), decimal))
    if columns.quality:
        said = frame[columns.quality]
        codes = [parse_quality(None if gone else code) for code, gone in zip(said.tolist(), said.isna(), strict=True)]
        quality = np.maximum(quality, np.array(codes, dtype=np.uint8))
    values = np.where(quality >= _BAD, np.nan, values)
    assets = [asset] * len(frame)
    if columns.asset:
        assets = [str(name).strip() or asset for name in frame[columns.asset].fillna("")]
    rows = zip(assets, times.tolist(), names, values.tolist(), quality.tolist(), strict=True)
    return blocks(Item(*row) for row in rows)


def in_order(found: list[Readings]) -> list[Readings]:
    """The rows of each asset as one block in order of time; rows of one time keep the order they came in."""
    return [
        _merged([block for block in found if block.asset == asset]) for asset in dict.fromkeys(b.asset for b in found)
    ]


def _merged(parts: list[Readings]) -> Readings:
    tags = tuple(dict.fromkeys(tag for part in parts for tag in part.tags))
    place = {tag: i for i, tag in enumerate(tags)}
    times = np.concatenate([part.times for part in parts])
    values = np.full((len(times), len(tags)), np.nan)
    quality = np.full(values.shape, _MISSING, dtype=np.uint8)
    start = 0
    for part in parts:
        rows = slice(start, start + len(part))
        columns = [place[tag] for tag in part.tags]
        values[rows, columns], quality[rows, columns] = part.values, part.quality
        start += len(part)
    order = np.argsort(times, kind="stable")
    return Readings(parts[0].asset, tags, times[order], values[order], quality[order])
