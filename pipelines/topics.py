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


def partitions(count: int) -> dict[str, int]:
    """Partitions of every topic. Readings, scores and alert state share one count: an asset is at home on one number.

    >>> partitions(4)["plantwatch.readings.v1"]
    4
    """
    shared = dict.fromkeys((READINGS, SCORES, ALERT_STATE), count)
    return shared | dict.fromkeys((ALERTS, COMMANDS, MODELS, DEAD_LETTERS), 1)
