"""The historian in memory: the slow, obvious twin that says what every other historian must answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from anomaly.domain import Alert, AlertState, Quality, Readings, Scores
from pipelines.adapters.historian_rows import empty, spread
from pipelines.adapters.historian_views import sequence, summarise
from pipelines.ports import AlertEvent, Heartbeat, ScoreSummary

_Cell = tuple[float, int]


class MemoryHistorian:
    """A `Historian` that forgets everything when it is gone."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._cells: dict[str, dict[int, dict[str, _Cell]]] = {}
        """Value and quality by asset, time and tag."""
        self._tags: dict[str, dict[str, None]] = {}
        self._scores: dict[str, dict[int, tuple[Scores, int]]] = {}
        """Block and row by asset and time."""
        self._events: dict[str, AlertEvent] = {}
        self._heartbeats: dict[str, Heartbeat] = {}

    def write(
        self,
        readings: Sequence[Readings] = (),
        scores: Sequence[Scores] = (),
        events: Sequence[AlertEvent] = (),
    ) -> None:
        """See `HistorianWriter.write`."""
        with self._lock:
            for block in readings:
                self._write_readings(block)
            for scored in scores:
                for row, (asset, time) in enumerate(zip(scored.assets, scored.times.tolist(), strict=True)):
                    self._scores.setdefault(asset, {})[time] = (scored, row)
            for event in events:
                self._events[event.id] = event

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        """See `HistorianWriter.heartbeat`."""
        with self._lock:
            self._heartbeats[part] = Heartbeat(part, time, dict(status))

    def span(self, asset: str | None = None) -> tuple[int, int] | None:
        """See `HistorianReader.span`."""
        with self._lock:
            rows = self._cells.values() if asset is None else [self._cells.get(asset, {})]
            times = [time for row in rows for time in row]
            return (min(times), max(times)) if times else None

    def assets(self) -> tuple[str, ...]:
        """See `HistorianReader.assets`."""
        with self._lock:
            return tuple(sorted(self._cells))

    def readings(self, asset: str, since: int, until: int) -> Readings:
        """See `HistorianReader.readings`."""
        with self._lock:
            rows = sorted((time, row) for time, row in self._cells.get(asset, {}).items() if since <= time < until)
            tags = tuple(self._tags.get(asset, ()))
            block = empty(asset, tags, np.array([time for time, _ in rows], dtype=np.int64))
            for i, (_, row) in enumerate(rows):
                for column, tag in enumerate(tags):
                    if tag in row:
                        block.values[i, column], block.quality[i, column] = row[tag]
            return block

    def chart(self, asset: str, tags: Sequence[str], since: int, until: int, points: int) -> Mapping[str, Readings]:
        """See `HistorianReader.chart`. `points` below 2 are taken as 2."""
        return spread(self.readings(asset, since, until), tags, points)

    def scores(self, asset: str, since: int, until: int) -> Sequence[Scores]:
        """See `HistorianReader.scores`."""
        with self._lock:
            stored = sorted(self._scores.get(asset, {}).items(), key=lambda item: item[0])
            rows = [place for time, place in stored if since <= time < until]
        runs = groupby(rows, key=lambda place: (place[0].version, place[0].rung, place[0].tags))
        return [_join(list(group)) for _, group in runs]

    def latest(self) -> Sequence[ScoreSummary]:
        """See `HistorianReader.latest`."""
        with self._lock:
            return [summarise(*rows[max(rows)]) for _, rows in sorted(self._scores.items())]

    def heat(self, since: int, until: int, bucket: int) -> Mapping[str, Mapping[int, float]]:
        """See `HistorianReader.heat`. Buckets start at multiples of `bucket`."""
        with self._lock:
            heat: dict[str, dict[int, float]] = {}
            for asset, rows in sorted(self._scores.items()):
                for time in sorted(time for time in rows if since <= time < until):
                    score = float(rows[time][0].score[rows[time][1]])
                    start = time // bucket * bucket
                    if not np.isnan(score):
                        cells = heat.setdefault(asset, {})
                        cells[start] = max(score, cells.get(start, score))
            return heat

    def alerts(self, open_only: bool = False, since: int = 0, limit: int = 1000) -> Sequence[Alert]:
        """See `HistorianReader.alerts`. `since`: raised then or later. Open: not closed."""
        with self._lock:
            ids = {event.alert.id for event in self._events.values()}
            newest = [self.events(alert)[-1].alert for alert in ids]
        asked = [
            alert
            for alert in newest
            if alert.raised_at >= since and not (open_only and alert.state is AlertState.CLOSED)
        ]
        return sorted(asked, key=lambda alert: (-alert.raised_at, alert.id))[: max(limit, 0)]

    def events(self, alert_id: str) -> Sequence[AlertEvent]:
        """See `HistorianReader.events`."""
        with self._lock:
            mine = [event for event in self._events.values() if event.alert.id == alert_id]
        return sorted(mine, key=lambda event: (sequence(event), event.id))

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """See `HistorianReader.heartbeats`."""
        with self._lock:
            return dict(sorted(self._heartbeats.items()))

    def close(self) -> None:
        """See `Historian.close`. What is stored stays readable: tests look at it."""

    def _write_readings(self, block: Readings) -> None:
        if not len(block):
            return
        self._tags.setdefault(block.asset, {}).update(dict.fromkeys(block.tags))
        rows = self._cells.setdefault(block.asset, {})
        for i, time in enumerate(block.times.tolist()):
            row = rows.setdefault(time, {})
            for column, tag in enumerate(block.tags):
                if block.quality[i, column] != Quality.MISSING:
                    row[tag] = float(block.values[i, column]), int(block.quality[i, column])


def _join(places: Sequence[tuple[Scores, int]]) -> Scores:
    first = places[0][0]
    return Scores(
        tags=first.tags,
        assets=tuple(block.assets[row] for block, row in places),
        times=np.array([block.times[row] for block, row in places], dtype=np.int64),
        score=np.array([block.score[row] for block, row in places]),
        contributions=np.array([block.contributions[row] for block, row in places]),
        expected=np.array([block.expected[row] for block, row in places]),
        actual=np.array([block.actual[row] for block, row in places]),
        coverage=np.array([block.coverage[row] for block, row in places]),
        isolated=np.array([block.isolated[row] for block, row in places]),
        faults=np.array([block.faults[row] for block, row in places], dtype=np.uint8),
        state=tuple(block.state[row] for block, row in places),
        version=first.version,
        rung=first.rung,
    )
