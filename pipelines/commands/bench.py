"""`plantwatch bench`: what a row costs on its way, measured here, beside the loop one would write oneself."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from anomaly.domain import SECOND
from pipelines.bench import report, stream
from pipelines.bench.places import Places
from pipelines.settings import Settings
from pipelines.wiring_servers import influx_config, kafka_config

app = typer.Typer(help="Measure speed, latency and memory.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure speed, latency and memory."""


@app.command("stream")
def stream_command(
    embedded: Annotated[bool, typer.Option("--embedded", help="Over files of a temporary folder, no servers.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Minutes instead of a minute: steadier figures.")] = False,
    assets: Annotated[int | None, typer.Option(min=1, help="Machines of the load.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")] = None,
) -> None:
    """Measure the whole stream: score, record and alert as processes over the servers of the settings.

    CPU time a row by stage and process (broker and InfluxDB apart), latency at half load, recovery, memory, two
    workers, and beside it the plain loop. Topics and buckets of its own, removed afterwards: InfluxDB's token must be
    one that may make buckets. Give it a quiet machine.
    """
    plan = stream.FULL if full else stream.QUICK
    plan = replace(plan, assets=assets or plan.assets)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="plantwatch-bench-") as folder:
        places = _places(Settings(config=config), Path(folder), plan.assets, embedded)
        places.make()
        try:
            with console.status("…") as status:
                result = stream.run(places, plan, lambda words: status.update(f"{words} …"))
        finally:
            places.remove()
    if as_json:
        found = [{"name": g.name, "wanted": g.wanted, "found": g.found, "met": g.met} for g in report.goals(result)]
        typer.echo(json.dumps(result.to_dict() | {"goals": found}, indent=1))
    else:
        report.show(result, Console())


def _places(settings: Settings, folder: Path, assets: int, embedded: bool) -> Places:
    """Servers of the settings under names that nobody else uses. Raises ConfigurationError."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    start = (time.time_ns() - 7_200 * SECOND) // SECOND * SECOND  # in no retention's way, and never in the future
    places = Places(folder, assets, start)
    if not embedded and settings.log == "kafka":
        places = replace(places, kafka=replace(kafka_config(settings), prefix=f"{name}."))
    if not embedded and settings.historian == "influxdb":
        places = replace(places, influx=replace(influx_config(settings), bucket_prefix=f"{name}_"))
    return places
