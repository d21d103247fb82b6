"""`plantwatch setup-access`: one Kafka user a service, with the rights its work needs. Idempotent.

Passwords are read from files `kafka_<role>_password` of a folder, so that none stands in a command line or a variable.
It asks nothing of the broker but an authorizer and a login that may alter the cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.errors import ConfigurationError
from pipelines.access import ROLES
from pipelines.commands.alert_options import Config
from pipelines.settings import Settings
from pipelines.settings_servers import LEAST_SECRET
from pipelines.wiring_servers import kafka_config

_PATTERN = "kafka_{}_password"


def setup_access(
    passwords: Annotated[
        Path, typer.Option(help="Folder of files kafka_<role>_password, one for each role that is to exist.")
    ] = Path("/run/secrets"),
    config: Config = None,
) -> None:
    """Give each service a Kafka user of its own (SCRAM-SHA-512) and exactly the rights it needs."""
    from pipelines.adapters.kafka_access import grant  # noqa: PLC0415  # not needed for --help

    settings = Settings(config=config)
    granted = grant(kafka_config(settings), read_passwords(passwords), ROLES)
    typer.echo(
        f"{len(granted.users)} users have their passwords: {', '.join(granted.users)}; "
        f"rights added {granted.added}, removed {granted.removed}"
    )


def read_passwords(folder: Path) -> dict[str, str]:
    """The password of each role of which the folder holds one. Raises ConfigurationError: none, unreadable, weak."""
    found: dict[str, str] = {}
    for role in ROLES:
        path = folder / _PATTERN.format(role)
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}); expected a text file this user may read"
            ) from error
        if len(text) < LEAST_SECRET or len(set(text)) < 8:
            raise ConfigurationError(
                f"{path} holds {len(text)} guessable characters; expected {LEAST_SECRET} random ones or more"
            )
        found[role] = text
    if not found:
        raise ConfigurationError(
            f"{folder} holds no password; expected files such as {_PATTERN.format('score')} "
            f"(roles: {', '.join(sorted(ROLES))})"
        )
    doubled = len(found) - len(set(found.values()))
    if doubled:
        raise ConfigurationError("two roles have the same password; expected one of its own for each")
    return found
