"""What is taken, but not as its producer meant it: said once a process, counted each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import structlog

from pipelines import metrics

_log = structlog.get_logger(__name__)


class Hint(StrEnum):
    """What a producer should mend; nothing is refused for it."""

    WHOLE_SECONDS = "whole_seconds"


TEXT: Final = {
    Hint.WHOLE_SECONDS: "Telegraf writes times in whole seconds, so readings within one second share a time; "
    'set json_timestamp_units = "1ms" in its output',
}


class _Desk:
    """Where hints go: to the log, each kind once, or into `found`."""

    def __init__(self) -> None:
        self.said: set[Hint] = set()
        self.found: set[Hint] | None = None


_desk: Final = _Desk()


def give(hint: Hint) -> None:
    """Count the hint, and say it if it is the first of its kind in this process."""
    metrics.payload_hint(hint)
    if _desk.found is not None:
        _desk.found.add(hint)
    elif hint not in _desk.said:
        _desk.said.add(hint)
        _log.warning("payload_hint", hint=str(hint), text=TEXT[hint])


@contextmanager
def collected() -> Iterator[set[Hint]]:
    """Hints given inside come into the set that is yielded, and are not said."""
    _desk.found = found = set[Hint]()
    try:
        yield found
    finally:
        _desk.found = None
