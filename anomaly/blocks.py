"""Cutting and joining columnar blocks, row by row. A row keeps its values whatever block it lies in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np

from anomaly.domain import Readings, Samples, Scores, Windows

Block = TypeVar("Block", Readings, Samples, Windows, Scores)

_PER_BLOCK = frozenset({"asset", "tags", "version", "rung"})
"""Fields that say something of the whole block, not of a row."""


def rows(block: Block, selection: slice | np.ndarray) -> Block:
    """The selected rows of a block, in the order of the selection (a slice, a boolean mask or row numbers)."""
    whole, columns = _FIELDS[type(block)]
    values = {name: getattr(block, name) for name in whole}
    return type(block)(**values, **{name: _select(getattr(block, name), selection) for name in columns})


def join(blocks: Sequence[Block]) -> Block:
    """All rows of blocks that agree on tags (and asset, version, rung), in order. Raises ValueError if they do not."""
    if not blocks:
        message = "there is nothing to join; expected at least one block"
        raise ValueError(message)
    first = blocks[0]
    if len(blocks) == 1:
        return first
    whole, columns = _FIELDS[type(first)]
    values = {name: getattr(first, name) for name in whole}
    for block in blocks:
        for name, value in values.items():
            if getattr(block, name) != value:
                message = f"blocks differ in {name}: {value!r} and {getattr(block, name)!r}"
                raise ValueError(message)
    return type(first)(**values, **{name: _joined([getattr(b, name) for b in blocks]) for name in columns})


def _split(kind: type[Readings | Samples | Windows | Scores]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [field.name for field in dataclasses.fields(kind)]
    whole = tuple(name for name in names if name in _PER_BLOCK)
    return whole, tuple(name for name in names if name not in _PER_BLOCK)


_FIELDS: Final[dict[object, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    kind: _split(kind) for kind in (Readings, Samples, Windows, Scores)
}
"""Fields of each kind of block that say something of all of it, and those that have an entry a row."""


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
