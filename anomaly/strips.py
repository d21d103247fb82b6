"""Newest rows of many machines end to end: what live windows are cut from, without making 64 copies of every row.

`sliding` and `Detector.detect` say what a window is and what its score is, one machine and one window at a time; they
are what a strip must agree with to the bit (property test). A strip believes, scales and counts each row once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from anomaly.domain import Samples, SensorFault, State, Tag
from anomaly.windows import BEFORE, mode_rows, other_mode

OK, WARMING_UP, OFF = range(3)
STATES: Final = (State.OK, State.WARMING_UP, State.OFF)
"""States by the codes in `Strip.state`."""
_MISSING: Final = float(SensorFault.MISSING)


class Piece(NamedTuple):
    """Samples of one machine, all that is remembered; windows end at its rows `first` to `stop` - 1.

    `faults`: verdict of `sensors.check` for each row and tag of `samples`; right from row `first` - length + 1 on.
    """

    samples: Samples
    first: int
    stop: int
    faults: UInt8[np.ndarray, "row tag"]


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Rows of all pieces, with blank rows where no window may look further back; and where windows end.

    A window is the `length` rows up to and including row `ends` of it. Values are 0 where masked.
    """

    tags: tuple[str, ...]
    length: int
    assets: tuple[str, ...]
    """Of each piece."""
    values: Float[np.ndarray, "row tag"]
    mask: Bool[np.ndarray, "row tag"]
    owner: Int64[np.ndarray, " row"]
    """Number of the piece that each row is of."""
    ends: Int64[np.ndarray, " window"]
    piece: Int64[np.ndarray, " window"]
    times: Int64[np.ndarray, " window"]
    faults: UInt8[np.ndarray, "window tag"]
    state: UInt8[np.ndarray, " window"]
    """Place in `STATES`."""
    readings: Int64[np.ndarray, " window"]

    def __len__(self) -> int:
        """Windows."""
        return len(self.ends)

    def windows(self, which: slice | np.ndarray) -> Strip:
        """The same rows with the selected windows only."""
        picked = (self.ends, self.piece, self.times, self.faults, self.state, self.readings)
        return Strip(
            self.tags, self.length, self.assets, self.values, self.mask, self.owner, *(part[which] for part in picked)
        )

    def seen(self) -> tuple[Int64[np.ndarray, " window"], Int64[np.ndarray, " window"]]:
        """Cells seen in each window, and in its last row."""
        last = self.mask.sum(axis=1)
        total = np.concatenate([[0], np.cumsum(last)])
        return total[self.ends + 1] - total[self.ends + 1 - self.length], last[self.ends]


def lay(pieces: Sequence[Piece], length: int, tags: tuple[str, ...], mode: Tag | None) -> Strip:
    """One strip of the windows of all pieces (at least one), in order; the windows are those of `sliding`."""
    rows = _gather(pieces, length, tags, mode)
    row, owner = np.arange(len(rows.times)), np.repeat(np.arange(len(pieces)), rows.counts)
    starts = np.cumsum(rows.counts) - rows.counts
    blank = rows.restart.copy()
    blank[starts[rows.lead < length - 1]] = True
    place = row + np.cumsum(blank) * (length - 1)
    here = row - starts[owner] >= rows.lead[owner]
    believed = rows.mask & (rows.faults == SensorFault.NONE) & np.isfinite(rows.values)
    total = int(place[-1]) + 1 if len(place) else 0
    values, mask = np.zeros((total, len(tags))), np.zeros((total, len(tags)), dtype=bool)
    owners = np.zeros(total, dtype=np.int64)
    values[place], mask[place], owners[place] = np.where(believed, rows.values, 0.0), believed, owner
    begin = blank
    begin[starts[rows.counts > 0]] = True
    return Strip(
        tags=tags,
        length=length,
        assets=tuple(piece.samples.asset for piece in pieces),
        values=values,
        mask=mask,
        owner=owners,
        ends=place[here],
        piece=owner[here],
        times=rows.times[here],
        faults=rows.faults[here],
        state=_states(rows, begin, row, length)[here],
        readings=rows.readings[here],
    )


