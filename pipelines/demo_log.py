"""Where the services' own words go while a person reads the console: into a file."""

from __future__ import annotations

import logging
from pathlib import Path

import structlog

from anomaly.errors import ConfigurationError


def quiet_logs(path: Path, level: str) -> None:
    """Append structured lines of every service to `path`, JSON, one event a line. Raises ConfigurationError."""
    try:
        stream = path.open("a", encoding="utf-8")
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
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
