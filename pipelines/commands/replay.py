"""`plantwatch replay`: what would have been seen, had these files come live.

OUT/scores/<asset path>.csv   timestamp,score,anomalous,state,coverage,top_tag: one row a tick after the training rows
OUT/alerts.json               every alert of every machine, in its last state
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from anomaly.domain import Plant, Readings
from anomaly.errors import ConfigurationError
from pipelines import wiring
from pipelines.alert_json import alert_json
from pipelines.alert_state import AlertPolicy
from pipelines.commands.alert_options import Config
from pipelines.commands.evaluate import storage_errors
from pipelines.discovery import discover_plant
from pipelines.plant_file import load_plant
from pipelines.replaying import Replayed, by_asset
from pipelines.replaying import replay as run_replay
from pipelines.run_source import zone_of_files
from pipelines.rungs import MODELS
from pipelines.settings import Settings
from pipelines.sources.folder import Folder
from pipelines.suggesting import did_you_mean
from pipelines.times import iso
from pipelines.wording import headline, moment


def replay(
    data: Annotated[Path, typer.Option(help="Folder (or file) of CSV or Parquet; may hold a plant.toml.")],
    train_rows: Annotated[int, typer.Option(min=1, help="Learn from the first so many rows of each machine.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; made if it is not there.")],
    model: Annotated[str, typer.Option(help=", ".join(MODELS))] = "window_pca",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other first weights of the net.")] = 0,
    timezone: Annotated[str | None, typer.Option(help="IANA name, for times without a zone.")] = None,
    force: Annotated[bool, typer.Option(help="Write although the folder is not empty.")] = False,
    config: Config = None,
) -> None:
    """Learn from the first rows of each machine, score the rest as if it came live, write scores and alerts."""
    if model not in MODELS:
        raise ConfigurationError(f"no model {model!r}{did_you_mean(model, MODELS)}")
    settings = Settings(config=config, timezone=timezone)
    console = Console(stderr=True)
    plant, readings = _read(data, settings, console)
    with storage_errors(out):
        _prepare(out, force)
    policy = AlertPolicy(episodes=settings.episode_policy(), critical=settings.critical_assets, plant=plant)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Replaying", total=1.0, what="")
        found = run_replay(
            plant,
            readings,
            train_rows,
            model,
            seed,
            lambda what, share: progress.update(bar, completed=share, what=what),
            policy,
        )
    with storage_errors(out):
        _write(out, found)
    for line in _told(found, out, model, plant.timezone):
        typer.echo(line)


def _read(data: Path, settings: Settings, console: Console) -> tuple[Plant, dict[str, Readings]]:
    """The plant file beside the data, else what the files show; and the readings of its machines."""
    beside = data / wiring.PLANT_FILE
    described = load_plant(beside) if beside.is_file() else None
    folder = Folder(data, timezone=zone_of_files(settings, described))
    blocks = list(folder.blocks())
    notes = list(folder.notes())
    if described is None or not {block.asset for block in blocks} & {asset.path for asset in described.assets}:
        discovered = discover_plant(blocks, units=folder.units())
        described, notes = discovered.plant, [*notes, *discovered.notes]
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    return described, by_asset(blocks, described)


def _prepare(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigurationError(f"{out} is a file; expected a folder (or none yet)")
    if out.exists() and not force and any(out.iterdir()):
        raise ConfigurationError(f"{out} is not empty; choose another folder or say --force to overwrite")
    out.mkdir(parents=True, exist_ok=True)


def _write(out: Path, found: Sequence[Replayed]) -> None:
    for one in found:
        path = out / "scores" / f"{one.asset.path}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("timestamp", "score", "anomalous", "state", "coverage", "top_tag"))
            writer.writerows(_lines(one))
    alerts = [alert_json(alert) for one in found for alert in one.alerts]
    (out / "alerts.json").write_text(json.dumps({"alerts": alerts}, indent=1) + "\n", encoding="utf-8")


def _lines(one: Replayed) -> Iterator[tuple[str, str, int, str, str, str]]:
    scores = one.scores
    top = scores.contributions.argmax(axis=1).tolist()
    columns = zip(
        scores.times.tolist(), scores.score.tolist(), scores.state, scores.coverage.tolist(), top, strict=True
    )
    for time, score, state, coverage, strongest in columns:
        known = math.isfinite(score)
        tag = scores.tags[strongest] if known else ""
        yield iso(time), f"{score:.6g}" if known else "", int(known and score > 1.0), str(state), f"{coverage:g}", tag


def _told(found: Sequence[Replayed], out: Path, model: str, timezone: str) -> Iterator[str]:
    """What happened, for people."""
    for one in found:
        known = int(sum(math.isfinite(score) for score in one.scores.score.tolist()))
        over = int(one.scores.anomalous.sum())
        yield (
            f"{one.asset.path}: {model} learned from {one.trained_rows} rows; {len(one.scores)} ticks, {known} scored, "
            f"{over} over the line, {len(one.alerts)} alerts"
        )
        for alert in one.alerts:
            yield f"  {moment(alert.raised_at, timezone)}  {alert.priority:<6}  {headline(alert)}"
    yield f"Scores and alerts are in {out}"
