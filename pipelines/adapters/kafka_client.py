"""Makes kafka-python's clients, with the settings that the guarantees need, and tells why one cannot be made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka

from anomaly.errors import PlantwatchError
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import translated
from pipelines.adapters.kafka_probe import probe, tls_context
from pipelines.adapters.kafka_token import ClientCredentials

CONNECT_S: Final = 10.0
"""How long a new client looks for a broker."""
REQUEST_S: Final = 15.0
FETCH_BYTES: Final = 8 * 2**20
"""One answer of a broker holds at most so many bytes (and at least one record)."""

# Its warnings tell of every lost connection; what matters comes back as an error of ours.
logging.getLogger("kafka").addHandler(logging.NullHandler())


def connection(config: KafkaConfig) -> dict[str, Any]:
    """Where to connect to and how, for every kind of client."""
    known: dict[str, Any] = {
        "bootstrap_servers": list(config.servers),
        "security_protocol": config.security.upper(),
        "client_id": config.member or "plantwatch",
        "bootstrap_timeout_ms": int(CONNECT_S * 1000),
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": 60_000,
    }
    if config.tls:
        known["ssl_context"] = tls_context(config)
    if config.sasl:
        known["sasl_mechanism"] = config.mechanism
    if config.mechanism == "OAUTHBEARER":
        known["sasl_oauth_token_provider"] = ClientCredentials(config)
    elif config.sasl:
        known |= {"sasl_plain_username": config.user, "sasl_plain_password": config.password}
    return known


def make_member(config: KafkaConfig, group: str, assignor: Any, session_s: float, silence_s: float) -> Any:
    """A consumer in `group` (the broker's name). Positions are never guessed: the owner seeks after each assignment."""
    return _made(
        config,
        KafkaConsumer,
        group_id=group,
        group_instance_id=config.member or None,
        partition_assignment_strategy=[assignor],
        session_timeout_ms=int(session_s * 1000),
        heartbeat_interval_ms=1_000,  # a rebalance is noticed by it
        max_poll_interval_ms=int(silence_s * 1000),
        auto_offset_reset="none",
        **_reading(),
    )


def make_reader(config: KafkaConfig) -> Any:
    """A consumer outside groups; its owner asks only for what is there, so the broker need not wait for more."""
    return _made(
        config,
        KafkaConsumer,
        group_id=None,
        auto_offset_reset="earliest",
        **(_reading() | {"fetch_max_wait_ms": 5}),
    )


def make_producer(config: KafkaConfig, delivery_s: float, largest: int, compression: str | None) -> Any:
    """An idempotent producer that is acknowledged by all replicas and gives up on a record after `delivery_s`."""
    return _made(
        config,
        KafkaProducer,
        acks="all",
        enable_idempotence=True,
        compression_type=compression,
        linger_ms=0,
        batch_size=256 * 2**10,
        max_request_size=largest,
        max_block_ms=int(REQUEST_S * 1000),
        delivery_timeout_ms=int(delivery_s * 1000),
        request_timeout_ms=int(min(REQUEST_S, delivery_s) * 1000),
        metrics_enabled=False,
    )


def make_admin(config: KafkaConfig) -> Any:
    """For topics and committed offsets. It is every log's first client: we look at the broker before it does, since a
    wrong password, a wrong certificate and an absent broker are the same long silence to kafka-python.
    """
    probe(config)
    return _made(config, KafkaAdminClient, request_timeout_ms=int(REQUEST_S * 1000))


def _reading() -> dict[str, Any]:
    return {
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "fetch_max_bytes": FETCH_BYTES,
        "max_partition_fetch_bytes": 256 * 2**10,  # a larger record comes alone; no partition fills the queue by itself
        "fetch_max_wait_ms": 250,
        "request_timeout_ms": int(REQUEST_S * 1000),
        # A fetch that was dropped for a pause is not offered again in an incremental session: partitions stall.
        "enable_incremental_fetch_sessions": False,
        "metrics_enabled": False,
    }


def _made(config: KafkaConfig, kind: Callable[..., Any], **settings: Any) -> Any:
    """Raises ConfigurationError or Unreachable, told apart by our own look at the broker."""
    try:
        return kind(**connection(config), **settings)
    except PlantwatchError:
        raise
    except Exception as error:
        if isinstance(error, kafka.RetriableError) or "timeout" in type(error).__name__.lower():
            probe(config)
        raise translated(error, "connecting", config.where) from error
