"""What `run` and `demo` share: settings reach the services, the notifiers and the dashboard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from anomaly.domain import Asset, Plant, Tag
from anomaly.errors import ConfigurationError
from dashboard import launch
from pipelines import running, topics, wiring
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.checking import notify_urls
from pipelines.embedded import caught_up
from pipelines.findings import Status
from pipelines.ports import NewRecord, Partition, Position
from pipelines.run_source import Source
from pipelines.settings import Settings
from pipelines.trainer import TrainWorker

PLANT = Plant("w", (Asset("s/line-1/pump", "p", (Tag("t"),)),))
IMGHDR = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("PLANTWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_DATA_DIR", str(tmp_path / "data"))


def test_critical_assets_of_the_settings_reach_the_alert_service_and_a_name_that_is_none_is_told() -> None:
    settings, told = Settings(critical_assets=["s/line-1", "s/lime-2"]), list[str]()
    with running.running(settings, PLANT, SystemClock(), told.append, ready=lambda: False, train=False) as system:
        policy = system.embedded.alert._policy
    assert policy.is_critical("s/line-1/pump")
    assert told == ["warning: critical_assets names 's/lime-2', and no machine of the plant is there"]


def test_even_a_short_run_leaves_a_word_of_every_part_and_of_what_it_read() -> None:
    source = Source(PLANT, files=True)
    source.read.set()
    beat = {"plant": source.status}
    settings = Settings()
    with running.running(settings, PLANT, SystemClock(), print, ready=lambda: False, extra=beat, train=False):
        pass
    found = wiring.open_historian_reader(settings).heartbeats()
    assert {"plant", "score", "record", "alert"} <= set(found)
    assert (found["plant"].status["plant_name"], found["plant"].status["files"]) == ("w", "all read")


@pytest.mark.parametrize(("flag", "setting", "asked"), [(9001, None, 9001), (None, 9002, 9002), (None, None, None)])
def test_the_dashboard_beside_the_services_takes_the_port_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, flag: int | None, setting: int | None, asked: int | None
) -> None:
    ports: list[int | None] = []

    def free(_: str, wanted: int | None) -> int:
        ports.append(wanted)
        return wanted or 8501

    def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(launch, "free_port", free)
    monkeypatch.setattr(launch, "start", nothing)
    monkeypatch.setattr(launch, "stop", nothing)
    with running.with_dashboard(Settings(dashboard_port=setting), print, flag) as address:
        assert address.endswith(f":{asked or 8501}")
    assert ports == [asked]


@IMGHDR
def test_each_notify_url_is_a_notifier_named_by_its_scheme() -> None:
    urls = ["json://user:hunter2@127.0.0.1:9/a", "json://127.0.0.1:9/b", "mailtos://user:hunter2@example.org"]
    settings = Settings(notify_urls=urls)
    found = wiring.open_notifiers(settings, print, "UTC")
    assert [notifier.name for notifier in found] == ["console", "json", "json-2", "mailtos"]
    assert notify_urls(settings).status is Status.OK
    assert "hunter2" not in repr(settings)


@IMGHDR
@pytest.mark.parametrize("url", ["nosuch://user:hunter2@example.org", "user:hunter2@example.org"])
def test_a_wrong_notify_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not understood") as refused:
        wiring.open_apprise(Settings(notify_urls=[url]))
    assert "hunter2" not in str(refused.value)


def test_what_waits_to_be_recorded_is_not_learned_from_yet() -> None:
    """A version fitted on half a history would misjudge the other half."""
    log = MemoryLog(MemoryClock(0))
    log.create(topics.partitions(1), topics.COMPACTED)
    plant = Plant("works", (Asset("s/p", "pumps", (Tag("flow"),)),))
    assert caught_up(log, plant)
    log.append([NewRecord(topics.READINGS, b"s/p", b"{}") for _ in range(10)])
    assert not caught_up(log, plant)
    readings = Partition(topics.READINGS, 0)
    for group in ("score", "record"):
        consumer = log.join(group, [topics.READINGS])
        consumer.poll(1, 0.0)
        assert not caught_up(log, plant)
        consumer.commit({readings: Position(9)})
    assert caught_up(log, plant)


@pytest.mark.parametrize("whole", [True, False])
def test_the_ladder_is_told_to_wait_until_all_is_recorded(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Listening(TrainWorker):
        def __init__(self, *parts: Any, ready: Any) -> None:
            asked.append(ready())
            super().__init__(*parts, ready=ready)

    monkeypatch.setattr(running, "TrainWorker", Listening)
    monkeypatch.setattr(running, "caught_up", lambda *_: whole)
    with running.running(Settings(), PLANT, SystemClock(), print, ready=lambda: True):
        assert asked == [whole]
