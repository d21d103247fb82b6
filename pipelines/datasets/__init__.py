"""Benchmarks as plain text files, each with the protocol of its README."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from anomaly.errors import ConfigurationError, DataError
from pipelines.datasets import csv_folders, halves, nab, skab, tep
from pipelines.datasets.bench import Bench
from pipelines.suggesting import did_you_mean

LOADERS: Mapping[str, Callable[[Path], Bench]] = {
    "skab": skab.load,
    "smd": halves.load_smd,
    "smd-b": halves.load_smd_b,
    "asd": halves.load_asd,
    "tep": tep.load,
    "nab": nab.load,
    "csv": csv_folders.load,
}
ALL = "all"


def load(name: str, path: Path) -> tuple[Bench, ...]:
    """The data set in `path`; `all`: every one that has a folder of its name there.

    Raises ConfigurationError for an unknown name, DataError for files that are not as they should be.
    """
    if name == ALL:
        there = [known for known in LOADERS if (path / known).is_dir()]
        if not there:
            raise DataError(f"{path} has none of the folders {', '.join(LOADERS)}; expected at least one")
        return tuple(LOADERS[known](path / known) for known in there)
    if name not in LOADERS:
        raise ConfigurationError(f"no data set {name!r}{did_you_mean(name, [*LOADERS, ALL])}")
    return (LOADERS[name](path),)
