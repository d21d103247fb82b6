"""Topics on the broker: how many partitions there are, and making them as they must be.

`plantwatch topics init` uses it so:

    specs = {topics.READINGS: TopicSpec(4, retention_s=7 * 86_400), topics.ALERTS: TopicSpec(1, compacted=True)}
    for change in ensure_topics(config, specs):
        say(change)            # "plantwatch.readings.v1 created with 4 partitions" …; nothing on a second run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from kafka import errors as kafka
from kafka.admin import ConfigResource, ConfigResourceType

from anomaly.errors import ConfigurationError
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door

BROKER_RECORD_BYTES: Final = 1_048_588
"""What a topic takes by default (`message.max.bytes`)."""
_MOST_PARTITIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic must be. `retention_s` None: for ever, unless compacted. `record_bytes`: the largest batch it takes.

    Records bear the time at which the log took them (`LogAppendTime`), never the device's: retention and G6 hang on it.
    """

    partitions: int
    compacted: bool = False
    retention_s: float | None = None
    record_bytes: int | None = None

    def configs(self) -> dict[str, str]:
        """As the broker's topic settings."""
        kept = "-1" if self.retention_s is None else str(int(self.retention_s * 1000))
        settings = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": kept,
            "message.timestamp.type": "LogAppendTime",
        }
        return settings | ({"max.message.bytes": str(self.record_bytes)} if self.record_bytes else {})


def ensure_topics(config: KafkaConfig, specs: Mapping[str, TopicSpec]) -> list[str]:
    """Make sure each topic (our names) exists as its spec says; returns in words what was changed. Idempotent.

    Never changes a number of partitions: assets would change their home. Raises ConfigurationError for another number
    (before anything is changed), for a missing right and for wrong credentials; Unreachable.
    """
    with closing(make_admin(config)) as admin, door("creating topics", config.where):
        return ensure(admin, config, specs)


def ensure(admin: Any, config: KafkaConfig, specs: Mapping[str, TopicSpec]) -> list[str]:
    """As `ensure_topics`, by a client that is open; raises its errors too."""
    counts = partition_counts(admin, config, list(specs))
    for name, spec in specs.items():
        _check_count(config.topic(name), spec.partitions, counts.get(name))
    missing = {name: spec for name, spec in specs.items() if name not in counts}
    there = {name: spec for name, spec in specs.items() if name in counts}
    return _create(admin, config, missing) + _configure(admin, config, there)


def partition_counts(admin: Any, config: KafkaConfig, names: Sequence[str]) -> dict[str, int]:
    """Partitions of those topics (our names) that exist and that we may see. Raises the client's errors."""
    if not names:
        return {}
    ours = {config.topic(name): name for name in names}
    found = {}
    for topic in admin.describe_topics(sorted(ours)):
        if topic["error_code"] == 0:
            found[ours[topic["name"]]] = len(topic["partitions"])
        elif topic["error_code"] != kafka.UnknownTopicOrPartitionError.errno:
            raise kafka.for_code(topic["error_code"])(topic["name"])
    return found


def record_limit(admin: Any, config: KafkaConfig, name: str) -> int:
    """The largest batch of records, in bytes, that a topic takes; the broker's default if we may not ask."""
    resource = ConfigResource(ConfigResourceType.TOPIC, config.topic(name), {"max.message.bytes": None})
    try:
        answer = admin.describe_configs([resource], config_filter="all")
        return int(answer["topic"][config.topic(name)]["max.message.bytes"]["value"])
    except (kafka.AuthorizationError, KeyError, TypeError, ValueError):
        return BROKER_RECORD_BYTES


def _check_count(topic: str, wanted: int, found: int | None) -> None:
    if not 1 <= wanted <= _MOST_PARTITIONS:
        raise ConfigurationError(f"topic {topic!r} was asked for with {wanted} partitions; expected at least 1")
    if found is not None and found != wanted:
        raise ConfigurationError(
            f"topic {topic!r} exists with {found} partitions, not {wanted}: another number would move assets to other "
            "partitions and break their windows; set the number it has, or start anew under another topic_prefix"
        )


def _create(admin: Any, config: KafkaConfig, specs: Mapping[str, TopicSpec]) -> list[str]:
    if not specs:
        return []
    wanted = {
        config.topic(name): {
            "num_partitions": spec.partitions,
            "replication_factor": config.replication,
            "configs": spec.configs(),
        }
        for name, spec in specs.items()
    }
    try:
        admin.create_topics(wanted)
    except kafka.TopicAlreadyExistsError:  # another process was faster
        counts = partition_counts(admin, config, list(specs))
        for name, spec in specs.items():
            _check_count(config.topic(name), spec.partitions, counts.get(name))
        left = {name: spec for name, spec in specs.items() if name not in counts}
        return _create(admin, config, left) if len(left) < len(specs) else []
    admin.wait_for_topics(sorted(wanted))
    return [f"{topic} created with {wish['num_partitions']} partitions" for topic, wish in wanted.items()]


def _configure(admin: Any, config: KafkaConfig, specs: Mapping[str, TopicSpec]) -> list[str]:
    """Settings of topics that were there already."""
    if not specs:
        return []
    wanted = {config.topic(name): spec.configs() for name, spec in specs.items()}
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(keys)) for topic, keys in wanted.items()]
    found = admin.describe_configs(asked, config_filter="all")["topic"]
    changes = {
        topic: {key: value for key, value in keys.items() if found[topic].get(key, {}).get("value") != value}
        for topic, keys in wanted.items()
    }
    changes = {topic: keys for topic, keys in changes.items() if keys}
    if changes:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, t, keys) for t, keys in changes.items()])
    return [f"{topic} set to {', '.join(f'{k}={v}' for k, v in keys.items())}" for topic, keys in changes.items()]
