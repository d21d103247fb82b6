"""`plantwatch evaluate`: how good the detectors are on a benchmark, with trivial controls beside them."""

from __future__ import annotations

import csv
import errno
import json
import math
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from anomaly.errors import ConfigurationError, StorageError, StorageFull
from anomaly.evaluation import CONTROLS
from anomaly.model_card import library_versions
from pipelines.breaking import breakage_of
from pipelines.commands.evaluate_table import instruments_table, table
from pipelines.datasets import ALL, LOADERS, load
from pipelines.datasets.bench import Bench
from pipelines.evaluating import Asked, OnStep, Run
from pipelines.evaluating import evaluate as run_model
from pipelines.figures import worst
from pipelines.report import check_plots, report
from pipelines.row_scores import RowScores
from pipelines.rungs import DEFAULT, MODELS, NET_ALONE, SEEDED
from pipelines.suggesting import did_you_mean

USUAL = (DEFAULT, NET_ALONE, "window_pca")
"""Models that are run when none is named; the controls always are."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All seeds of one model over one data set. `shown`: the seed with the worst summary."""

    model: str
    runs: tuple[Run, ...]

    @property
    def shown(self) -> Run:
        """The run that is printed and whose scores are written."""
        summary = worst([run.summary for run in self.runs])
        return next(run for run in self.runs if run.summary is summary)


def evaluate(
    dataset: Annotated[str, typer.Argument(help=f"{', '.join(LOADERS)}, or {ALL}.")],
    data: Annotated[Path, typer.Option(help="Its folder; for `all` the folder that holds one a data set.")],
    model: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MODELS)}; may be given several times.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="So many seeds; the worst is shown.")] = 3,
    series: Annotated[list[str] | None, typer.Option(help="Only this series; may be given several times.")] = None,
    scores_out: Annotated[Path | None, typer.Option(help="Folder for one CSV a series with its scores.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for all figures of all seeds; `-` is standard output.")
    ] = None,
    break_: Annotated[
        str | None,
        typer.Option("--break", help="Break sensors in the rows judged: missing:2, stuck:1, drift:4 (tags a series)."),
    ] = None,
    report_file: Annotated[Path | None, typer.Option("--report", help="File for a page of plots (HTML).")] = None,
) -> None:
    """Fit and judge on a benchmark, the way production would: the line from training rows only, no point-adjustment.

    default: the LSTM autoencoder with the linear views beside it. lstm_autoencoder: its net alone. window_pca,
    rolling_z: what serves before a net can be trained. Rivals, to compare with: hotelling (T² + Q of one row),
    isolation_forest (extra `rivals`), lstm_naive (an LSTM autoencoder as it is usually built: no linear path, mean
    error of the window, its line from the rows it was trained on).
    """
    models = _models(model or [])
    asked = Asked(None if break_ is None else breakage_of(break_), explain=report_file is not None)
    if report_file is not None:
        check_plots()
    benches = [_chosen(bench, series or []) for bench in load(dataset, data)]
    to_stdout = json_file is not None and str(json_file) == "-"
    rows: list[dict[str, Any]] = []
    instruments: list[dict[str, Any]] = []
    parts: list[tuple[Bench, Sequence[Run], str]] = []
    for bench in benches:
        results = [_run(bench, name, seeds, asked) for name in (*models, *CONTROLS)]
        instruments += [row.as_json() for result in results for run in result.runs for row in run.instruments]
        rows += [row for result in results for run in result.runs for row in _rows(run, models)]
        if scores_out is not None:
            with storage_errors(scores_out):
                write_scores(scores_out / bench.name if dataset == ALL else scores_out, results)
        told = _told(bench, results, seeds)
        typer.echo(told, err=to_stdout)
        if report_file is not None:
            parts.append((bench, [result.shown for result in results if result.model not in CONTROLS], told))
    if json_file is not None:
        broken = {"instruments": instruments} if asked.breakage is not None else {}
        _write_json(json_file, {"versions": versions(), "rows": rows, **broken})
    if report_file is not None:
        with storage_errors(report_file):
            report_file.parent.mkdir(parents=True, exist_ok=True)
            report_file.write_text(report(f"plantwatch evaluate {dataset}", parts, versions()), encoding="utf-8")


