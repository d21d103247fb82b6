"""Tells of each transition on the console: one short line, colour only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO
from zoneinfo import ZoneInfo

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from anomaly.domain import SECOND, Kind, Priority
from anomaly.errors import Unreachable
from pipelines.alerting import sentence
from pipelines.ports import AlertEvent
from pipelines.wording import brief, plain

__all__ = ["WIDTH", "ConsoleNotifier", "line", "sentence"]

WIDTH: Final = 72
"""Columns of a line: the demo puts the time since its start before it, and a terminal often has 80."""
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
    """One transition in at most `WIDTH` columns: time of day, priority, what happened, to which machine, its trouble.

    Tags and place follow where there is room. What does not fit ends between two words, with three dots; a wide
    character counts two columns.
    """
    clock = datetime.fromtimestamp(event.time // SECOND, UTC).astimezone(zone).strftime("%H:%M:%S")
    what = "comment" if event.event == "updated" and event.actor else event.event
    who = f" by {plain(event.actor)}" if event.actor else ""
    anomaly = event.alert.anomaly
    place, _, name = plain(anomaly.asset).rpartition("/")
    text = _cut(f"{clock} {event.alert.priority:<6} {what}{who} {name}: {brief(anomaly)}")
    tags = [plain(tag) for tag in anomaly.tags] if anomaly.kind is Kind.PROCESS else []
    told = next((f" ({', '.join(tags[:n])})" for n in range(len(tags), 0, -1) if _fits(text, tags[:n])), "")
    text += told
    return f"{text}, {place}" if place and cell_len(f"{text}, {place}") <= WIDTH else text


def _fits(text: str, tags: list[str]) -> bool:
    return cell_len(f"{text} ({', '.join(tags)})") <= WIDTH


def _cut(text: str) -> str:
    """The text, or as many of its words as there is room for; a word too wide for the line is cut.

    >>> _cut("sensor x " + "disagrees " * 7)
    'sensor x disagrees disagrees disagrees disagrees disagrees disagrees ...'
    """
    text = text.rstrip()
    if cell_len(text) <= WIDTH:
        return text
    words = set_cell_size(text, WIDTH - 3).rpartition(" ")[0]
    kept = words if cell_len(words) > WIDTH // 2 else set_cell_size(text, WIDTH - 4)
    return f"{kept.rstrip(' ,:')} ..."
