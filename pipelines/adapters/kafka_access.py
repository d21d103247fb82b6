"""Users and rights on a Kafka cluster: SCRAM-SHA-512 credentials and ACLs, made to be exactly what `access.ROLES` says.

Idempotent. Rights of our users that are not in the table (any more) are taken away; other principals are left alone.
The broker must run an authorizer; without one, ACLs are refused and that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from anomaly.errors import ConfigurationError
from pipelines.access import ALL_TOPICS, Role
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door

ITERATIONS = 8192
"""Of SCRAM: what guessing at a stolen credential costs."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What was done."""

    users: tuple[str, ...]
    added: int
    removed: int


def grant(config: KafkaConfig, passwords: Mapping[str, str], roles: Mapping[str, Role]) -> Granted:
    """Set the password and the rights of each user in `passwords`, as `roles` says under the same name.

    Raises ConfigurationError (no such role, the broker has no authorizer, this login may not change rights),
    Unreachable, StorageError.
    """
    strangers = sorted(set(passwords) - set(roles))
    if strangers:
        raise ConfigurationError(
            f"no role is called {', '.join(strangers)}; expected some of {', '.join(sorted(roles))}"
        )
    with closing(make_admin(config)) as admin:
        _set_passwords(admin, config, passwords)
        wanted = {right for user in passwords for right in _rights(config, user, roles[user])}
        with door("reading the rights", config.where):
            there = {_key(acl) for user in passwords for acl in _stored(admin, user, config)}
        added, removed = wanted - there, there - wanted
        with door("changing the rights", config.where):
            _check(admin.create_acls([_acl(*right) for right in sorted(added)])["failed"] if added else [])
            if removed:
                admin.delete_acls([_acl(*right) for right in sorted(removed)])
    return Granted(tuple(sorted(passwords)), len(added), len(removed))


Right = tuple[str, int, str, int]
"""User, resource type, resource name, operation."""


def _rights(config: KafkaConfig, user: str, role: Role) -> Iterable[Right]:
    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    for name in role.reads:
        yield user, topic, config.topic(name), ACLOperation.READ
    for name in role.writes:
        yield user, topic, config.topic(name), ACLOperation.WRITE
    for name in role.groups:
        yield user, group, config.group(name), ACLOperation.READ
    if role.sees_all:
        for name in ALL_TOPICS:
            yield user, topic, config.topic(name), ACLOperation.DESCRIBE
            yield user, topic, config.topic(name), ACLOperation.DESCRIBE_CONFIGS
        for name in ("score", "record", "alert", "train"):
            yield user, group, config.group(name), ACLOperation.DESCRIBE


def _acl(user: str, kind: int, name: str, operation: int) -> ACL:
    return ACL(
        principal=f"User:{user}",
        host="*",
        operation=ACLOperation(operation),
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType(kind), name, ACLResourcePatternType.LITERAL),
    )


def _key(acl: Any) -> Right:
    pattern = acl.resource_pattern
    return acl.principal.removeprefix("User:"), int(pattern.resource_type), pattern.resource_name, int(acl.operation)


def _stored(admin: Any, user: str, config: KafkaConfig) -> Iterable[Any]:
    """The rights of that user on topics and groups of this prefix."""
    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    acls, _ = admin.describe_acls(ACLFilter(f"User:{user}", None, ACLOperation.ANY, ACLPermissionType.ANY, anything))
    return [acl for acl in acls if str(acl.resource_pattern.resource_name).startswith(config.prefix)]


def _set_passwords(admin: Any, config: KafkaConfig, passwords: Mapping[str, str]) -> None:
    upserts = [
        UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password, iterations=ITERATIONS)
        for user, password in sorted(passwords.items())
    ]
    with door("setting passwords", config.where):
        answers: Mapping[str, Any] = admin.alter_user_scram_credentials(upserts)
    failed = {user: error for user, error in answers.items() if error}
    if failed:
        raise ConfigurationError(
            f"the broker refuses the passwords of {', '.join(sorted(failed))} ({next(iter(failed.values()))}); "
            "expected a login that may alter the cluster"
        )


def _check(failed: Iterable[Any]) -> None:
    """Raises ConfigurationError if the broker took some rights not."""
    for one in failed:
        raise ConfigurationError(
            f"the broker does not take the rights ({one}); expected an authorizer "
            "(authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer) and a login that may "
            "alter the cluster"
        )