def _models(asked: Sequence[str]) -> tuple[str, ...]:
    """The models to run, once each. Raises ConfigurationError for an unknown name."""
    for name in asked:
        if name not in MODELS:
            raise ConfigurationError(f"no model {name!r}{did_you_mean(name, MODELS)}")
    return tuple(dict.fromkeys(asked)) or USUAL


def _chosen(bench: Bench, wanted: Sequence[str]) -> Bench:
    """Only the series wanted, by name. Raises ConfigurationError for one that is not there."""
    if not wanted:
        return bench
    known = [one.name for task in bench.tasks for one in task.series]
    for name in wanted:
        if name not in known:
            raise ConfigurationError(f"{bench.name} has no series {name!r}{did_you_mean(name, known)}")
    tasks = [replace(task, series=tuple(one for one in task.series if one.name in wanted)) for task in bench.tasks]
    return replace(bench, tasks=tuple(task for task in tasks if task.series))


def _run(bench: Bench, model: str, seeds: int, asked: Asked) -> Result:
    """All seeds, or one where another would change nothing: neither the model nor what is broken."""
    many = seeds if model in SEEDED or (asked.breakage is not None and model not in CONTROLS) else 1
    runs = []
    with _bar(f"{bench.name} {model}", many) as on_step:
        for seed in range(many):
            step = _from(on_step, seed)
            runs.append(run_model(bench, model, seed, step, asked))
    return Result(model, tuple(runs))


def _from(on_step: OnStep, seed: int) -> OnStep:
    """The same bar, for one seed after `seed` others."""
    return lambda what, share: on_step(what, seed + share)


@contextmanager
def _bar(title: str, seeds: int) -> Iterator[OnStep]:
    """A progress bar on the error stream, gone when done; silent where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=float(seeds), what="")

        def show(what: str, share: float) -> None:
            progress.update(task, completed=share, what=what)

        yield show


def _rows(run: Run, models: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The figures as JSON."""
    for row in (*run.rows, run.summary):
        yield row.as_json()


def _told(bench: Bench, results: Sequence[Result], seeds: int) -> str:
    """The table of one data set: every series of the models, then the summary with the controls beside."""
    shown = [result.shown for result in results]
    series = [row for run in shown if run.model not in CONTROLS for row in run.rows]
    lines = [f"{bench.name}: every series", table(series), ""]
    lines += [f"{bench.name}: {bench.protocol.summary} = {bench.protocol.why}", table([run.summary for run in shown])]
    if {DEFAULT, NET_ALONE} <= {run.model for run in shown}:
        lines.append(f"{DEFAULT} is the LSTM autoencoder with the linear views beside it; {NET_ALONE} its net alone.")
    if seeds > 1 and any(len(result.runs) > 1 for result in results):
        lines.append(f"Of {seeds} seeds the worst is shown; --json has all. Models without chance have one.")
    if any(run.instruments for run in shown):
        lines += [
            f"{bench.name}: sensors broken on purpose",
            instruments_table([r for run in shown for r in run.instruments]),
        ]
    lines += dict.fromkeys(note for result in results for run in result.runs for note in run.notes)
    return "\n".join(lines) + "\n"


def write_scores(out: Path, results: Sequence[Result]) -> None:
    """One CSV a series of the first model's shown seed in `out`; of other models in `out/other-models/NAME`."""
    models = [result for result in results if result.model not in CONTROLS]
    for number, result in enumerate(models):
        home = out / "other-models" / result.model if number else out
        for scores in result.shown.scores:
            path = home / f"{scores.series}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("timestamp", "score", "anomalous", "state"))
                writer.writerows(_lines(scores))


def _lines(scores: RowScores) -> Iterator[tuple[str, str, int, str]]:
    for stamp, score, state in zip(scores.stamps, scores.score.tolist(), scores.state, strict=True):
        known = math.isfinite(score)
        yield stamp, f"{score:.6g}" if known else "", int(known and score > 1.0), state


def versions() -> dict[str, str]:
    """What made the figures."""
    return {"plantwatch": version("plantwatch"), "python": platform.python_version(), **library_versions()}


def _write_json(file: Path, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """What the file system says, as our own errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left to write {where}; free some or choose another place") from error
        raise StorageError(f"cannot write {where}: {error.strerror or error}; choose a place we may write") from error
