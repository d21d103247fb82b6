"""Fixtures that all tests may ask for: real servers (`tests/servers`), started, shared and stopped behind one name."""

from __future__ import annotations

from hypothesis import settings

from tests.servers.influx import influx, influx_server, own_influx
from tests.servers.kafka import kafka, kafka_server, own_kafka

__all__ = ["influx", "influx_server", "kafka", "kafka_server", "own_influx", "own_kafka"]

# A deadline is wall-clock time: on a busy machine it fails what is right.
settings.register_profile("plantwatch", deadline=None)
settings.load_profile("plantwatch")
