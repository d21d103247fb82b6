"""`plantwatch run`: all services in one process, on a folder, the simulator, or what producers append to the log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from anomaly.errors import ConfigurationError, DataError
from pipelines import run_report, wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.demo_log import quiet_logs
from pipelines.folder_feed import FolderFeed
from pipelines.ports import Log, Partition
from pipelines.run_source import Source, open_source
from pipelines.running import Running, running, serve_metrics, stopping_on_signals, with_dashboard
from pipelines.settings import Settings

POSITION_FILE = "source.json"


def run(
    data: Annotated[Path | None, typer.Option(help="Folder or file of CSV or Parquet to read.")] = None,
    plant: Annotated[Path | None, typer.Option(help="Plant file; without it the folder shows what there is.")] = None,
    simulator: Annotated[
        bool, typer.Option("--simulator", help="Watch the simulated plant of `demo` instead.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Replay so many times faster than life; without it at once.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything is read and recorded.")] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Learn new versions from what is stored.")] = True,
    page: Annotated[bool, typer.Option("--dashboard/--no-dashboard", help="Serve the dashboard too.")] = True,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Dashboard port.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Prometheus metrics port.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of times in files that name none.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is stored.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")] = None,
) -> None:
    """Score, record, alert and train in one process until Ctrl-C; goes on where it stopped."""
    settings = Settings(config=config, data_dir=data_dir, plant=plant, timezone=timezone)
    if simulator:
        from pipelines.commands.demo import demo  # noqa: PLC0415  # the simulator is slow to import

        _only_simulator(data=data, plant=plant, once=once, no_train=not train)
        demo(settings.data_dir, speed or 1.0, headless=not page, port=port, metrics_port=metrics_port)
        return
    wiring.data_file(settings, "")
    quiet_logs(settings.data_dir / "services.log", settings.log_level)
    described, folder = open_source(settings, data, _say)
    clock, source = SystemClock(), Source(described, files=folder is not None, speed=speed)
    if folder is None:
        source.read.set()
    serve_metrics(metrics_port)
    with ExitStack() as stack:
        beat = {"plant": source.status}
        opened = running(settings, described, clock, _say, ready=source.ready, extra=beat, train=train)
        system = stack.enter_context(opened)
        embedded, before = system.embedded, run_report.dead_letters_end(system.log)
        stack.enter_context(stopping_on_signals(embedded.stopping.set))
        if page:
            _say(f"dashboard: {stack.enter_context(with_dashboard(settings, _say, port))}")
        _say(f"watching {len(described.assets)} machines; stored in {settings.data_dir}; Ctrl-C stops")
        if folder is not None:
            feed = FolderFeed(folder, settings.data_dir / POSITION_FILE, speed, clock)
            if train and not source.ready():
                _say("reading the files; models are learned once all are read (with --speed: while they are replayed)")
            embedded.spawn("feed", lambda: _feed(feed, system.log, embedded.stopping, source.read))
        while not embedded.stopping.wait(0.2):
            if once and source.read.is_set() and embedded.drained():
                break
        _close(system, before, len(described.assets))


def _only_simulator(**others: object) -> None:
    """Raises ConfigurationError if an option was given that says nothing about a simulated plant."""
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if given:
        raise ConfigurationError(
            f"--simulator was given with {', '.join(given)}; expected one source of readings, which is then watched "
            "until Ctrl-C and learned from; leave one out"
        )


def _close(system: Running, before: Mapping[Partition, int], machines: int) -> None:
    """Say what became of it all. Raises DataError if readings came and every one was refused."""
    counts = system.embedded.score.counts()
    for line in run_report.closing_words(system.log, system.historian, counts, before, machines):
        _say(line)
    if counts["dead_lettered"] and counts["dead_lettered"] == counts["acknowledged"]:
        raise DataError("not one reading could be used; the lines above say why; mend the data and start again")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _feed(feed: FolderFeed, log: Log, stop: threading.Event, fed: threading.Event) -> None:
    count = feed.run(log, stop)
    if not stop.is_set():
        _say(f"all files are read ({count:,} readings{'' if count else ': nothing new since the last start'})")
        fed.set()
