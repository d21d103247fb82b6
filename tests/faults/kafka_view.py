"""The plain Kafka clients of the bench: they use kafka-python directly, past our adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from pipelines import topics
from tests.faults.ledger import Ledger, Stored
from tests.faults.minting import ID_HEADER, Minted

_OURS = "plantwatch."


class KafkaView:
    """A `View` of a real broker. Thread-safe. A broker that is away for a while is waited for."""

    def __init__(self, servers: str, prefix: str) -> None:
        self._servers = servers
        self._prefix = prefix
        self._lock = threading.Lock()
        self._consumers: dict[str, Any] = {}

    def close(self) -> None:
        """Release the connections."""
        with self._lock:
            for consumer in self._consumers.values():
                consumer.close()
            self._consumers.clear()

    def records(self, topic: str) -> list[Stored]:
        """See `View`."""
        with self._lock:
            consumer = self._consumer("")
            ends = self._ends(consumer, topic)
            consumer.assign(list(ends))
            consumer.seek_to_beginning(*ends)
            found: list[Stored] = []
            deadline = time.monotonic() + 120
            while any(consumer.position(p) < end for p, end in ends.items()):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic} could not be read to its end within 120 s")
                for records in consumer.poll(timeout_ms=500, max_records=5000).values():
                    found += [_stored(record) for record in records]
            consumer.assign([])
            return sorted(found, key=lambda record: record[:2])

    def ends(self, topic: str) -> Mapping[int, int]:
        """See `View`."""
        with self._lock:
            return {p.partition: end for p, end in self._ends(self._consumer(""), topic).items()}

    def committed(self, group: str, topic: str) -> Mapping[int, tuple[int, str]]:
        """See `View`."""
        with self._lock:
            consumer = self._consumer(self._prefix + group)
            found = {}
            for partition in self._partitions(consumer, topic):
                at = self._patiently(lambda p=partition: consumer.committed(p, metadata=True, timeout_ms=5000))
                if at is not None:
                    found[partition.partition] = (at.offset, at.metadata or "")
            return found

    def _consumer(self, group: str) -> Any:
        if group not in self._consumers:
            self._consumers[group] = self._patiently(
                lambda: KafkaConsumer(
                    bootstrap_servers=self._servers.split(","),
                    group_id=group or None,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    max_partition_fetch_bytes=4 << 20,
                )
            )
        return self._consumers[group]

    def _partitions(self, consumer: Any, topic: str) -> list[TopicPartition]:
        name = self._prefix + topic.removeprefix(_OURS)
        numbers = self._patiently(lambda: consumer.partitions_for_topic(name)) or set()
        return [TopicPartition(name, number) for number in sorted(numbers)]

    def _ends(self, consumer: Any, topic: str) -> dict[TopicPartition, int]:
        partitions = self._partitions(consumer, topic)
        ends: dict[TopicPartition, int] = self._patiently(lambda: consumer.end_offsets(partitions, timeout_ms=5000))
        return ends

    @staticmethod
    def _patiently(ask: Any) -> Any:
        deadline = time.monotonic() + 90
        while True:
            try:
                return ask()
            except KafkaError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _stored(record: Any) -> Stored:
    return Stored(
        record.partition,
        record.offset,
        record.key,
        record.value,
        dict(record.headers or ()),
        record.timestamp * 1_000_000,
    )


class PlainProducer:
    """What a plant's own gateway would be: acks=all, a record a send, and it remembers what was acknowledged."""

    def __init__(self, servers: str, prefix: str, ledger: Ledger) -> None:
        self._topic = prefix + topics.READINGS.removeprefix(_OURS)
        self._ledger = ledger
        self._producer = KafkaProducer(
            bootstrap_servers=servers.split(","), acks="all", linger_ms=5, delivery_timeout_ms=240_000
        )

    def send(self, minted: Minted) -> None:
        """Send one; returns before it is acknowledged."""
        self._ledger.note_sent(minted)
        headers = [(ID_HEADER, str(minted.id).encode())]
        future = self._producer.send(self._topic, key=minted.key, value=minted.value, headers=headers)
        future.add_callback(lambda meta: self._ledger.note_acknowledged(minted, meta.partition, meta.offset))
        future.add_errback(lambda error: self._ledger.note_failed(minted, str(error)))

    def flush(self) -> None:
        """Wait until everything is acknowledged or given up."""
        self._producer.flush(timeout=240)

    def close(self) -> None:
        """Release the connections."""
        self._producer.close(timeout=10)
