"""Every metric is fed by the services themselves: readings in, scores, alerts, a failing sink, a failing receiver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from anomaly.detector import Detector, rules_detector
from anomaly.domain import SECOND, Alert, Asset, Plant, Quality, Readings, Rung, Scores, Tag
from anomaly.errors import Unreachable
from anomaly.scorers.reconstruction import Reconstruction, unit_whitening
from pipelines import alert_service, consumer_watch, feeding, metrics, score_watch, topics
from pipelines.adapters.memory import MemoryClock, MemoryHistorian, MemoryLog, MemoryNotifier
from pipelines.alert_service import RETRY_S, AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.alert_watch import AlertWatch
from pipelines.codec import Serving
from pipelines.metrics.families import FAMILIES, REGISTRY
from pipelines.ports import AlertEvent, NewRecord, Partition
from pipelines.recording import RecordWorker
from pipelines.score_watch import DRIFT_ROWS, Level, ScoreWatch, device_of, engine_of
from pipelines.scoring import ScoreWorker
from pipelines.service import Session, Worker
from pipelines.serving import promote

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
PUMP = Asset("s/l/pump", "pumps", (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "l/s", 0.0, 50.0)), TICK)
PLANT = Plant("test", (PUMP,))
ELSEWHERE = {
    "plantwatch_points_dropped_total": "the historian's adapter",
    "plantwatch_payload_hints_total": "decoding of foreign formats",
    "plantwatch_tombstones_total": "decoding",
    "plantwatch_retrain_runs_total": "the train service",
    "plantwatch_consumer_rebuilds_total": "service.run",
    "plantwatch_positions_outside_log_total": "the Kafka log",
}


class Models:
    """One version: the rules under another name, calibrated at a median score of 0.1."""

    def load(self, group: str, version: str) -> Detector:
        found = rules_detector(group, PLANT.assets)
        threshold = replace(found.threshold, typical=0.1)
        return replace(found, version=version, threshold=threshold, trained_until=START - 3600 * SECOND)


class Historian(MemoryHistorian):
    down = False

    def write(
        self, readings: Sequence[Readings] = (), scores: Sequence[Scores] = (), events: Sequence[AlertEvent] = ()
    ) -> None:
        if self.down:
            raise Unreachable("down")
        super().write(readings, scores, events)


class Forgetful(MemoryNotifier):
    """A receiver that must be reminded."""

    remind_s = 60.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.down = False
        self.reminded: list[list[str]] = []

    def notify(self, event: AlertEvent, text: str) -> None:
        if self.down:
            raise Unreachable("down")
        super().notify(event, text)

    def remind(self, alerts: Sequence[Alert]) -> None:
        if self.down:
            raise Unreachable("down")
        self.reminded.append([alert.id for alert in alerts])


class Bench:
    """The three services over memory, on clocks of their own."""

    def __init__(self) -> None:
        self.clock = MemoryClock(START)
        self.log = MemoryLog(self.clock)
        self.log.create(topics.partitions(1), topics.COMPACTED)
        self.historian, self.receiver, self.time = Historian(), Forgetful("desk"), 0.0
        policy = AlertPolicy(plant=PLANT, receivers=("desk",))
        workers: dict[str, Worker] = {
            "score": ScoreWorker(self.log, PLANT, Models()),
            "record": RecordWorker(self.log, self.historian, clock=self.clock),
            "alert": AlertWorker(self.log, policy, [self.receiver], timer=lambda: self.time),
        }
        self.sessions = {n: Session(w, self.log.join(n, w.topics), 64) for n, w in workers.items()}
        self.sent = 0

    def send(self, count: int, temp: float = 20.0, flow: float = 10.0) -> None:
        times = START + (self.sent + 1 + np.arange(count, dtype=np.int64)) * TICK
        self.sent += count
        self.clock.sleep(max(0.0, (int(times[-1]) - self.clock.now()) / SECOND))
        values = np.column_stack([np.full(count, temp), np.full(count, flow)])
        quality = np.full(values.shape, Quality.GOOD, np.uint8)
        feeding.append(self.log, [Readings(PUMP.path, ("temp", "flow"), times, values, quality)])

    def turn(self, *names: str, times: int = 4) -> None:
        for _ in range(times):
            for name in names or tuple(self.sessions):
                self.sessions[name].step(0.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(consumer_watch, "TELL_S", 0.0)
    monkeypatch.setattr(score_watch, "TELL_S", 0.0)
    monkeypatch.setattr(alert_service, "SHOWN_S", 0.0)
    made = Bench()
    yield made
    for session in made.sessions.values():
        session.close()


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"plantwatch_{name}", labels)


def samples() -> dict[str, float]:
    """Value of every sample; what was never fed is absent or 0."""
    return {f"{s.name}{sorted(s.labels.items())}": s.value for family in REGISTRY.collect() for s in family.samples}


def _is_set(name: str, now: float) -> bool:
    """Whether a gauge shows something; an earlier test of this process may have set it to the same."""
    family = FAMILIES.get(name.partition("[")[0])
    return family is not None and family.kind == "gauge" and now != 0.0


def test_every_metric_is_fed(bench: Bench) -> None:
    before = samples()
    promote(bench.log, Serving("pumps", "v7", 0, Rung.RULES, "ann", "better"))
    bench.send(300)
    bench.turn()
    bench.log.append([NewRecord(topics.READINGS, b"k", b"\xff{", partition=0)])
    bench.sent -= 40
    bench.send(20)  # again, hence late
    bench.sent += 20
    bench.receiver.down = True
    bench.send(60, temp=400.0)
    bench.turn()
    bench.historian.down = True
    bench.send(10, temp=400.0)
    bench.turn()
    after = {name: now for name, now in samples().items() if before.get(name) != now or _is_set(name, now)}
    changed = {name.partition("[")[0] for name in after}
    fed = {name for name in FAMILIES if {name, f"{name}_count"} & changed}
    gauges_at_0 = {"plantwatch_gpu_fallback_active", "plantwatch_alert_flood_active", "plantwatch_build_info"}
    assert FAMILIES.keys() - fed <= ELSEWHERE.keys() | gauges_at_0


def test_counters_that_rules_watch_are_there_before_anything_happens(bench: Bench) -> None:
    assert value("dead_letters_total", reason="unknown_asset") is not None
    assert value("dead_letters_total", reason="future_dated") is not None
    assert value("notifications_total", channel="desk", result="failed") is not None
    assert value("alerts_raised_total", priority="high") is not None


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    now = 0.0
    bench = Bench()
    watch = consumer_watch.ConsumerWatch("rate", lambda: now)
    bench.send(20)
    records = bench.log.read(Partition(topics.READINGS, 0), 0, 1)
    consumer = bench.sessions["score"].consumer
    for second in range(30):
        now = float(second)
        watch.turn(records * (5 if second < 15 else 1), consumer, {})
    assert watch.rate == pytest.approx(1.0)
    watch.over()


def test_lag_and_commits_of_each_partition_are_shown_and_taken_away_at_the_end(bench: Bench) -> None:
    where = {"service": "score", "topic": topics.READINGS, "partition": "0"}
    bench.send(20)
    bench.turn("score")
    assert value("consumer_lag_records", **where) == 0
    stored = bench.log.ends(topics.READINGS)
    assert value("consumer_committed_offset", **where) == next(iter(stored.values()))[1]
    assert value("consumer_lag_records", **where | {"service": "record"}) is None, "it has not turned yet"
    bench.sessions["score"].close()
    assert value("consumer_lag_records", **where) is None


def test_a_sink_that_fails_is_degraded_until_it_takes_a_write(bench: Bench) -> None:
    bench.historian.down = True
    bench.send(20)
    bench.turn("record")
    assert value("sink_degraded", sink="historian") == 1
    bench.historian.down = False
    bench.sessions["record"].patience.over()
    bench.turn("record")
    assert value("sink_degraded", sink="historian") == 0


def test_model_age_engine_and_drift_are_those_of_the_version_that_serves(bench: Bench) -> None:
    bench.send(10)
    bench.turn("score")
    assert value("model_info", group="pumps", version="rules", role="champion") == 1
    assert value("model_age_seconds", group="pumps") is None, "rules learned from nothing"
    promote(bench.log, Serving("pumps", "v7", 0, Rung.RULES, "ann", "better"))
    bench.send(100)
    bench.turn("score")
    bench.send(100)
    bench.turn("score")
    assert value("model_info", group="pumps", version="rules", role="champion") is None
    assert value("model_info", group="pumps", version="v7", role="champion") == 1
    assert value("model_age_seconds", group="pumps") == 3600 + 210 * 10
    assert value("scoring_engine", group="pumps", engine="numpy") == 1
    assert value("drift_ratio", group="pumps") is None, "too few scores of that version"
    bench.send(300)
    bench.turn("score")
    known = value("drift_ratio", group="pumps")
    bench.send(DRIFT_ROWS, temp=90.0)
    bench.turn("score", times=8)
    risen = value("drift_ratio", group="pumps")
    assert known is not None
    assert risen is not None
    assert (round(known, 6), round(risen, 6)) == (6.0, 8.0), "ordinary rows are nearer their limit"


def test_a_level_forgets_what_is_older_than_its_rows() -> None:
    level = Level("v")
    level.push(np.full(3000, 9.0))
    level.push(np.full(DRIFT_ROWS, 1.0))
    assert level.median() == 1.0
    level.push(np.full(DRIFT_ROWS // 2 + 1, 3.0))
    assert level.median() == 3.0


class Net:
    def __init__(self, engine: str, fell_back: bool = False) -> None:
        self.engine, self.fell_back = engine, fell_back

    def __call__(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return values


def over(net: Net | None) -> Detector:
    found = rules_detector("g", PLANT.assets)
    return replace(found, scorer=Reconstruction(1, net, unit_whitening(1, 2))) if net else found


def test_what_computes_is_told_in_words_and_a_gpu_that_is_not_used_shows() -> None:
    gpu, cpu, fallen = over(Net("onnx_gpu")), over(Net("onnx_cpu")), over(Net("onnx_cpu", fell_back=True))
    assert [engine_of(one) for one in (over(None), cpu, gpu)] == ["numpy", "onnx_cpu", "onnx_gpu"]
    assert device_of([over(None)]) == device_of([cpu]) == "CPU"
    assert device_of([gpu]) == "GPU"
    assert device_of([gpu, cpu]) == "GPU and CPU"
    assert device_of([gpu, fallen]) == "CPU, since no GPU could be used"
    watch = ScoreWatch()
    watch.tell(lambda: {"g": fallen}, START)
    assert value("gpu_fallback_active") == 1
    watch = ScoreWatch()
    watch.tell(lambda: {"g": gpu}, START)
    assert value("gpu_fallback_active") == 0
    metrics.engines({})
    metrics.models("champion", [])


# -------------------------------------------------------------------- reminders


def lasting(bench: Bench) -> None:
    """Let the pump raise an alert, and tell it."""
    bench.send(20)
    bench.send(40, temp=400.0)
    bench.turn()


def test_what_lasts_is_told_again_every_minute_to_a_receiver_that_forgets(bench: Bench) -> None:
    lasting(bench)
    first = [event.alert.id for event, _ in bench.receiver.sent]
    assert first
    bench.receiver.reminded.clear()
    bench.time += 59
    bench.turn()
    assert bench.receiver.reminded == []
    bench.time += 2
    bench.turn()
    assert [set(told) for told in bench.receiver.reminded] == [set(first)]


def test_where_nothing_lasts_nothing_is_sent_and_nothing_counts_as_delivered(bench: Bench) -> None:
    before = value("notifications_total", channel="desk", result="delivered") or 0.0
    bench.send(20)
    bench.turn()
    assert bench.receiver.reminded == []
    assert (value("notifications_total", channel="desk", result="delivered") or 0.0) == before


def test_a_new_process_reminds_at_once_of_what_an_earlier_one_told(bench: Bench) -> None:
    lasting(bench)
    receiver = Forgetful("desk")
    worker = AlertWorker(bench.log, AlertPolicy(plant=PLANT, receivers=("desk",)), [receiver], timer=lambda: 0.0)
    bench.sessions["alert"].close()
    session = Session(worker, bench.log.join("alert", worker.topics), 64)
    for _ in range(3):
        session.step(0.0)
    assert receiver.sent == [], "nothing is raised twice"
    assert [len(told) for told in receiver.reminded[-1:]] == [len({e.alert.id for e, _ in bench.receiver.sent})]


def test_a_reminder_that_fails_is_tried_again_after_a_while(bench: Bench) -> None:
    lasting(bench)
    bench.receiver.reminded.clear()
    bench.receiver.down = True
    bench.time += 61
    bench.turn()
    bench.receiver.down = False
    bench.turn()
    assert bench.receiver.reminded == [], f"it is left alone for {RETRY_S} s"
    bench.time += RETRY_S
    bench.turn()
    assert len(bench.receiver.reminded) == 1


def test_ten_alerts_in_ten_minutes_are_no_flood_and_eleven_are() -> None:
    watch, alert = AlertWatch(), lasting_alert()
    for second in range(10):
        watch.raised(alert, float(second))
    assert not watch.flood(10.0)
    watch.raised(alert, 10.0)
    assert watch.flood(10.0)
    assert watch.flood(600.0)
    assert not watch.flood(601.0)


def lasting_alert() -> Alert:
    bench = Bench()
    bench.send(20)
    bench.send(40, temp=400.0)
    bench.turn()
    return bench.receiver.sent[0][0].alert
