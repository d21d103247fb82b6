"""`plantwatch alerts preview`: run a rule over stored scores, and say what it would have raised.

The rule is run by the very code that raises alerts, so a preview is what would have happened, wrong device clocks
aside: what was noticed of them is not kept with the scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress

from anomaly.domain import SECOND, Alert, Scores
from anomaly.episode_policy import Density, EpisodePolicy
from anomaly.errors import ConfigurationError
from pipelines import wiring
from pipelines.alert_json import alert_json
from pipelines.alert_state import AlertPolicy, AssetAlerts
from pipelines.alerting import apply_scores
from pipelines.commands.alert_options import AsJson, Config, DataDir, is_below, newest, stored_plant, timezone_of
from pipelines.ports import HistorianReader
from pipelines.settings import Settings
from pipelines.spans import duration, point
from pipelines.wording import headline, moment, number

_DAY = 86_400 * SECOND
_WEEK = 7 * _DAY
_LONGEST = 400 * _DAY


class Preview(NamedTuple):
    """What a rule would have raised. `watched`: known rows times the tick, ns, over all assets."""

    alerts: tuple[Alert, ...]
    """Each in its last state, in order of raising."""
    rows: int
    watched: int

    @property
    def per_asset_week(self) -> float | None:
        """Alerts per asset and week of watched time; None if nothing was watched."""
        return len(self.alerts) * _WEEK / self.watched if self.watched else None


def preview(
    asset: Annotated[str | None, typer.Option(help="Only this machine, or all below this path.")] = None,
    since: Annotated[str | None, typer.Option(help="From: a time with zone, or so long before the end (7d).")] = None,
    until: Annotated[str | None, typer.Option(help="To: a time with zone, or so long before the newest data.")] = None,
    line: Annotated[float | None, typer.Option(help="Line to raise at; 1.0 is the model's own.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="So many rows over the line raise…")] = None,
    of: Annotated[int | None, typer.Option(min=1, help="…of the last so many.")] = None,
    clear_line: Annotated[float | None, typer.Option(min=0, help="Lower line to clear at.")] = None,
    clear_rows: Annotated[int | None, typer.Option(min=1, help="At most one of so many rows over it clears.")] = None,
    min_duration: Annotated[str | None, typer.Option(help="Shortest trouble worth an alert (90s, 5m).")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Say how many alerts a rule would have raised over stored scores, and which. What is left out is as in force."""
    settings = Settings(config=config, data_dir=data_dir)
    plant, in_force = stored_plant(settings), settings.episode_policy()
    shortest = duration(min_duration, "--min-duration") if min_duration else None
    rule = changed(in_force, line, rows, of, clear_line, clear_rows, shortest)
    historian = wiring.open_historian_reader(settings)
    end = point(until, newest(historian), "--until") if until else newest(historian) + 1
    start = point(since, end) if since else 0
    assets = [summary.asset for summary in historian.latest() if is_below(summary.asset, asset)]
    if not assets:
        raise ConfigurationError(f"no scores are stored{f' for {asset}' if asset else ''} in {settings.data_dir}")
    found, now = (
        run_rule(
            historian, assets, start, end, AlertPolicy(episodes=policy, critical=settings.critical_assets, plant=plant)
        )
        for policy in (rule, in_force)
    )
    if as_json:
        typer.echo(json.dumps(as_dict(found, now, rule), indent=1))
    else:
        typer.echo("\n".join(told(found, now, rule, len(assets), timezone_of(settings, plant))))


def changed(
    policy: EpisodePolicy,
    line: float | None,
    rows: int | None,
    of: int | None,
    clear_line: float | None,
    clear_rows: int | None,
    min_duration: int | None,
) -> EpisodePolicy:
    """The rule with some numbers changed. Raises ConfigurationError if they do not go together."""
    first, clear = policy.raise_when[0], policy.clear_when
    try:
        dense = Density(
            first.rows if rows is None else rows, first.of if of is None else of, first.line if line is None else line
        )
        far = tuple(replace(rule, line=max(rule.line, dense.line)) for rule in policy.raise_when[1:])
        lower = clear.line if clear_line is None else clear_line
        return replace(
            policy,
            raise_when=(dense, *far),
            clear_when=Density(clear.rows, clear.of if clear_rows is None else clear_rows, lower),
            min_duration=policy.min_duration if min_duration is None else min_duration,
        )
    except ValueError as error:
        raise ConfigurationError(f"the rule does not hold together: {error}") from error


def run_rule(historian: HistorianReader, assets: list[str], start: int, end: int, policy: AlertPolicy) -> Preview:
    """Run the rule over the stored scores of these assets, times in [start, end) ns, a day at a time."""
    last: dict[str, Alert] = {}
    known_rows = watched = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for asset in progress.track(assets, description="Running the rule"):
            state = AssetAlerts(asset)
            for offset, scores in enumerate(_blocks(historian, asset, start, end)):
                state, events = apply_scores(state, scores, offset, policy)
                last |= {event.alert.id: event.alert for event in events}
                known_rows += len(scores)
                watched += _length(scores)
    found = sorted(last.values(), key=lambda alert: (alert.raised_at, alert.anomaly.asset))
    return Preview(tuple(found), known_rows, watched)


def _blocks(historian: HistorianReader, asset: str, start: int, end: int) -> Iterator[Scores]:
    stored = historian.span(asset)
    at = max(start, (stored[0] if stored else end - _LONGEST))
    while at < end:
        yield from historian.scores(asset, at, min(end, at + _DAY))
        at += _DAY


def _length(scores: Scores) -> int:
    """Time that the rows cover, ns: their number times the commonest step between them."""
    if len(scores) < 2:
        return 0
    steps = sorted((scores.times[1:] - scores.times[:-1]).tolist())
    return len(scores) * int(steps[len(steps) // 2])


def as_dict(found: Preview, now: Preview, rule: EpisodePolicy) -> dict[str, Any]:
    """What `--json` prints."""
    first, clear = rule.raise_when[0], rule.clear_when
    return {
        "rule": {
            "rows": first.rows,
            "of": first.of,
            "line": first.line,
            "clear_rows": clear.of,
            "clear_line": clear.line,
            "min_duration_s": rule.min_duration / SECOND,
        },
        "rows": found.rows,
        "count": len(found.alerts),
        "per_asset_week": found.per_asset_week,
        "in_force": len(now.alerts),
        "alerts": [alert_json(alert) for alert in found.alerts],
    }


def told(found: Preview, now: Preview, rule: EpisodePolicy, assets: int, timezone: str) -> list[str]:
    """What is printed for people, line by line."""
    first = rule.raise_when[0]
    often = found.per_asset_week
    rate = f", {number(often)} per machine and week" if often is not None else ""
    head = [
        f"Rule: {first.rows} of {first.of} rows over {first.line:g}; clears at {rule.clear_when.line:g}.",
        f"{len(found.alerts)} alerts over {found.rows} rows of {assets} machines{rate}; "
        f"the rule in force would have raised {len(now.alerts)}.",
    ]
    return head + [
        f"{moment(alert.raised_at, timezone)}  {alert.priority:<6}  {headline(alert)}" for alert in found.alerts
    ]
