"""`plantwatch simulate --live`: the simulated plant as a producer on the log, in place of sensors."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack

from anomaly.errors import PlantwatchError, Unreachable
from pipelines import wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.demo import DemoPlant
from pipelines.live_demo import live_plant
from pipelines.only_one import only_one
from pipelines.ports import Historian, Log
from pipelines.running import stopping_on_signals
from pipelines.settings import Settings

_BEAT_S = 2.0
_PATIENCE_S = 60.0
"""The log may be away for so long at the start."""
_BACKOFF_S = 5.0
_STEP_NS = 1_000_000_000
"""The plant counts as having caught up with the wall when it is no further behind."""


def simulate_live(settings: Settings, seed: int, speed: float) -> None:
    """Append what the plant's sensors say until SIGTERM or Ctrl-C; goes on where it stopped. Raises ConfigurationError.

    A log that fails is waited for: what was not appended is simulated again from the last stored state.
    """
    folder = wiring.data_file(settings, "")
    stopping = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(only_one(folder))
        stack.enter_context(stopping_on_signals(stopping.set))
        log = _open(settings, stopping)
        if log is None:
            return
        stack.callback(log.close)
        historian = wiring.open_historian(settings) if settings.historian != "embedded" else None
        if historian is not None:
            stack.callback(historian.close)
        while not stopping.is_set():
            plant = live_plant(folder, seed, speed, SystemClock())
            _say(f"{plant.plant.name}: {len(plant.plant.assets)} simulated machines send readings to the log")
            try:
                _send(plant, log, historian, stopping)
            except PlantwatchError as error:
                _say(f"readings cannot be sent ({error}); going on in {_BACKOFF_S:g} s")
                stopping.wait(_BACKOFF_S)


def _open(settings: Settings, stopping: threading.Event) -> Log | None:
    """The log; waits for one that does not answer yet. None if it was stopped meanwhile. Raises Unreachable."""
    until = time.monotonic() + _PATIENCE_S
    while not stopping.is_set():
        try:
            return wiring.open_log(settings)
        except Unreachable:
            if time.monotonic() > until:
                raise
            stopping.wait(1.0)
    return None


def _send(plant: DemoPlant, log: Log, historian: Historian | None, stopping: threading.Event) -> None:
    """Run the plant until `stopping`, and tell the dashboard meanwhile what time it is there. Raises StorageError."""
    over = threading.Event()

    def watch() -> None:
        while not (over.is_set() or stopping.wait(_BEAT_S)):
            _beat(plant, historian)
        plant.stop()

    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    try:
        plant.run(log)
    finally:
        over.set()


def _beat(plant: DemoPlant, historian: Historian | None) -> None:
    """The heartbeat `plant`. Trouble there harms nobody."""
    if historian is None:
        return
    now, wall = plant.clock.now(), time.time_ns()
    speed = plant.speed if now < wall - _STEP_NS else 1.0
    try:
        historian.heartbeat("plant", now, {**plant.status(), "speed": speed, "wall": wall})
    except PlantwatchError as error:
        _say(f"the dashboard is not told the time: {error}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
