"""Names of the topics, and how many partitions each has when we create them."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "plantwatch."
READINGS: Final = PREFIX + "readings.v1"
SCORES: Final = PREFIX + "scores.v1"
ALERTS: Final = PREFIX + "alerts.v1"
ALERT_STATE: Final = PREFIX + "alert-state.v1"
COMMANDS: Final = PREFIX + "commands.v1"
MODELS: Final = PREFIX + "models.v1"
DEAD_LETTERS: Final = PREFIX + "dead-letters.v1"

COMPACTED: Final = frozenset({ALERTS, ALERT_STATE, MODELS})
"""Topics of which only the newest record of each key must be kept."""

RECORD_BYTES: Final = 2 << 20
"""Largest batch of records, as it is sent, that a topic of ours takes."""
DEAD_LETTER_BYTES: Final = 8 << 20
"""The same of dead letters. What is set aside is written as it was read, with headers that say where it came from, and
unpacked: a record of readings that was sent compressed may be many times as large then. Those who run Kafka for others
often take no more than this."""


def partitions(count: int) -> dict[str, int]:
    """Partitions of every topic. Readings, scores and alert state share one count: an asset is at home on one number.

    >>> partitions(4)["plantwatch.readings.v1"]
    4
    """
    shared = dict.fromkeys((READINGS, SCORES, ALERT_STATE), count)
    return shared | dict.fromkeys((ALERTS, COMMANDS, MODELS, DEAD_LETTERS), 1)


def record_bytes(topic: str) -> int:
    """Largest batch that the topic takes.

    >>> record_bytes("plantwatch.dead-letters.v1") > record_bytes("plantwatch.readings.v1")
    True
    """
    return DEAD_LETTER_BYTES if topic == DEAD_LETTERS else RECORD_BYTES
