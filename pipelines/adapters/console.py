"""Tells of each transition on the console: one line of at most 80 columns, colour only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO
from zoneinfo import ZoneInfo

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from anomaly.domain import SECOND, Priority
from anomaly.errors import Unreachable
from pipelines.alerting import sentence
from pipelines.ports import AlertEvent
from pipelines.wording import headline, plain

__all__ = ["WIDTH", "ConsoleNotifier", "line", "sentence"]

WIDTH: Final = 80
_STYLES: Final = {Priority.LOW: "cyan", Priority.MEDIUM: "yellow", Priority.HIGH: "bold red"}
_LOUD: Final = frozenset({"raised", "updated"})


class ConsoleNotifier:
    """Notifier on a text stream (standard error unless given), or through `say`, which gets each line without colour.

    `timezone`: IANA name, for the time of day at the line's start.
    """

    name = "console"

    def __init__(
        self, say: Callable[[str], None] | None = None, *, stream: TextIO | None = None, timezone: str = "UTC"
    ) -> None:
        self._say = say
        self._stream = stream
        self._zone = ZoneInfo(timezone)

    def notify(self, event: AlertEvent, text: str) -> None:
        """Print one line; `text` is for those with more room. Raises Unreachable if the stream is closed."""
        try:
            if self._say is not None:
                self._say(line(event, self._zone))
            else:
                self._print(event, self._stream or sys.stderr)
        except (OSError, ValueError) as error:
            raise Unreachable(f"the console cannot be written to: {error}") from error

    def _print(self, event: AlertEvent, stream: TextIO) -> None:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        written = line(event, self._zone).encode(encoding, "replace").decode(encoding)
        if not stream.isatty():
            stream.write(written + "\n")
            stream.flush()
            return
        style = _STYLES[event.alert.priority] if event.event in _LOUD else "dim"
        Console(file=stream, width=max(WIDTH, 1), highlight=False).print(Text(written, style=style), crop=False)


def line(event: AlertEvent, zone: ZoneInfo) -> str:
    """One transition in at most 80 columns: time of day, priority, what happened, to what.

    A wide character counts two columns; what does not fit ends in three dots.
    """
    clock = datetime.fromtimestamp(event.time // SECOND, UTC).astimezone(zone).strftime("%H:%M:%S")
    what = "comment" if event.event == "updated" and event.actor else event.event
    who = f" by {plain(event.actor)}" if event.actor else ""
    text = f"{clock} {event.alert.priority:<6} {what}{who} {headline(event.alert)}"
    return text if cell_len(text) <= WIDTH else set_cell_size(text, WIDTH - 3).rstrip() + "..."