class _Rows(NamedTuple):
    """Rows of all pieces under one another, from the first that a window needs; `lead`: rows before a piece's first
    window end. `known`, `stopped`, `back`: see `windows.ModeRows`.
    """

    counts: Int64[np.ndarray, " piece"]
    lead: Int64[np.ndarray, " piece"]
    times: Int64[np.ndarray, " row"]
    values: Float[np.ndarray, "row tag"]
    mask: Bool[np.ndarray, "row tag"]
    faults: UInt8[np.ndarray, "row tag"]
    restart: Bool[np.ndarray, " row"]
    readings: Int64[np.ndarray, " row"]
    known: Bool[np.ndarray, " row"] | None
    stopped: Bool[np.ndarray, " row"] | None
    back: Int64[np.ndarray, " row"] | None


def _gather(pieces: Sequence[Piece], length: int, tags: tuple[str, ...], mode: Tag | None) -> _Rows:
    cuts = [slice(max(0, piece.first - (length - 1)), piece.stop) for piece in pieces]
    modes = [mode_rows(piece.samples, mode) for piece in pieces] if mode is not None else []
    column = np.concatenate
    return _Rows(
        np.array([cut.stop - cut.start for cut in cuts], dtype=np.int64),
        np.array([piece.first - cut.start for piece, cut in zip(pieces, cuts, strict=True)], dtype=np.int64),
        column([piece.samples.times[cut] for piece, cut in zip(pieces, cuts, strict=True)]),
        column(
            [pick(p.samples.values[cut], p.samples.tags, tags, np.nan) for p, cut in zip(pieces, cuts, strict=True)]
        ),
        column([pick(p.samples.mask[cut], p.samples.tags, tags, 0.0) for p, cut in zip(pieces, cuts, strict=True)]),
        column([pick(p.faults[cut], p.samples.tags, tags, _MISSING) for p, cut in zip(pieces, cuts, strict=True)]),
        column([piece.samples.restart[cut] for piece, cut in zip(pieces, cuts, strict=True)]),
        column([piece.samples.readings[cut] for piece, cut in zip(pieces, cuts, strict=True)]),
        column([found.known[cut] for found, cut in zip(modes, cuts, strict=True)]) if modes else None,
        column([found.stopped[cut] for found, cut in zip(modes, cuts, strict=True)]) if modes else None,
        column([found.back[cut] for found, cut in zip(modes, cuts, strict=True)]) if modes else None,
    )


def pick(columns: np.ndarray, has: tuple[str, ...], wanted: tuple[str, ...], absent: float) -> np.ndarray:
    """The wanted columns in their order, `absent` in those that are not there; no copy if they are what there is."""
    if has == wanted:
        return columns
    out = np.full((len(columns), len(wanted)), absent, dtype=columns.dtype)
    there = [place for place, tag in enumerate(wanted) if tag in has]
    out[:, there] = columns[:, [has.index(wanted[place]) for place in there]]
    return out


def _states(
    rows: _Rows, begin: Bool[np.ndarray, " row"], row: Int64[np.ndarray, " row"], length: int
) -> UInt8[np.ndarray, " row"]:
    """State of the window that ends at each row; see `windows.sliding`."""
    since = np.maximum.accumulate(np.where(begin, row, 0)) if len(row) else row
    warming = row - since < length - 1
    off = np.zeros(len(row), dtype=bool)
    if rows.known is not None and rows.stopped is not None and rows.back is not None and len(row):
        start = np.maximum(row - (length - 1), since)
        last_known = np.maximum.accumulate(np.where(rows.known, row, BEFORE))
        last_stopped = np.maximum.accumulate(np.where(rows.stopped, row, BEFORE))
        off = (last_known >= start) & (last_known == last_stopped)
        warming |= (last_stopped >= start) | (other_mode(rows.back, row) >= start)
    return np.where(off, OFF, np.where(warming, WARMING_UP, OK)).astype(np.uint8)
