"""Errors of kafka-python, translated: what came, what was expected, how to mend it. Nothing else passes the door."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kafka import errors as kafka

from anomaly.errors import ConfigurationError, Fenced, PlantwatchError, StorageError, Unreachable

FENCING: Final = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.UnknownMemberIdError,
)
"""The group went on without this member."""
TOO_LARGE: Final = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_ABSENT: Final = (
    kafka.KafkaConnectionError,
    kafka.KafkaTimeoutError,
    kafka.NodeNotReadyError,
    kafka.BrokerNotAvailableError,
    kafka.CoordinatorNotAvailableError,
    kafka.CoordinatorLoadInProgressError,
    kafka.NetworkExceptionError,
    kafka.RequestTimedOutError,
    kafka.MetadataEmptyBrokerList,
)
_SAID: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[PlantwatchError], str], ...]] = (
    (
        kafka.SaslAuthenticationFailedError,
        ConfigurationError,
        "the broker refuses this user or password; correct kafka_user and kafka_password",
    ),
    (
        (kafka.UnsupportedSaslMechanismError, kafka.IllegalSaslStateError),
        ConfigurationError,
        "the broker does not offer this way of logging in; correct kafka_mechanism and kafka_security",
    ),
    (
        kafka.GroupAuthorizationFailedError,
        ConfigurationError,
        "this user must not use the consumer group; grant it READ on the group (prefixed ACL on the topic prefix)",
    ),
    (
        kafka.AuthorizationError,
        ConfigurationError,
        "this user lacks the right, or there is no such topic (Kafka does not say which); correct topic_prefix, or "
        "give the user its rights: `plantwatch setup-access` does, `plantwatch topics acls` prints them",
    ),
    (
        (kafka.UnknownTopicOrPartitionError, kafka.UnknownTopicIdError, kafka.InvalidTopicError),
        ConfigurationError,
        "the broker has no such topic or partition; create the topics with `plantwatch topics init`",
    ),
    (
        TOO_LARGE,
        ConfigurationError,
        "a record is larger than its topic takes; send smaller blocks, or raise the topic's max.message.bytes",
    ),
    (
        kafka.InvalidTimestampError,
        StorageError,
        "the broker refuses a record's time; set this machine's clock, or message.timestamp.type=LogAppendTime "
        "on the topic (`plantwatch topics init` does)",
    ),
    (
        kafka.InvalidRecordError,
        ConfigurationError,
        "the broker refuses a record; a compacted topic takes none without a key: give a key",
    ),
    (
        kafka.FencedInstanceIdError,
        ConfigurationError,
        "another process joined the group under the same member name; give each process a `member` of its own",
    ),
    (
        (kafka.InvalidReplicationFactorError, kafka.NotEnoughReplicasError, kafka.NotEnoughReplicasAfterAppendError),
        StorageError,
        "fewer brokers are up than copies are wanted; start the others, or lower kafka_replication",
    ),
    (
        kafka.OffsetOutOfRangeError,
        StorageError,
        "the records are no longer in the log (retention was faster than this reader, or the topic was made anew); "
        "going on from where the log begins",
    ),
    (
        kafka.LogTruncationError,
        StorageError,
        "records that were read are no longer in the log (the topic was made anew, or a broker lost its newest ones); "
        "going on from what is committed",
    ),
    (
        (kafka.CorruptRecordError, kafka.KafkaStorageError),
        StorageError,
        "the broker's log is damaged; look at the broker's own log and disk",
    ),
    (FENCING, Fenced, "another member has taken over; nothing was committed; drop the state and poll on"),
    (kafka.KafkaConfigurationError, ConfigurationError, "correct the kafka_… settings"),
)


def translated(error: Exception, doing: str, where: str) -> PlantwatchError:
    """Our error for one of kafka-python's (or of the network below it)."""
    if isinstance(error, PlantwatchError):
        return error
    for kinds, ours, mend in _SAID:
        if isinstance(error, kinds):
            return ours(f"{doing}: Kafka at {where} says {_words(error)}: {mend}")
    if "AuthorizationFailed" in str(error):  # what an idempotent producer says, in a plain KafkaError
        return ConfigurationError(
            f"{doing}: Kafka at {where} says {_words(error)}: this user lacks the right to append; grant it WRITE and "
            "DESCRIBE on the topic (prefixed ACL on the topic prefix)"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return ConfigurationError(
            f"{doing}: no TLS with Kafka at {where} ({error}); correct kafka_ca_file, the broker's certificate, or "
            "kafka_security"
        )
    if isinstance(error, (*_ABSENT, OSError)) or getattr(error, "retriable", False):
        return Unreachable(
            f"{doing}: Kafka at {where} does not answer ({_words(error)}); start the broker, or correct kafka_servers"
        )
    return StorageError(f"{doing}: Kafka at {where} failed with {_words(error)}; trying anew")


@contextmanager
def door(doing: str, where: str, failed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Whatever the client library raises inside comes out as one of ours; `failed` is called first."""
    try:
        yield
    except PlantwatchError:
        failed()
        raise
    except Exception as error:
        failed()
        raise translated(error, doing, where) from error


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (text if text.startswith(name) else f"{name}: {text}")[:300]
