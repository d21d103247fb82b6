"""What must be on the InfluxDB server before plantwatch can use it: organisation, buckets, rollup task.

Everything is found by its name first, so that a second run changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from influxdb_client.domain.bucket import Bucket
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.domain.task_update_request import TaskUpdateRequest
from influxdb_client.rest import ApiException

from anomaly.errors import ConfigurationError
from pipelines.adapters.influx_client import FOREIGN, InfluxClient
from pipelines.adapters.influx_config import BUCKETS, EVENTS, HEARTBEATS, ROLLUP, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_errors import message_of, translated
from pipelines.adapters.influx_names import flux
from pipelines.adapters.influx_result_lines import CHAMPION, SCORE

DAY_S: Final = 86_400
KEEP: Final[Mapping[str, int]] = {
    SAMPLES: 30 * DAY_S,
    SCORES: 90 * DAY_S,
    ROLLUP: 400 * DAY_S,
    EVENTS: 0,
    HEARTBEATS: 0,
}
"""Seconds that each bucket keeps what it holds; 0: for ever."""
SHORTEST_S: Final = 3600
"""InfluxDB refuses to keep anything for less."""
_PAGE: Final = 100

T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """What was done, in sentences; `changed` is False if all was there already."""

    lines: list[str] = field(default_factory=list)
    changed: bool = False

    def did(self, line: str) -> None:
        """Something was made or altered."""
        self.lines.append(line)
        self.changed = True

    def found(self, line: str) -> None:
        """Something was as it must be."""
        self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Server:
    """The management side of one InfluxDB: `client` speaks with a token that may make buckets."""

    config: InfluxConfig
    client: InfluxClient

    def ask(self, doing: str, question: Callable[[], T]) -> T:
        """Do it, errors translated. Raises ConfigurationError, Unreachable, StorageError."""
        try:
            return question()
        except FOREIGN as error:
            raise translated(error, self.config, doing) from error


def ensure_organisation(server: Server, report: Report) -> str:
    """Id of the organisation, made if the token may. Raises ConfigurationError if it is not there and may not be."""
    name = server.config.org
    api = server.client.api("organizations_api")
    organisation = _find_organisation(server, api)
    if organisation is not None:
        report.found(f"organisation {name} is there")
        return str(organisation.id)
    try:
        made = api.create_organization(name=name)
    except ApiException as error:
        if error.status not in (401, 403):
            raise translated(error, server.config, f"make the organisation {name}") from error
        raise ConfigurationError(
            f"organisation {name!r} is not on {server.config.url}, or this token may not see it, and the token may not "
            f"make it ({error.status} {message_of(error)}); expected the operator token, or an all-access token of "
            "that organisation; or name another with influx_org"
        ) from error
    report.did(f"made organisation {name}")
    return str(made.id)


def _find_organisation(server: Server, api: Any) -> Any | None:
    def find() -> Any | None:
        try:
            found = api.find_organizations(org=server.config.org)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return next((one for one in found if one.name == server.config.org), None)

    return server.ask(f"look for the organisation {server.config.org}", find)


def find_buckets(server: Server, org_id: str) -> dict[str, Any]:
    """All buckets of the organisation that the token may see, by name."""
    api = server.client.api("buckets_api")
    found: dict[str, Any] = {}
    while True:
        offset = len(found)
        page = server.ask("list buckets", partial(api.find_buckets, org_id=org_id, limit=_PAGE, offset=offset)).buckets
        found |= {bucket.name: bucket for bucket in page}
        if len(page) < _PAGE or len(found) == offset:
            return found


def ensure_buckets(server: Server, org_id: str, report: Report, keep: Mapping[str, int] = KEEP) -> dict[str, str]:
    """Id of each of our buckets by our name for it: made, or their retention put right."""
    for name, seconds in keep.items():
        if 0 < seconds < SHORTEST_S or seconds < 0:
            raise ConfigurationError(
                f"bucket {name} was to keep {seconds} s; InfluxDB keeps at least {SHORTEST_S} s, or 0: for ever"
            )
    there, ids = find_buckets(server, org_id), {}
    for name in BUCKETS:
        full, seconds = server.config.bucket(name), keep.get(name, KEEP[name])
        bucket = there.get(full)
        ids[name] = _make(server, org_id, full, seconds, report) if bucket is None else str(bucket.id)
        if bucket is not None:
            _keep(server, bucket, seconds, report)
    return ids


def _make(server: Server, org_id: str, full: str, seconds: int, report: Report) -> str:
    request = Bucket(org_id=org_id, name=full, retention_rules=_rules(seconds))  # type: ignore[no-untyped-call]
    api = server.client.api("buckets_api")
    made = server.ask(f"make the bucket {full}", lambda: api.create_bucket(bucket=request))
    report.did(f"made bucket {full}: keeps {told(seconds)}")
    return str(made.id)


def _keep(server: Server, bucket: Any, seconds: int, report: Report) -> None:
    now = sum(rule.every_seconds for rule in bucket.retention_rules or [])
    if now == seconds:
        report.found(f"bucket {bucket.name} is there: keeps {told(seconds)}")
        return
    bucket.retention_rules = _rules(seconds, _shard_s(seconds))
    api = server.client.api("buckets_api")
    server.ask(f"change the retention of {bucket.name}", lambda: api.update_bucket(bucket=bucket))
    report.did(f"bucket {bucket.name} now keeps {told(seconds)}, before {told(now)}")


def _rules(seconds: int, shard_s: int | None = None) -> list[BucketRetentionRules]:
    rule = BucketRetentionRules(type="expire", every_seconds=seconds, shard_group_duration_seconds=shard_s)  # type: ignore[no-untyped-call]
    return [rule]


def _shard_s(seconds: int) -> int:
    """What InfluxDB itself takes for a new bucket; a changed one must be told, and may not keep for less than a shard.

    https://docs.influxdata.com/influxdb/v2/reference/internals/shards/
    """
    if 0 < seconds < 2 * DAY_S:
        return 3600
    return DAY_S if 0 < seconds < 180 * DAY_S else 7 * DAY_S


def told(seconds: int) -> str:
    """How long, in words.

    >>> told(2_592_000), told(0), told(5400)
    ('30 days', 'for ever', '1.5 hours')
    """
    if not seconds:
        return "for ever"
    return f"{seconds / DAY_S:g} days" if seconds >= 2 * DAY_S else f"{seconds / 3600:g} hours"


def rollup_script(config: InfluxConfig) -> str:
    """The task: highest score and number of judged windows of each whole minute, the last ten minutes again each time
    for what came late. A minute written twice is the same.
    """
    target = f"to(bucket: {flux(config.bucket(ROLLUP))}, org: {flux(config.org)})"
    minute = '|> aggregateWindow(every: 1m, fn: {0}, createEmpty: false, timeSrc: "_start")'
    return f"""import "date"

