"""`plantwatch discover`: look at what the plant sends, and write the plant file that a start needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from anomaly.domain import SECOND, Plant
from anomaly.errors import ConfigurationError, DataError
from pipelines import topics, wiring
from pipelines.discovery import Discovered, Span, discover_plant
from pipelines.listening import Heard, Listener, advice
from pipelines.plant_file import load_plant, to_toml, write_plant
from pipelines.settings import Settings
from pipelines.wording import plain

_SHOWN: Final = 20
"""Lines of what to check."""


def discover(
    data: Annotated[Path | None, typer.Option(help="Folder or file of readings, instead of the topic.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Listen so long for what comes; 0: what is there.")] = 30.0,
    records: Annotated[int, typer.Option(min=2, help="Stop after so many; of older ones, the newest.")] = 100_000,
    output: Annotated[Path | None, typer.Option(help="Where to write; - prints it. Else where `serve` looks.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Only machines that the plant file in force lacks.")] = False,
    name: Annotated[str | None, typer.Option(help="What the plant is called.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of people, and of files that name none.")] = None,
    force: Annotated[bool, typer.Option(help="Write although the file is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was found as one JSON object.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with what plantwatch stores.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")] = None,
) -> None:
    """Find machines, tags, ticks and groups of alike machines in what comes, and write them as a plant file."""
    settings = Settings(config=config, data_dir=data_dir, timezone=timezone)
    path = output or settings.plant or settings.data_dir / wiring.PLANT_FILE
    if data is not None:
        if new:
            raise ConfigurationError("--new was given with --data; expected one of them: it looks at what is sent")
        heard, found = None, _of_files(settings, data, name)
    else:
        known = frozenset(asset.path for asset in wiring.open_plant(settings).assets) if new else frozenset[str]()
        heard, found = _of_topic(settings, records, seconds, name, known)
    remarks = _remarks(found)
    checks = tuple(_checks(heard, found))
    if str(path) == "-":
        typer.echo(to_toml(found.plant, remarks), nl=False)
        return
    differing = _refuse_to_overwrite(path, found.plant, force)
    write_plant(found.plant, path, remarks)
    if as_json:
        typer.echo(json.dumps(_as_json(path, heard, found, checks), indent=1))
        return
    for line in (*_report(heard), *_machines(found), "", "Check this before you rely on it:", *_listed(checks)):
        typer.echo(line)
    typer.echo(
        f"\nWrote {path}{differing}. Next: plantwatch check, then plantwatch run (or serve score, record, alert …)."
    )


def _of_files(settings: Settings, data: Path, name: str | None) -> Discovered:
    from pipelines.sources.folder import Folder  # noqa: PLC0415  # pandas, which only who reads files has installed

    folder = Folder(data, timezone=settings.timezone)
    title = name or folder.path.resolve().name
    found = discover_plant(folder.blocks(), name=title, timezone=settings.timezone or "UTC", units=folder.units())
    return Discovered(found.plant, (*folder.notes(), *found.notes), found.seen)


def _of_topic(
    settings: Settings, records: int, seconds: float, name: str | None, known: frozenset[str]
) -> tuple[Heard, Discovered]:
    """What comes of machines that are not `known`.

    Raises ConfigurationError: no log; DataError: nothing to discover came, and what did instead.
    """
    if settings.log == "embedded" and not (settings.data_dir / wiring.LOG_FILE).is_file():
        raise ConfigurationError(
            f"no log in {settings.data_dir}; expected one that readings are sent to. For Kafka set log = 'kafka' and "
            "kafka_servers (PLANTWATCH_LOG, PLANTWATCH_KAFKA_SERVERS); for files say --data DIR"
        )
    log = wiring.open_log(settings)
    try:
        topic = topics.READINGS
        if settings.log == "kafka":
            topic = settings.topic_prefix + topic.removeprefix(topics.PREFIX)
        typer.echo(f"Listening to {topic} for {seconds:g} s (Ctrl-C: enough) …", err=True)
        listener = Listener(log, settings.readings_format, records=records, seconds=seconds)
        blocks = (block for block in listener.blocks() if block.asset not in known)
        try:
            found = discover_plant(blocks, name=name or "plant", timezone=settings.timezone or "UTC")
        except DataError as error:
            raise DataError("\n".join((str(error), *_came(listener.heard)))) from error
        return listener.heard, found
    finally:
        log.close()


def _came(heard: Heard) -> Iterator[str]:
    """Of the records that came: how many, in which formats, and why others were refused."""
    formats = ", ".join(f"{count} {name}" for name, count in heard.formats.most_common()) or "none of them read"
    yield f"{heard.records} records came ({formats}): {heard.readings} readings of {len(heard.partitions)} machines"
    for reason, count in heard.refused.most_common():
        yield f"{count} refused as {reason}; the first, {heard.examples[reason]}"


def _report(heard: Heard | None) -> Iterator[str]:
    if heard is not None:
        yield from map(plain, _came(heard))
        yield ""


def _listed(checks: tuple[str, ...]) -> Iterator[str]:
    """The first of them, each a line, and how many more there are."""
    yield from (f"- {plain(check)}" for check in checks[:_SHOWN])
    if len(checks) > _SHOWN:
        yield f"- and {len(checks) - _SHOWN} more: say --json to see all"


def _machines(found: Discovered) -> Iterator[str]:
    """A line a group, and one a tag of it."""
    for group, assets in found.plant.groups().items():
        paths = ", ".join(asset.path for asset in assets[:3]) + (" …" if len(assets) > 3 else "")
        tick = assets[0].tick / SECOND
        many = "s" if len(assets) > 1 else ""
        yield f"{plain(group)}: {len(assets)} machine{many}, a row each {tick:g} s: {plain(paths)}"
        for tag in assets[0].tags:
            yield f"    {plain(tag.name):<32} {plain(tag.unit):<8} {_seen(found, group, tag.name)}"


def _pooled(found: Discovered, paths: list[str], tag: str) -> Span | None:
    spans = [span for path in paths if (span := found.seen.get(path, {}).get(tag)) and span.count]
    if not spans:
        return None
    few = sorted({value for span in spans for value in span.few}) if all(span.few for span in spans) else []
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    return Span(sum(span.count for span in spans), low, high, tuple(few))


def _seen(found: Discovered, group: str, tag: str) -> str:
    span = _pooled(found, [asset.path for asset in found.plant.groups()[group]], tag)
    return "" if span is None else f"seen {span.low:.6g} to {span.high:.6g}"


def _remarks(found: Discovered) -> dict[tuple[str, str], str]:
    """A comment for each tag of the file: what was seen, which is not yet what is right."""
    groups = found.plant.groups().items()
    shared = {(group, tag.name): _seen(found, group, tag.name) for group, assets in groups for tag in assets[0].tags}
    own = {(a.path, tag.name): shared[a.group, tag.name] for a in found.plant.assets for tag in a.tags}
    return shared | own


def _checks(heard: Heard | None, found: Discovered) -> Iterator[str]:
    """What data cannot tell, and what looks wrong in them."""
    if heard is not None:
        yield from advice(heard)
    yield from found.notes
    for group, assets in found.plant.groups().items():
        for tag in assets[0].tags:
            span = _pooled(found, [asset.path for asset in assets], tag.name)
            if span and 1 < len(span.few) < span.count / 4 and all(value.is_integer() for value in span.few):
                values = ", ".join(f"{value:g}" for value in span.few)
                yield (
                    f"{group}: {tag.name} takes only the values {values}; if it says whether the machine runs, give it "
                    'role = "mode" and running = [...], if it is no measurement, role = "status"'
                )
    yield "machines that were silent are missing, and rows that come only on change have no tick: compare the list"
    yield "units and engineering ranges (low, high) are in no data: outside a range the sensor is not believed"


def _refuse_to_overwrite(path: Path, plant: Plant, force: bool) -> str:
    """What to say of the file that is replaced. Raises ConfigurationError if nobody said --force."""
    if not path.exists():
        return ""
    if force:
        return " over the old one"
    try:
        known = {asset.path for asset in load_plant(path).assets}
        new = [asset.path for asset in plant.assets if asset.path not in known]
        news = f"it lacks {', '.join(new[:10])}" if new else "it names every machine that was found"
    except ConfigurationError:
        news = "it is not in order"
    raise ConfigurationError(
        f"{path} is there already, and {news}; say --force to replace it, --output FILE to write another, or "
        "--output - to see what would be written"
    )


def _as_json(path: Path, heard: Heard | None, found: Discovered, checks: tuple[str, ...]) -> dict[str, object]:
    came = {} if heard is None else {"records": heard.records, "formats": heard.formats, "refused": heard.refused}
    assets = [
        {"path": a.path, "group": a.group, "tick_s": a.tick / SECOND, "tags": [tag.name for tag in a.tags]}
        for a in found.plant.assets
    ]
    return {"plant_file": str(path), **came, "assets": assets, "checks": checks}
