"""`plantwatch detectability`: how small a fault in each tag the serving version would still catch in time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from anomaly.blocks import rows as rows_of
from anomaly.detector import Detector, rules_detector
from anomaly.domain import Asset, Plant, Readings
from anomaly.errors import ConfigurationError
from anomaly.training_set import TrainingSet
from pipelines import wiring
from pipelines.commands.alert_options import AsJson, Config, DataDir, stored_plant, timezone_of
from pipelines.commands.model_options import resolve
from pipelines.detecting import Limit, Place, ReadingsOf, find_places, limits, spread
from pipelines.discovery import discover_plant
from pipelines.injecting import SPANS, Fault
from pipelines.plant_file import load_plant
from pipelines.replaying import by_asset
from pipelines.run_source import zone_of_files
from pipelines.serving import RULES_VERSION
from pipelines.settings import Settings
from pipelines.sources.folder import Folder
from pipelines.spans import point
from pipelines.suggesting import did_you_mean
from pipelines.times import iso
from pipelines.training_service import group_assets, training_set_from_historian, training_set_from_readings
from pipelines.wording import moment, number, plain

COLUMNS: Final = {
    "step": (Fault.STEP_UP, Fault.STEP_DOWN),
    "drift per hour": (Fault.DRIFT_UP, Fault.DRIFT_DOWN),
    "noise (sd)": (Fault.NOISE,),
    "lost relation": (Fault.LOST_RELATION,),
}
"""Columns of the table, and the faults told in each."""
_WAYS: Final = {Fault.STEP_UP: "+", Fault.STEP_DOWN: "−", Fault.DRIFT_UP: "+", Fault.DRIFT_DOWN: "−"}


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Normal rows of the group, its assets, and the readings they came from."""

    plant: Plant
    group: str
    assets: tuple[Asset, ...]
    normal: TrainingSet
    readings_of: ReadingsOf


