"""What a service says: JSON lines on standard error, its own and those of the libraries it uses."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_QUIET: Final = ("urllib3", "influxdb_client", "httpx", "httpcore", "apprise", "asyncio")
"""Libraries whose small talk is not ours: heard from `warning` on."""
_SILENT: Final = ("kafka",)
"""It warns of every lost connection and every slow turn of its loop; what matters comes back as an error of ours."""


def json_lines(service: str, level: str, member: str = "") -> None:
    """From now on every event is one line of JSON: time, level, service, event and what belongs to it."""
    threshold = logging.getLevelName(level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service, member),
    ]
    rendered: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    for name in _SILENT:
        logging.getLogger(name).setLevel(threshold if threshold <= logging.DEBUG else logging.CRITICAL)
    threading.excepthook = _thread_died


def _named(service: str, member: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        if member:
            event.setdefault("member", member)
        return event

    return add


def _thread_died(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "unknown"
    trace = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger(__name__).error("thread_died", thread=name, exc_info=trace)
