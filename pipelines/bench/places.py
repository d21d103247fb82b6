"""Where a bench run keeps its records: servers under names of its own, or a folder; made before, removed after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anomaly.domain import SECOND, Plant
from pipelines import topics
from pipelines.adapters.influx_config import BUCKETS, InfluxConfig
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.bench.workload import TICK, bench_plant
from pipelines.ports import Historian, Log

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Places:
    """`kafka` or `influx` None: files in `folder` stand in for it. `start`: event time of the workload's row 0, ns."""

    folder: Path
    assets: int
    start: int
    kafka: KafkaConfig | None = None
    influx: InfluxConfig | None = None
    faulty: int = 5
    tick: int = TICK

    @property
    def plant(self) -> Plant:
        """The machines."""
        return bench_plant(self.assets, self.tick)

    @property
    def names(self) -> str:
        """What stands behind the ports, for people."""
        log = f"Kafka at {self.kafka.where}" if self.kafka else "the embedded log (SQLite)"
        historian = f"InfluxDB at {self.influx.url}" if self.influx else "the embedded historian (SQLite)"
        return f"{log}, {historian}"

    def open_log(self, member: str = "") -> Log:
        """The log, for one process. Raises Unreachable, StorageError, ConfigurationError."""
        if self.kafka is None:
            return SqliteLog(self.folder / "log.db", SystemClock())
        from pipelines.adapters.kafka_log import KafkaLog  # noqa: PLC0415  # not needed without Kafka

        return KafkaLog(replace(self.kafka, member=member))

    def open_historian(self) -> Historian:
        """The historian, for one process."""
        if self.influx is None:
            return SqliteHistorian(self.folder / "historian.db")
        from pipelines.adapters.influx_historian import InfluxHistorian  # noqa: PLC0415  # not needed without it

        return InfluxHistorian(self.influx)

    def make(self) -> None:
        """Topics and buckets. InfluxDB's token must be one that may make buckets."""
        log = self.open_log()
        try:
            log.create(topics.partitions(PARTITIONS), topics.COMPACTED)
        finally:
            log.close()
        if self.influx is not None:
            from pipelines.adapters.influx_tokens import setup  # noqa: PLC0415

            setup(self.influx)

    def remove(self) -> None:
        """Topics and buckets of this run, gone again."""
        if self.kafka is not None:
            _remove_topics(self.kafka)
        if self.influx is not None:
            _remove_buckets(self.influx)

    def ports(self) -> dict[str, int]:
        """TCP ports of servers on this machine."""
        found = {}
        if self.kafka is not None and _is_here(self.kafka.servers[0].rpartition(":")[0]):
            found["broker"] = int(self.kafka.servers[0].rpartition(":")[2])
        if self.influx is not None:
            url = urlsplit(self.influx.url)
            if _is_here(url.hostname or ""):
                found["influxdb"] = url.port or 8086
        return found


def _is_here(host: str) -> bool:
    return host.strip("[]") in {"127.0.0.1", "localhost", "::1"}


def _remove_topics(config: KafkaConfig) -> None:
    from pipelines.adapters.kafka_client import make_admin  # noqa: PLC0415

    admin: Any = make_admin(config)
    try:
        admin.delete_topics([config.topic(name) for name in topics.partitions(PARTITIONS)])
    finally:
        admin.close()


def _remove_buckets(config: InfluxConfig) -> None:
    from influxdb_client.client.influxdb_client import InfluxDBClient  # noqa: PLC0415

    wanted = {config.bucket(name) for name in BUCKETS}
    with InfluxDBClient(config.url, config.token, org=config.org) as client:
        for task in client.tasks_api().find_tasks():
            if any(bucket in (task.flux or "") for bucket in wanted):
                client.tasks_api().delete_task(task.id)
        for bucket in client.buckets_api().find_buckets(limit=100).buckets:
            if bucket.name in wanted:
                client.buckets_api().delete_bucket(bucket)


EVENT_START = 1_700_000_000 * SECOND
"""Event time of a workload that is not live, ns."""
