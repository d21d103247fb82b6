"""Checks a running stack end to end: readings in → scores → historian → page → alert at a webhook, a worker killed.

Readings are sent for one asset that is no machine, the rig (`smoke/test/rig`, in deploy/demo-plant/plant.toml); a plant
of one's own can be checked in service once its plant file has the rig too. For the minutes of the check, alerts go to a
receiver of our own, unless the stack has a webhook already: then it is looked at what the alert service delivered.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import page
import waiting
from compose import ROOT, Compose, Container, docker, secrets_folder
from problem import Problem

RIG = "smoke/test/rig"
INSIDE = Path(__file__).parent / "inside"
SECOND = 1_000_000_000
ROWS, NORMAL, FAULTY, PACE = 125, 40, 40, 5
"""Rows of one second each, sent so many a second: the worker is killed while they come."""
LATENESS = 2
"""The last rows wait for newer ones."""
PATIENCE_S = 120.0


class Smoke:
    """One check of one stack. Raises Problem at the first thing that is wrong."""

    def __init__(self, compose: Compose, page: str, say: Callable[[str], None]) -> None:
        self._compose = compose
        self._page = page
        self._say = say
        self._name = f"{compose.project}-smoke-receiver"
        self._passed = 0
        self._began = time.monotonic()

    def run(self) -> None:
        """All of it."""
        self._rig_is_known()
        docker("rm", "-f", self._name)  # of a check that was broken off
        waiting.until_healthy(self._compose, PATIENCE_S, self._say)
        waiting.until_ready(self._compose, PATIENCE_S, self._say)
        names = [one.service for one in self._compose.containers() if not one.one_shot]
        self._ok(f"{len(names)} containers are healthy, and every service says that it is ready")
        with self._receiver() as alerts:
            since = self._first_time()
            self._send_and_kill(since)
            self._scores(since)
            self._alert(alerts, since)
        self._ok(page.look(self._page))
        self._say(f"smoke: {self._passed} passed, 0 failed in {time.monotonic() - self._began:.0f} s")

    def _ok(self, text: str) -> None:
        self._passed += 1
        self._say(f"[{time.monotonic() - self._began:5.1f} s] ok    {text}")

    def _rig_is_known(self) -> None:
        path = ROOT / Path(self._compose.environment["PLANTWATCH_PLANT_DIR"]) / "plant.toml"
        assets = tomllib.loads(path.read_text(encoding="utf-8")).get("assets", [])
        if not any(one.get("path") == RIG for one in assets):
            demo = (ROOT / "deploy/demo-plant/plant.toml").read_text(encoding="utf-8")
            block = demo[demo.rindex("[[assets]]") :]
            raise Problem(f"{path} has no {RIG}, of which the check sends readings; add it, then `make up`:\n\n{block}")

    # -------------------------------------------------------------------------------------------------- readings in

    def _first_time(self) -> int:
        """Time of the first row, ns: the last one will not be ahead of the clock, none is behind an earlier run."""
        newest = int(json.loads(self._inside("dashboard", "ask.py", "newest")))
        span = (ROWS - ROWS // PACE) * SECOND
        wait = (newest + 60 * SECOND - (time.time_ns() - span)) / SECOND
        if wait > 0:
            self._say(f"the rig was used a moment ago: waiting {wait:.0f} s")
            time.sleep(wait)
        return (time.time_ns() - span) // SECOND * SECOND

    def _send_and_kill(self, since: int) -> None:
        options = ("--rm", "-T", "--entrypoint", "python", "tools", "-c", _text("send.py"))
        words = [*self._compose.command, "run", *options, *map(str, (since, ROWS, NORMAL, FAULTY, PACE))]
        environment = self._compose.environment | {"COMPOSE_PROFILES": "tools", "COMPOSE_PROGRESS": "quiet"}
        sender = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert sender.stdout is not None
        assert sender.stderr is not None
        sent, home, victim = 0, 0, None
        for line in sender.stdout:
            said = json.loads(line) if line.startswith("{") else {}
            home = int(said.get("partition", home))
            sent += "row" in said
            if sent == NORMAL // 2 and victim is None:
                victim = self._kill(home)
        if sender.wait() or sent != ROWS:
            raise Problem(f"only {sent} of {ROWS} readings were acknowledged: {sender.stderr.read().strip()[-800:]}")
        self._ok(f"{sent} rows of the rig were acknowledged by Kafka")
        assert victim is not None
        self._came_back(victim)

    def _workers(self) -> list[Container]:
        return [one for one in self._compose.containers() if one.service in ("score-cpu", "score-gpu")]

    def _kill(self, home: int) -> Container:
        """Kill -9 of the worker that scores the rig."""
        running = [one for one in self._workers() if one.state == "running"]
        victim = next((one for one in running if home in _partitions(one)), running[0] if running else None)
        if victim is None:
            raise Problem("no score worker runs")
        docker("exec", victim.id, "python", "-c", _text("kill.py"))
        self._say(f"score worker {victim.id[:12]} is killed (kill -9) while readings come; it had partition {home}")
        return victim

    def _came_back(self, victim: Container) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            now = next((one for one in self._workers() if one.id == victim.id), None)
            if now is not None and now.restarts > victim.restarts and now.done and not waiting.reasons(now):
                self._ok(f"the killed worker was started again and works ({len(self._workers())} in all)")
                return
            time.sleep(1)
        raise Problem(f"the killed worker {victim.id[:12]} did not come back within {PATIENCE_S:g} s")

    # ---------------------------------------------------------------------------------------- scores, in the historian

    def _scores(self, since: int) -> None:
        wanted = {since + number * SECOND for number in range(ROWS - LATENESS)}
        until, found = time.monotonic() + PATIENCE_S, set[int]()
        while time.monotonic() < until:
            text = self._inside("dashboard", "ask.py", "scores", str(since), str(since + ROWS * SECOND))
            found = set(json.loads(text))
            if wanted <= found:
                self._ok(f"the historian has a score of each of the {len(wanted)} rows: none is missing")
                return
            time.sleep(1)
        raise Problem(f"of {len(wanted)} rows, {len(wanted - found)} have no score in the historian")

    def _inside(self, service: str, script: str, *words: str) -> str:
        running = self._compose.of(service)
        if not running:
            raise Problem(f"{service} does not run")
        return docker("exec", running[0].id, "python", "-c", _text(script), *words).strip().splitlines()[-1]

    # ------------------------------------------------------------------------------------------------------ the alert

    @contextmanager
    def _receiver(self) -> Iterator[Callable[[], list[Mapping[str, object]]] | None]:
        """While inside, the alert service posts to a receiver of ours; yields what it got. None: there is a webhook."""
        if self._compose.environment.get("PLANTWATCH_WEBHOOK_URL"):
            yield None
            return
        name = self._name
        image = f"plantwatch/service:{self._compose.environment.get('PLANTWATCH_VERSION', 'local')}"
        secrets = secrets_folder(self._compose.environment)
        # Images that compose built say which service they are of; this one is none.
        stranger = ("--label", f"com.docker.compose.project={name}", "--user", "10001:10001")
        hardened = (
            *stranger,
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--memory",
            "128m",
        )
        mount = ("-v", f"{secrets}/webhook_secret:/run/secrets/webhook_secret:ro")
        network = ("--network", f"{self._compose.project}_core", "--network-alias", "smoke-receiver")
        docker(
            "run",
            "-d",
            "--name",
            name,
            *hardened,
            *mount,
            *network,
            "--entrypoint",
            "python",
            image,
            "-c",
            _text("receive.py"),
        )
        try:
            self._alerts_go_to("http://smoke-receiver:9000/")
            yield lambda: [json.loads(line) for line in docker("logs", name).splitlines() if line.startswith("{")]
        finally:
            docker("rm", "-f", name)
            self._alerts_go_to("")

    def _alerts_go_to(self, url: str) -> None:
        environment = dict(self._compose.environment)
        if url:
            environment["PLANTWATCH_WEBHOOK_URL"] = url
        done = subprocess.run(
            [*self._compose.command, "up", "-d", "--no-deps", "alert"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Problem(f"the alert service could not be started anew: {done.stderr.strip()[-800:]}")
        waiting.until_healthy(self._compose, PATIENCE_S, lambda _: None)
        waiting.until_ready(self._compose, PATIENCE_S, lambda _: None)

    def _alert(self, received: Callable[[], list[Mapping[str, object]]] | None, since: int) -> None:
        """The alert of these rows, not one of an earlier check."""
        fresh = datetime.fromtimestamp(since // SECOND, UTC)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if received is None:
                delivered = self._delivered()
                if delivered:
                    self._ok(f"the alert service delivered {delivered:g} messages to the webhook")
                    return
            else:
                mine = [one for one in received() if one["asset"] == RIG and one["event"] == "raised"]
                mine = [one for one in mine if datetime.fromisoformat(str(one["time"])) >= fresh]
                if mine and not mine[0]["signed"]:
                    raise Problem("the webhook's signature is wrong: alert and receiver have different secrets")
                if mine:
                    self._ok(f"the alert came to the webhook, signed: {mine[0]['text']}")
                    return
            time.sleep(1)
        raise Problem(f"no alert of {RIG} came to the webhook within {PATIENCE_S:g} s")

    def _delivered(self) -> float:
        page = _metrics(self._compose.of("alert")[0])
        found = re.findall(r'^plantwatch_notifications_total\{[^}]*channel="webhook"[^}]*\} ([0-9.e+]+)$', page, re.M)
        return sum(map(float, found))


def _partitions(worker: Container) -> set[int]:
    """Partitions of the readings that a worker holds, as its metrics say."""
    lines = [line for line in _metrics(worker).splitlines() if line.startswith("plantwatch_consumer_lag_records{")]
    return {int(found[1]) for one in lines if ".readings." in one and (found := re.search(r'partition="(\d+)"', one))}


def _metrics(service: Container) -> str:
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    return docker("exec", service.id, "python", "-c", code)


def _text(script: str) -> str:
    return (INSIDE / script).read_text(encoding="utf-8")
