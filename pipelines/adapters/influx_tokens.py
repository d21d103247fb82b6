"""One token a service, with the rights its work needs and no others, each in a file of mode 0600.

InfluxDB 2.9 keeps only hashes of tokens: one that is lost cannot be read back, so a new one is made in its place and
the old one is withdrawn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource

from anomaly.errors import ConfigurationError
from pipelines.adapters.influx_client import InfluxClient
from pipelines.adapters.influx_config import BUCKETS, EVENTS, HEARTBEATS, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_setup import (
    KEEP,
    Report,
    Server,
    ensure_buckets,
    ensure_organisation,
    ensure_rollup,
)

FILE: Final = "token"
"""Name of the file in each service's folder: each can be given its own folder, and sees no other's."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Which buckets, by our names for them, a service may read and write."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def permissions(self, buckets: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """As (action, bucket id)."""
        named = [("read", name) for name in self.read] + [("write", name) for name in self.write]
        return frozenset((action, buckets[name]) for action, name in named)


SERVICES: Final[Mapping[str, Rights]] = {
    "record": Rights(read=(SAMPLES,), write=(SAMPLES, SCORES, EVENTS, HEARTBEATS)),
    "dashboard": Rights(read=BUCKETS),
    "train": Rights(read=(SAMPLES, SCORES, EVENTS, HEARTBEATS), write=(HEARTBEATS,)),
    "score": Rights(write=(HEARTBEATS,)),
    "alert": Rights(write=(HEARTBEATS,)),
}
"""`record` reads samples for one purpose: to notice that the historian was emptied, and build it anew from the log."""


def setup(config: InfluxConfig, *, keep: Mapping[str, int] = KEEP, tokens: Path | None = None) -> Report:
    """Make all that is not there yet; a second time nothing is changed. `config.token` must be one that may make
    buckets and tokens. Raises ConfigurationError, Unreachable, StorageError; what was made until then stays.
    """
    client = InfluxClient(config)
    server, report = Server(config, client), Report()
    try:
        org_id = ensure_organisation(server, report)
        buckets = ensure_buckets(server, org_id, report, keep)
        ensure_rollup(server, org_id, report)
        if tokens is not None:
            ensure_tokens(server, org_id, buckets, tokens, report)
    finally:
        client.close()
    return report


def ensure_tokens(server: Server, org_id: str, buckets: Mapping[str, str], folder: Path, report: Report) -> None:
    """A working token of each service in `folder`/<service>/token. Raises ConfigurationError: folder not writable."""
    api = server.client.api("authorizations_api")
    there: Sequence[Any] = server.ask("list tokens", partial(api.find_authorizations, org_id=org_id))
    for service, rights in SERVICES.items():
        path, title = folder / service / FILE, f"plantwatch {service} ({server.config.bucket('*')})"
        mine = [one for one in there if one.description == title]
        wanted = rights.permissions(buckets)
        why = _wrong(server.config, path, mine, wanted, {buckets[name] for name in rights.read})
        if not why:
            report.found(f"token of {service} is there: {path}")
            continue
        request = _authorization(org_id, title, wanted)
        made = server.ask(f"make the token of {service}", partial(api.create_authorization, authorization=request))
        _write(path, made.token)
        for old in mine:
            server.ask(f"withdraw an old token of {service}", partial(api.delete_authorization, old))
        hint = f"; restart {service}" if mine else ""
        report.did(f"made a token for {service}: {path} ({why}{hint})")


def _wrong(
    config: InfluxConfig,
    path: Path,
    mine: Sequence[Any],
    wanted: frozenset[tuple[str, str]],
    readable: set[str],
) -> str:
    """Why the token in the file will not do; empty if it will."""
    if not mine:
        return "there was none"
    if any(_granted(one) != wanted for one in mine) or len(mine) > 1:
        return "the old one had other rights"
    if any(one.status != "active" for one in mine):
        return "the old one was not active"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "its file is not there; InfluxDB keeps only a hash, so the old one cannot be read back"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); expected a file this user may read") from error
    if not token or not _opens(config, token, readable):
        return "the one in the file is not the one InfluxDB knows; that cannot be read back"
    return ""


def _opens(config: InfluxConfig, token: str, readable: set[str]) -> bool:
    """Whether the server takes this token, and shows it just the buckets that it may read."""
    try:
        client = InfluxClient(InfluxConfig(config.url, config.org, token, config.ca_file, timeout_s=config.timeout_s))
    except ConfigurationError:
        return False
    try:
        server = Server(config, client)
        seen = server.ask("try a token", partial(client.api("buckets_api").find_buckets, limit=100)).buckets
    except ConfigurationError:
        return False
    finally:
        client.close()
    return {str(bucket.id) for bucket in seen if not bucket.name.startswith("_")} == readable


def _granted(authorization: Any) -> frozenset[tuple[str, str]]:
    found = authorization.permissions or []
    return frozenset((permission.action, str(permission.resource.id)) for permission in found)


def _authorization(org_id: str, title: str, wanted: frozenset[tuple[str, str]]) -> Any:
    permissions = [
        Permission(action=action, resource=PermissionResource(type="buckets", id=bucket, org_id=org_id))  # type: ignore[no-untyped-call]  # generated code
        for action, bucket in sorted(wanted)
    ]
    request: Any = Authorization(org_id=org_id, permissions=permissions)  # type: ignore[no-untyped-call]  # generated code
    request.description = title
    return request


def _write(path: Path, token: str) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(token + "\n")
        new.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); expected a folder that this user may write; name another "
            "with --tokens-dir, then run this again: the token just made is withdrawn and made anew"
        ) from error
