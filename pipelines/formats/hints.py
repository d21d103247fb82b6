"""What is taken, but not as its producer meant it: said once a process, counted each time."""

from __future__ import annotations

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
_said: set[Hint] = set()


def give(hint: Hint) -> None:
    """Count the hint, and say it if it is the first of its kind in this process."""
    metrics.payload_hint(hint)
    if hint not in _said:
        _said.add(hint)
        _log.warning("payload_hint", hint=str(hint), text=TEXT[hint])
