"""A small plant with two hours behind it: one machine fault, one sensor fault, one machine off, one warming up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import streamlit as st

from anomaly.domain import (
    SECOND,
    Alert,
    AlertState,
    Anomaly,
    Asset,
    Kind,
    Plant,
    Priority,
    Readings,
    Role,
    Rung,
    Scores,
    SensorFault,
    State,
    Tag,
    alert_id,
)
from dashboard import world
from dashboard.world import World
from pipelines import topics
from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import AlertEvent

TICK: Final = 10 * SECOND
END: Final = 1_760_000_400 * SECOND
ROWS: Final = 720
TRAINING: Final[dict[str, str | float]] = {
    "stage:group 1": "lstm_autoencoder fitting",
    "done:group 1": 0.35,
    "stage:group 2": "lstm_autoencoder refused",
    "done:group 2": 1.0,
    "reason:group 2": "too many false alarms on held-back rows",
}
SIGNALS: Final = (
    Tag("vibration_de", "mm/s", 0.0, 40.0, description="drive end"),
    Tag("bearing_temp", "°C", -20.0, 160.0),
    Tag("motor_current", "A", 0.0, 300.0),
    Tag("flow", "m³/h", 0.0, 500.0),
    Tag("speed", "rpm", 0.0, 3600.0),
)
LEVELS: Final = np.array([2.4, 61.0, 118.0, 240.0, 2950.0])
NOISE: Final = np.array([0.12, 0.4, 1.6, 3.0, 6.0])
MODE: Final = Tag("state", role=Role.MODE, running=(1.0,))
NAMES: Final = (
    "Feed pump 1",
    "Feed pump 2",
    "Air compressor",
    "Conveyor A",
    "Boiler 1",
    "Exhaust fan",
    "Cooling fan",
    "Mixer",
)
FAULTY, SENSOR, OFF, WARM, HANDLED = "Feed pump 2", "Air compressor", "Conveyor A", "Boiler 1", "Exhaust fan"


@dataclass(frozen=True)
class Stage:
    """A data folder with all that the dashboard reads, and both halves of its stores."""

    data: Path
    plant: Plant
    historian: SqliteHistorian
    log: SqliteLog
    process: Alert
    sensor: Alert
    handled: Alert

    def beat(self, wall: int, time: int = END) -> None:
        """All parts say they are well at wall time `wall`; the plant's clock stands at `time`."""
        beat(self.historian, wall, time)

    def tell(self, alert: Alert, number: int, what: str, actor: str = "") -> None:
        """Store a transition of an alert."""
        self.historian.write(events=[AlertEvent(f"{alert.id}-{number}", what, END, alert, actor)])

    def asset(self, name: str) -> Asset:
        return next(asset for asset in self.plant.assets if asset.name == name)


def make_plant() -> Plant:
    assets = tuple(
        Asset(f"north/hall-1/line-{1 + i // 4}/m{i}", f"group {i // 3}", (*SIGNALS, MODE), TICK, name)
        for i, name in enumerate(NAMES)
    )
    return Plant("North plant", assets, "Europe/Berlin")


def times() -> np.ndarray:
    return np.arange(END - (ROWS - 1) * TICK, END + 1, TICK, dtype=np.int64)


def fault_shape(onset_row: int) -> np.ndarray:
    return np.clip((np.arange(ROWS) - onset_row) / 60, 0, 1.6)


def readings_and_scores(asset: Asset, seed: int) -> tuple[Readings, list[Scores]]:
    rng = np.random.default_rng(seed)
    clock = times()
    wave = np.sin(np.arange(ROWS) / 90 + seed)[:, None] * NOISE * 2.5
    expected = LEVELS + wave
    actual = expected + rng.normal(0, 1, (ROWS, 5)) * NOISE
    score = np.abs(rng.normal(0.38, 0.1, ROWS))
    share = rng.dirichlet(np.ones(5) * 3, ROWS)
    faults = np.zeros((ROWS, 5), np.uint8)
    state = [State.OK] * ROWS
    if asset.name == FAULTY:
        grown = fault_shape(600)
        actual[:, 0] += grown * 2.6
        actual[:, 1] += grown * 9
        score += grown * 1.9
        share[grown > 0] = [0.61, 0.27, 0.06, 0.04, 0.02]
    if asset.name == HANDLED:
        score += fault_shape(500) * 0.9
    if asset.name == SENSOR:
        actual[640:, 3] = actual[640, 3]
        faults[645:, 3] = SensorFault.STUCK
    if asset.name == OFF:
        actual[500:, [0, 2, 3, 4]] = 0.0
        state[500:] = [State.OFF] * (ROWS - 500)
    if asset.name == WARM:
        state[:] = [State.WARMING_UP] * ROWS
    known = np.array([one is State.OK for one in state])
    score = np.where(known, score, np.nan)
    share = np.where(known[:, None], share, 0.0)
    values = np.column_stack([actual, np.where(np.array(state) == State.OFF, 0.0, 1.0)])
    readings = Readings(asset.path, tuple(t.name for t in asset.tags), clock, values, np.zeros(values.shape, np.uint8))
    whole = Scores(
        tags=asset.signals,
        assets=(asset.path,) * ROWS,
        times=clock,
        score=score,
        contributions=share,
        expected=np.where(known[:, None], expected, np.nan),
        actual=actual,
        coverage=np.where(faults.any(axis=1), 0.8, 1.0),
        isolated=np.full(ROWS, np.nan),
        faults=faults,
        state=tuple(state),
        version="20251009T101500-ab12cd34",
        rung=Rung.LSTM_AUTOENCODER,
    )
    return readings, [_cut(whole, 0, 200, "rules", Rung.RULES), _cut(whole, 200, ROWS, whole.version, whole.rung)]


