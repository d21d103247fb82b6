"""What a token may do on an InfluxDB server, for `plantwatch check`; nothing is written."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from influxdb_client.rest import ApiException

from anomaly.errors import ConfigurationError
from pipelines.adapters.influx_client import FOREIGN, InfluxClient
from pipelines.adapters.influx_config import BUCKETS, InfluxConfig
from pipelines.adapters.influx_errors import message_of, translated

_NOTHING = 400
"""What the server answers to a write of no points by a token that may write them."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Buckets (our short names) that the token may read, may write, and neither."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def none(self) -> tuple[str, ...]:
        """Buckets that are not there, or that the token may not use at all."""
        return tuple(name for name in BUCKETS if name not in self.reads and name not in self.writes)


def look(config: InfluxConfig) -> Rights:
    """Try every bucket. Raises Unreachable, ConfigurationError for a token that is refused everywhere, StorageError."""
    with closing(InfluxClient(config)) as client:
        first: ConfigurationError | None = None
        reads, writes = [], []
        for name in BUCKETS:
            try:
                client.query(f'from(bucket: "{config.bucket(name)}") |> range(start: -1s) |> limit(n: 1)', "answer")
                reads.append(name)
            except ConfigurationError as error:
                first = first or error
            if _may_write(client, name):
                writes.append(name)
    if not reads and not writes and first is not None:
        raise first
    return Rights(tuple(reads), tuple(writes))


def _may_write(client: InfluxClient, name: str) -> bool:
    """Whether a write of nothing is refused for being nothing, and not for a missing right or bucket."""
    try:
        client.write(name, "\n")
    except FOREIGN as error:
        if isinstance(error, ApiException) and error.status == _NOTHING and "organization" not in message_of(error):
            return True
        if isinstance(error, ApiException) and error.status in (401, 403, 404):
            return False
        raise translated(error, client.config, f"look whether {client.config.bucket(name)} may be written") from error
    return True
