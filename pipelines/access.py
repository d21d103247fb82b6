"""Who may do what on the log: one user a service, each with the rights its work needs and no others.

A worker that is broken into can then harm only what it writes anyway; a sensor gateway can write readings, and read
nothing. The table is enforced by whatever stands behind the log (`adapters/kafka_access.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipelines import topics

ALL_TOPICS: Final = (
    topics.READINGS,
    topics.SCORES,
    topics.ALERTS,
    topics.ALERT_STATE,
    topics.COMMANDS,
    topics.MODELS,
    topics.DEAD_LETTERS,
)


@dataclass(frozen=True, slots=True)
class Role:
    """What one user may do. Every role may see that topics and groups exist, and how far they are, but for `ingest`."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """Consumer groups it may be a member of."""
    sees_all: bool = True
    """Whether it may ask for the ends of every topic and the positions of every group (lags need that)."""


ROLES: Final = {
    "score": Role(
        reads=(topics.READINGS, topics.MODELS, topics.SCORES, topics.DEAD_LETTERS),  # its own outputs, after a crash
        writes=(topics.SCORES, topics.MODELS, topics.DEAD_LETTERS),
        groups=("score",),
    ),
    "record": Role(
        reads=(topics.READINGS, topics.SCORES, topics.ALERTS, topics.MODELS),
        writes=(topics.DEAD_LETTERS,),
        groups=("record",),
    ),
    "alert": Role(
        reads=(topics.SCORES, topics.COMMANDS, topics.ALERT_STATE, topics.ALERTS),
        writes=(topics.ALERT_STATE, topics.ALERTS, topics.DEAD_LETTERS),
        groups=("alert",),
    ),
    "train": Role(
        reads=(topics.COMMANDS, topics.MODELS, topics.READINGS),
        writes=(topics.MODELS, topics.COMMANDS),
        groups=("train",),
    ),
    "dashboard": Role(reads=(topics.COMMANDS, topics.MODELS, topics.DEAD_LETTERS), writes=(topics.COMMANDS,)),
    "operator": Role(reads=ALL_TOPICS, writes=(topics.COMMANDS, topics.READINGS), groups=("dead-letters-replay",)),
    "ingest": Role(writes=(topics.READINGS,), sees_all=False),
}
"""By the user's name. `operator` is for people at a command line, `ingest` for gateways and the plant's producers."""
