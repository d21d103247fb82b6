"""The record service: readings, scores and alert transitions into the historian.

It keeps nothing: the historian is a view that can be rebuilt from the log, and every write overwrites by key. An empty
historian (removed, or lost) is filled again from all that the log still has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import numpy as np
import structlog

from anomaly.blocks import join
from anomaly.domain import SECOND, Readings, Scores
from anomaly.errors import DecodeError
from anomaly.plain_rows import PlainRow, PlainRows, Rows, as_readings, together
from pipelines import codec, metrics, topics
from pipelines.decoding import decode, plain_row
from pipelines.notices import VERSIONS
from pipelines.ports import AlertEvent, Clock, HistorianWriter, Log, Partition, Record
from pipelines.service import Metadata

_log = structlog.get_logger(__name__)


class RecordWorker:
    """Worker of the record service, for the loop in `service`.

    `is_empty` says whether the historian holds nothing; it is asked once a session. `clock`: the plant's, to say how
    long scores took; without one nothing is said. `readings_format`: as in the settings.
    """

    name = "record"
    topics: tuple[str, ...] = (topics.READINGS, topics.SCORES, topics.ALERTS)
    patient = True

    def __init__(
        self,
        log: Log,
        historian: HistorianWriter,
        is_empty: Callable[[], bool] = lambda: False,
        *,
        clock: Clock | None = None,
        readings_format: str = "auto",
    ) -> None:
        self._format = readings_format
        self._log = log
        self._clock = clock
        self._delay_s: float | None = None
        self._historian = historian
        self._is_empty = is_empty
        self.reset()

    def reset(self) -> None:
        """Forget what was read and not written."""
        self._positions: dict[Partition, int] = {}
        self._rebuild: bool | None = None
        self._readings: list[Rows] = []
        self._open: dict[str, PlainRows] = {}
        """Of each asset, the block at its end that takes more rows."""
        self._scores: list[Scores] = []
        self._events: list[AlertEvent] = []

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        """Go on where the group stands; from the log's start if it never did, or if the historian is empty.

        The start is committed by the first `write`, before anything is written: a crash while the historian is rebuilt
        goes on with rebuilding it.
        """
        first = self._log.ends(partition.topic)[partition][0]
        if self._rebuild is None:
            self._rebuild = self._is_empty()
        start = first if committed is None or self._rebuild else committed
        if committed is not None and start < committed:
            _log.warning("historian_is_empty", topic=partition.topic, rebuilt_from=start, committed=committed)
        self._positions[partition] = start
        return start

    def revoke(self, partition: Partition) -> None:
        """Nothing is kept of a partition."""
        self._positions.pop(partition, None)

    def process(self, records: Sequence[Record]) -> None:
        """Decode. What cannot be decoded is passed over here: the score service makes the dead letter."""
        for record in records:
            try:
                self._take(record)
            except DecodeError as error:
                _log.debug("not_recorded", topic=record.partition.topic, offset=record.offset, reason=error.reason)
            self._positions[record.partition] = record.offset + 1

    def _take(self, record: Record) -> None:
        if record.partition.topic == topics.READINGS:
            row = plain_row(record, self._format)
            if row is not None:
                self._take_row(row)
            else:
                self._take_any(record)
        elif record.value is not None and record.partition.topic == topics.SCORES:
            scores = codec.decode_scores(record.value)
            if scores.version not in VERSIONS:
                self._scores.append(scores)
        elif record.value is not None:
            self._events.append(codec.decode_event(record.value))

    def _take_row(self, row: PlainRow) -> None:
        """Add a row to those of its asset that came just before it; else it begins a block."""
        block = self._open.get(row.asset)
        if block is not None and block.tags == row.tags:
            block.times.append(row.time)
            block.values.append(row.values)
            return
        block = self._open[row.asset] = row.rows()
        self._readings.append(block)

    def _take_any(self, record: Record) -> None:
        """Add whatever readings the record holds. Raises DecodeError."""
        for block in decode(record.value, record.key, record.time, record.headers, self._format):
            self._open.pop(block.asset, None)  # what follows comes after it
            self._readings.append(block)

    def set_aside(self, record: Record) -> None:
        """Pass over a record that ended the process again and again."""
        self._positions[record.partition] = record.offset + 1

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """One write of all that came. Raises StorageError, Unreachable."""
        if self._readings or self._scores or self._events:
            with metrics.stage("record"), metrics.sink("historian"):
                self._historian.write(_readings_together(self._readings), _scores_together(self._scores), self._events)
            self._time()
            self._readings, self._open, self._scores, self._events = [], {}, [], []
        return {partition: (offset, {}) for partition, offset in self._positions.items()}

    def _time(self) -> None:
        """How long the scores took from their event time to here."""
        if self._scores and self._clock is not None:
            now, times = self._clock.now(), np.concatenate([scores.times for scores in self._scores])
            metrics.end_to_end(now, times)
            self._delay_s = (now - int(times.max())) / SECOND

    def status(self) -> dict[str, str | int | float]:
        """Figures for the System page. `delay s`: how old the newest score of the last write was then."""
        return {} if self._delay_s is None else {"delay s": round(self._delay_s, 1)}


def _readings_together(blocks: Sequence[Rows]) -> list[Readings]:
    """Blocks of one asset with the same tags that came one after the other as one: a row costs a fraction then."""
    by_asset: dict[str, list[Rows]] = {}
    for block in blocks:
        by_asset.setdefault(block.asset, []).append(block)
    runs = (groupby(parts, key=lambda part: part.tags) for parts in by_asset.values())
    return [as_readings(together(list(run))) for parts in runs for _, run in parts]


def _scores_together(blocks: Sequence[Scores]) -> list[Scores]:
    """Blocks of the same version that came one after the other as one."""
    return [join(list(run)) for _, run in groupby(blocks, key=lambda part: (part.version, part.rung, part.tags))]
