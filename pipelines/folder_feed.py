"""A folder of files → readings topic, and how far that got: what `plantwatch run --data` feeds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from anomaly.blocks import rows
from anomaly.domain import SECOND, Readings
from anomaly.errors import StorageError
from pipelines import feeding
from pipelines.ports import Clock, Log
from pipelines.sources.folder import Folder

SPAN: Final = 3600 * SECOND
"""Blocks of this length of event time (ns) are appended at a time, so that machines stay side by side."""
BEAT_S: Final = 1.0
"""Seconds between two blocks of a machine, when files are replayed at a speed."""


class FolderFeed:
    """Reads a folder into the log, and remembers how many rows of each asset are in: what a crash forgot is sent again,
    as duplicates, and rows that a file has gained since are sent by the next `run`.
    """

    def __init__(self, folder: Folder, position: Path, speed: float | None, clock: Clock) -> None:
        self._folder = folder
        self._position = position
        self._speed = speed
        self._clock = clock

    def run(self, log: Log, stop: threading.Event) -> int:
        """Append what is new, at `speed` times event time; returns the readings. Raises DataError, StorageError."""
        sent = self._sent()
        by_asset = groupby(list(self._folder.blocks()), key=lambda block: block.asset)
        streams = [list(_after(blocks, sent.get(asset, 0))) for asset, blocks in by_asset]
        span = SPAN if self._speed is None else max(1, min(SPAN, int(self._speed * BEAT_S * SECOND)))
        noted = self._noted(feeding.interleaved(streams, span), sent)
        return feeding.feed(log, noted, stop, clock=self._clock, speed=self._speed)

    def _noted(self, blocks: Iterable[Readings], sent: dict[str, int]) -> Iterator[Readings]:
        for block in blocks:
            yield block
            sent[block.asset] = sent.get(block.asset, 0) + len(block)
            self._save(sent)

    def _sent(self) -> dict[str, int]:
        try:
            stored = json.loads(self._position.read_text(encoding="utf-8"))
            same = stored["folder"] == str(self._folder.path.resolve())
            return {str(asset): int(count) for asset, count in stored["rows"].items()} if same else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self, sent: dict[str, int]) -> None:
        text = json.dumps({"folder": str(self._folder.path.resolve()), "rows": sent, "at": time.time_ns()})
        temporary = self._position.with_suffix(".new")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._position)
        except OSError as error:
            raise StorageError(
                f"{self._position} cannot be written ({error.strerror}); expected a data folder with room that we may "
                "write; mend that and start again: reading goes on where it stopped"
            ) from error


def _after(blocks: Iterable[Readings], count: int) -> Iterator[Readings]:
    """The blocks without their first `count` rows."""
    for block in blocks:
        if count < len(block):
            yield rows(block, slice(count, None))
        count = max(0, count - len(block))