def detectability(
    group: Annotated[str | None, typer.Argument(help="Group of machines; may be left out if there is one.")] = None,
    asset: Annotated[list[str] | None, typer.Option(help="Only at this machine; may be given several times.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only this tag; may be given several times.")] = None,
    version: Annotated[
        str, typer.Option(help="Version, its first characters, an alias or `rules`; without it, what serves.")
    ] = "champion",
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="Within so many minutes it must be told.")] = 30.0,
    places: Annotated[int, typer.Option(min=1, max=50, help="Try each fault at so many stretches.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other stretches.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Normal rows from CSV or Parquet, not from what is stored.")] = None,
    since: Annotated[str, typer.Option(help="Normal rows from: a time with zone, or so long before the newest.")] = (
        "24h"
    ),
    until: Annotated[str | None, typer.Option(help="To: a time with zone, or so long before the newest.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of times in files that name none.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Say, per tag, the smallest step, drift, noise and loss of relation that a version would catch in time.

    Faults are put into normal rows, which then go the way of live ones: alignment, sensor checks, windows, scores, the
    raising rule in force. Nothing is stored, and nothing is raised.
    """
    settings = Settings(config=config, data_dir=data_dir, timezone=timezone)
    console = Console(stderr=True)
    source = (_files if data else _store)(settings, data, group, asset or [], since, until, console)
    detector, policy = _detector(settings, source, version), settings.episode_policy()
    tags = _tags(detector, source, tag or [])
    normal = {name: spread(source.normal, name) for name in tags}
    with _bar(console) as on_step:
        on_step("Looking for normal stretches", 0.0)
        by_path = {one.path: one for one in source.assets}
        found_places = find_places(
            detector, by_path, source.normal, source.readings_of, minutes, policy, count=places, seed=seed
        )
        found = limits(detector, found_places, tags, policy, normal, seed, on_step)
    if as_json:
        typer.echo(json.dumps(as_dict(detector, minutes, found_places, found), indent=1))
        return
    zone = timezone_of(settings, source.plant)
    output = Console()
    for line in _head(detector, minutes, found_places, zone):
        output.print(line, highlight=False, markup=False, soft_wrap=True)
    output.print(table(found))


def table(found: Sequence[Limit]) -> Table:
    """One row a tag, one column a kind of fault."""
    shown = Table(box=None)
    shown.add_column("tag", overflow="fold")
    for name in COLUMNS:
        shown.add_column(name)
    for tag in dict.fromkeys(limit.tag for limit in found):
        mine = {limit.fault: limit for limit in found if limit.tag is tag}
        cells = ["\n".join(words(mine[fault]) for fault in faults) for faults in COLUMNS.values()]
        shown.add_row(f"{plain(tag.name)}{f' ({plain(tag.unit)})' if tag.unit else ''}", *cells)
    return shown


def words(limit: Limit) -> str:
    """One limit in a few words, without the unit, which stands at the row.

    >>> from anomaly.domain import Kind, Tag
    >>> words(Limit(Tag("t", "°C"), Fault.STEP_UP, 1.234, 9.0, Kind.PROCESS, 4, True))
    '+1.23 process'
    >>> words(Limit(Tag("t", "°C"), Fault.STEP_DOWN, None, 9.0, None, 4, True))
    '− not within range'
    """
    way = _WAYS.get(limit.fault, "")
    if limit.size is not None:
        size = f"{limit.size:.0%}" if limit.fault is Fault.LOST_RELATION else number(limit.size)
        return f"{way}{size} {limit.kind}"
    if limit.fault is Fault.LOST_RELATION:
        return "not even wholly lost" if limit.largest > 0 else "unknown: too few normal rows"
    never = "not within range" if limit.ranged else f"not within {SPANS:g} normal spans"
    return f"{way} {never}".strip()


def size_unit(limit: Limit) -> str:
    """Unit of the size: that of the tag, per hour for a drift; empty where the plant file gives none."""
    if limit.fault is Fault.LOST_RELATION:
        return "share of correlation lost"
    per_hour = limit.fault in (Fault.DRIFT_UP, Fault.DRIFT_DOWN)
    return f"{limit.tag.unit}/h" if per_hour else limit.tag.unit


def as_dict(detector: Detector, minutes: float, places: Sequence[Place], found: Sequence[Limit]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "group": detector.group,
        "version": detector.version,
        "rung": detector.rung.value,
        "minutes": minutes,
        "places": [{"asset": p.asset.path, "since": iso(p.since), "until": iso(p.until)} for p in places],
        "limits": [
            {
                "tag": limit.tag.name,
                "fault": limit.fault.value,
                "size": limit.size,
                "unit": size_unit(limit),
                "as": None if limit.kind is None else limit.kind.value,
                "largest": limit.largest if math.isfinite(limit.largest) else None,
                "ranged": limit.ranged,
                "places": limit.places,
            }
            for limit in found
        ],
    }


def _head(detector: Detector, minutes: float, places: Sequence[Place], timezone: str) -> Iterator[str]:
    yield (
        f"{plain(detector.group)} {plain(detector.version)} ({detector.rung.value}): smallest fault told within "
        f"{minutes:g} minutes, and as what (process or instrument), tried at {len(places)} normal "
        f"{'stretch' if len(places) == 1 else 'stretches'}:"
    )
    for place in places:
        yield f"  {plain(place.asset.path)} from {moment(place.since, timezone)}"


def _detector(settings: Settings, source: _Source, wanted: str) -> Detector:
    """The version asked for; where no champion was ever promoted, the rules serve."""
    registry = wiring.open_registry(settings)
    unasked = wanted == "champion" and "champion" not in registry.aliases(source.group)
    found = RULES_VERSION if unasked or wanted == RULES_VERSION else resolve(registry, source.group, wanted)
    if found == RULES_VERSION:
        return rules_detector(source.group, group_assets(source.plant, source.group, None))
    return registry.load(source.group, found)


def _tags(detector: Detector, source: _Source, wanted: Sequence[str]) -> tuple[str, ...]:
    """The tags asked for, else all that the version models and the assets have."""
    there = [name for name in detector.tags if all(name in part.tags for part in source.normal.samples)]
    for name in wanted:
        if name not in there:
            raise ConfigurationError(
                f"version {detector.version} of group {source.group!r} models no tag {name!r}"
                f"{did_you_mean(name, there)}; expected one of: {', '.join(there)}"
            )
    return tuple(dict.fromkeys(wanted)) or tuple(there)


def _store(
    settings: Settings,
    _: Path | None,
    group: str | None,
    assets: list[str],
    since: str,
    until: str | None,
    console: Console,
) -> _Source:
    """Normal rows of what is stored."""
    plant, historian = wiring.open_plant(settings), wiring.open_historian_reader(settings)
    chosen = _group(plant, group, assets)
    span = historian.span()
    if span is None:
        raise ConfigurationError(
            "nothing is stored yet; expected readings; run the services first, or give normal rows by --data DIR"
        )
    first, last = _span(since, until, span[1])
    cleaned = training_set_from_historian(historian, plant, chosen, assets, first, last)
    members = group_assets(plant, chosen, assets)
    console.print(f"{cleaned.training.rows} normal rows", highlight=False)
    return _Source(plant, chosen, members, cleaned.training, historian.readings)


def _files(
    settings: Settings,
    data: Path | None,
    group: str | None,
    assets: list[str],
    since: str,
    until: str | None,
    console: Console,
) -> _Source:
    """Normal rows of files, described by their own plant file, that of the settings, or by themselves."""
    assert data is not None
    beside = data / wiring.PLANT_FILE
    plant = load_plant(beside) if beside.is_file() else stored_plant(settings)
    folder = Folder(data, timezone=zone_of_files(settings, plant))
    blocks = [block for block in folder.blocks() if len(block)]
    notes = list(folder.notes())
    if plant is None or not {block.asset for block in blocks} & {asset.path for asset in plant.assets}:
        discovered = discover_plant(blocks)
        plant, notes = discovered.plant, [*notes, *discovered.notes]
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    chosen = _group(plant, group, assets)
    whole = by_asset(blocks, plant)
    newest = max((int(block.times.max()) for block in blocks), default=0)
    first, last = _span(since, until, newest)
    cleaned = training_set_from_readings(plant, chosen, assets, blocks, first, last)

    def readings_of(asset: str, start: int, stop: int) -> Readings:
        block = whole[asset]
        return rows_of(block, (block.times >= start) & (block.times < stop))

    return _Source(plant, chosen, group_assets(plant, chosen, assets), cleaned.training, readings_of)


def _span(since: str, until: str | None, newest: int) -> tuple[int, int]:
    first, last = point(since, newest), point(until, newest, "--until") if until else newest + 1
    if first >= last:
        raise ConfigurationError(f"--since {since} is not before --until {until}; expected a span of time; mend one")
    return first, last


def _group(plant: Plant, group: str | None, assets: Sequence[str]) -> str:
    """The group named, that of the machines named, or the only one. Raises ConfigurationError."""
    if group is not None:
        group_assets(plant, group, assets)
        return group
    named = {path: plant.asset(path) for path in assets}
    unknown = [path for path, found in named.items() if found is None]
    if unknown:
        known = [one.path for one in plant.assets]
        raise ConfigurationError(
            f"no asset {', '.join(unknown)} in plant {plant.name!r}{did_you_mean(unknown[0], known)}; "
            f"expected one or more of: {', '.join(known[:10])}"
        )
    groups = {found.group for found in named.values() if found is not None} or set(plant.groups())
    if len(groups) != 1:
        raise ConfigurationError(
            f"which group? expected one of {', '.join(sorted(groups))}: `plantwatch detectability GROUP`"
        )
    return groups.pop()


@contextmanager
def _bar(console: Console) -> Iterator[Any]:
    """A progress bar on the error stream, gone when done; silent where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, completed=share, description=what)
