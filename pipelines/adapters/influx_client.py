"""One HTTP door to InfluxDB: lines in, Flux answers out. Errors leave it translated."""

from __future__ import annotations

import csv
import io
from typing import Any, Final, NamedTuple

import urllib3.exceptions
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.dialect import Dialect
from influxdb_client.rest import ApiException

from anomaly.errors import StorageError
from pipelines.adapters.influx_config import InfluxConfig
from pipelines.adapters.influx_errors import translated

FOREIGN: Final = (ApiException, urllib3.exceptions.HTTPError, OSError)
"""What influxdb-client may raise, and nothing else."""
_POOL: Final = 16
_ERROR: Final = ("error,reference", ",error,reference")


class Table(NamedTuple):
    """Rows of one result and one shape: column names, and the rows as CSV (header included)."""

    result: str
    columns: tuple[str, ...]
    text: str

    def rows(self) -> list[dict[str, str]]:
        """Each row by column name, for answers that are short."""
        return list(csv.DictReader(io.StringIO(self.text, newline="")))


class InfluxClient:
    """Thread-safe; connections are kept. `close` is idempotent; nothing may be asked after it."""

    def __init__(self, config: InfluxConfig) -> None:
        self.config = config
        self._client: Any = InfluxDBClient(
            url=config.url,
            token=config.token,
            org=config.org,
            timeout=round(config.timeout_s * 1000),
            ssl_ca_cert=str(config.ca_file) if config.ca_file else None,
            connection_pool_maxsize=_POOL,
        )
        self._writes: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._queries: Any = self._client.query_api()
        self._dialect = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code
        self._closed = False

    def write(self, bucket: str, text: str) -> None:
        """One request. Raises `FOREIGN` untranslated: the writer decides what may be tried again. Not retried."""
        self._open()
        self._writes.write(self.config.bucket(bucket), self.config.org, text.encode("utf-8", "replace"))

    def query(self, script: str, doing: str) -> list[Table]:
        """Answer of a Flux script, by table shape. Raises what `translated` makes, StorageError for a broken answer."""
        self._open()
        try:
            answer = self._queries.query_raw(script, dialect=self._dialect).data
        except FOREIGN as error:
            raise translated(error, self.config, doing) from error
        text = answer.decode("utf-8", "replace")
        return [self._table(block.strip("\r\n"), doing) for block in text.split("\r\n\r\n") if block.strip()]

    def _table(self, block: str, doing: str) -> Table:
        header, _, rest = block.partition("\r\n")
        if header in _ERROR:  # sent behind an answer that began well: HTTP says 200
            told = next(csv.reader([rest]), [""])
            raise StorageError(
                f"InfluxDB at {self.config.url} could not {doing}: it broke off in the middle of its answer "
                f"({' '.join(told).strip()[:500]}); nothing of the answer is used; see InfluxDB's log"
            )
        columns = tuple(header.split(","))
        if "result" not in columns:
            raise StorageError(
                f"{self.config.url} could not {doing}: it answered {header[:80]!r}, not CSV of InfluxDB 2; "
                "is that its address? see influx_url"
            )
        first = next(csv.reader([rest.partition("\r\n")[0]]), [])
        place = columns.index("result")
        return Table(first[place] if len(first) > place else "", columns, block)

    def api(self, name: str) -> Any:
        """One of influxdb-client's management APIs, such as `buckets_api`."""
        self._open()
        return getattr(self._client, name)()

    def close(self) -> None:
        """Release all connections."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _open(self) -> None:
        if self._closed:
            raise StorageError(f"the historian at {self.config.url} is closed; open it again before using it")
