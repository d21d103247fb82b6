"""What lies in the historian, read through its port."""

from __future__ import annotations

import numpy as np

from anomaly.domain import Plant, Quality
from pipelines.ports import AlertEvent, HistorianReader
from tests.faults.reference import Event, canonical

_FOR_EVER = 2**62


def historian_readings(historian: HistorianReader, plant: Plant) -> dict[tuple[str, str, int], float | None]:
    """Value by (asset, tag, time); None where it is known to be no number."""
    found: dict[tuple[str, str, int], float | None] = {}
    for asset in plant.assets:
        block = historian.readings(asset.path, 0, _FOR_EVER)
        rows, columns = np.nonzero(block.quality != Quality.MISSING)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            value = float(block.values[row, column])
            key = (asset.path, block.tags[column], int(block.times[row]))
            found[key] = value if np.isfinite(value) else None
    return found


def historian_scores(historian: HistorianReader, plant: Plant) -> dict[tuple[str, int], bytes]:
    """Canonical bytes of every score row, single precision: what the historian keeps."""
    found: dict[tuple[str, int], bytes] = {}
    for asset in plant.assets:
        for block in historian.scores(asset.path, 0, _FOR_EVER):
            found |= canonical(block, np.float32)
    return found


def historian_events(historian: HistorianReader) -> list[tuple[str, Event]]:
    """Transitions of all alerts, by id."""
    alerts = historian.alerts(limit=10**6)
    return [event_of(event) for alert in alerts for event in historian.events(alert.id)]


def event_of(event: AlertEvent) -> tuple[str, Event]:
    anomaly = event.alert.anomaly
    return event.id, Event(event.event, anomaly.asset, anomaly.cause, event.time)
