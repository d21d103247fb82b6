"""One plant running embedded: stores opened, services started, dashboard beside them, everything stopped in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from anomaly.domain import Plant
from anomaly.errors import ConfigurationError
from anomaly.registry import Registry
from dashboard import launch
from pipelines import metrics, wiring
from pipelines.alert_state import AlertPolicy
from pipelines.embedded import Embedded, Status, caught_up
from pipelines.fit_client import FitClient
from pipelines.only_one import only_one
from pipelines.plant_file import write_plant
from pipelines.ports import Clock, Historian, Log
from pipelines.settings import Settings
from pipelines.trainer import TrainWorker

DASHBOARD_OUTPUT = "dashboard.log"


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running plant."""

    log: Log
    historian: Historian
    registry: Registry
    embedded: Embedded


@contextmanager
def running(
    settings: Settings,
    plant: Plant,
    clock: Clock,
    say: Callable[[str], None],
    *,
    ready: Callable[[], bool],
    extra: Mapping[str, Callable[[], Status]] | None = None,
    train: bool = True,
) -> Iterator[Running]:
    """Open the stores of the data folder and start every service; on leaving, finish batches, commit, close.

    `train` False: nothing is learned here, and commands about models wait for a process that does.
    `plant` is written to the data folder, where the dashboard and the trainer read it. Raises what ended a service.
    """
    with ExitStack() as stack:
        held = stack.enter_context(only_one(wiring.data_file(settings, wiring.PLANT_FILE).parent))
        write_plant(plant, settings.data_dir / wiring.PLANT_FILE)
        log = wiring.open_log(settings, clock)
        stack.callback(log.close)
        historian = wiring.open_historian(settings)
        stack.callback(historian.close)
        registry = wiring.open_registry(settings)
        fits = FitClient(settings.data_dir, environment=settings.environment())
        stack.callback(fits.close)
        for place in settings.critical_assets:
            if not any(AlertPolicy(critical=(place,)).is_critical(asset.path) for asset in plant.assets):
                say(f"warning: critical_assets names {place!r}, and no machine of the plant is there")

        def worth_learning() -> bool:
            return ready() and caught_up(log, plant)

        embedded = Embedded(
            log=log,
            historian=historian,
            registry=registry,
            plant=plant,
            clock=clock,
            alerts=AlertPolicy(episodes=settings.episode_policy(), critical=settings.critical_assets),
            notifiers=wiring.open_notifiers(settings, say, settings.timezone or plant.timezone),
            trainer=TrainWorker(log, historian, registry, plant, clock, fits, ready=worth_learning) if train else None,
            extra=extra,
            readings_format=settings.readings_format,
        )
        embedded.start()
        embedded.spawn("folder", lambda: held.watch(embedded.stopping))
        stack.callback(embedded.stop)
        yield Running(log, historian, registry, embedded)


@contextmanager
def with_dashboard(settings: Settings, say: Callable[[str], None], port: int | None) -> Iterator[str]:
    """The dashboard beside the services, on `port`, else the settings', else a free one; yields its address."""
    asked = port if port is not None else launch.named_port(settings)
    chosen = launch.free_port(settings.dashboard_host, asked)
    if asked is None and chosen != launch.DEFAULT_PORT:
        say(f"port {launch.DEFAULT_PORT} is taken: the dashboard is on {chosen}")
    output = settings.data_dir / DASHBOARD_OUTPUT
    process = launch.start(settings, chosen, output)
    try:
        yield launch.address(settings.dashboard_host, chosen)
    finally:
        launch.stop(process)


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While inside, Ctrl-C and SIGTERM call `stop`; a second Ctrl-C ends at once."""

    def first(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        stop()

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve_metrics(port: int | None) -> None:
    """Answer Prometheus on that port of this machine. Raises ConfigurationError if it is taken."""
    if port is None:
        return
    try:
        metrics.serve(port)
    except OSError as error:
        raise ConfigurationError(
            f"metrics port {port} cannot be used: {error.strerror}; choose another with --metrics-port"
        ) from error
