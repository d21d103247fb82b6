"""Stopping a service when it is asked to: in order, and within the time that supervisors give."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

from anomaly.errors import StorageError

DRAIN_S: Final = 18.0
"""Whoever asks a service to stop waits 20 s before it kills."""

_log = structlog.get_logger(__name__)


@contextmanager
def until_asked(stop: Callable[[], None], drain_s: float = DRAIN_S) -> Iterator[None]:
    """While inside, SIGTERM and Ctrl-C call `stop`, once; SIGTERM again changes nothing, Ctrl-C again ends at once.

    From then on the inside ends within `drain_s`, or the process does, whatever hangs: what was not committed is done
    again by the next.
    """
    asked: list[threading.Timer] = []

    def heard(number: int, _frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            asked.append(_end_within(drain_s))
            stop()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for timer in asked:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_within(drain_s: float) -> threading.Timer:
    def late() -> None:
        _log.error("stop_forced", after_s=drain_s, reason="a store did not answer; nothing was committed too early")
        os._exit(StorageError.exit_code)

    timer = threading.Timer(drain_s, late)
    timer.daemon = True
    timer.start()
    return timer
