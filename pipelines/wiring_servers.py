"""Settings → configurations of the servers' adapters. Part of `wiring`; client libraries are imported when used."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pydantic import SecretStr

from pipelines.settings import Settings

if TYPE_CHECKING:
    from pipelines.adapters.influx_config import InfluxConfig
    from pipelines.adapters.kafka_config import KafkaConfig


def kafka_config(settings: Settings) -> KafkaConfig:
    """Where Kafka is and how we log in. Raises ConfigurationError."""
    from pipelines.adapters.kafka_config import KafkaConfig  # noqa: PLC0415  # not needed without Kafka

    return KafkaConfig(
        servers=settings.kafka_servers,
        security=settings.kafka_security,
        mechanism=settings.kafka_mechanism,
        user=settings.kafka_user,
        password=_text(settings.kafka_password),
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        token_url=settings.kafka_token_url,
        client_id=settings.kafka_client_id,
        client_secret=_text(settings.kafka_client_secret),
        prefix=settings.topic_prefix,
        member=member_of(settings),
        replication=settings.kafka_replication,
    )


def member_of(settings: Settings) -> str:
    """Name of this process in its group: the one given, else the host's."""
    return settings.member or socket.gethostname()


def influx_config(settings: Settings) -> InfluxConfig:
    """Where InfluxDB is and our token. Raises ConfigurationError."""
    from pipelines.adapters.influx_config import InfluxConfig  # noqa: PLC0415  # not needed without InfluxDB

    return InfluxConfig(
        url=str(settings.influx_url or "").rstrip("/"),
        org=settings.influx_org,
        token=_text(settings.influx_token),
        ca_file=settings.influx_ca_file,
        bucket_prefix=settings.influx_bucket_prefix,
    )


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value().strip() if secret else ""
