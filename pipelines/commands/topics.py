"""`plantwatch topics`: make the topics on Kafka as they must be, look at them, and say which rights a service needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from anomaly.errors import ConfigurationError
from pipelines import topics, wiring
from pipelines.access import ALL_TOPICS, ROLES, Role
from pipelines.ports import Log
from pipelines.settings import Settings
from pipelines.wiring_servers import kafka_config

_HOUR_S: Final = 3600.0

app = typer.Typer(help="Topics on Kafka: make them, look at them, who may use them.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")]
Partitions = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Partitions of readings, scores, alert state: most workers ever.")
]


@app.command()
def init(partitions: Partitions = None, config: Config = None) -> None:
    """Make every topic, with its retention, compaction, record size and the broker's clock; repeat it without harm.

    A topic that has another number of partitions is refused: assets would move, and their windows break.
    """
    settings = Settings(config=config, partitions=partitions)
    if settings.log != "kafka":
        wiring.data_file(settings, "")
        wiring.open_log(settings).close()
        typer.echo(f"log is {settings.log!r}: its topics are in {settings.data_dir / wiring.LOG_FILE}")
        return
    from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics  # noqa: PLC0415  # not needed without Kafka

    passing = (topics.READINGS, topics.SCORES, topics.DEAD_LETTERS)
    specs = {
        name: TopicSpec(
            count,
            compacted=name in topics.COMPACTED,
            retention_s=settings.log_retention_hours * _HOUR_S if name in passing else None,
            record_bytes=topics.record_bytes(name),
        )
        for name, count in topics.partitions(settings.partitions).items()
    }
    changes = ensure_topics(kafka_config(settings), specs)
    for change in changes:
        typer.echo(change)
    where = ", ".join(settings.kafka_servers)
    typer.echo(f"{len(specs)} topics are as they must be on {where}; {len(changes) or 'nothing'} changed")


@app.command("list")
def list_topics(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """List the topics: partitions, first and next offset, records."""
    settings = Settings(config=config)
    log = wiring.open_log(settings)
    found: dict[str, dict[str, int | str]] = {}
    try:
        for name in ALL_TOPICS:
            found[name] = _figures(log, name)
    finally:
        log.close()
    if as_json:
        typer.echo(json.dumps({"topics": found}, indent=1))
        return
    for name, row in found.items():
        shown = settings.topic_prefix + name.removeprefix(topics.PREFIX)
        if "missing" in row:
            typer.echo(f"{shown:<32} MISSING: {row['missing']}")
        else:
            keeps = "  compacted" if name in topics.COMPACTED else ""
            typer.echo(f"{shown:<32} {row['partitions']:>4} partitions {row['offsets']:>14,} offsets{keeps}")
    if any("missing" in row for row in found.values()):
        raise typer.Exit(ConfigurationError.exit_code)


def _figures(log: Log, name: str) -> dict[str, int | str]:
    try:
        ends = log.ends(name)
    except ConfigurationError as error:
        return {"missing": str(error)}
    return {"partitions": len(ends), "offsets": sum(end - first for first, end in ends.values())}


@app.command()
def acls(
    role: Annotated[str | None, typer.Argument(help=f"One of {', '.join(ROLES)}; without it all.")] = None,
    user: Annotated[str, typer.Option(help="Name of the Kafka user; {role} stands for the role.")] = "{role}",
    config: Config = None,
) -> None:
    """Print the kafka-acls commands that give each service its rights and no others. Changes nothing.

    `plantwatch setup-access` does the same by itself, where it may.
    """
    if role is not None and role not in ROLES:
        raise ConfigurationError(f"no role {role!r}; expected one of {', '.join(ROLES)}")
    settings = Settings(config=config)
    servers = ",".join(settings.kafka_servers) or "BROKER:9092"
    for name in [role] if role else list(ROLES):
        typer.echo(f"# {name}")
        for rights in commands(ROLES[name], settings.topic_prefix):
            principal = "User:" + user.replace("{role}", name)
            typer.echo(
                f"kafka-acls.sh --bootstrap-server {servers} --command-config admin.properties --add "
                f"--allow-principal {principal} {rights}"
            )


def commands(role: Role, prefix: str) -> Iterator[str]:
    """Options of one kafka-acls call each."""

    def named(names: tuple[str, ...]) -> str:
        return " ".join(f"--topic {prefix}{name.removeprefix(topics.PREFIX)}" for name in names)

    if role.reads:
        yield f"--operation Read {named(role.reads)}"
    if role.writes:
        yield f"--operation Write {named(role.writes)}"
    for group in role.groups:
        yield f"--operation Read --group {prefix}{group}"
    if role.sees_all:
        yield f"--operation Describe --operation DescribeConfigs {named(ALL_TOPICS)}"
        yield "--operation Describe " + " ".join(f"--group {prefix}{name}" for name in _SERVICES)


_SERVICES: Final = ("score", "record", "alert", "train")
