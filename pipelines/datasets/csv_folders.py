"""Your own series: `DIR/<series>/train.csv` and `test.csv`, first column `timestamp`, then tags, last maybe `label`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly.domain import Readings
from anomaly.errors import DataError
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, readings_of
from pipelines.datasets.files import as_labels, folder, numbers_in, table, tick_of, times_in

TIME, LABEL = "timestamp", "label"
PROTOCOL = Protocol(
    summary=Summary.MEAN,
    vus_window=100,
    why="the mean of the series that have labels; events are summed, the delay is the median of all events",
)


class _Half(NamedTuple):
    rows: Readings
    stamps: tuple[str, ...]
    labels: np.ndarray | None


def load(path: Path) -> Bench:
    """Every folder of `path` with a `train.csv`. Raises DataError."""
    found = sorted(file.parent for file in folder(path, "folders with train.csv and test.csv").glob("*/train.csv"))
    if not found:
        raise DataError(f"{path} has no folder with train.csv; expected DIR/<series>/train.csv and test.csv")
    return Bench("csv", PROTOCOL, tuple(_task(each) for each in found))


def _task(path: Path) -> Task:
    train, test = (_half(path / f"{name}.csv", path.name) for name in ("train", "test"))
    unknown = [tag for tag in test.rows.tags if tag not in train.rows.tags]
    if unknown:
        raise DataError(f"{path / 'test.csv'} has tags that train.csv has not: {', '.join(unknown[:5])}")
    follows = len(train.rows) and int(train.rows.times.max()) < int(test.rows.times.min())
    before = train.rows if follows else None
    series = Series(path.name, test.rows, test.stamps, test.labels, np.zeros(len(test.rows), bool), before)
    keep = _normal(train)
    tick = tick_of(train.rows.times, path / "train.csv")
    return Task(path.name, train.rows.tags, tick, keep, (series,))


def _half(file: Path, name: str) -> _Half:
    frame = table(file, ",", (TIME,))
    if frame.columns[0] != TIME:
        raise DataError(f"{file}: the first column is {frame.columns[0]!r}; expected {TIME!r}")
    labelled = frame.columns[-1] == LABEL
    tags = tuple(str(column) for column in frame.columns[1 : -1 if labelled else None])
    if not tags:
        raise DataError(f"{file} has no tag; expected {TIME}, tags, and maybe {LABEL}")
    values, wrong = numbers_in(frame[list(tags)])
    rows = readings_of(name, tags, times_in(frame[TIME], file), values, wrong)
    labels = as_labels(numbers_in(frame[[LABEL]])[0][:, 0], str(file)) if labelled else None
    return _Half(rows, tuple(frame[TIME]), labels)


def _normal(train: _Half) -> Readings:
    """Rows to learn from: those that the labels, if there are any, call normal."""
    if train.labels is None or not train.labels.any():
        return train.rows
    rows = train.rows
    good = ~train.labels
    if not good.any():
        raise DataError(
            f"every row of {rows.asset}/train.csv is labelled anomalous; expected normal ones to learn from"
        )
    return Readings(rows.asset, rows.tags, rows.times[good], rows.values[good], rows.quality[good])
