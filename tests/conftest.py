"""Fixtures that all tests may ask for: real servers (`tests/servers`), started, shared and stopped behind one name."""

from __future__ import annotations

from tests.servers.influx import influx, influx_server, own_influx
from tests.servers.kafka import kafka, kafka_server, own_kafka

__all__ = ["influx", "influx_server", "kafka", "kafka_server", "own_influx", "own_kafka"]
