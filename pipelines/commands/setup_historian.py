"""`plantwatch setup-historian`: everything InfluxDB must have before plantwatch can use it. Idempotent.

The token of the settings must be one that may make buckets and tokens: the operator token, or an all-access token of
the organisation. It is needed here and nowhere else; every service gets a token of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.errors import ConfigurationError
from pipelines.commands.alert_options import Config
from pipelines.settings import Settings
from pipelines.wiring_servers import influx_config


def setup_historian(
    tokens_dir: Annotated[
        Path | None,
        typer.Option("--tokens-dir", "--tokens", help="Folder for a token of each service: <service>/token."),
    ] = None,
    samples_days: Annotated[int, typer.Option(min=0, help="Readings are kept so many days; 0: for ever.")] = 30,
    scores_days: Annotated[int, typer.Option(min=0, help="Scores.")] = 90,
    rollup_days: Annotated[int, typer.Option(min=0, help="The highest score of each minute.")] = 400,
    config: Config = None,
) -> None:
    """Make organisation, buckets, the rollup task and a token for each service; again and again without harm."""
    settings = Settings(config=config)
    if settings.influx_url is None:
        raise ConfigurationError(
            "influx_url is not given; expected the address of InfluxDB 2 in PLANTWATCH_INFLUX_URL or plantwatch.toml, "
            "and in influx_token or influx_token_file a token that may make buckets (the operator token)"
        )
    from pipelines.adapters.influx_config import ROLLUP, SAMPLES, SCORES  # noqa: PLC0415  # slow to import
    from pipelines.adapters.influx_setup import DAY_S, KEEP  # noqa: PLC0415
    from pipelines.adapters.influx_tokens import setup  # noqa: PLC0415

    days = {SAMPLES: samples_days, SCORES: scores_days, ROLLUP: rollup_days}
    keep = {**KEEP, **{name: count * DAY_S for name, count in days.items()}}
    report = setup(influx_config(settings), keep=keep, tokens=tokens_dir)
    for line in report.lines:
        typer.echo(line)
    if tokens_dir is None:
        typer.echo("no tokens were made; name a folder for them with --tokens-dir")
    typer.echo("the historian is ready" + ("" if report.changed else "; nothing had to be changed"))
