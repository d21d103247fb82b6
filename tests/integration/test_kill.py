"""`kill -9` twenty times in the middle of a run changes no score and no alert (guarantees G1 to G5, G8)."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from anomaly.domain import SECOND, Alert, Asset, Plant, Readings, Rung
from pipelines import codec, promotion, topics, wiring
from pipelines.embedded import lag
from pipelines.fitting import fit_version
from pipelines.plant_file import load_plant, write_plant
from pipelines.ports import AlertEvent
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from pipelines.settings import Settings
from pipelines.sources.simulator import Fault, FaultKind, Simulator
from pipelines.training_service import group_tags, training_set_from_readings

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(280)]

KILLS = 20
MINUTE = 60 * SECOND
START = 1_767_571_200 * SECOND  # 2026-01-05
TRAINED_UNTIL = START + 6 * 60 * MINUTE
SWAP = TRAINED_UNTIL + 60 * MINUTE
END = TRAINED_UNTIL + 1500 * 10 * SECOND
SPEED = 600
"""Event time runs so much faster: the whole folder takes 25 s, a record holds ten minutes of a machine."""
WATER = "northworks/utilities/cooling/"
CHOSEN = (WATER + "pump-101", WATER + "pump-102", WATER + "pump-103", "northworks/process/hall/fan-401")
FAULTS = (
    Fault(
        CHOSEN[0], "cavitation", FaultKind.MACHINE, None, END - 90 * MINUTE, END - 85 * MINUTE, END - 30 * MINUTE, 1.2
    ),
    Fault(CHOSEN[1], "sensor_stuck", FaultKind.INSTRUMENT, "flow", END - 70 * MINUTE, END - 69 * MINUTE, END, 1.0),
)
LISTED = ("scored", "warming_up", "dead_lettered", "late", "duplicate", "gap_discarded", "unknown_tag", "pending")


class Outcome(NamedTuple):
    """All that a run left for people."""

    scores: dict[tuple[str, int], tuple[object, ...]]
    alerts: dict[str, Alert]
    events: dict[str, tuple[AlertEvent, ...]]
    counts: Counter[str]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of files with two faults near their end, and a data folder whose pumps get a learned version."""
    files, base = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("base")
    life = Simulator(5, START, history_s=0, script=FAULTS)
    plant = Plant(life.plant.name, tuple(asset for asset in life.plant.assets if asset.path in CHOSEN))
    history = life.advance(TRAINED_UNTIL)
    for block in life.advance(END):
        if block.asset in CHOSEN:
            write_csv(block, files / f"{block.asset}.csv")
    write_plant(plant, files / wiring.PLANT_FILE)
    learn(plant, history, Settings(data_dir=base))
    return files, base


