"""The reading half of the historian on InfluxDB: Flux out, CSV back, blocks of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from anomaly.domain import Alert, Readings, Scores
from anomaly.errors import StorageError
from pipelines.adapters import influx_flux as flux
from pipelines.adapters.historian_rows import empty
from pipelines.adapters.historian_views import summarise
from pipelines.adapters.influx_alerts import AlertReader
from pipelines.adapters.influx_charts import chart
from pipelines.adapters.influx_client import InfluxClient, Table
from pipelines.adapters.influx_config import EVENTS, HEARTBEATS, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_lines import SAMPLE
from pipelines.adapters.influx_names import original
from pipelines.adapters.influx_result_lines import HEARTBEAT, LARGEST, SCORE, UNKNOWN, read_heartbeat, read_scores
from pipelines.adapters.influx_tables import nanoseconds, reading_rows, tag_names
from pipelines.ports import AlertEvent, Heartbeat, ScoreSummary

_EXACT = ("run", "detail")


class InfluxReader:
    """See `HistorianReader`. Also raises ConfigurationError: wrong token, no right, no bucket. Nothing is retried."""

    def __init__(self, config: InfluxConfig, client: InfluxClient | None = None) -> None:
        self.client = client or InfluxClient(config)
        self._config = config
        self._alerts = AlertReader(self.client, config.bucket(EVENTS))

    def close(self) -> None:
        """See `Historian.close`."""
        self.client.close()

    def span(self, asset: str | None = None) -> tuple[int, int] | None:
        """See `HistorianReader.span`."""
        conditions = [] if asset is None else [flux.is_asset(asset)]
        rows = flux.source(self._config.bucket(SAMPLES), flux.EARLIEST, flux.LATEST, SAMPLE, *conditions)
        ends = (flux.named(f"{rows} |> group() |> {end}()", end, "_time") for end in ("first", "last"))
        tables = self.client.query("\n".join(ends), "say which readings it has")
        found = {table.result: row["_time"] for table in tables for row in table.rows()}
        if not found:
            return None
        first, last = nanoseconds([found["first"], found["last"]]).tolist()
        return first, last

    def assets(self) -> tuple[str, ...]:
        """See `HistorianReader.assets`."""
        tables = self.client.query(flux.asset_names(self._config.bucket(SAMPLES)), "list machines")
        return tuple(sorted({original(row["_value"]) for table in tables for row in table.rows()}))

    def readings(self, asset: str, since: int, until: int) -> Readings:
        """See `HistorianReader.readings`. Tags are in their natural order: t2 before t10."""
        bucket, span = self._config.bucket(SAMPLES), flux.fit(since, until)
        script = flux.SCHEMA + flux.field_names(bucket, asset, "fields")
        if span is not None:
            script += "\n" + flux.named(flux.samples(bucket, asset, span), "rows", "_time", "_value", "_field")
        tables = self.client.query(script, f"read the readings of {asset}")
        tags = tag_names(row["_value"] for table in tables if table.result == "fields" for row in table.rows())
        return reading_rows(asset, tags, [table for table in tables if table.result == "rows"])

    def chart(self, asset: str, tags: Sequence[str], since: int, until: int, points: int) -> Mapping[str, Readings]:
        """See `HistorianReader.chart`. `points` below 2 are taken as 2. InfluxDB does the thinning."""
        span, wanted = flux.fit(since, until), tuple(dict.fromkeys(tags))
        if span is None or not wanted:
            return {tag: empty(asset, (tag,), nanoseconds([])) for tag in wanted}
        return chart(self.client, self._config.bucket(SAMPLES), asset, wanted, span, max(points, 2))

    def scores(self, asset: str, since: int, until: int) -> Sequence[Scores]:
        """See `HistorianReader.scores`. Contributions, expected and actual come back in float32 precision."""
        span = flux.fit(since, until)
        if span is None:
            return []
        rows = self._exact_rows(f"read the scores of {asset}", span, flux.is_asset(asset))
        stored = sorted((time, cells) for (_, time), cells in rows.items())
        return [
            _block(asset, run, [(time, cells["detail"]) for time, cells in group])
            for run, group in groupby(stored, key=lambda row: row[1]["run"])
        ]

    def latest(self) -> Sequence[ScoreSummary]:
        """See `HistorianReader.latest`."""
        span = (flux.EARLIEST, flux.LATEST)
        rows = self._exact_rows("read the newest scores", span, last=True)
        newest = sorted((asset, time, cells) for (asset, time), cells in rows.items())
        return [summarise(_block(asset, cells["run"], [(time, cells["detail"])])) for asset, time, cells in newest]

    def heat(self, since: int, until: int, bucket: int) -> Mapping[str, Mapping[int, float]]:
        """See `HistorianReader.heat`. Buckets start at multiples of `bucket`."""
        span = flux.fit(since, until)
        if span is None:
            return {}
        rows = flux.source(self._config.bucket(SCORES), *span, SCORE, flux.CHAMPIONS, 'r._field == "score"')
        script = flux.named(f"{rows} |> window(every: {bucket}ns) |> max()", "heat", "_time", "_value", "asset")
        highest = _rows(self.client.query(script, "read the highest scores"))
        cells: dict[str, dict[int, float]] = {}
        for row, time in zip(highest, nanoseconds([row["_time"] for row in highest]).tolist(), strict=True):
            score = float(row["_value"])
            if score > UNKNOWN:  # a test of values would keep InfluxDB from answering out of its index
                known = float("inf") if score == LARGEST else score
                cells.setdefault(original(row["asset"]), {})[time // bucket * bucket] = known
        return {asset: dict(sorted(found.items())) for asset, found in sorted(cells.items())}

    def alerts(self, open_only: bool = False, since: int = 0, limit: int = 1000) -> Sequence[Alert]:
        """See `HistorianReader.alerts`. `since`: raised then or later. Open: not closed."""
        return self._alerts.alerts(open_only, since, limit)

    def events(self, alert_id: str) -> Sequence[AlertEvent]:
        """See `HistorianReader.events`."""
        return self._alerts.events(alert_id)

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """See `HistorianReader.heartbeats`."""
        rows = flux.source(self._config.bucket(HEARTBEATS), 0, 1, HEARTBEAT, 'r._field == "body"')
        found = _rows(self.client.query(flux.named(rows, "parts", "_value"), "read the heartbeats"))
        beats = [read_heartbeat(row["_value"]) for row in found]
        return {beat.part: beat for beat in sorted(beats, key=lambda beat: beat.part)}

    def _exact_rows(
        self, doing: str, span: tuple[int, int], *conditions: str, last: bool = False
    ) -> dict[tuple[str, int], dict[str, str]]:
        """Fields `run` and `detail` by asset and time."""
        fields = flux.one_of("_field", _EXACT)
        script = flux.source(self._config.bucket(SCORES), *span, SCORE, flux.CHAMPIONS, fields, *conditions)
        script += " |> last()" if last else ""
        rows = _rows(self.client.query(flux.named(script, "rows", "_time", "_value", "_field", "asset"), doing))
        found: dict[tuple[str, int], dict[str, str]] = {}
        for row, time in zip(rows, nanoseconds([row["_time"] for row in rows]).tolist(), strict=True):
            found.setdefault((original(row["asset"]), time), {})[row["_field"]] = row["_value"]
        return {place: cells for place, cells in found.items() if len(cells) == len(_EXACT)}


def _rows(tables: Sequence[Table]) -> list[dict[str, str]]:
    return [row for table in tables for row in table.rows()]


def _block(asset: str, run: str, rows: Sequence[tuple[int, str]]) -> Scores:
    try:
        return read_scores(asset, run, [time for time, _ in rows], [detail for _, detail in rows])
    except (ValueError, IndexError) as error:
        raise StorageError(
            f"the stored scores of {asset} cannot be read ({error}); expected what plantwatch wrote; were they changed "
            "by hand, or by a newer plantwatch? The record service can rebuild them from the log"
        ) from error
