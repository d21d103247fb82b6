"""`plantwatch alerts`: what is wrong now, acts on alerts, and what another rule would have raised.

Reading goes to the historian; acts are appended to the commands topic, where the running alert service takes them up.
"""

from __future__ import annotations

import getpass
import json
import uuid
from typing import Annotated

import typer
from rich.cells import set_cell_size

from anomaly.domain import SECOND, Alert, AlertState
from anomaly.errors import ConfigurationError, DataError
from pipelines import topics, wiring
from pipelines.adapters.system_clock import SystemClock
from pipelines.alert_json import alert_json
from pipelines.codec import Command, CommandKind, encode_command
from pipelines.commands.alert_options import AsJson, Config, DataDir, is_below, newest, stored_plant, timezone_of
from pipelines.commands.alerts_preview import preview
from pipelines.ports import HistorianReader, NewRecord
from pipelines.settings import Settings
from pipelines.spans import duration, point
from pipelines.wording import headline, moment, plain

app = typer.Typer(help="What is wrong now, and what people do about it.", no_args_is_help=True)
app.command()(preview)

Which = Annotated[str, typer.Argument(metavar="ALERT", help="Id of the alert, or its first characters.")]
Actor = Annotated[str | None, typer.Option(help="Who you are; without it your login name.")]
Note = Annotated[str, typer.Option(help="A remark, kept with the alert.")]

SHORTEST_ID = 4
CODES = ("true", "false", "known", "instrument", "process_change", "maintenance")
"""Reason codes for closing; they feed calibration and evaluation."""


@app.command("list")
def list_alerts(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    asset: Annotated[str | None, typer.Option(help="Only of this machine, or of all below this path.")] = None,
    since: Annotated[str | None, typer.Option(help="Raised since: a time with zone, or so long ago (12h, 7d).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 100,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List alerts, newest first."""
    settings = Settings(config=config, data_dir=data_dir)
    historian = wiring.open_historian_reader(settings)
    start = point(since, newest(historian)) if since else 0
    found = [a for a in historian.alerts(not everything, start, 100_000) if is_below(a.anomaly.asset, asset)][:limit]
    if as_json:
        typer.echo(json.dumps({"alerts": [alert_json(alert) for alert in found]}, indent=1))
        return
    zone = timezone_of(settings, stored_plant(settings))
    if not found:
        typer.echo("No alerts." if everything else "No open alerts.")
    for alert in found:
        typer.echo(alert_line(alert, zone))


@app.command()
def ack(which: Which, actor: Actor = None, note: Note = "", data_dir: DataDir = None, config: Config = None) -> None:
    """Acknowledge: say that you have seen it."""
    _send(CommandKind.ACKNOWLEDGE, which, actor, note, {}, Settings(config=config, data_dir=data_dir))


@app.command()
def shelve(
    which: Which,
    for_: Annotated[str, typer.Option("--for", help="How long nobody is to be told: 30m, 2h, 3d.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the alert.")],
    actor: Actor = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Tell nobody of this trouble for a while. It goes on being watched."""
    if not reason.strip():
        raise ConfigurationError("--reason is empty; expected why nobody is to be told")
    minutes = f"{duration(for_, '--for') / (60 * SECOND):g}"
    settings = Settings(config=config, data_dir=data_dir)
    _send(CommandKind.SHELVE, which, actor, reason, {"minutes": minutes}, settings)


@app.command()
def unshelve(
    which: Which, actor: Actor = None, note: Note = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Tell people again."""
    _send(CommandKind.UNSHELVE, which, actor, note, {}, Settings(config=config, data_dir=data_dir))


@app.command()
def close(
    which: Which,
    code: Annotated[str, typer.Option(help=f"What it was: {', '.join(CODES)}.")],
    actor: Actor = None,
    note: Note = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Close with a reason code. The cause must clear before it can raise again."""
    if code not in CODES:
        raise ConfigurationError(f"--code {code!r}: expected one of {', '.join(CODES)}")
    _send(CommandKind.CLOSE, which, actor, note, {"reason": code}, Settings(config=config, data_dir=data_dir))


@app.command()
def comment(which: Which, note: Note, actor: Actor = None, data_dir: DataDir = None, config: Config = None) -> None:
    """Add a remark."""
    if not note.strip():
        raise ConfigurationError("--note is empty; expected a remark")
    _send(CommandKind.COMMENT, which, actor, note, {}, Settings(config=config, data_dir=data_dir))


def _send(
    kind: CommandKind, which: str, actor: str | None, note: str, arguments: dict[str, str], settings: Settings
) -> None:
    """Put the command on the log, keyed by asset. Raises DataError for an alert that is not open, StorageError."""
    alert = find(wiring.open_historian_reader(settings), which)
    name = (actor or _login()).strip()
    if not name:
        raise ConfigurationError("--actor is empty; expected who you are, as the log keeps who did what")
    command = Command(
        id=uuid.uuid4().hex,
        kind=kind,
        target=alert.id,
        asset=alert.anomaly.asset,
        actor=name,
        role="operator",
        time=SystemClock().now(),
        note=note.strip(),
        arguments=arguments,
    )
    log = wiring.open_log(settings)
    try:
        log.append([NewRecord(topics.COMMANDS, command.asset.encode(), encode_command(command))])
    finally:
        log.close()
    typer.echo(f"Asked to {kind} {alert.id} as {name}; done as soon as the alert service runs.  {headline(alert)}")


def find(historian: HistorianReader, which: str) -> Alert:
    """The open alert of that id or beginning of one. Raises DataError with what is there instead."""
    open_now = historian.alerts(True)
    exact = [alert for alert in open_now if alert.id == which]
    found = exact or [a for a in open_now if len(which) >= SHORTEST_ID and a.id.startswith(which)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{which!r} fits {len(found)} alerts: {', '.join(a.id for a in found)}; give more characters")
    if any(alert.id == which for alert in historian.alerts(False, 0, 100_000)):
        raise DataError(f"alert {which} is closed already")
    there = f"open now: {', '.join(a.id for a in open_now[:5])}" if open_now else "no alert is open"
    raise DataError(f"no open alert {plain(which)!r}; {there}; `plantwatch alerts list` shows them all")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ConfigurationError("your login name is not known here; say who you are with --actor NAME") from None


def alert_line(alert: Alert, timezone: str) -> str:
    """One alert in one line; the first word is the id."""
    state = str(alert.state).replace("_", " ")
    if alert.state is AlertState.ACKNOWLEDGED_ACTIVE:
        state = f"acknowledged by {plain(alert.acknowledged_by)}"
    since = moment(alert.anomaly.onset, timezone)
    return f"{alert.id}  {alert.priority:<6}  {set_cell_size(state, 23)}  {since}  {headline(alert)}"
