"""One row's stage: servers, workers, plant, ledger, receiver; how a fault strikes, and how all is judged at the end."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anomaly.domain import SECOND, Rung
from anomaly.registry import Registry
from pipelines import topics
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.codec import Serving
from pipelines.plant_file import write_plant
from pipelines.serving import promote
from tests.faults import found, reference, verdict, versions
from tests.faults.feeder import Feeder, steady
from tests.faults.historian import Store
from tests.faults.kafka_view import KafkaView, PlainProducer
from tests.faults.ledger import Ledger, lag
from tests.faults.minting import GROUP, Mint, Minted, bench_plant
from tests.faults.proxy import Proxy
from tests.faults.receiver import SECRET, Receiver
from tests.faults.servers import Broker, Influx
from tests.faults.verdict import Verdict
from tests.faults.workers import Worker

HOURS_BACK = 20
PARTITIONS = 4
WAYS = (
    ("score", topics.READINGS),
    ("record", topics.READINGS),
    ("alert", topics.SCORES),
    ("record", topics.SCORES),
    ("record", topics.ALERTS),
)
"""Every group and what it reads."""


@dataclass(slots=True)
class Strike:
    """One fault injected: when it was over (monotonic s), what lay before the groups then, when they had it behind."""

    what: str
    lag: int
    """Records that waited or were in work when it struck."""
    over: float = 0.0
    goal: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    recovered: float | None = None

    @property
    def recovery_s(self) -> float | None:
        """Seconds from its end until everything that lay there then was done."""
        return None if self.recovered is None else self.recovered - self.over


class Stage:
    """Everything of one row. Use as a context; nothing of it outlives the row but the servers."""

    def __init__(self, name: str, broker: Broker, influx: Influx, folder: Path, *, full: bool, assets: int) -> None:
        self.name, self.full = name, full
        self.broker, self.influx = broker, influx
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.prefix = f"{name}-{time.time_ns() % 10**9}."
        self.chance = random.Random(name)
        self.plant = bench_plant(assets)
        start = (time.time_ns() // (3600 * SECOND) - HOURS_BACK) * 3600 * SECOND
        self.mint = Mint(self.plant, start)
        self.ledger = Ledger()
        self.strikes: list[Strike] = []
        self.complaints: list[str] = []
        self.must_replay = False
        self.workers: dict[str, Worker] = {}
        self.notes: list[str] = []
        self.unasked: list[str] = []
        """Workers that ended by themselves though nobody asked them to."""
        self.refused_readings: set[str] = set()
        """Assets whose readings the historian refuses."""
        self.refused_scores: set[str] = set()
        self.settings_of: dict[str, dict[str, str]] = {}
        """Variables of one service alone."""
        self.doors: object = None
        self._more = 0
        self._watching = threading.Event()
        self._expected_ends: set[str] = set()
        self._stack = ExitStack()

    # ------------------------------------------------------------- life of a row

    def __enter__(self) -> Stage:
        with ExitStack() as stack:
            write_plant(self.plant, self.folder / "plant.toml")
            self.models = self.folder / "models"
            self.versions = versions.fit(self.plant, Registry(self.models), self.mint.start - 3600 * SECOND)
            self.log = KafkaLog(KafkaConfig((self.broker.servers,), prefix=self.prefix))
            stack.callback(self.log.close)
            self.log.create(topics.partitions(PARTITIONS), topics.COMPACTED)
            self.view = KafkaView(self.broker.servers, self.prefix)
            stack.callback(self.view.close)
            self.producer = PlainProducer(self.broker.servers, self.prefix, self.ledger)
            stack.callback(self.producer.close)
            self.proxy = Proxy(self.influx.port)
            stack.callback(self.proxy.close)
            self.receiver = Receiver()
            stack.callback(self.receiver.close)
            self.store = Store(self.influx, f"{self.name}-{time.time_ns() % 10**9}-")
            stack.callback(self.end_workers)
            self.wish(0)
            threading.Thread(target=self._watch, name="watch", daemon=True).start()
            stack.callback(self._watching.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def settings(self) -> dict[str, str]:
        """PLANTWATCH_… variables of every worker."""
        return {
            "LOG": "kafka",
            "KAFKA_SERVERS": self.broker.servers,
            "TOPIC_PREFIX": self.prefix,
            "DATA_DIR": str(self.folder),
            "PLANT": str(self.folder / "plant.toml"),
            "MODELS_DIR": str(self.models),
            "WEBHOOK_URL": self.receiver.url,
            "WEBHOOK_SECRET": SECRET,
            **self.store.settings(self.proxy.url),
        }

    def start(self, score: int = 2, record: int = 1, alert: int = 1) -> None:
        """Start workers and wait until they are ready."""
        for service, count in (("score", score), ("record", record), ("alert", alert)):
            for number in range(1, count + 1):
                self.add(service, number)
        for worker in self.workers.values():
            worker.await_ready()

    def add(self, service: str, number: int) -> Worker:
        """One more worker; it is started, not awaited."""
        name = f"{service}-{number}"
        if name not in self.workers:
            settings = {**self.settings(), **self.settings_of.get(service, {})}
            self.workers[name] = Worker(name, service, settings, self.folder)
        self.unexpect_end(self.workers[name])
        self.workers[name].start()
        return self.workers[name]

    def end_workers(self) -> None:
        """Kill what still runs."""
        self._watching.set()
        for worker in self.workers.values():
            if worker.alive:
                with contextlib.suppress(Exception):
                    worker.thaw()
                    worker.kill()

    def wish(self, number: int) -> None:
        """Ask that the group be served by the version of that number from now on."""
        rung = (Rung.WINDOW_PCA, Rung.ROLLING_Z)[number]
        promote(self.log, Serving(GROUP, self.versions[number], 0, rung))

    # --------------------------------------------------------------- load, faults

    @contextmanager
    def load(self, rate: float, source: Iterator[Minted] | None = None) -> Iterator[Feeder]:
        """While inside, records come at that rate; at the end all are acknowledged."""
        with Feeder(self.producer.send, source or steady(self.mint), rate) as feeder:
            yield feeder
        self.producer.flush()

    def at_work(self, group: str = "score", topic: str = topics.READINGS, patience_s: float = 15.0) -> int:
        """Wait until the group has something unfinished, and say how many records."""
        deadline = time.monotonic() + patience_s
        while not (waiting := lag(self.view, group, topic)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return waiting

    def strike(self, what: str, waiting: int) -> Strike:
        """Note that a fault strikes now, with so many records waiting."""
        strike = Strike(what, waiting)
        self.strikes.append(strike)
        return strike

    def over(self, strike: Strike) -> None:
        """The fault is over: from here on recovery is timed."""
        strike.over = time.monotonic()
        strike.goal = {(group, topic): dict(self.view.ends(topic)) for group, topic in WAYS}

    def await_recovery(self, strike: Strike, patience_s: float) -> None:
        """Wait until all that lay there at the strike's end is done. Too late is a complaint."""
        deadline = time.monotonic() + patience_s
        while strike.recovered is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if strike.recovered is None:
            self.complaints.append(f"{strike.what}: not caught up within {patience_s:.0f} s")

    def done(self, group: str) -> int:
        """Records of the readings that the group has committed."""
        return sum(offset for offset, _ in self.view.committed(group, topics.READINGS).values())

    def more_injected(self, count: int) -> None:
        """So many faults beyond the strikes: bad records."""
        self._more += count

    @property
    def injected(self) -> int:
        """Faults, all told."""
        return len(self.strikes) + self._more

    def expect_end(self, worker: Worker) -> None:
        """This worker may end by itself: the row wants it to."""
        self._expected_ends.add(worker.name)

    def unexpect_end(self, worker: Worker) -> None:
        """From now on it must live."""
        self._expected_ends.discard(worker.name)

    def _watch(self) -> None:
        """Time recoveries, and start again what ended by itself, as any supervisor would."""
        while not self._watching.wait(0.3):
            for worker in list(self.workers.values()):
                code = worker.note_end() if worker.name not in self._expected_ends else None
                if code is not None:
                    self.unasked.append(f"{worker.name}: {code}")
                    self.notes.append(f"{worker.name} ended by itself with {code}: {worker.tail(2)}")
                    with contextlib.suppress(RuntimeError):  # the row was quicker
                        worker.start()
            with contextlib.suppress(Exception):
                self._time_recoveries()

    def _time_recoveries(self) -> None:
        waiting = [s for s in self.strikes if s.goal and s.recovered is None]
        if not waiting:
            return
        at = {way: self.view.committed(*way) for way in WAYS}
        for strike in waiting:
            if all(_reached(at[way], goal) for way, goal in strike.goal.items()):
                strike.recovered = time.monotonic()

    # ------------------------------------------------------------------- verdict

    def drain(self, patience_s: float) -> None:
        """Wait until every group has committed all there is. What is left is a complaint."""
        deadline = time.monotonic() + patience_s
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            left = {way: lag(self.view, *way) for way in WAYS}
            quiet = 0 if any(left.values()) or self.ledger.outstanding() else quiet + 1
            time.sleep(0.2)
        if quiet < 2:
            told = ", ".join(f"{group} on {topic}: {n}" for (group, topic), n in left.items() if n)
            self.complaints.append(f"not drained within {patience_s:.0f} s: {told}")

    def judge(self, patience_s: float = 120.0) -> Verdict:
        """Drain, send fresh readings, drain again, and compare all that was found with what was expected."""
        self.drain(patience_s)
        for asset in self.plant.assets:
            self.producer.send(self.mint.next(asset.path, 8))
        self.producer.flush()
        self.drain(60)
        result = self._compare()
        result.wrong += self.complaints + self.receiver.wrong
        result.wrong += [f"ended by itself with exit code {text}" for text in self.unasked[:3]]
        result.replays += self._read_again()
        unfinished = [s.what for s in self.strikes if s.recovered is None]
        if unfinished:
            result.wrong.append(f"no recovery seen from: {', '.join(unfinished[:3])}")
        if not any(strike.lag for strike in self.strikes):
            result.wrong.append("no fault struck while work was going on: the row proves nothing")
        if self.must_replay and not result.replays:
            result.wrong.append("nothing was read again: the fault did not bite")
        return result

    def _compare(self) -> Verdict:
        result = Verdict()
        lying_there = self.view.records(topics.READINGS)
        verdict.check_broker(result, self.ledger, lying_there)
        lying, wrong, _ = self.ledger.lying(lying_there)
        result.wrong += [text for text in wrong if text not in result.wrong]
        taken_up = reference.activations(self.view.records(topics.MODELS))
        load = versions.loader(self.plant, self.models)
        expected = reference.expect(lying, self.plant, taken_up, load)
        verdict.check_scores(result, expected, self.view)
        verdict.check_dead_letters(result, expected, self.view)
        verdict.check_counters(result, expected, self.view)
        verdict.check_events(result, expected, "alerts topic", verdict.events_on_topic(self.view))
        self._await_told(expected.events)
        verdict.check_events(result, expected, "receiver", list(self.receiver.told))
        self._compare_historian(result, expected)
        return result

    def _await_told(self, events: Mapping[str, object]) -> None:
        """A receiver that failed is told again after a while."""
        deadline = time.monotonic() + 45
        while not self.receiver.keys() >= events.keys() and time.monotonic() < deadline:
            time.sleep(0.3)

    def _compare_historian(self, result: Verdict, expected: reference.Expected) -> None:
        with self.store.reader() as historian:
            readings = found.historian_readings(historian, self.plant)
            scores = found.historian_scores(historian, self.plant)
            events = found.historian_events(historian)
        for asset in self.refused_readings:
            expected.readings = {key: value for key, value in expected.readings.items() if key[0] != asset}
            readings = {key: value for key, value in readings.items() if key[0] != asset}
        expected.single = {k: value for k, value in expected.single.items() if k[0] not in self.refused_scores}
        verdict.check_historian(result, expected, readings, scores)
        verdict.check_events(result, expected, "historian alerts", events)

    def _read_again(self) -> int:
        """Records that services took more than once, as far as they told before they ended."""
        again = 0
        for group, topic in WAYS:
            taken = sum(w.total_consumed()[topic] for w in self.workers.values() if w.service == group)
            again += max(0, taken - sum(self.view.ends(topic).values()))
        return again


def _reached(at: Mapping[int, tuple[int, str]], goal: Mapping[int, int]) -> bool:
    return all(at.get(partition, (0, ""))[0] >= offset for partition, offset in goal.items())


Row = Callable[[Stage], None]
