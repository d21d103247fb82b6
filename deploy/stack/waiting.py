"""Waits until the stack works, says what it waits for, and shows the words of what does not come up."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from compose import Compose, Container
from problem import Problem

SERVICES = ("score-cpu", "score-gpu", "record", "alert", "train")
"""Those that answer /readyz."""
_PAUSE_S = 2.0
_ASK = (
    "import urllib.request as u, urllib.error as e\n"
    "try: print(u.urlopen('http://127.0.0.1:9464/readyz', timeout=5).read().decode())\n"
    "except e.HTTPError as answer: print(answer.read().decode())\n"
)
_PASSING = ("lag is growing", "stand by")
"""Reasons for not being ready that are no trouble: history is being read, or there are more workers than partitions."""


def until_healthy(compose: Compose, patience_s: float, say: Callable[[str], None]) -> None:
    """Wait until every one-shot has ended well and every other container is healthy. Raises Problem."""
    until, told = time.monotonic() + patience_s, ""
    while True:
        found = compose.containers()
        broken = [one for one in found if _hopeless(one)]
        if broken:
            raise Problem(f"{broken[0].service} does not come up. Its last words:\n{last_words(broken[0])}")
        missing = sorted({one.service for one in found if not one.done})
        if found and not missing:
            return
        if time.monotonic() > until:
            late = next(one for one in found if not one.done) if found else None
            words = f"\n{late.service}'s last words:\n{last_words(late)}" if late else ""
            raise Problem(f"not healthy within {patience_s:g} s: {', '.join(missing) or 'no container'}{words}")
        text = ", ".join(missing)
        if text != told:
            say(f"waiting for {text}")
            told = text
        time.sleep(_PAUSE_S)


def until_ready(compose: Compose, patience_s: float, say: Callable[[str], None]) -> None:
    """Wait until every service says that it works. Raises Problem with its reasons."""
    until, told = time.monotonic() + patience_s, ""
    while True:
        found = {one.service: reasons(one) for one in compose.containers() if one.service in SERVICES}
        waiting = {name: why for name, why in found.items() if why}
        if not waiting:
            return
        text = "; ".join(f"{name}: {', '.join(why)}" for name, why in waiting.items())
        if time.monotonic() > until:
            raise Problem(f"not ready within {patience_s:g} s: {text}")
        if text != told:
            say(text)
            told = text
        time.sleep(_PAUSE_S)


def reasons(container: Container) -> list[str]:
    """Why a service does not work; empty if it does, or is none that answers."""
    if container.service not in SERVICES:
        return []
    asked = ["docker", "exec", container.id, "python", "-c", _ASK]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        said = json.loads(done.stdout)["reasons"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return ["does not answer yet"]
    return [why for why in said if not any(word in why for word in _PASSING)]


def last_words(container: Container, lines: int = 12) -> str:
    """The end of what it printed."""
    done = subprocess.run(
        ["docker", "logs", "--tail", str(lines), container.id], capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout + done.stderr).strip() or "(none)"


def _hopeless(one: Container) -> bool:
    """It ended with a mistake that only a person mends, or again and again."""
    if one.state in ("exited", "restarting") and one.exit_code == 78:
        return True
    return (one.state in ("exited", "dead") and not one.done and not one.one_shot) or one.restarts >= 5