def _cut(scores: Scores, first: int, last: int, version: str, rung: Rung) -> Scores:
    rows = slice(first, last)
    return Scores(
        scores.tags, scores.assets[rows], scores.times[rows], scores.score[rows], scores.contributions[rows],
        scores.expected[rows], scores.actual[rows], scores.coverage[rows], scores.isolated[rows], scores.faults[rows],
        scores.state[rows], version, rung,
    )  # fmt: skip


def make_alert(
    asset: Asset, kind: Kind, onset: int, priority: Priority, tags: tuple[str, ...], fault: str = ""
) -> Alert:
    cause = "process" if kind is Kind.PROCESS else f"instrument:{tags[0]}"
    anomaly = Anomaly(asset.path, kind, cause, onset, None, 3.42, tags, "20251009T101500-ab12cd34", fault)
    expected = {"vibration_de": (6.6, 2.45), "bearing_temp": (75.4, 61.2)} if kind is Kind.PROCESS else {}
    return Alert(
        alert_id(asset.path, cause, onset), anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, priority, onset + 6 * TICK,
        message=f"{asset.name}: unlike normal since its onset", expected=expected,
    )  # fmt: skip


def event(alert: Alert, number: int, what: str, time: int, actor: str = "") -> AlertEvent:
    return AlertEvent(f"{alert.id}-{number}", what, time, alert, actor)


@pytest.fixture(scope="session")
def stage_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, filled once; tests copy it."""
    data = tmp_path_factory.mktemp("stage")
    historian = SqliteHistorian(data / "historian.db")
    for number, asset in enumerate(make_plant().assets):
        readings, scores = readings_and_scores(asset, number)
        historian.write([readings], scores)
    historian.close()
    return data


def dress(data: Path) -> Stage:
    """Alerts, heartbeats and the log over a filled folder. The plant's clock stands at `END` and is live."""
    plant, clock = make_plant(), SystemClock()
    historian, log = SqliteHistorian(data / "historian.db"), SqliteLog(data / "log.db", clock)
    log.create(topics.partitions(1), topics.COMPACTED)
    by_name = {asset.name: asset for asset in plant.assets}
    process = make_alert(
        by_name[FAULTY], Kind.PROCESS, END - 118 * TICK, Priority.HIGH, ("vibration_de", "bearing_temp")
    )
    sensor = make_alert(by_name[SENSOR], Kind.INSTRUMENT, END - 75 * TICK, Priority.LOW, ("flow",), "stuck")
    old = make_alert(by_name[HANDLED], Kind.PROCESS, END - 200 * TICK, Priority.MEDIUM, ("motor_current",))
    handled = replace(
        old, state=AlertState.ACKNOWLEDGED_ACTIVE, acknowledged_by="Ada", acknowledged_at=END - 150 * TICK
    )
    raised = [event(alert, 1, "raised", alert.raised_at) for alert in (process, sensor, old)]
    historian.write(events=[*raised, event(handled, 2, "acknowledged", END - 150 * TICK, "Ada")])
    beat(historian, clock.now())
    return Stage(data, plant, historian, log, process, sensor, handled)


def beat(historian: SqliteHistorian, wall: int, time: int = END) -> None:
    """All parts say they are well at wall time `wall`."""
    plant: dict[str, str | int | float] = {
        "wall": wall,
        "speed": 1.0,
        "plant_name": "North plant",
        "live_from": END - 3600 * SECOND,
    }
    historian.heartbeat("plant", time, plant)
    historian.heartbeat("score", time, {"wall": wall, "lag": 0, "windows": 41_220, "windows_per_second": 8.2})
    historian.heartbeat("record", time, {"wall": wall, "lag": 2})
    historian.heartbeat("alert", time, {"wall": wall, "lag": 0, "open": 3})
    historian.heartbeat("train", time, {"wall": wall, "waiting": 1, **TRAINING})


@pytest.fixture
def stage(stage_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A fresh copy, and the app pointed at it."""
    for name in ("historian.db", "historian.db-wal"):
        if (stage_files / name).exists():
            (tmp_path / name).write_bytes((stage_files / name).read_bytes())
    made = dress(tmp_path)
    wall = SystemClock().now()
    here = World(made.plant, made.historian, made.log, tmp_path / "models", lambda: wall)
    monkeypatch.setattr(world, "current", lambda: here)
    st.cache_resource.clear()
    yield made
    made.historian.close()
    made.log.close()
