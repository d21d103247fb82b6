"""The demo: a simulated plant, its history first, then its life with faults, at `speed` times real time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from anomaly.domain import SECOND, Plant
from anomaly.errors import ConfigurationError, StorageError
from pipelines import feeding
from pipelines.adapters.system_clock import ScaledClock
from pipelines.ports import Log
from pipelines.sources.simulator import Fault, Simulator

HISTORY_S: Final = 36 * 3600
"""Event time that lies behind the plant when the demo first meets it, s."""
STATE_FILE: Final = "demo.json"
_HOUR: Final = 3600 * SECOND
_BEAT_S: Final = 0.5
_SAVE_S: Final = 5.0


class DemoPlant:
    """The simulated plant of a data folder: goes on where the folder says it stopped.

    `clock` is the plant's: it stands at the end of the history when the demo first starts, and runs `speed` times as
    fast as the wall, never ahead of `limit`. Raises ConfigurationError if the folder holds the life of another seed, or
    is damaged.
    """

    def __init__(
        self, folder: Path, seed: int | None, speed: float, now: int, limit: Callable[[], int] | None = None
    ) -> None:
        self._file = folder / STATE_FILE
        stored = _stored(self._file)
        self.resumed = stored is not None
        if stored is None:
            self._simulator = Simulator(seed or 0, now // _HOUR * _HOUR - HISTORY_S * SECOND, HISTORY_S)
            self.seed = seed or 0
        else:
            self.seed = int(stored["seed"])
            if seed is not None and seed != self.seed:
                raise ConfigurationError(
                    f"{folder} holds the life of seed {self.seed}, asked for was {seed}; expected the same; forget it "
                    "with `make demo-reset`, or choose another folder with --data-dir"
                )
            self._simulator = Simulator.from_dict(stored["simulator"])
        self.speed = speed
        self.clock = ScaledClock(speed, max(self._simulator.now, self.live_from), limit=limit)
        self.history_loaded = threading.Event()
        self._stopping = threading.Event()
        self.readings = 0
        """Readings appended by this process."""

    @property
    def plant(self) -> Plant:
        """Its machines."""
        return self._simulator.plant

    @property
    def live_from(self) -> int:
        """Event time at which the history ends and the life begins, ns."""
        return self._simulator.live_from

    def faults(self) -> tuple[Fault, ...]:
        """The truth: every fault that has struck so far."""
        return self._simulator.faults()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def run(self, log: Log, turned: Callable[[], None] = lambda: None) -> None:
        """Append what the plant's sensors say, until `stop` is called; `turned` is called all the while.

        Raises StorageError, Unreachable; what was not appended then is made again by a `DemoPlant` of the same folder.
        """
        saved = time.monotonic()
        while self._simulator.now < self.live_from and not self._stopping.is_set():
            self._advance(log, min(self._simulator.now + _HOUR, self.live_from))
            turned()
        self._save()
        if self._simulator.now >= self.live_from:
            self.history_loaded.set()
        while not self._stopping.wait(_BEAT_S):
            self._advance(log, self.clock.now())
            turned()
            if time.monotonic() - saved > _SAVE_S:
                self._save()
                saved = time.monotonic()
        self._save()

    def _advance(self, log: Log, until: int) -> None:
        self.readings += feeding.append(log, [block for block in self._simulator.advance(until) if len(block)])

    def _save(self) -> None:
        """What was appended after the last save is appended again after a crash: duplicates, which harm nobody."""
        text = json.dumps({"seed": self.seed, "simulator": self._simulator.to_dict()})
        temporary = self._file.with_suffix(".new")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:
            raise StorageError(
                f"{self._file} cannot be written ({error.strerror}); free space, or check rights"
            ) from error

    def status(self) -> dict[str, str | int | float]:
        """For the heartbeat `plant`, which tells the dashboard what time it is there."""
        speed = 1.0 if self.clock.at_limit() else self.speed
        return {"plant_name": self.plant.name, "speed": speed, "live_from": self.live_from, "seed": self.seed}


def _stored(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); expected what an earlier demo stored; forget it with `make demo-reset`"
        ) from error
    if not isinstance(stored, dict) or not {"seed", "simulator"} <= set(stored):
        raise ConfigurationError(f"{path} is not what a demo stores; forget it with `make demo-reset`")
    return stored
