"""The historian of the distributed deployment: results for people, in InfluxDB 2.

It is a view, as the embedded one: what is lost here is rebuilt by reading the log again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anomaly.domain import Readings, Scores
from pipelines.adapters.influx_config import InfluxConfig
from pipelines.adapters.influx_reading import InfluxReader
from pipelines.adapters.influx_writing import InfluxWriter
from pipelines.ports import AlertEvent


class InfluxHistorian(InfluxReader):
    """A `Historian` over the buckets of `config`, which `influx_setup` makes. Thread-safe; connects when first used."""

    def __init__(self, config: InfluxConfig) -> None:
        self.writer = InfluxWriter(config)
        super().__init__(config, self.writer.client)

    def write(
        self,
        readings: Sequence[Readings] = (),
        scores: Sequence[Scores] = (),
        events: Sequence[AlertEvent] = (),
    ) -> None:
        """See `InfluxWriter.write`."""
        self.writer.write(readings, scores, events)

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        """See `HistorianWriter.heartbeat`."""
        self.writer.heartbeat(part, time, status)
