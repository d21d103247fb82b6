"""Cutting and joining columnar blocks, row by row. A row keeps its values whatever block it lies in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from anomaly.domain import Readings, Samples, Scores, Windows

Block = TypeVar("Block", Readings, Samples, Windows, Scores)

_PER_BLOCK = frozenset({"asset", "tags", "version", "rung"})
"""Fields that say something of the whole block, not of a row."""


def rows(block: Block, selection: slice | np.ndarray) -> Block:
    """The selected rows of a block, in the order of the selection (a slice, a boolean mask or row numbers)."""
    return dataclasses.replace(block, **{name: _select(value, selection) for name, value in _columns(block)})


def join(blocks: Sequence[Block]) -> Block:
    """All rows of blocks that agree on tags (and asset, version, rung), in order. Raises ValueError if they do not."""
    if not blocks:
        message = "there is nothing to join; expected at least one block"
        raise ValueError(message)
    first = blocks[0]
    for block in blocks:
        for name in _PER_BLOCK & {field.name for field in dataclasses.fields(first)}:
            if getattr(block, name) != getattr(first, name):
                message = f"blocks differ in {name}: {getattr(first, name)!r} and {getattr(block, name)!r}"
                raise ValueError(message)
    if len(blocks) == 1:
        return first
    return dataclasses.replace(
        first, **{name: _joined([getattr(b, name) for b in blocks]) for name, _ in _columns(first)}
    )


def _columns(block: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(block, f.name)) for f in dataclasses.fields(block) if f.name not in _PER_BLOCK]


def _select(column: Any, selection: slice | np.ndarray) -> Any:
    if isinstance(column, np.ndarray):
        return column[selection]
    if isinstance(selection, slice):
        return column[selection]
    return tuple(column[i] for i in np.arange(len(column))[selection])


def _joined(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return tuple(value for column in columns for value in column)
