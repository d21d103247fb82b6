"""How the topics on a broker really are, for `plantwatch check`; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kafka import errors as kafka
from kafka.admin import ConfigResource, ConfigResourceType

from anomaly.errors import ConfigurationError
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door
from pipelines.adapters.kafka_topics import partition_counts

_ASKED = ("message.timestamp.type", "cleanup.policy", "retention.ms", "max.message.bytes")


@dataclass(frozen=True, slots=True)
class Looks:
    """One topic. `settings` is empty where this login may not ask for them."""

    partitions: int
    settings: dict[str, str]


def look(config: KafkaConfig, names: Sequence[str]) -> dict[str, Looks]:
    """Those topics (our names) that are there and that this login may see. Raises ConfigurationError, Unreachable."""
    with closing(make_admin(config)) as admin:
        counts = partition_counts(admin, config, names)
        settings = {name: _settings(admin, config.topic(name), config) for name in counts}
    return {name: Looks(count, settings[name]) for name, count in counts.items()}


def _settings(admin: Any, topic: str, config: KafkaConfig) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(_ASKED))
    try:
        with door(f"looking at the settings of {topic!r}", config.where):
            answer = admin.describe_configs([resource], config_filter="all")
            return {name: str(answer["topic"][topic][name]["value"]) for name in _ASKED}
    except (ConfigurationError, kafka.AuthorizationError, KeyError, TypeError):
        return {}
