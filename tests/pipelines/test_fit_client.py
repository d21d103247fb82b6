"""The fitting process: real, killable at any moment; what was half made never serves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from anomaly.domain import SECOND, Asset, Plant, Readings, Rung, Tag
from pipelines import wiring
from pipelines.fit_client import FitClient
from pipelines.fit_process import Job, Word
from pipelines.plant_file import write_plant
from pipelines.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
TAGS = (Tag("flow", "m3/h", 0.0, 100.0), Tag("power", "kW", 0.0, 50.0), Tag("heat", "°C", 0.0, 90.0))
PLANT = Plant("works", (Asset("s/p1", "pumps", TAGS, TICK), Asset("s/f1", "fans", TAGS, TICK)))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the pumps have rows to learn from and the fans have none."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=folder)
    write_plant(PLANT, folder / wiring.PLANT_FILE)
    historian = wiring.open_historian(settings)
    load = np.sin(np.arange(3000) / 30.0)
    values = np.stack([50 + 10 * load, 20 + 5 * load, 60 + 3 * load], axis=1)
    values += np.random.default_rng(0).normal(0, 0.2, values.shape)
    times = START + TICK * np.arange(1, len(values) + 1)
    historian.write([Readings("s/p1", tuple(t.name for t in TAGS), times, values, np.zeros(values.shape, np.uint8))])
    historian.close()
    return folder


@pytest.fixture
def client(data_dir: Path) -> Iterator[FitClient]:
    found = FitClient(data_dir)
    yield found
    found.close()


def job(rung: Rung, group: str = "pumps") -> Job:
    return Job(group, rung, 0, 2**62, time.time_ns(), "ann", "asked for")


def until(client: FitClient, wanted: Callable[[Word], bool], patience_s: float = 120.0) -> list[Word]:
    """All words up to the first that is wanted."""
    heard: list[Word] = []
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        heard += client.words()
        if any(wanted(word) for word in heard):
            return heard
        time.sleep(0.02)
    pytest.fail(f"not heard within {patience_s} s; heard {heard}")


def ended(word: Word) -> bool:
    return word.stage in ("fitted", "failed")


def pid(client: FitClient) -> int:
    assert client._process is not None
    return client._process.pid


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_process_fits_one_job_after_the_other_and_goes_when_it_may_rest(client: FitClient, data_dir: Path) -> None:
    registry = wiring.open_registry(Settings(data_dir=data_dir))
    client.submit(job(Rung.WINDOW_PCA))
    first, one = pid(client), until(client, ended)[-1]
    assert (one.stage, one.group, one.rung, one.done) == ("fitted", "pumps", Rung.WINDOW_PCA, 1.0), one.reason
    assert client.job is None
    assert registry.load("pumps", one.version).rung is Rung.WINDOW_PCA
    assert registry.card("pumps", one.version).labels == {"source": "stored", "actor": "ann"}
    assert one.rows > 1000
    assert one.objections == ()

    client.submit(job(Rung.WINDOW_PCA, "fans"))
    two = until(client, ended)[-1]
    assert two.stage == "failed"
    assert two.reason
    assert registry.versions("fans") == ()
    assert pid(client) == first

    client.submit(job(Rung.RULES))
    client.rest()
    assert alive(first), "it rests only when nothing is under way"
    assert until(client, ended)[-1].stage == "failed"
    client.rest()
    assert not alive(first)

    client.submit(job(Rung.ROLLING_Z))
    assert until(client, ended)[-1].stage == "fitted"
    assert pid(client) != first


def test_killed_in_the_middle_of_a_net_it_is_told_as_failed_and_nothing_can_serve(
    client: FitClient, data_dir: Path
) -> None:
    registry = wiring.open_registry(Settings(data_dir=data_dir))
    before = registry.versions("pumps")
    client.submit(job(Rung.LSTM_AUTOENCODER))
    number = pid(client)
    heard = until(client, lambda word: word.stage == "fit" and word.done > 0)
    assert not any(ended(word) for word in heard), "it was too quick to be killed; give it more to learn"
    os.kill(number, signal.SIGKILL)
    word = until(client, ended)[-1]
    assert (word.stage, word.group, word.rung) == ("failed", "pumps", Rung.LSTM_AUTOENCODER)
    assert "ended with code -9" in word.reason
    assert registry.versions("pumps") == before
    assert registry.aliases("pumps").get("champion") is None

    client.submit(job(Rung.WINDOW_PCA))  # the next job has a new process, and the dead one's lock is gone
    assert until(client, ended)[-1].stage == "fitted"
    assert pid(client) != number


def test_closing_ends_it_at_once_in_the_middle_of_a_job(client: FitClient) -> None:
    client.submit(job(Rung.WINDOW_PCA))
    number = pid(client)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 2.0
    assert not alive(number)
    assert client.job is None
    time.sleep(0.2)
    assert [word for word in client.words() if word.stage == "failed"] == []
    client.close()


def test_a_process_that_cannot_start_is_a_failed_job_not_a_silence(tmp_path: Path) -> None:
    (tmp_path / wiring.PLANT_FILE).write_text("no plant at all [", encoding="utf-8")
    client = FitClient(tmp_path)
    client.submit(job(Rung.WINDOW_PCA))
    word = until(client, ended)[-1]
    assert word.stage == "failed"
    assert word.reason
    client.close()


def test_a_fitting_process_that_ends_by_itself_says_why(data_dir: Path, tmp_path: Path) -> None:
    client = FitClient(data_dir, environment={"PLANTWATCH_CONFIG": str(tmp_path / "none.toml")})
    try:
        client.submit(job(Rung.WINDOW_PCA))
        failed = until(client, ended)[-1]
    finally:
        client.close()
    assert "ended with code" in failed.reason
    assert "none.toml does not exist" in failed.reason
