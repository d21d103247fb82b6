"""How a service starts, beats and is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from anomaly.domain import Asset, Plant, Tag
from anomaly.errors import ConfigurationError, StorageError, Unreachable
from pipelines import patience, starting, topics
from pipelines.adapters.memory import MemoryClock, MemoryHistorian
from pipelines.condition import Condition
from pipelines.heartbeats import Heartbeats
from pipelines.plant_file import write_plant
from pipelines.settings import Settings
from pipelines.signals import until_asked
from pipelines.starting import NotThereYet, Starter, Stopped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PLANTWATCH_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Later:
    """Fails so often, then gives 7."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left = times
        self.error = error

    def __call__(self) -> int:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return 7


@pytest.mark.parametrize("error", [Unreachable("nobody"), StorageError("not yet"), NotThereYet("no plant file")])
def test_what_is_absent_is_waited_for_and_the_wait_is_told(error: Exception) -> None:
    condition = Condition()
    starter = Starter(threading.Event(), condition, patience_s=30.0)
    assert starter.open("log", Later(1, error)) == 7
    assert condition.waiting == f"waiting for the log: {error}"


def test_what_is_wrong_ends_the_start_at_once() -> None:
    act = Later(9, ConfigurationError("wrong password"))
    with pytest.raises(ConfigurationError, match="wrong password"):
        Starter(threading.Event(), Condition(), patience_s=30.0).open("log", act)
    assert act.left == 8


def test_patience_ends_with_what_was_said_last() -> None:
    act = Later(9, Unreachable("nobody answers"))
    with pytest.raises(Unreachable, match="nobody answers"):
        Starter(threading.Event(), Condition(), patience_s=0.0).open("log", act)
    assert act.left == 8


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        Starter(stop, Condition(), patience_s=60.0).open("log", Later(99, Unreachable("nobody")))
    assert time.monotonic() - started < 20.0


def test_the_plant_file_may_come_later_but_not_wrong(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(NotThereYet, match="PLANTWATCH_PLANT") as missing:
        starting.open_plant(settings)
    assert missing.value.exit_code == 78
    write_plant(Plant("p", (Asset("a/b", "g", (Tag("t", "x"),)),)), tmp_path / "plant.toml")
    assert starting.open_plant(settings).name == "p"
    (tmp_path / "plant.toml").write_text("asset = 1")
    with pytest.raises(ConfigurationError) as wrong:
        starting.open_plant(settings)
    assert not isinstance(wrong.value, NotThereYet)


def test_the_embedded_log_starts_a_service_too(tmp_path: Path) -> None:
    log = starting.open_log(Settings(data_dir=tmp_path), (topics.READINGS, topics.SCORES))
    log.close()


# ---------------------------------------------------------------------------------------------------- heartbeats


class Moody(MemoryHistorian):
    """A historian that is down for the first words."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.closed = False

    def heartbeat(self, part: str, time: int, status: Mapping[str, str | int | float]) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("down")
        super().heartbeat(part, time, status)

    def close(self) -> None:
        self.closed = True


def test_a_heartbeat_survives_a_historian_that_is_down_says_a_last_word_and_closes_what_it_opened() -> None:
    historian = Moody(3)
    beats = Heartbeats(lambda: historian, MemoryClock(5), lambda: "score", lambda: {"lag": 3}, pulse_s=0.01)
    beats.start()
    deadline = time.monotonic() + 10
    while not historian.heartbeats():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    beats.stop()
    status = historian.heartbeats()["score"].status
    assert (status["lag"], status["stopped"]) == (3, "in order")
    assert isinstance(status["wall"], int)
    assert historian.closed


def test_a_defect_in_a_heartbeat_ends_nothing() -> None:
    historian = MemoryHistorian()
    words = iter([ZeroDivisionError(), None, None])

    def status() -> dict[str, str | int | float]:
        word = next(words, None)
        if word is not None:
            raise word
        return {"ok": 1}

    beats = Heartbeats(lambda: historian, MemoryClock(5), lambda: "score", status, writer=historian, pulse_s=0.01)
    beats.start()
    deadline = time.monotonic() + 10
    while not historian.heartbeats():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    beats.stop()


# ------------------------------------------------------------------------------------------------------- signals


def test_a_second_sigterm_changes_nothing_and_a_second_interrupt_ends_at_once() -> None:
    asked: list[int] = []
    with until_asked(lambda: asked.append(1), drain_s=60.0):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert asked == [1]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_hangs_is_ended_in_time_with_74() -> None:
    code = (
        "import os, signal, time\nfrom pipelines.signals import until_asked\n"
        "with until_asked(lambda: None, drain_s=0.3):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert done.returncode == 74


def test_a_defect_is_told_as_json_with_its_traceback_and_exits_70(tmp_path: Path) -> None:
    code = (
        "import logging\nfrom pathlib import Path\nfrom pipelines.commands.serve import guarded\n"
        "from pipelines.settings import Settings\n"
        "def work():\n    logging.getLogger('foreign').warning('a word of a library')\n"
        "    raise ZeroDivisionError('oh')\n"
        "guarded('score', Settings(data_dir=Path('.')), work)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 70, done.stderr
    foreign, defect = (json.loads(line) for line in done.stderr.splitlines())
    assert (foreign["event"], foreign["logger"], foreign["service"]) == ("a word of a library", "foreign", "score")
    assert "ZeroDivisionError: oh" in defect["exception"]
    assert done.stdout == ""


def test_waits_never_exceed_the_longest() -> None:
    assert max(patience.wait_s(n) for n in range(50)) == patience.BACKOFF_S[-1]
