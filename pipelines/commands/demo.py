"""`plantwatch demo`: watch a simulated plant being watched, on this machine alone."""

from __future__ import annotations

import json
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.domain import Rung
from anomaly.errors import ConfigurationError, StorageError
from pipelines import demo_report, wiring
from pipelines.demo import STATE_FILE, DemoPlant
from pipelines.demo_log import quiet_logs
from pipelines.only_one import only_one
from pipelines.running import Running, running, serve_metrics, stopping_on_signals, with_dashboard
from pipelines.settings import Settings

DEFAULT_FOLDER = Path(".plantwatch/demo")
RETENTION_DAYS = 14.0
"""Event time that a demo keeps: at 60 times real time it would otherwise fill some gigabytes a day."""
_DRAIN_S = 20.0


def demo(
    data_dir: Annotated[Path, typer.Option(help="Where the demo stores everything.")] = DEFAULT_FOLDER,
    speed: Annotated[float, typer.Option(min=1, max=600, help="Event time runs so many times faster.")] = 60.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, another plant life.")] = None,
    duration: Annotated[float | None, typer.Option(min=1, help="Stop after so many seconds.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Without the dashboard.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write a closing report here; - is stdout.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Dashboard port.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Prometheus metrics port.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what the demo stored, and do nothing else.")] = False,
) -> None:
    """Start a simulated plant and watch it: history, training, scores, faults, alerts, dashboard. Ctrl-C stops it."""
    if reset:
        _reset(data_dir)
        return
    settings = Settings(
        data_dir=data_dir, historian_retention_days=RETENTION_DAYS, log="embedded", historian="embedded"
    )
    wiring.data_file(settings, "")
    quiet_logs(settings.data_dir / "services.log", settings.log_level)
    story = Story(time.monotonic())
    plant = DemoPlant(settings.data_dir, seed, speed, time.time_ns())
    serve_metrics(metrics_port)
    with ExitStack() as stack:
        system = stack.enter_context(
            running(
                settings,
                plant.plant,
                plant.clock,
                story.say,
                ready=plant.history_loaded.is_set,
                extra={"plant": plant.status},
            )
        )
        embedded = system.embedded
        stack.enter_context(stopping_on_signals(embedded.stopping.set))
        address = None if headless else stack.enter_context(with_dashboard(settings, story.say, port))
        story.open(plant, address, settings)
        embedded.spawn("plant", lambda: plant.run(system.log))
        until = None if duration is None else story.started + duration
        while not embedded.stopping.wait(0.5) and (until is None or time.monotonic() < until):
            story.watch(system)
        found = _close(story, system, plant)
    _write(found, as_json)


def _reset(folder: Path) -> None:
    """Remove a folder that a demo filled, unless one runs on it. Raises ConfigurationError, StorageError."""
    if not folder.exists():
        typer.echo(f"Nothing to forget: {folder} does not exist.")
        return
    if not (folder / STATE_FILE).is_file() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} holds no demo; expected {STATE_FILE} in it; nothing was removed")
    with only_one(folder):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageError(f"{folder} cannot be removed ({error.strerror}); change its rights") from error
    typer.echo(f"Forgotten: {folder} is gone. The next demo starts afresh.")


def _close(story: Story, system: Running, plant: DemoPlant) -> dict[str, Any]:
    """Let the services finish what the plant has said, then compare with the truth."""
    plant.stop()
    deadline = time.monotonic() + _DRAIN_S
    while not (system.embedded.stopping.wait(0.1) or system.embedded.drained()) and time.monotonic() < deadline:
        pass
    story.stages["total"] = time.monotonic() - story.started
    alerts = system.historian.alerts(limit=100_000)
    found = demo_report.report(system.embedded.score.counts(), alerts, plant.faults(), story.stages)
    for line in demo_report.summary(found).splitlines():
        story.say(line)
    return found


def _write(found: dict[str, Any], where: Path | None) -> None:
    if where is None:
        return
    if str(where) == "-":
        typer.echo(json.dumps(found))
    else:
        where.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Story:
    """Tells on standard error what happens, each line with the seconds since the start."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.stages: dict[str, float] = {}
        """Seconds from the start to each milestone."""
        self._serving: dict[str, str] = {}

    def say(self, text: str) -> None:
        """One line."""
        sys.stderr.write(f"[{self._clock()}] {text}\n")
        sys.stderr.flush()

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.started)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    def open(self, plant: DemoPlant, address: str | None, settings: Settings) -> None:
        """What this is and what to look at."""
        machines, groups = len(plant.plant.assets), len(plant.plant.groups())
        goes_on = ", going on from what is stored" if plant.resumed else ""
        self.say(f"{plant.plant.name}: {machines} machines of {groups} types, {plant.speed:g} x real time{goes_on}")
        if address is not None:
            self.say(f"dashboard: {address}")
            self.say("  Overview says which machines need you; a click on one says why; Alerts lets you acknowledge")
        self.say(f"stored in {settings.data_dir}; Ctrl-C stops, `make demo` goes on, `make demo-reset` forgets")
        if not plant.resumed:
            self.say("loading 36 h of history, then faults strike one after the other")

    def watch(self, system: Running) -> None:
        """Note milestones, and tell of each once."""
        counts = system.embedded.score.counts()
        if any(counts[f"w:{rung}"] for rung in Rung) and "first_score" not in self.stages:
            self.stages["first_score"] = time.monotonic() - self.started
            if not counts[f"w:{Rung.WINDOW_PCA}"]:
                self.say("first scores: engineering limits, while there is nothing learned yet")
        if "first_alert" not in self.stages and system.historian.alerts(limit=1):
            self.stages["first_alert"] = time.monotonic() - self.started
        for group, version in system.embedded.score.serving().items():
            if self._serving.get(group, "rules") != version:
                rung = system.registry.card(group, version).rung
                self.stages.setdefault(rung, time.monotonic() - self.started)
                self.say(f"{rung.replace('_', ' ')} {version} serves the group {group}")
            self._serving[group] = version
