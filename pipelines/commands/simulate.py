"""`plantwatch simulate`: write the life of the simulated plant to a folder, with its plant file and the truth.

DIR/plant.toml                                       the machines and their tags
DIR/truth.json                                       every fault: asset, name, tag, onset, end, severity
DIR/readings/<asset path>.csv                        (csv) one wide file an asset, first column `timestamp`
DIR/readings.jsonl                                   (jsonl) one native row a line, in order of arrival
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import ConfigurationError, StorageError, StorageFull
from pipelines.plant_file import write_plant
from pipelines.sources.simulator import Simulator, truth

HOUR_NS = 3600 * SECOND
STEP_NS = 60 * SECOND
"""Rows of different machines are interleaved in steps of this length in the JSON lines."""


class Format(StrEnum):
    """How readings are written."""

    CSV = "csv"
    JSONL = "jsonl"


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write to; made if it is not there.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How many hours to simulate in all.")] = 48.0,
    history: Annotated[float, typer.Option(min=0.0, help="First hours without any fault.")] = 36.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another life of the plant.")] = 1,
    start: Annotated[str, typer.Option(help="Event time of the start, ISO-8601 with zone.")] = "2026-01-05T00:00:00Z",
    format_: Annotated[
        Format, typer.Option("--format", help="csv: one file an asset; jsonl: one stream.")
    ] = Format.CSV,
    force: Annotated[bool, typer.Option(help="Write although the folder is not empty.")] = False,
) -> None:
    """Write a simulated plant's readings, its plant file and the truth about its faults."""
    simulator = Simulator(seed, _start(start), round(history * 3600))
    until = simulator.start + round(hours * HOUR_NS)
    console = Console(stderr=True)
    with _storage_errors(out):
        _prepare(out, force)
        write_plant(simulator.plant, out / "plant.toml")
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Simulating", total=hours)
            write = _write_csv if format_ is Format.CSV else _write_jsonl
            count = write(out, simulator, until, lambda done: progress.update(task, completed=done / HOUR_NS))
        known = truth(simulator)
        (out / "truth.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    console.print(f"Wrote {count} readings and {len(known['faults'])} faults to {out}", highlight=False, soft_wrap=True)
    if not known["faults"]:
        console.print(f"No fault yet: they begin after {history:g} h; use more --hours or less --history.")


def _start(text: str) -> int:
    """Start in ns. Raises ConfigurationError for anything but a time with a zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--start {text!r} is no ISO-8601 time; example: 2026-01-05T00:00:00Z") from None
    if time.tzinfo is None:
        raise ConfigurationError(f"--start {text!r} has no zone; add Z or an offset such as +01:00")
    if time.timestamp() < 0:
        raise ConfigurationError(f"--start {text!r} is before 1970; expected a later time")
    return round(time.timestamp()) * SECOND


def _prepare(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigurationError(f"{out} is a file; expected a folder (or none yet)")
    if out.exists() and not force and any(out.iterdir()):
        raise ConfigurationError(f"{out} is not empty; choose another folder or say --force to overwrite")
    out.mkdir(parents=True, exist_ok=True)


@contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    """What the file system says, as our own errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"No space left to write {out}; free some or choose another folder") from error
        raise StorageError(f"Cannot write {out}: {error.strerror or error}") from error


def _write_csv(out: Path, simulator: Simulator, until: int, done: Callable[[int], None]) -> int:
    """One wide CSV an asset, hour by hour. Returns the readings written."""
    files: dict[str, IO[str]] = {}
    count = 0
    try:
        for asset in simulator.plant.assets:
            path = out / "readings" / f"{asset.path}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            files[asset.path] = path.open("w", encoding="utf-8", newline="")
            files[asset.path].write(",".join(["timestamp", *(tag.name for tag in asset.tags)]) + "\n")
        for blocks in _advance(simulator, until, HOUR_NS, done):
            for block in blocks:
                files[block.asset].writelines(_csv_rows(block))
                count += block.count
    finally:
        for file in files.values():
            file.close()
    return count


def _csv_rows(block: Readings) -> Iterator[str]:
    """Lines of one block; a value that is bad or did not come is an empty cell."""
    for time, row in zip(_stamps(block), block.values.tolist(), strict=True):
        yield ",".join([time, *map(_cell, row)]) + "\n"


def _cell(value: float) -> str:
    """Shortest text that reads back as the same number; empty for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


def _write_jsonl(out: Path, simulator: Simulator, until: int, done: Callable[[int], None]) -> int:
    """Native rows, one a line. Returns the readings written."""
    count = 0
    with (out / "readings.jsonl").open("w", encoding="utf-8", newline="") as file:
        for blocks in _advance(simulator, until, STEP_NS, done):
            for block in blocks:
                file.writelines(_json_rows(block))
                count += block.count
    return count


def _json_rows(block: Readings) -> Iterator[str]:
    """Lines of one block; tags that did not come are left out, bad ones are null."""
    for time, values, quality in zip(_stamps(block), block.values.tolist(), block.quality.tolist(), strict=True):
        row = dict(zip(block.tags, zip(values, quality, strict=True), strict=True))
        sent = {tag: None if mark == Quality.BAD else value for tag, (value, mark) in row.items() if mark < 3}
        marks = {tag: Quality(mark).name.lower() for tag, (_, mark) in row.items() if mark in (1, 2)}
        line = {"asset": block.asset, "ts": time, "values": sent, **({"quality": marks} if marks else {})}
        yield json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"


def _stamps(block: Readings) -> list[str]:
    """Event times as ISO-8601 UTC with milliseconds."""
    texts = np.datetime_as_string(block.times.astype("datetime64[ns]"), unit="ms")
    return [f"{text}Z" for text in texts.tolist()]


def _advance(simulator: Simulator, until: int, step: int, done: Callable[[int], None]) -> Iterator[Sequence[Readings]]:
    while simulator.now < until:
        yield simulator.advance(min(until, simulator.now + step))
        done(simulator.now - simulator.start)
