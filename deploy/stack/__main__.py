"""The stack of docker-compose.yml in a few words: `python3 deploy/stack WORD`.

    up      make the secrets that are missing, build, start, wait until everything works, say where the page is
    down    stop it (--volumes: and forget everything that it stored)

Needs Docker with Compose (the plugin, or docker-compose 1.29), openssl and Python 3.11; nothing of plantwatch's own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import keys
import waiting
from compose import OWN_PLANT, PROFILES, ROOT, Compose, environment, secrets_folder, sums
from problem import Problem
from smoke import Smoke


def main() -> int:
    """Exit codes: 0 done, 1 it did not come about (the message says why), 2 wrong usage."""
    arguments = _parsed(sys.argv[1:])
    try:
        return int(arguments.act(arguments) or 0)
    except Problem as problem:
        sys.stderr.write(f"plantwatch stack: {problem}\n")
        return 1
    except KeyboardInterrupt:
        return 130


PASSING = ("logs", "discover", "tool")
"""Words that pass what follows them on, options too."""


def _parsed(words: list[str]) -> argparse.Namespace:
    at = next((number for number, word in enumerate(words) if word in PASSING), len(words))
    arguments = parser().parse_args(words[: at + 1])
    arguments.words = words[at + 1 :]
    return arguments


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="deploy/stack", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    top.add_argument(
        "--compose", choices=("v1", "v2"), default="", help="which Compose; without it the plugin if there"
    )
    words = top.add_subparsers(required=True, metavar="WORD")
    start = words.add_parser("up", help="make secrets, build, start, wait")
    start.add_argument("--workers", type=int, default=1, help="score workers (at most as many as partitions)")
    start.add_argument("--profile", action="append", default=[], choices=PROFILES)
    start.add_argument("--no-build", action="store_true", help="take the images that are there")
    start.add_argument("--patience", type=float, default=600.0, help="seconds until it must work")
    start.set_defaults(act=up)
    stop = words.add_parser("down", help="stop everything")
    stop.add_argument("--volumes", action="store_true", help="and forget all that is stored")
    stop.set_defaults(act=down)
    words.add_parser("logs", help="what the services say (of those named)").set_defaults(act=show_logs)
    words.add_parser("status", help="how each container is").set_defaults(act=status)
    words.add_parser("secrets", help="only make the secrets that are missing").set_defaults(act=secrets_only)
    words.add_parser("smoke", help="check the running stack end to end").set_defaults(act=smoke)
    words.add_parser("discover", help="write plant/plant.toml of what is sent and not described yet").set_defaults(
        act=discover
    )
    words.add_parser("tool", help="run one plantwatch command with an operator's rights").set_defaults(act=run_tool)
    return top


def up(given: argparse.Namespace) -> None:
    """Start the stack and wait until it works."""
    variables = environment(given.profile)
    _make_secrets(variables)
    compose = Compose(sums(variables), given.compose)
    plant = variables["PLANTWATCH_PLANT_DIR"]
    say("the simulated plant (there is no plant/plant.toml)" if "demo-plant" in plant else f"the plant of {plant}")
    profiles = variables["COMPOSE_PROFILES"].split(",")
    workers = [] if "gpu" in profiles else ["--scale", f"score-cpu={given.workers}"]
    if "gpu" in profiles:
        workers = ["--scale", f"score-gpu={given.workers}", "--scale", "score-cpu=0"]
    if not given.no_build:
        say("building the images (minutes the first time)")
        compose.run("build", quiet=True)
    if "demo" not in profiles and compose.remove("simulator"):
        say("the simulated plant sends no more")
    compose.run("up", "-d", "--remove-orphans", *workers)
    waiting.until_healthy(compose, given.patience, say)
    waiting.until_ready(compose, given.patience, say)
    say(f"everything works; the dashboard: {address(variables)}")


def address(variables: dict[str, str]) -> str:
    """Where a browser finds the page."""
    if "tls" in variables["COMPOSE_PROFILES"].split(","):
        return f"https://{variables.get('PLANTWATCH_TLS_NAME', 'localhost')}"
    host = variables.get("PLANTWATCH_DASHBOARD_ADDRESS", "127.0.0.1")
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host  # noqa: S104  # compared, not bound
    return f"http://{shown}:{variables.get('PLANTWATCH_DASHBOARD_PORT', '8501')}"


def down(given: argparse.Namespace) -> None:
    """Stop the stack."""
    compose = Compose(environment(PROFILES), given.compose)
    compose.run("down", "--remove-orphans", *(["--volumes"] if given.volumes else []))
    say(
        "stopped; all that was stored is gone" if given.volumes else "stopped; what is stored stays (--volumes forgets)"
    )


def show_logs(given: argparse.Namespace) -> int:
    """Follow the logs of the services named, or of all."""
    return Compose(environment(PROFILES), given.compose).run("logs", "-f", "--tail", "100", *given.words, check=False)


def status(given: argparse.Namespace) -> int:
    """One line a container; exit code 1 if one is not as it should be."""
    compose = Compose(environment(), given.compose)
    found = compose.containers()
    for one in found:
        reasons = "" if one.one_shot or not one.done else "; ".join(waiting.reasons(one))
        sys.stdout.write(f"{one.service:<16} {one.state:<10} {one.health:<10} restarts {one.restarts}  {reasons}\n")
    if not found:
        sys.stdout.write("nothing runs; start it with `make up`\n")
    return 0 if found and all(one.done for one in found) else 1


def smoke(given: argparse.Namespace) -> None:
    """Send readings, kill a worker, and see that scores, page and alert come all the same."""
    variables = environment()
    Smoke(Compose(variables, given.compose), address(variables), say).run()


def secrets_only(_given: argparse.Namespace) -> None:
    """Make what is missing, and check what is there."""
    _make_secrets(environment())


def discover(given: argparse.Namespace) -> int:
    """Look at what is sent; machines that the plant file lacks become plant/plant.toml, or plant/new.toml beside it."""
    variables = environment(("tools",))
    compose = Compose(variables, given.compose)
    say("listening to the readings for half a minute")
    asked = [*compose.command, "run", "--rm", "-T", "tools", "discover", "--new", "--output", "-", *given.words]
    done = subprocess.run(asked, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    folder = ROOT / OWN_PLANT
    own = folder / "plant.toml"
    path = folder / "new.toml" if own.exists() else own
    try:
        folder.mkdir(exist_ok=True)
        path.write_text(done.stdout, encoding="utf-8")
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}") from error
    goes = (
        f"take from it what belongs into {own.name}" if path != own else "look it through: units, ranges, running modes"
    )
    say(f"wrote {path.relative_to(ROOT)}; {goes}; then `make up`")
    return 0


def run_tool(given: argparse.Namespace) -> int:
    """Run `plantwatch WORDS` in a container of its own."""
    variables = environment(("tools",))
    return Compose(variables, given.compose).run("run", "--rm", "tools", *given.words, check=False)


def _make_secrets(variables: dict[str, str]) -> None:
    folder = secrets_folder(variables)
    outside = variables.get("PLANTWATCH_INGEST_HOST", "")
    names = ["kafka", "localhost", "127.0.0.1", *([outside] if outside else [])]
    # Those of profiles too: docker-compose 1.29 asks for the files of every service.
    made = keys.make(folder, list(dict.fromkeys(names)), ["grafana_password"])
    made += keys.make_page(folder, variables.get("PLANTWATCH_TLS_NAME", "localhost"))
    if made:
        say(f"made {len(made)} secrets in {variables.get('PLANTWATCH_SECRETS', 'deploy/secrets')}")


def say(text: str) -> None:
    """One line for people."""
    sys.stderr.write(f"plantwatch: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