option task = {{name: {flux(config.bucket(ROLLUP))}, every: 1m, offset: 20s}}

until = date.truncate(t: now(), unit: 1m)
known = from(bucket: {flux(config.bucket(SCORES))})
    |> range(start: date.sub(d: 10m, from: until), stop: until)
    |> filter(fn: (r) => r._measurement == "{SCORE}" and r.role == "{CHAMPION}")
    |> filter(fn: (r) => r._field == "score" and r._value >= 0.0)

known {minute.format("max")} |> set(key: "_field", value: "max") |> {target}
known {minute.format("count")} |> toFloat() |> set(key: "_field", value: "count") |> {target}
"""


def ensure_rollup(server: Server, org_id: str, report: Report) -> None:
    """The task that fills the rollup bucket, made or brought up to date."""
    name, script = server.config.bucket(ROLLUP), rollup_script(server.config)
    api = server.client.api("tasks_api")
    tasks: Sequence[Any] = server.ask("list tasks", lambda: api.find_tasks(name=name, org_id=org_id))
    task = next((one for one in tasks if one.name == name), None)
    if task is None:
        request = TaskCreateRequest(org_id=org_id, flux=script, status="active")  # type: ignore[no-untyped-call]
        server.ask(f"make the task {name}", lambda: api.create_task(task_create_request=request))
        report.did(f"made task {name}: highest score and number of scores, each minute")
    elif task.flux.strip() == script.strip() and task.status == "active":
        report.found(f"task {name} is there")
    else:
        change = TaskUpdateRequest(flux=script, status="active")  # type: ignore[no-untyped-call]
        server.ask(f"change the task {name}", lambda: api.update_task_request(task.id, change))
        report.did(f"task {name} is up to date and active again")
