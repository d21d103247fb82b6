"""Tennessee Eastman: learned once from d00, the line placed on the first half of d00_te, every fault run scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from anomaly.domain import SECOND, Readings
from anomaly.errors import DataError
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, clock, part, readings_of, stamps_of
from pipelines.datasets.files import folder, matrix, plain_or_packed

TICK = 180 * SECOND
ONSET = 160
"""Row at which the fault is switched on."""
TAGS = tuple([f"xmeas_{i:02d}" for i in range(1, 42)] + [f"xmv_{i:02d}" for i in range(1, 12)])
NORMAL = "d00_te"
INVISIBLE = frozenset({"d03_te", "d09_te", "d15_te"})
"""Faults that hardly anything can see: quoted, but apart."""
PROTOCOL = Protocol(
    summary=Summary.MEAN,
    vus_window=100,
    consecutive=3,
    pool_normal=True,
    why="the mean of the faults but 3, 9 and 15; recall is the detection rate; far, alarm share and false onsets are "
    "of all normal rows judged (d00_te's second half, rows 0-159 of every fault)",
)


def load(path: Path) -> Bench:
    """d00, d00_te and every fault `dNN_te` in `path`. Raises DataError."""
    files = sorted(folder(path, "the TEP files d00.dat, d00_te.dat, dNN_te.dat").glob("d[0-9][0-9]_te.dat*"))
    names = list(dict.fromkeys(file.name.split(".dat")[0] for file in files))
    faults = [name for name in names if name != NORMAL]
    if not faults:
        raise DataError(f"{path} holds no fault run dNN_te.dat; expected at least one beside d00 and d00_te")
    train = readings_of("d00", TAGS, *_clocked(_rows(path, "d00")))
    normal = readings_of(NORMAL, TAGS, *_clocked(_rows(path, NORMAL)))
    half = len(normal) // 2
    every = [_series(readings_of(name, TAGS, *_clocked(_rows(path, name)))) for name in faults]
    quiet = Series(NORMAL, normal, stamps_of(normal.times), np.zeros(len(normal), bool), np.arange(len(normal)) < half)
    return Bench("tep", PROTOCOL, (Task("tep", TAGS, TICK, train, (*every, quiet), part(normal, slice(half))),))


def _series(rows: Readings) -> Series:
    if len(rows) <= ONSET:
        raise DataError(f"{rows.asset} has {len(rows)} rows; expected more than {ONSET}, where the fault begins")
    labels, learned = np.arange(len(rows)) >= ONSET, np.zeros(len(rows), bool)
    return Series(rows.asset, rows, stamps_of(rows.times), labels, learned, apart=rows.asset in INVISIBLE)


def _clocked(values: Float[np.ndarray, "row tag"]) -> tuple[np.ndarray, np.ndarray]:
    return clock(len(values), TICK), values


def _rows(path: Path, name: str) -> Float[np.ndarray, "row tag"]:
    """One run, 52 columns. The classic d00 is transposed, 52 rows of 500 columns: it is turned."""
    file = plain_or_packed(path / f"{name}.dat")
    found = matrix(file, None)
    if found.shape[1] != len(TAGS) and found.shape[0] == len(TAGS):
        found = found.T
    if found.shape[1] != len(TAGS):
        raise DataError(f"{file} has {found.shape[0]} rows of {found.shape[1]} columns; expected {len(TAGS)} columns")
    return np.ascontiguousarray(found)
