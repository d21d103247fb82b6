"""`plantwatch dead-letters`: what could not be read, and sending it again once the cause is mended."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from anomaly.errors import ConfigurationError
from pipelines import dead_letters, wiring
from pipelines.commands.alert_options import AsJson, Config, DataDir, stored_plant, timezone_of
from pipelines.dead_letters import DeadLetter
from pipelines.ports import Log
from pipelines.settings import Settings
from pipelines.suggesting import did_you_mean
from pipelines.times import iso
from pipelines.wording import moment, plain

_SHOWN = 72
"""First bytes shown of a message."""
_KEPT = 200
"""First bytes of a message in the JSON."""

app = typer.Typer(help="Messages that could not be read: list them, send them again.", no_args_is_help=True)

ReasonFilter = Annotated[str | None, typer.Option("--reason", help="Only of this reason, as `list` names it.")]


@app.command("list")
def list_letters(
    reason: ReasonFilter = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List what could not be read: when, why, where it came from, its size and how it begins."""
    settings = Settings(config=config, data_dir=data_dir)
    zone = timezone_of(settings, stored_plant(settings))
    counts: dict[str, int] = {}
    kept: deque[DeadLetter] = deque(maxlen=limit)
    with _log(settings) as log:
        for letter in dead_letters.letters(log, reason):
            kept.append(letter)
            counts[letter.reason] = counts.get(letter.reason, 0) + 1
    if as_json:
        typer.echo(json.dumps({"count": sum(counts.values()), "dead_letters": [_json(one) for one in kept]}, indent=1))
        return
    for one in kept:
        typer.echo("\n".join(_lines(one, zone)))
    total = ", ".join(f"{word} {count}" for word, count in counts.items())
    typer.echo(f"{sum(counts.values())} dead letters: {total}" if counts else "No dead letters.")


@app.command()
def replay(
    reason: ReasonFilter = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Send what was set aside again, as it came, to the topic it came from; once. Mend the cause first."""
    settings = Settings(config=config, data_dir=data_dir)
    with _log(settings) as log:
        waiting = dead_letters.reasons(dead_letters.letters(log))
        if reason is not None and reason not in waiting:
            known = ", ".join(waiting) or "none"
            hint = did_you_mean(reason, waiting) if waiting else ""
            typer.echo(f"Nothing to replay for reason {plain(reason)!r}{hint}. Waiting: {known}.")
            return
        wanted = waiting if reason is None else {reason: waiting[reason]}
        words = ", ".join(f"{plain(word)} {count}" for word, count in wanted.items())
        if not wanted:
            typer.echo("Nothing to replay.")
            return
        if not yes:
            typer.confirm(f"Send {sum(wanted.values())} messages again ({words})?", abort=True)
        count = dead_letters.replay(log, reason)
    typer.echo(f"{count} messages sent again ({words}). What is refused again becomes a new dead letter;")
    typer.echo("readings older than what their machine sent since are stored, but count as late: they are not scored.")


@contextmanager
def _log(settings: Settings) -> Iterator[Log]:
    """The log that is there; none is made. Raises ConfigurationError."""
    path = settings.data_dir / wiring.LOG_FILE
    if settings.log == "embedded" and not path.is_file():
        raise ConfigurationError(f"nothing is stored in {settings.data_dir}: expected {path}; name it with --data-dir")
    log = wiring.open_log(settings)
    try:
        yield log
    finally:
        log.close()


def _lines(letter: DeadLetter, zone: str) -> Iterator[str]:
    size = f"{len(letter.value):,} bytes" if letter.value is not None else "empty"
    done = "  too large to send again" if letter.too_large else "  replayed" if letter.replayed else ""
    origin = f"{letter.origin.topic}/{letter.origin.number}@{letter.origin_offset}"
    yield f"{moment(letter.time, zone)}  {plain(letter.reason)}  {origin}  {size}{done}"
    yield f"  {plain(letter.exception)}"
    if letter.value:
        yield f"  begins {_text(letter.value[:_SHOWN])}"


def _text(value: bytes) -> str:
    r"""Bytes as one harmless line.

    >>> _text(b'{"a":\x1b[31m\xff')
    '{"a":[31m\\xff'
    """
    return plain(value.decode("utf-8", "backslashreplace"))


def _json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "offset": letter.offset,
        "time": iso(letter.time),
        "reason": letter.reason,
        "exception": letter.exception,
        "origin": {
            "topic": letter.origin.topic,
            "partition": letter.origin.number,
            "offset": letter.origin_offset,
        },
        "key": None if letter.key is None else letter.key.decode("utf-8", "backslashreplace"),
        "size": None if letter.value is None else len(letter.value),
        "begins_base64": None if letter.value is None else base64.b64encode(letter.value[:_KEPT]).decode(),
        "begins": None if letter.value is None else _text(letter.value[:_KEPT]),
        "replayed": letter.replayed and not letter.too_large,
        "too_large": letter.too_large,
    }
