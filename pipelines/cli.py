"""`plantwatch`: parses, joins, runs. A mistake that we foresee ends in one message and an exit code, no traceback.

A command's module is imported when the command is used, not before: most commands then start in a fraction of the time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import sys
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from anomaly.errors import PlantwatchError


class _Command(NamedTuple):
    """Where a command lives: an attribute of a module, a function or a `typer.Typer` with commands below it."""

    module: str
    attribute: str
    help: str


COMMANDS: Final = {
    "demo": _Command("pipelines.commands.demo", "demo", "Watch a simulated plant: history, training, faults, alerts."),
    "run": _Command("pipelines.commands.run", "run", "Score, record, alert and train in one process, on your data."),
    "serve": _Command("pipelines.commands.serve", "app", "One service a process, over Kafka and InfluxDB."),
    "topics": _Command("pipelines.commands.topics", "app", "Make the topics on Kafka, look at them, who may use them."),
    "dashboard": _Command("pipelines.commands.dashboard", "dashboard", "Show the pages over what is stored."),
    "discover": _Command("pipelines.commands.discover", "discover", "Write the plant file from what the plant sends."),
    "check": _Command("pipelines.commands.check", "check", "Is everything there that a start needs?"),
    "alerts": _Command("pipelines.commands.alerts", "app", "What is wrong now, and what people do about it."),
    "train": _Command("pipelines.commands.train", "train", "Learn a new version and make it the challenger."),
    "models": _Command("pipelines.commands.models", "app", "Versions: list, compare, promote, roll back."),
    "dead-letters": _Command("pipelines.commands.dead_letters", "app", "What could not be read: list, send again."),
    "evaluate": _Command("pipelines.commands.evaluate", "evaluate", "Measure detectors on a data set, honestly."),
    "detectability": _Command(
        "pipelines.commands.detectability", "detectability", "How small a fault in each tag would still be caught."
    ),
    "replay": _Command("pipelines.commands.replay", "replay", "Train on the first rows of files, judge the rest."),
    "setup-historian": _Command(
        "pipelines.commands.setup_historian", "setup_historian", "Make InfluxDB's buckets, rollup task and tokens."
    ),
    "setup-access": _Command(
        "pipelines.commands.setup_access", "setup_access", "Give each service a Kafka user of its own, with its rights."
    ),
    "bench": _Command("pipelines.commands.bench", "app", "What a row costs on its way, beside a plain loop."),
    "simulate": _Command("pipelines.commands.simulate", "simulate", "Write a simulated plant's readings and truth."),
}


class _Lazy(TyperGroup):
    """Lists commands by their one-line help, and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """A stand-in that only knows its help."""
        known = COMMANDS.get(cmd_name)
        return None if known is None else TyperCommand(cmd_name, help=known.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command, for the call."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and load(stand_in.name or ""), rest


def load(name: str) -> Any:
    """The command of that name, imported."""
    module, attribute, _ = COMMANDS[name]
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    name="plantwatch",
    cls=_Lazy,
    help="Watches the machines of a plant: sensors in, trusted alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def plantwatch() -> None:
    """Watches the machines of a plant: sensors in, trusted alerts out."""


def main() -> None:
    """Run the command line; PlantwatchError becomes its message on standard error and its exit code."""
    with contextlib.suppress(ValueError, OSError):  # standard error may be no file
        faulthandler.enable()  # a crash below Python says where, in the journal of whoever runs the service
    try:
        app(prog_name="plantwatch")
    except PlantwatchError as error:
        sys.stderr.write(f"plantwatch: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
