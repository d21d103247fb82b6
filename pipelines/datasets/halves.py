"""SMD and ASD: a machine's first weeks to learn from (`train/`), its last ones to be judged on (`test/`).

Both come as folders of number tables without header or times. SMD is learned from the whole first half; ASD from its
first 70 %, with the line placed on the other 30 %.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from anomaly.domain import SECOND
from anomaly.errors import DataError
from pipelines.datasets.bench import (
    Bench,
    Interpretation,
    Protocol,
    Series,
    Summary,
    Task,
    clock,
    part,
    readings_of,
    stamps_of,
)
from pipelines.datasets.files import folder, labels_in, matrix, plain_or_packed, text_of

SMD = Protocol(
    summary=Summary.MEAN,
    vus_window=60,
    merge=600 * SECOND,
    why="the mean of the machines; events are summed, the delay is the median of all events",
)
ASD = Protocol(
    summary=Summary.MEAN,
    vus_window=24,
    why="the mean of the servers; events are summed, the delay is the median of all events",
)
SMD_B = Protocol(
    summary=Summary.MEAN,
    vus_window=60,
    merge=600 * SECOND,
    why="the mean of the machines' second halves, each scored whole, the rows learned from too (TSB-AD's protocol)",
)
MINUTE = 60 * SECOND
PREFIX_SHARE, PREFIX_MARGIN, PREFIX_LEAST = 0.25, 100, 500
"""TSB-AD learns from a quarter of the rows, or up to 100 before the first anomaly; under 500 it has no series."""
ASD_FIT = 0.7
_LINE = re.compile(r"(\d{1,9})-(\d{1,9}):(\d{1,4}(?:,\d{1,4})*),?")


def load_smd(path: Path) -> Bench:
    """Every machine in `path/train`. Raises DataError."""
    return Bench("smd", SMD, tuple(_task(path, name, MINUTE, 1.0) for name in _names(path)))


def load_smd_b(path: Path) -> Bench:
    """SMD as TSB-AD-M has it (Liu & Paparrizos, NeurIPS 2024): the test halves alone, learned from their first rows.

    Machines whose first anomaly comes too early are left out, as there. Raises DataError.
    """
    found = [_first_rows(_task(path, name, MINUTE, 1.0)) for name in _names(path)]
    tasks = tuple(task for task in found if len(task.train) >= PREFIX_LEAST)
    if not tasks:
        raise DataError(f"{path}: no machine has {PREFIX_LEAST} rows before its first anomaly; expected at least one")
    return Bench("smd-b", SMD_B, tasks)


def _first_rows(task: Task) -> Task:
    """The task of learning from the first rows of the test half."""
    (series,) = task.series
    assert series.labels is not None
    first = int(np.argmax(series.labels)) if series.labels.any() else len(series.labels)
    rows = max(min(first - PREFIX_MARGIN, int(PREFIX_SHARE * len(series.labels))), 0)
    return replace(task, train=part(series.rows, slice(rows)), series=(replace(series, before=None),))


def load_asd(path: Path) -> Bench:
    """Every server in `path/train`. Raises DataError."""
    return Bench("asd", ASD, tuple(_task(path, name, 5 * MINUTE, ASD_FIT) for name in _names(path)))


def _names(path: Path) -> list[str]:
    files = sorted(folder(path / "train", "the data set's train folder").glob("*.txt*"))
    names = list(dict.fromkeys(file.name.split(".txt")[0] for file in files))
    if not names:
        raise DataError(f"{path / 'train'} holds no file named .txt or .txt.gz; expected one a machine")
    return names


def _task(path: Path, name: str, tick: int, share: float) -> Task:
    train, test = (matrix(plain_or_packed(path / half / f"{name}.txt"), ",") for half in ("train", "test"))
    if train.shape[1] != test.shape[1]:
        raise DataError(f"{path}: {name} has {train.shape[1]} columns in train, {test.shape[1]} in test")
    tags = tuple(f"m{column:02d}" for column in range(1, train.shape[1] + 1))
    learned = readings_of(name, tags, clock(len(train), tick), train)
    rows = readings_of(name, tags, clock(len(test), tick, first=len(train)), test)
    labels = labels_in(plain_or_packed(path / "test_label" / f"{name}.txt"), len(test))
    causes = _interpretations(plain_or_packed(path / "interpretation_label" / f"{name}.txt"), tags, labels)
    series = Series(
        name, rows, stamps_of(rows.times), labels, np.zeros(len(test), bool), before=learned, interpreted=causes
    )
    cut = round(share * len(train))
    line = part(learned, slice(cut, None)) if share < 1.0 else None
    return Task(name, tags, tick, part(learned, slice(cut)), (series,), line)


def _interpretations(file: Path, tags: tuple[str, ...], labels: np.ndarray) -> tuple[Interpretation, ...]:
    """Lines `first-last:column,column` (columns from 1); none if there is no such file. Raises DataError.

    SMD counts the row after the last, ASD the last one: what the labels do not call anomalous is left out.
    """
    if not file.exists():
        return ()
    found = []
    for number, line in enumerate(text_of(file).splitlines(), 1):
        if not line.strip():
            continue
        told = _LINE.fullmatch(line.strip())
        first, last = (int(told[1]), int(told[2])) if told else (1, 0)
        columns = [int(text) for text in told[3].split(",")] if told else []
        if not 0 <= first <= last <= len(labels) or not all(1 <= column <= len(tags) for column in columns):
            raise DataError(
                f"{file}, line {number}: {line[:60]!r} came; expected first-last:column,… with rows up to "
                f"{len(labels)} and columns 1 to {len(tags)}"
            )
        rows = first + np.flatnonzero(labels[first : last + 1])
        if len(rows):
            found.append(Interpretation(int(rows[0]), int(rows[-1]) + 1, tuple(tags[column - 1] for column in columns)))
    return tuple(found)
