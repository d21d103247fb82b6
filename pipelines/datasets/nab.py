"""NAB: streaming, one value a series; learned from the probation rows (15 %, at most 750), labels are windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly.errors import DataError
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, part, readings_of
from pipelines.datasets.files import folder, numbers_in, table, text_of, tick_of, times_in

PROBATION = 0.15
LONGEST_PROBATION = 750
PROTOCOL = Protocol(
    summary=Summary.MEAN,
    vus_window=100,
    why="the mean of the files; the events are NAB's windows and are summed",
)


def load(path: Path) -> Bench:
    """Every file that the windows name and `path` has. Raises DataError."""
    windows = _windows(folder(path, "NAB's folders labels and realKnownCause"))
    tasks = tuple(_task(path, name, spans) for name, spans in windows.items() if _file(path, name).is_file())
    if not tasks:
        raise DataError(f"{path} has none of the {len(windows)} files that its labels name")
    return Bench("nab", PROTOCOL, tasks)


def _windows(path: Path) -> dict[str, Any]:
    names = ("windows.json", "combined_windows.json")
    found = next((path / "labels" / name for name in names if (path / "labels" / name).is_file()), None)
    if found is None:
        raise DataError(f"{path / 'labels'} has neither {names[0]} nor {names[1]}; expected the anomaly windows")
    try:
        windows = json.loads(text_of(found))
    except ValueError as error:
        raise DataError(f"{found} is no JSON ({error}); expected windows by file name") from error
    if not isinstance(windows, dict):
        raise DataError(f"{found} holds a {type(windows).__name__}; expected windows by file name")
    return windows


def _file(path: Path, name: str) -> Path:
    beside = path / name
    return beside if beside.is_file() else path / "data" / name


def _task(path: Path, name: str, spans: Any) -> Task:
    file = _file(path, name)
    frame = table(file, ",", ("timestamp", "value"))
    values, wrong = numbers_in(frame[["value"]])
    times = times_in(frame["timestamp"], file)
    learned = min(int(PROBATION * len(frame)), LONGEST_PROBATION)
    if not learned:
        raise DataError(f"{file} has {len(frame)} rows; expected some to learn from")
    title = name.removesuffix(".csv")
    rows = readings_of(title, ("value",), times, values, wrong)
    labels, known = _labels(times, spans, file), np.arange(len(frame)) < learned
    series = Series(title, rows, tuple(frame["timestamp"]), labels, known)
    return Task(title, ("value",), tick_of(times, file), part(rows, slice(learned)), (series,))


def _labels(times: np.ndarray, spans: Any, file: Path) -> np.ndarray:
    labels = np.zeros(len(times), bool)
    try:
        for start, stop in spans:
            labels |= (times >= _time(start)) & (times <= _time(stop))
    except (TypeError, ValueError) as error:
        raise DataError(f"the windows of {file} are not pairs of times ({error})") from error
    return labels


def _time(text: str) -> int:
    return int(pd.Timestamp(text).tz_localize("UTC").as_unit("ns").value)
