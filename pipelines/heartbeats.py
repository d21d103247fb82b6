"""A service's newest word in the historian, once a second, from a thread of its own. Trouble there harms nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from anomaly.errors import PlantwatchError
from pipelines.ports import Clock, Historian, HistorianWriter

PULSE_S: Final = 1.0
MEMBER_MARK: Final = "@"
"""Stands between the service and the member in a part's name."""
STOPPED: Final = "stopped"
"""Figure of a part that ended in order: its silence is no trouble."""

_log = structlog.get_logger(__name__)


class Heartbeats:
    """`open_writer` is called by the thread until it succeeds; what it gives is used by nobody else, and closed at the
    end. `writer`: one that is open already, and is left open. `part`: the name to speak under, asked each time.
    """

    def __init__(
        self,
        open_writer: Callable[[], Historian],
        clock: Clock,
        part: Callable[[], str],
        status: Callable[[], Mapping[str, str | int | float]],
        *,
        writer: HistorianWriter | None = None,
        pulse_s: float = PULSE_S,
    ) -> None:
        self._open = open_writer
        self._clock = clock
        self._part = part
        self._status = status
        self._pulse_s = pulse_s
        self._writer = writer
        self._own: Historian | None = None
        self._failing = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, patience_s: float = 2.0) -> None:
        """Say a last word and end. Waits at most so long: a historian that hangs holds nobody up."""
        self._over.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        while not self._over.wait(self._pulse_s):
            self._beat({})
        self._beat({STOPPED: "in order"})
        if self._own is not None:
            self._own.close()

    def _beat(self, more: Mapping[str, str]) -> None:
        try:
            if self._writer is None:
                self._writer = self._own = self._open()
            self._writer.heartbeat(self._part(), self._clock.now(), {**self._status(), **more, "wall": time.time_ns()})
            self._failing = False
        except PlantwatchError as error:
            (_log.debug if self._failing else _log.warning)("heartbeat_failed", reason=str(error))
            self._failing = True
        except Exception:  # a defect here must not end a service that scores
            if not self._failing:
                _log.exception("heartbeat_failed")
            self._failing = True
