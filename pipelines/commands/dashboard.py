"""`plantwatch dashboard`: the pages in a browser, over what the data folder holds."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from dashboard import launch
from pipelines.settings import Settings


def dashboard(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on; without it the first free one from 8501 upwards."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with what plantwatch has stored.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")] = None,
) -> None:
    """Show the pages until Ctrl-C. Needs no running services: it then shows what is stored, and says it is stale."""
    settings = Settings(config=config, data_dir=data_dir, dashboard_host=host, dashboard_port=port)
    asked = port if port is not None else launch.named_port(settings)
    chosen = launch.free_port(settings.dashboard_host, asked)
    if asked is None and chosen != launch.DEFAULT_PORT:
        typer.echo(f"Port {launch.DEFAULT_PORT} is taken; using {chosen}.", err=True)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    process = launch.start(settings, chosen)
    try:
        launch.wait_ready(process, settings.dashboard_host, chosen)
        typer.echo(f"Dashboard: {launch.address(settings.dashboard_host, chosen)}  (Ctrl-C stops it)")
        raise typer.Exit(process.wait())
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
    finally:
        launch.stop(process)
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_signal: int, _frame: object) -> None:
    """SIGTERM stops it as Ctrl-C does."""
    raise KeyboardInterrupt
