"""`plantwatch train`: learn a new version from stored readings or from files, and make it the challenger."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from anomaly.domain import Plant, Rung
from anomaly.errors import ConfigurationError
from anomaly.training import Progress as Step
from anomaly.training_size import spec_for
from pipelines import wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.commands.alert_options import AsJson, Config, DataDir, stored_plant
from pipelines.commands.model_options import Actor, card_json, figure, name_of
from pipelines.discovery import discover_plant
from pipelines.fitting import Fitted, fit_version
from pipelines.plant_file import load_plant
from pipelines.run_source import zone_of_files
from pipelines.settings import Settings
from pipelines.sources.folder import Folder
from pipelines.spans import point
from pipelines.training_service import (
    CleanedSet,
    group_assets,
    group_tags,
    training_set_from_historian,
    training_set_from_readings,
)

WORK_FOLDER = "training"
_STAGES = {
    "prepare": "Preparing",
    "fit": "Learning",
    "export": "Exporting",
    "calibrate": "Placing the line",
    "done": "Done",
}

Cleaner = Callable[[str, list[str]], CleanedSet]


def train(
    data: Annotated[Path | None, typer.Option(help="Folder (or file) of CSV or Parquet to learn from.")] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Learn from what is stored; so it is without --data.")
    ] = False,
    asset: Annotated[list[str] | None, typer.Option(help="Only from this machine; may be given several times.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group; without it, and without --asset, all.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From: a time with zone, or so long before the newest (7d).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="To: a time with zone, or so long before the newest.")] = None,
    rung: Annotated[Rung, typer.Option(help="What to learn.")] = Rung.LSTM_AUTOENCODER,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other first weights.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Longest training of the net, epochs.")] = None,
    length: Annotated[int | None, typer.Option(min=2, max=128, help="Rows in a window of the net.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of times in files that name none.")] = None,
    actor: Actor = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Learn a new version and make it the challenger of its group. What serves goes on serving."""
    if data is not None and stored:
        raise ConfigurationError("--data and --stored exclude each other; expected one source; leave one out")
    settings = Settings(config=config, data_dir=data_dir, timezone=timezone)
    console = Console(stderr=True)
    plant, cleaner = _files(settings, data, since, until, console) if data else _store(settings, since, until)
    chosen = _groups(plant, group, asset or [])
    registry, name = wiring.open_registry(settings), name_of(actor)
    work, now = wiring.data_file(settings, WORK_FOLDER), SystemClock().now()
    fitted: list[Fitted] = []
    for one in chosen:
        cleaned = cleaner(one, asset or [])
        spec = spec_for(cleaned.training.rows, seed)
        spec = replace(spec, epochs=epochs or spec.epochs, length=length or spec.length)
        with _bar(console, one) as on_progress:
            found = fit_version(
                cleaned,
                group_tags(group_assets(plant, one, None)),
                rung,
                registry,
                now=now,
                workdir=work,
                spec=spec,
                budget_per_week=plant.alert_budget_per_week,
                source=str(data) if data else "stored",
                actor=name,
                on_progress=on_progress,
            )
        fitted.append(found)
        if not as_json:
            _tell(found)
    if as_json:
        listed = [card_json(found.detector.group, found.version, found.card, "challenger") for found in fitted]
        typer.echo(json.dumps({"versions": listed}, indent=1))


def _store(settings: Settings, since: str | None, until: str | None) -> tuple[Plant, Cleaner]:
    """The plant file, and sets of what the historian has."""
    plant, historian = wiring.open_plant(settings), wiring.open_historian_reader(settings)
    span = historian.span()
    if span is None:
        raise ConfigurationError(
            f"nothing is stored in {_where(settings)}; expected readings; run the services first, or give --data DIR"
        )
    first, last = _span(since, until, span)
    return plant, lambda group, assets: training_set_from_historian(historian, plant, group, assets, first, last)


def _where(settings: Settings) -> str:
    return str(settings.influx_url) if settings.historian == "influxdb" else str(settings.data_dir)


def _files(
    settings: Settings, data: Path, since: str | None, until: str | None, console: Console
) -> tuple[Plant, Cleaner]:
    """The plant file of the data folder or of the settings, else what the files show; and sets of the files."""
    beside = data / wiring.PLANT_FILE
    described = load_plant(beside) if beside.is_file() else stored_plant(settings)
    folder = Folder(data, timezone=zone_of_files(settings, described))
    blocks = list(folder.blocks())
    notes = list(folder.notes())
    if described is None or not {block.asset for block in blocks} & {asset.path for asset in described.assets}:
        found = discover_plant(blocks)
        described = found.plant
        notes += [*found.notes, f"groups found: {', '.join(described.groups())}"]
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    plant = described
    times = [int(time) for block in blocks if len(block) for time in (block.times.min(), block.times.max())]
    first, last = _span(since, until, (min(times, default=0), max(times, default=0)))
    return plant, lambda group, assets: training_set_from_readings(plant, group, assets, blocks, first, last)


def _span(since: str | None, until: str | None, whole: tuple[int, int]) -> tuple[int, int]:
    """The span [first, last) of event time asked for, ns. Raises ConfigurationError if it is empty."""
    first = point(since, whole[1]) if since else whole[0]
    last = point(until, whole[1], "--until") if until else whole[1] + 1
    if first >= last:
        raise ConfigurationError(f"--since {since} is not before --until {until}; expected a span of time; mend one")
    return first, last


def _groups(plant: Plant, group: str | None, assets: list[str]) -> tuple[str, ...]:
    """Groups to train: the one named, that of the assets named, or all. Raises ConfigurationError for unknown names."""
    if group is not None:
        group_assets(plant, group, assets)
        return (group,)
    found = {path: plant.asset(path) for path in assets}
    unknown = [path for path, asset in found.items() if asset is None]
    if unknown:
        known = ", ".join(asset.path for asset in plant.assets[:10])
        raise ConfigurationError(f"no asset {', '.join(unknown)} in plant {plant.name!r}; expected one of: {known}")
    named = {asset.group for asset in found.values() if asset is not None}
    if len(named) > 1:
        raise ConfigurationError(f"the assets are of several groups ({', '.join(sorted(named))}); train one at a time")
    return tuple(named) or tuple(plant.groups())


@contextmanager
def _bar(console: Console, group: str) -> Iterator[Callable[[Step], None]]:
    """A progress bar on the error stream, gone when done; silent where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{group}: Starting", total=1.0, loss="")

        def show(step: Step) -> None:
            loss = f"epoch {step.epoch}/{step.epochs}, loss {step.loss:.4f}" if math.isfinite(step.loss) else ""
            progress.update(task, completed=step.share, description=f"{group}: {_STAGES[step.stage]}", loss=loss)

        yield show


def _tell(found: Fitted) -> None:
    """What was learned, from what, and what to do next."""
    card, group = found.card, found.detector.group
    typer.echo(f"{group}: version {found.version} ({card.rung}) is the challenger")
    typer.echo(f"  {card.summary(found.detector.tick)}; {len(card.assets)} machines, {len(card.tags)} tags")
    loss, over = figure(card, "held_out_loss"), figure(card, "calibration_exceed_rate", ".2%")
    typer.echo(f"  held-out loss {loss}, line {figure(card, 'line')}, over the line on calibration rows {over}")
    typer.echo(f"  next: plantwatch models compare {group}; plantwatch models promote {group}")
