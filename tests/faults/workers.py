"""The real services as processes, `plantwatch serve …`, to be killed, frozen and asked to stop."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SAMPLE = re.compile(r'^plantwatch_messages_consumed_total\{[^}]*topic="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
START_S = 90.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Worker:
    """One member of one service, over all its lives. `settings`: PLANTWATCH_… variables without the prefix."""

    name: str
    service: str
    settings: Mapping[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    consumed: Counter[str] = field(default_factory=Counter)
    """Records taken from each topic in earlier lives, as far as they were told before each end."""
    ended: list[int] = field(default_factory=list)
    """Exit codes of lives that ended by themselves."""
    _seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is frozen)."""
        return self.process is not None and self.process.poll() is None

    def start(self, *options: str, **settings: str) -> None:
        """Begin a life; returns at once."""
        prefixed = {f"PLANTWATCH_{name}": value for name, value in {**self.settings, **settings}.items()}
        command = [sys.executable, "-m", "pipelines", "serve", self.service]
        command += ["--member", self.name, "--metrics-port", str(self.port), *options]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLANTWATCH_")}
        environment = {**kept, **prefixed, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with self._lock, self.log.open("ab") as said:
            if self.alive:
                raise RuntimeError(f"{self.name} runs already: two processes of one name would fence each other")
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def kill(self) -> bool:
        """SIGKILL; whether it was still alive. Frozen or not."""
        self.note_consumed()
        with self._lock:
            self._end_of_life()
            return self._end(signal.SIGKILL, 10.0) == -signal.SIGKILL

    def terminate(self, patience_s: float = 20.0) -> tuple[int, float]:
        """SIGTERM; exit code and seconds it took."""
        began = time.monotonic()
        self.note_consumed()
        with self._lock:
            self._end_of_life()
            return self._end(signal.SIGTERM, patience_s), time.monotonic() - began

    def freeze(self) -> None:
        """SIGSTOP: it stands still and does not know it."""
        self.note_consumed()
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals, patience_s: float) -> int:
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return 999
        finally:
            self.process = None

    def note_end(self) -> int | None:
        """The exit code, if the life ended by itself; it is told once."""
        with self._lock:
            if self.process is None or self.process.poll() is None:
                return None
            code, self.process = self.process.returncode, None
            self._end_of_life()
        self.ended.append(code)
        return code

    # ------------------------------------------------------------------ looking

    def answer(self, path: str, timeout_s: float = 2.0) -> tuple[int, str]:
        """Status and body of a GET; (0, why) if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def ready(self) -> bool:
        """Whether it says that it works."""
        return self.answer("/readyz")[0] == 200

    def await_ready(self, patience_s: float = START_S) -> None:
        """Wait until it works. Raises TimeoutError with what it said."""
        deadline = time.monotonic() + patience_s
        while not self.ready:
            if time.monotonic() > deadline or not self.alive:
                raise TimeoutError(f"{self.name} is not ready: {self.answer('/readyz')}; {self.tail()}")
            time.sleep(0.2)

    def note_consumed(self) -> None:
        """Look how many records this life has taken so far."""
        status, page = self.answer("/metrics", 0.5) if self.alive else (0, "")
        if status == 200:
            with self._lock:
                self._seen = {topic: float(count) for topic, count in _SAMPLE.findall(page)}

    def total_consumed(self) -> Counter[str]:
        """Records taken from each topic in all lives, as far as known."""
        self.note_consumed()
        with self._lock:
            return self.consumed + Counter({topic: round(count) for topic, count in self._seen.items()})

    def _end_of_life(self) -> None:
        self.consumed.update({topic: round(count) for topic, count in self._seen.items()})
        self._seen = {}

    def rss_mb(self) -> float:
        """Resident memory, MB; 0 if it does not run."""
        if not self.alive or self.process is None:
            return 0.0
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def tail(self, lines: int = 6) -> str:
        """The last it said."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
