"""`plantwatch`: parses, joins, runs. A mistake that we foresee ends in one message and an exit code, no traceback."""

from __future__ import annotations

import sys

import typer

from anomaly.errors import PlantwatchError
from pipelines.commands.alerts import app as alerts
from pipelines.commands.check import check
from pipelines.commands.dashboard import dashboard
from pipelines.commands.demo import demo
from pipelines.commands.models import app as models
from pipelines.commands.run import run
from pipelines.commands.simulate import simulate
from pipelines.commands.train import train

app = typer.Typer(
    name="plantwatch",
    help="Watches the machines of a plant: sensors in, trusted alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (demo, run, dashboard, simulate, train, check):
    app.command()(_command)
app.add_typer(models, name="models")
app.add_typer(alerts, name="alerts")


def main() -> None:
    """Run the command line; PlantwatchError becomes its message on standard error and its exit code."""
    try:
        app()
    except PlantwatchError as error:
        sys.stderr.write(f"plantwatch: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
