"""Alerts out of InfluxDB. Each alert is one point and every transition a field of it, so a replay changes nothing and
an older transition never hides a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from anomaly.domain import Alert, AlertState
from anomaly.errors import StorageError
from pipelines.adapters import influx_flux as flux
from pipelines.adapters.historian_views import sequence
from pipelines.adapters.influx_client import InfluxClient
from pipelines.adapters.influx_names import flux as literal
from pipelines.adapters.influx_names import original, stored
from pipelines.adapters.influx_result_lines import HISTORY, read_event, shift
from pipelines.adapters.influx_tables import nanoseconds
from pipelines.ports import AlertEvent

_NAMED_ASSETS: Final = 50
"""Beyond so many machines a question names none, and answers of others are passed over."""


class _Place(NamedTuple):
    """Where an alert's point is: its asset as stored, its cause as stored, its time, ns."""

    asset: str
    cause: str
    time: int


class AlertReader:
    """Alerts and their histories in one bucket."""

    def __init__(self, client: InfluxClient, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def alerts(self, open_only: bool, since: int, limit: int) -> Sequence[Alert]:
        """See `HistorianReader.alerts`."""
        ids, closed = self._index(since)
        asked = [
            (-(place.time - shift(name)), name, place)
            for place, name in ids.items()
            if place.time - shift(name) >= since and not (open_only and place in closed)
        ]
        chosen = [place for _, _, place in sorted(asked)[: max(limit, 0)]]
        newest = [events[-1].alert for events in self._histories(chosen).values()]
        kept = [alert for alert in newest if not (open_only and alert.state is AlertState.CLOSED)]
        return sorted(kept, key=lambda alert: (-alert.raised_at, alert.id))

    def events(self, alert_id: str) -> Sequence[AlertEvent]:
        """See `HistorianReader.events`."""
        asked = f'r._field == "alert_id" and r._value == {literal(stored(alert_id))}'
        places = [place for place, _, _ in self._rows(flux.EARLIEST, flux.LATEST, asked, "find an alert")]
        return next(iter(self._histories(places).values()), [])

    def _index(self, since: int) -> tuple[dict[_Place, str], set[_Place]]:
        """Id of each alert raised since then, and which are closed."""
        span = flux.fit(since, flux.LATEST)
        if span is None:
            return {}, set()
        rows = list(self._rows(*span, flux.one_of("_field", ["alert_id", "closed"]), "list alerts"))
        ids = {place: original(value) for place, field, value in rows if field == "alert_id"}
        return ids, {place for place, field, _ in rows if field == "closed"}

    def _histories(self, places: Sequence[_Place]) -> dict[str, list[AlertEvent]]:
        """Transitions of the alerts at these places by alert id, oldest first."""
        if not places:
            return {}
        times, assets = [place.time for place in places], {place.asset for place in places}
        asked = 'r._field != "alert_id" and r._field != "closed"'
        if len(assets) <= _NAMED_ASSETS:
            asked += f" and {flux.one_of('asset', sorted(assets))}"
        wanted, found = set(places), dict[str, list[AlertEvent]]()
        for place, _, value in self._rows(min(times), max(times) + 1, asked, "read alerts"):
            if place in wanted:
                event = _event(value)
                found.setdefault(event.alert.id, []).append(event)
        return {name: sorted(events, key=lambda one: (sequence(one), one.id)) for name, events in found.items()}

    def _rows(self, since: int, until: int, asked: str, doing: str) -> Iterable[tuple[_Place, str, str]]:
        """Place, field and value of each row."""
        source = flux.source(self._bucket, since, until, HISTORY, asked)
        script = flux.named(source, "rows", "_time", "_value", "_field", "asset", "cause")
        rows = [row for table in self._client.query(script, doing) for row in table.rows()]
        times = nanoseconds([row["_time"] for row in rows]).tolist()
        for row, time in zip(rows, times, strict=True):
            yield _Place(row["asset"], row["cause"], time), row["_field"], row["_value"]


def _event(body: str) -> AlertEvent:
    try:
        return read_event(body)
    except ValueError as error:
        raise StorageError(
            f"a stored alert cannot be read ({error}); expected what plantwatch wrote; was it changed by hand, or by a "
            "newer plantwatch? The record service can rebuild alerts from the log"
        ) from error
