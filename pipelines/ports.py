"""The doors of the services. Each docstring is the contract that every adapter is tested against.

Adapters: in-memory twins (`adapters/memory.py`), SQLite (embedded), Kafka and InfluxDB. Foreign errors are
translated at the adapter's door into `anomaly.errors`; nothing else may come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from anomaly.domain import Alert, Readings, Scores


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. `partition` None: chosen by a stable hash of `key` (so one asset stays on one partition)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record as stored. `time`: append time of the log, ns (never the device's). `value` None is a tombstone."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    time: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group stands: the next offset to read, and a short text that comes back with it (≤ 4 kB)."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll brought. Handle in this order: `revoked` (drop state), `assigned` (load state, seek), `records`.

    `assigned` maps each newly assigned partition to its committed position, or None if the group never committed.
    `records` holds none of a partition that was assigned in this very batch: seek first.
    """

    revoked: tuple[Partition, ...] = ()
    assigned: Mapping[Partition, Position | None] = ()  # type: ignore[assignment]  # an empty mapping
    records: tuple[Record, ...] = ()


class Consumer(Protocol):
    """One member of a consumer group. Not thread-safe; one thread owns it."""

    def poll(self, limit: int, timeout_s: float) -> Batch:
        """Next records in offset order per partition, at most `limit`. Waits up to `timeout_s` if there are none.

        Raises StorageError; the caller then closes this consumer and joins anew, it never polls again.
        """

    def seek(self, partition: Partition, offset: int) -> None:
        """The next poll reads `partition` from `offset` on. Below the log's start: from the start."""

    def pause(self) -> None:
        """Poll no records until `resume`, of the whole assignment and of what is assigned meanwhile. Idempotent.

        Polls wait as if there were no records; they still bring what is revoked and assigned, and keep the membership.
        """

    def resume(self) -> None:
        """Poll on from where each partition stands. Idempotent."""

    def lag(self) -> Mapping[Partition, int]:
        """Offsets from the next record to be read to the end, per partition held, as far as known. Does not wait.

        Compaction leaves holes, so there may be fewer records. A partition of which nothing is known yet is left out.
        """

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Durably store the group's positions, all or none. Idempotent. Raises Fenced if a partition was lost."""

    def close(self) -> None:
        """Leave the group at once. Nothing may be called after it. Idempotent."""


class Log(Protocol):
    """Topics of partitions of records, with Kafka's contract. Thread-safe."""

    def create(self, topics: Mapping[str, int], compacted: frozenset[str] = frozenset()) -> None:
        """Make sure each topic exists with so many partitions. Idempotent; a different count is a ConfigurationError.

        On a compacted topic a reader of the whole topic gets at least the newest record of every key; older records of
        the key may be gone; offsets never change. A tombstone deletes its key.
        """

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        """Append durably and return the offsets. Blocks until stored. Not idempotent.

        Order is kept per partition. Raises StorageError (nothing of the call is then visible, on SQLite and memory),
        ConfigurationError for an unknown topic.
        """

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        """Records from `offset` on, at most `limit`, outside any group; empty at the end. Does not wait."""

    def ends(self, topic: str) -> Mapping[Partition, tuple[int, int]]:
        """First offset still there, and the offset the next record will get, per partition."""

    def committed(self, group: str, topic: str) -> Mapping[Partition, Position]:
        """Committed positions of a group (for lag and for `check`)."""

    def join(self, group: str, topics: Sequence[str]) -> Consumer:
        """Become a member of `group`. Partitions arrive with a later poll, in `Batch.assigned`."""

    def close(self) -> None:
        """Release everything. Idempotent."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One transition of one alert. `id` is the idempotency key: alert id and sequence number within the alert."""

    id: str
    event: str
    """raised | updated | cleared | acknowledged | shelved | unshelved | closed"""
    time: int
    """Event time of the transition, ns."""
    alert: Alert
    """The alert after the transition."""
    actor: str = ""
    note: str = ""
    """Why, in words: a comment, the reason for closing, why an alert cleared."""


class HistorianWriter(Protocol):
    """Where results are stored for people. Every write overwrites by key (measurement, asset, tag, time): replays are
    harmless (guarantee G2). Thread-safe.
    """

    def write(
        self,
        readings: Sequence[Readings] = (),
        scores: Sequence[Scores] = (),
        events: Sequence[AlertEvent] = (),
    ) -> None:
        """Store durably, all or none. Blocks. Idempotent. Raises StorageError and its kin, Unreachable."""

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        """Newest word of one part of the system (`score`, `train`, `plant`…): `time` by the clock given, and figures
        for the System page. Overwrites the part's last one.
        """


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Newest word of one part of the system."""

    part: str
    time: int
    status: Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Newest score row of one asset, for the overview. `score` is NaN where `state` is not ok."""

    asset: str
    time: int
    score: float
    state: str
    coverage: float
    rung: str
    version: str
    faults: Mapping[str, str]
    """Sensor fault name by tag, of tags that have one."""


class HistorianReader(Protocol):
    """What the dashboard, the trainer and `alerts preview` read. Spans are [since, until) in ns. Thread-safe.

    Every verb answers with empty results where nothing is stored. Raises StorageError, Unreachable.
    """

    def span(self, asset: str | None = None) -> tuple[int, int] | None:
        """Oldest and newest reading time stored."""

    def assets(self) -> tuple[str, ...]:
        """Paths of all assets that have stored readings, sorted."""

    def readings(self, asset: str, since: int, until: int) -> Readings:
        """Stored readings, in time order, every tag ever stored of the asset, full resolution."""

    def chart(self, asset: str, tags: Sequence[str], since: int, until: int, points: int) -> Mapping[str, Readings]:
        """Per tag, at most `points` rows keeping the minimum and the maximum of each bucket, so that spikes stay."""

    def scores(self, asset: str, since: int, until: int) -> Sequence[Scores]:
        """Stored scores of one asset in time order, one block per version (and tag list) run."""

    def latest(self) -> Sequence[ScoreSummary]:
        """The newest score row of every asset, sorted by asset."""

    def heat(self, since: int, until: int, bucket: int) -> Mapping[str, Mapping[int, float]]:
        """Highest score per asset and bucket start (bucket in ns); a bucket without a known score is absent."""

    def alerts(self, open_only: bool = False, since: int = 0, limit: int = 1000) -> Sequence[Alert]:
        """Newest state of each alert, newest raised first."""

    def events(self, alert_id: str) -> Sequence[AlertEvent]:
        """History of one alert, oldest first."""

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Newest heartbeat of each part."""


class Historian(HistorianWriter, HistorianReader, Protocol):
    """Both halves; what the adapters implement."""

    def close(self) -> None:
        """Release everything. Idempotent."""


class Notifier(Protocol):
    """A way to tell people. `name` labels metrics."""

    name: str

    def notify(self, event: AlertEvent, text: str) -> None:
        """Deliver once, at most `timeout` long. `event.id` is sent as Idempotency-Key. Raises Unreachable."""


@runtime_checkable
class Reminded(Protocol):
    """A notifier whose receiver forgets what it is not told again and again (Alertmanager)."""

    remind_s: float
    """Tell it so often of all that lasts, seconds."""

    def remind(self, alerts: Sequence[Alert]) -> None:
        """Deliver every alert that lasts, at most `timeout` long. Idempotent. Raises Unreachable."""


class Clock(Protocol):
    """The only source of wall time."""

    def now(self) -> int:
        """Current time, ns since the epoch, UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait; `seconds` of this clock."""