def write_csv(block: Readings, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamps = np.datetime_as_string(block.times.astype("datetime64[ns]"), unit="ms", timezone="UTC").tolist()
    lines = [",".join(["timestamp", *block.tags])]
    for stamp, values in zip(stamps, block.values.tolist(), strict=True):
        lines.append(",".join([stamp, *("" if value != value else repr(value) for value in values)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def learn(plant: Plant, history: list[Readings], settings: Settings) -> None:
    """A window-PCA for the pumps, wished for from `SWAP` on: the runs begin with the rules and swap under way."""
    cleaned = training_set_from_readings(plant, "pumps", [], history, START, TRAINED_UNTIL)
    registry = wiring.open_registry(settings)
    pumps: list[Asset] = [asset for asset in plant.assets if asset.group == "pumps"]
    fitted = fit_version(
        cleaned, group_tags(pumps), Rung.WINDOW_PCA, registry, now=START, workdir=settings.data_dir / "training"
    )
    log = wiring.open_log(settings)
    promotion.promote(log, registry, "pumps", fitted.version, since=SWAP, actor="test")
    log.close()


class Life:
    """One process of `plantwatch run`; `ready` is set once its services are up."""

    def __init__(self, files: Path, data_dir: Path, *options: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "pipelines", "run", "--data", str(files), "--once"]
        command += ["--no-dashboard", "--no-train", "--data-dir", str(data_dir), *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.said: list[str] = []
        self.ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)
                if line.startswith("watching"):
                    self.ready.set()

    def finish(self) -> None:
        assert self.process.wait(timeout=120) == 0, "".join(self.said)

    def kill(self) -> bool:
        """SIGKILL; whether it was still alive."""
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL


def outcome(data_dir: Path) -> Outcome:
    settings = Settings(data_dir=data_dir)
    historian, log = wiring.open_historian_reader(settings), wiring.open_log(settings)
    scores: dict[tuple[str, int], tuple[object, ...]] = {}
    for asset in CHOSEN:
        for block in historian.scores(asset, 0, 2**62):
            [(_, encoded)] = codec.encode_scores(block)
            again = codec.decode_scores(encoded)
            for i, time_ in enumerate(again.times.tolist()):
                arrays = (again.score, again.contributions, again.expected, again.actual, again.coverage)
                cells = [column[i].tobytes() for column in (*arrays, again.isolated, again.faults)]
                scores[asset, time_] = (again.tags, again.state[i], again.version, again.rung, *cells)
    alerts = {alert.id: alert for alert in historian.alerts(limit=10**6)}
    events = {alert: tuple(historian.events(alert)) for alert in alerts}
    seen: Counter[tuple[str, int]] = Counter()
    for partition in log.ends(topics.SCORES):
        for record in log.read(partition, 0, 10**6):
            block = codec.decode_scores(record.value or b"")
            seen.update((block.assets[0], time_) for time_ in block.times.tolist())
    assert [key for key, times in seen.items() if times > 1] == []
    assert set(seen) == set(scores)
    counts = committed_counts(data_dir)
    log.close()
    return Outcome(scores, alerts, events, counts)


def committed_counts(data_dir: Path) -> Counter[str]:
    """What the score service counted, and what it holds, as a restarted one finds it."""
    settings = Settings(data_dir=data_dir)
    log = wiring.open_log(settings)
    total: Counter[str] = Counter()
    worker = ScoreWorker(log, load_plant(data_dir / wiring.PLANT_FILE), wiring.open_registry(settings))
    session = Session(worker, log.join(worker.name, worker.topics), 64)
    quiet = 0
    while quiet < 3:
        quiet = 0 if session.step(0.05) else quiet + 1
    total.update(worker.counts())
    session.close()
    log.close()
    return total


def test_twenty_kills_change_no_score_and_no_alert(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    files, base = prepared
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for copy in (calm, killed):
        shutil.copytree(base, copy)
    undisturbed = Life(files, calm)
    chance = random.Random(2026)
    progress, at_work = [], 0
    for number in range(KILLS):
        life = Life(files, killed, "--speed", str(SPEED))
        if number % 4 == 0:
            time.sleep(chance.uniform(0.2, 3.0))  # anywhere, its start included
        else:
            assert life.ready.wait(60), "".join(life.said)
            wait_for_work(killed)
            time.sleep(chance.uniform(0.0, 0.1))
        assert life.kill(), "it had ended by itself: the test proves nothing; let it run slower"
        progress.append(position(killed))
        at_work += unfinished(killed)
    Life(files, killed).finish()
    undisturbed.finish()
    expected, found = outcome(calm), outcome(killed)

    assert len(set(progress)) >= 6, f"too few kills struck while work was going on: {progress}"
    assert at_work >= 3, "too few kills struck between an append and the commits of all services"
    assert progress[-1] < position(killed)
    assert len(expected.scores) > 4 * 1400
    assert {row[3] for row in expected.scores.values()} == {Rung.RULES, Rung.WINDOW_PCA}
    kinds = {alert.anomaly.kind.value for alert in expected.alerts.values()}
    assert kinds >= {"process", "instrument"}

    assert found.scores.keys() == expected.scores.keys()
    assert {key for key in found.scores if found.scores[key] != expected.scores[key]} == set()
    assert found.alerts == expected.alerts
    assert found.events == expected.events
    for counts in (expected.counts, found.counts):
        assert counts["acknowledged"] == sum(counts[bucket] for bucket in LISTED)
        assert counts["dead_lettered"] == 0
    for bucket in ("scored", "warming_up", "gap_discarded", "unknown_tag", "pending"):
        assert found.counts[bucket] == expected.counts[bucket], bucket


def wait_for_work(data_dir: Path) -> None:
    """Until the next block of readings is on the log."""
    log = wiring.open_log(Settings(data_dir=data_dir))
    try:
        before, deadline = log.ends(topics.READINGS), time.monotonic() + 10.0
        while log.ends(topics.READINGS) == before and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        log.close()


def unfinished(data_dir: Path) -> bool:
    """Whether a service had still something to read when the process died."""
    log = wiring.open_log(Settings(data_dir=data_dir))
    try:
        ways = [("score", topics.READINGS), ("record", topics.READINGS), ("alert", topics.SCORES)]
        return any(lag(log, group, topic) for group, topic in [*ways, ("record", topics.SCORES)])
    finally:
        log.close()


def position(data_dir: Path) -> int:
    """Readings records that the score service has committed."""
    log = wiring.open_log(Settings(data_dir=data_dir))
    try:
        return sum(at.offset for at in log.committed("score", topics.READINGS).values())
    finally:
        log.close()
