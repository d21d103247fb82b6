"""Where the services' own words go while a person reads the console: into a file."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from anomaly.errors import ConfigurationError


def quiet_logs(path: Path, level: str) -> None:
    """Append structured lines of every service to `path`, JSON, one event a line; trouble is told on the console too.

    Raises ConfigurationError.
    """
    try:
        stream = path.open("ab", buffering=0)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); expected a folder that may be written; "
            "choose another with --data-dir"
        ) from error
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Telling(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(_Lines(stream)),  # type: ignore[arg-type]  # write and flush do
        cache_logger_on_first_use=False,
    )


_AGAIN_S: Final = 60.0
"""The same trouble is told again no sooner than this."""


class _Lines:
    """A file of lines that costs nobody anything: a line the disk has no room for is dropped, the service lives."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def __del__(self) -> None:
        """Close when other logs are chosen; while the process lives, the file does."""
        self._file.close()

    def write(self, text: str) -> None:
        """Write at once, or not at all."""
        with contextlib.suppress(OSError):
            self._file.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing waits."""


class _Telling:
    """Says on the error stream why a service waits, so that nobody looks at a console where nothing happens."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._told: dict[str, float] = {}

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if event.get("event") == "session_ended" and event.get("level") == "warning":
            text, now = f"{event.get('service')} waits and tries again: {event.get('reason')}", self._timer()
            if now - self._told.get(text, -_AGAIN_S) >= _AGAIN_S:
                self._told[text] = now
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        return event
