"""Docker Compose, v2 or 1.29, with the files, profiles and variables that this stack is run with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from problem import Problem

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("demo", "gpu", "ops", "edge", "tls", "tools")
DEMO_PLANT = "./deploy/demo-plant"
OWN_PLANT = "./plant"


@dataclass(frozen=True)
class Container:
    """One container of the stack, as Docker sees it."""

    id: str
    service: str
    state: str
    """created | running | restarting | exited | …"""
    health: str
    """starting | healthy | unhealthy, empty where nothing is checked."""
    exit_code: int
    restarts: int
    one_shot: bool

    @property
    def done(self) -> bool:
        """Whether it is as it should be in a running stack."""
        if self.one_shot:
            return self.state == "exited" and self.exit_code == 0
        return self.state == "running" and self.health in ("healthy", "")


class Compose:
    """The stack of one project. Raises Problem if there is no Docker, or no Compose."""

    def __init__(self, environment: Mapping[str, str], wanted: str = "") -> None:
        self.environment = dict(environment)
        self.command = _find(wanted or environment.get("PLANTWATCH_COMPOSE", ""))
        self.project = self.environment["COMPOSE_PROJECT_NAME"]

    def run(self, *arguments: str, quiet: bool = False, check: bool = True) -> int:
        """Run a compose command in the foreground. Raises Problem if it fails and `check` is set."""
        output = subprocess.DEVNULL if quiet else None
        done = subprocess.run([*self.command, *arguments], cwd=ROOT, env=self.environment, stdout=output, check=False)
        if check and done.returncode:
            raise Problem(f"{' '.join([*self.command, *arguments])} failed with exit code {done.returncode}; see above")
        return done.returncode

    def containers(self) -> list[Container]:
        """All containers of the project, one-off ones of `run` left out."""
        label = f"label=com.docker.compose.project={self.project}"
        ids = docker("ps", "-aq", "--filter", label).split()
        found = json.loads(docker("inspect", *ids)) if ids else []
        return sorted(
            (_container(one) for one in found if _label(one, "oneoff").lower() != "true"), key=lambda one: one.service
        )

    def remove(self, service: str) -> bool:
        """Stop and remove the containers of a service that is not wanted (any more); whether there were some."""
        ids = [one.id for one in self.containers() if one.service == service]
        for one in ids:
            docker("stop", "-t", "25", one)
            docker("rm", "-f", one)
        return bool(ids)

    def of(self, service: str) -> list[Container]:
        """The running containers of one service."""
        return [one for one in self.containers() if one.service == service and one.state == "running"]


def _label(inspected: Mapping[str, object], name: str) -> str:
    config = inspected["Config"]
    assert isinstance(config, dict)
    return str((config.get("Labels") or {}).get(f"com.docker.compose.{name}", ""))


def _container(inspected: Mapping[str, object]) -> Container:
    state = inspected["State"]
    assert isinstance(state, dict)
    service = _label(inspected, "service")
    return Container(
        str(inspected["Id"]),
        service,
        str(state["Status"]),
        str((state.get("Health") or {}).get("Status", "")),
        int(state.get("ExitCode", 0)),
        int(str(inspected.get("RestartCount", 0))),
        service.endswith("-init"),
    )


def _find(wanted: str) -> list[str]:
    """The compose command: the plugin if it is there, else docker-compose. `wanted`: v1 or v2."""
    if not shutil.which("docker"):
        raise Problem("docker is not installed; install Docker Engine with its compose plugin")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise Problem("no Docker daemon answers; start it (systemctl start docker), or join the group `docker`")
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    if wanted != "v1" and plugin:
        return ["docker", "compose"]
    if wanted != "v2" and shutil.which("docker-compose"):
        return ["docker-compose"]
    raise Problem(f"no Docker Compose{' ' + wanted if wanted else ''}; install the plugin docker-compose-v2")


def docker(*arguments: str, timeout_s: float = 60) -> str:
    """What a docker command prints. Raises Problem."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Problem(f"docker {arguments[0]} did not answer within {timeout_s:g} s") from error
    if done.returncode:
        raise Problem(f"docker {' '.join(arguments[:4])} … failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def dotenv(path: Path) -> dict[str, str]:
    """NAME=VALUE lines of a file, as compose reads them; none if there is no file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def secrets_folder(variables: Mapping[str, str]) -> Path:
    """Where the secrets lie."""
    return (ROOT / variables.get("PLANTWATCH_SECRETS", "./deploy/secrets")).resolve()


def sums(variables: dict[str, str]) -> dict[str, str]:
    """The variables, with what stands for the files that are read at the start: what changes is started anew."""
    plant, secrets = ROOT / variables["PLANTWATCH_PLANT_DIR"], secrets_folder(variables)
    passwords = sorted(secrets.glob("*_password")) if secrets.is_dir() else []
    others = [
        secrets / name for name in ("ca.crt", "influx_operator_token", "webhook_secret", "plantwatch_notify_urls")
    ]
    return variables | {
        "PLANTWATCH_PLANT_SUM": _sum([plant / "plant.toml", plant / "plantwatch.toml"]),
        "PLANTWATCH_SECRETS_SUM": _sum([*passwords, *others]),
        "PLANTWATCH_CERTIFICATE_SUM": _sum([secrets / "kafka.pem"]),
    }


def _sum(paths: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths if path.is_file())).hexdigest()[:16]


def environment(profiles: Sequence[str] = ()) -> dict[str, str]:
    """Variables for compose: .env, what is set already (stronger), and what follows from it.

    Without a plant of one's own (./plant/plant.toml) the simulated one is watched, with the profile demo.
    """
    known = dotenv(ROOT / ".env") | dict(os.environ)
    known.setdefault("COMPOSE_PROJECT_NAME", "plantwatch")
    own = (ROOT / OWN_PLANT / "plant.toml").is_file()
    chosen = [name for name in known.get("COMPOSE_PROFILES", "").split(",") if name]
    if "PLANTWATCH_PLANT_DIR" not in known:
        known["PLANTWATCH_PLANT_DIR"] = OWN_PLANT if own else DEMO_PLANT
    if known["PLANTWATCH_PLANT_DIR"] == DEMO_PLANT:
        chosen.append("demo")
    known["COMPOSE_PROFILES"] = ",".join(dict.fromkeys([*chosen, *profiles]))
    if "COMPOSE_FILE" not in known:
        files = ["docker-compose.yml"]
        files += ["deploy/compose.ingest.yml"] if known.get("PLANTWATCH_INGEST_HOST") else []
        known["COMPOSE_FILE"] = ":".join(files)
    return sums(known)
