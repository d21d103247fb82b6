"""`plantwatch serve`: one service, one process, until SIGTERM. Says what it does as JSON lines on standard error.

Exit codes (sysexits): 0 stopped in order, 69 a server did not answer, 70 a defect, 74 storage, 78 configuration. A
supervisor may start it again after all of them but 78, which nothing but a person mends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from anomaly.errors import PlantwatchError
from pipelines.processes import serve
from pipelines.service_log import json_lines
from pipelines.settings import Settings

DEFECT: Final = 70
"""EX_SOFTWARE."""

app = typer.Typer(help="One service as a process of its own, over Kafka and InfluxDB.", no_args_is_help=True)

_log = structlog.get_logger(__name__)

MetricsPort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of /healthz, /readyz and /metrics; none: not answered.")
]
MetricsHost = Annotated[str | None, typer.Option(help="Address of that port.")]
Member = Annotated[str | None, typer.Option(help="Name of this worker in its group, the same after a restart.")]
Patience = Annotated[float, typer.Option(min=0, help="Servers may take so many seconds to come up.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for plant.toml, and for what is not on servers.")]
PlantFile = Annotated[Path | None, typer.Option(help="Plant file.")]
Config = Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")]


@app.command()
def score(
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    member: Member = None,
    patience: Patience = 60.0,
    plant: PlantFile = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Readings in, scores and dead letters out. Start as many as there are partitions."""
    _serve("score", config, patience, metrics_port, metrics_host, member, plant, data_dir)


@app.command()
def record(
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    member: Member = None,
    patience: Patience = 60.0,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Readings, scores and alerts into the historian. While that is down, it waits and loses nothing."""
    _serve("record", config, patience, metrics_port, metrics_host, member, None, data_dir)


@app.command()
def alert(
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    member: Member = None,
    patience: Patience = 60.0,
    plant: PlantFile = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Scores and commands in, alerts and notifications out."""
    _serve("alert", config, patience, metrics_port, metrics_host, member, plant, data_dir)


@app.command()
def train(
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    member: Member = None,
    patience: Patience = 60.0,
    plant: PlantFile = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Learn from the historian, retrain and promote when asked. One is enough."""
    _serve("train", config, patience, metrics_port, metrics_host, member, plant, data_dir)


@app.command()
def simulator(
    speed: Annotated[float, typer.Option(min=0.1, max=600, help="Event time runs so many times faster …")] = 30.0,
    backlog: Annotated[float, typer.Option(min=0, max=240, help="… until so many hours of life are caught up.")] = 12.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, another plant life.")] = None,
    write_plant: Annotated[Path | None, typer.Option(help="Write the plant file here, for the other services.")] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    patience: Patience = 60.0,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Append a simulated plant's readings: 36 h of history at once, then its life with faults. For demonstrations."""
    from pipelines.simulator_process import Life, simulate  # noqa: PLC0415  # the simulator is slow to import

    settings = Settings(config=config, metrics_port=metrics_port, metrics_host=metrics_host, data_dir=data_dir)
    life = Life(speed, backlog, seed, write_plant)
    guarded("simulator", settings, lambda: simulate(settings, life, patience_s=patience))


def _serve(
    name: str,
    config: Path | None,
    patience: float,
    metrics_port: int | None,
    metrics_host: str | None,
    member: str | None,
    plant: Path | None,
    data_dir: Path | None,
) -> None:
    settings = Settings(
        config=config,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        member=member,
        plant=plant,
        data_dir=data_dir,
    )
    guarded(name, settings, lambda: serve(name, settings, patience_s=patience))


def guarded(name: str, settings: Settings, work: Callable[[], None]) -> None:
    """Run a service with its words as JSON lines; a defect is told with its traceback and exits 70."""
    json_lines(name, settings.log_level, settings.member or "")
    try:
        work()
    except PlantwatchError as error:
        _log.error("ended", reason=str(error), exit_code=error.exit_code)
        sys.exit(error.exit_code)
    except Exception:
        _log.exception("defect", exit_code=DEFECT)
        sys.exit(DEFECT)
