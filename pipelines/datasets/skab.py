"""SKAB: one model a file, learned from its first 400 rows; the runs without labels are learned by their first half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly.domain import SECOND
from anomaly.errors import DataError
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, part, readings_of
from pipelines.datasets.files import as_labels, folder, numbers_in, table, times_in

TRAIN_ROWS = 400
PROTOCOL = Protocol(
    summary=Summary.POOLED,
    vus_window=100,
    why="all rows of all files as one; VUS-PR is the mean of the files; anomaly-free runs are left out",
)
_TIME, _LABEL, _CHANGE = "datetime", "anomaly", "changepoint"


def load(path: Path) -> Bench:
    """Every CSV file in a folder of `path`. Raises DataError if there is none, or one is not as it should be."""
    files = sorted(folder(path, "the SKAB folders valve1, other, …").glob("*/*.csv"), key=_natural)
    if not files:
        raise DataError(f"{path} holds no folder with CSV files; expected SKAB's valve1, valve2, other, anomaly-free")
    return Bench("skab", PROTOCOL, tuple(task for file in files for task in _task(file)))


def _task(file: Path) -> Iterator[Task]:
    frame = table(file, ";", (_TIME,))
    tags = tuple(name for name in frame.columns if name not in (_TIME, _LABEL, _CHANGE))
    values, wrong = numbers_in(frame[list(tags)])
    labelled = _LABEL in frame.columns
    labels = _labels(frame, file) if labelled else np.zeros(len(frame), bool)
    learned = TRAIN_ROWS if labelled else len(frame) // 2
    if len(frame) <= learned or not tags:
        raise DataError(
            f"{file} has {len(frame)} rows of {len(tags)} tags; expected tags and more than {TRAIN_ROWS} rows"
        )
    name = f"{file.parent.name}/{file.stem}" if labelled else file.stem
    rows = readings_of(name, tags, times_in(frame[_TIME], file), values, wrong)
    series = Series(name, rows, tuple(frame[_TIME]), labels, np.arange(len(frame)) < learned, apart=not labelled)
    yield Task(name, tags, SECOND, part(rows, slice(learned)), (series,))


def _labels(frame: pd.DataFrame, file: Path) -> np.ndarray:
    values, _ = numbers_in(frame[[_LABEL]])
    return as_labels(values[:, 0], str(file))


def _natural(path: Path) -> tuple[str, int, str]:
    return path.parent.name, int(path.stem) if path.stem.isdigit() else -1, path.stem
