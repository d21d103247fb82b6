"""The writing half of the historian on InfluxDB: it blocks until the server has confirmed every line that it will ever
take, and sets aside the few that it never will.

influxdb-client's own batching is not used: it drops what is refused, and what is not written within its patience.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final

import structlog

from anomaly.domain import Readings, Scores
from pipelines import metrics
from pipelines.adapters.influx_client import FOREIGN, InfluxClient
from pipelines.adapters.influx_config import EVENTS, HEARTBEATS, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_errors import PointsRefused, is_passing, refused_points, retry_after, translated
from pipelines.adapters.influx_lines import reading_lines
from pipelines.adapters.influx_result_lines import event_lines, heartbeat_line, score_lines
from pipelines.ports import AlertEvent

LINES: Final = 5_000
"""Lines a request: where InfluxDB is fastest."""
BYTES: Final = 8 << 20
"""And at most so many characters: wide rows are long."""
_PAUSES_S: Final = (0.1, 0.4)
"""Before each further try of one request; the service has more patience than we (guarantee G7)."""
_LONGEST_PAUSE_S: Final = 5.0
_SHOWN: Final = 10
"""Lines set aside that one write shows in the log."""
_SHOWN_CHARACTERS: Final = 400

_log = structlog.get_logger(__name__)


class InfluxWriter:
    """See `HistorianWriter`. All or none holds as far as InfluxDB can: an error may leave part of the call stored, and
    the call repeated overwrites it.
    """

    def __init__(self, config: InfluxConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = InfluxClient(config)
        self._sleep = sleep

    def write(
        self,
        readings: Sequence[Readings] = (),
        scores: Sequence[Scores] = (),
        events: Sequence[AlertEvent] = (),
    ) -> None:
        """See `HistorianWriter.write`. Also raises ConfigurationError: wrong token, no right, no bucket."""
        for bucket, lines in (
            (SAMPLES, reading_lines(readings)),
            (SCORES, score_lines(scores)),
            (EVENTS, event_lines(events)),
        ):
            self.send(bucket, lines)

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        """See `HistorianWriter.heartbeat`."""
        self.send(HEARTBEATS, [heartbeat_line(part, time, status)])

    def close(self) -> None:
        """See `Historian.close`."""
        self.client.close()

    def send(self, bucket: str, lines: Sequence[str]) -> None:
        """Store lines of line protocol. Returns when each is stored, or set aside for good."""
        aside = _SetAside(bucket)
        try:
            for chunk in chunks(lines):
                self._store(bucket, chunk, aside)
        finally:
            aside.tell()

    def _store(self, bucket: str, lines: list[str], aside: _SetAside) -> None:
        """Store a chunk; of one that is refused only the lines that are refused on their own are set aside."""
        waiting = [lines]
        while waiting:
            part = waiting.pop()
            refused = self._try(bucket, part)
            if refused is None:
                continue
            if len(part) == 1 or (refused.dropped or 0) >= len(part):
                aside.add(refused, part)
                continue
            bad = [line for line in part if line in refused.malformed]
            if bad:
                aside.add(refused, bad)
                good = [line for line in part if line not in refused.malformed]
                waiting += [good] if good else []
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]

    def _try(self, bucket: str, lines: list[str]) -> PointsRefused | None:
        """One request, tried again a few times if what came in its way may pass."""
        text = "\n".join(lines)
        for pause in (*_PAUSES_S, None):
            try:
                self.client.write(bucket, text)
                return None
            except FOREIGN as error:
                refused = refused_points(error)
                if refused is not None:
                    return refused
                if pause is None or not is_passing(error):
                    doing = f"write to {self.client.config.bucket(bucket)}"
                    raise translated(error, self.client.config, doing) from error
                self._sleep(min(max(pause, retry_after(error) or 0.0), _LONGEST_PAUSE_S))
        return None


class _SetAside:
    """What one write will never store: counted, and told in the log with the lines."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._counts: dict[str, int] = {}
        self._shown: list[str] = []
        self._messages: dict[str, str] = {}

    def add(self, refused: PointsRefused, lines: Sequence[str]) -> None:
        """These lines were refused, each for itself."""
        metrics.points_dropped(refused.reason, len(lines))
        self._counts[refused.reason] = self._counts.get(refused.reason, 0) + len(lines)
        self._messages.setdefault(refused.reason, str(refused)[:_SHOWN_CHARACTERS])
        self._shown += [line[:_SHOWN_CHARACTERS] for line in islice(lines, max(0, _SHOWN - len(self._shown)))]

    def tell(self) -> None:
        """Say it once a write."""
        if self._counts:
            _log.error(
                "points_set_aside", bucket=self._bucket, counts=self._counts, why=self._messages, lines=self._shown
            )


def chunks(lines: Sequence[str]) -> list[list[str]]:
    """The lines in order, in lists of at most `LINES` lines and about `BYTES` characters.

    >>> [len(chunk) for chunk in chunks(["a"] * 12_000)]
    [5000, 5000, 2000]
    """
    found: list[list[str]] = []
    for start in range(0, len(lines), LINES):
        part = list(lines[start : start + LINES])
        pieces = -(-sum(map(len, part)) // BYTES)
        size = -(-len(part) // max(1, pieces))
        found += [part[i : i + size] for i in range(0, len(part), size)]
    return found
