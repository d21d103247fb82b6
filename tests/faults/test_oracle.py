"""The oracle of the fault bench: silent about a sound pipeline, and every way to fail found, each in its own column."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from anomaly.domain import SECOND, Readings, Rung, Scores
from anomaly.errors import Unreachable
from anomaly.registry import Registry
from pipelines import codec, topics
from pipelines.adapters.memory import MemoryHistorian, MemoryLog
from pipelines.alert_service import AlertWorker
from pipelines.alert_state import AlertPolicy
from pipelines.codec import Serving
from pipelines.ports import AlertEvent, NewRecord
from pipelines.recording import RecordWorker
from pipelines.scoring import ScoreWorker
from pipelines.service import Session, Worker
from pipelines.serving import promote
from tests.faults import found, reference, verdict, versions
from tests.faults.ledger import Ledger, LogView, append
from tests.faults.minting import GROUP, TICK, Mint, Minted, Row, bench_plant

START = 1_780_000_000 * SECOND
PLANT = bench_plant(4)


class Clock:
    """Wall time an hour after what the readings say."""

    def now(self) -> int:
        return START + 10**13

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Told:
    """A receiver that keeps what it was told."""

    name = "webhook"

    def __init__(self) -> None:
        self.events: list[AlertEvent] = []
        self.deaf_to: Callable[[int], bool] = lambda number: False

    def notify(self, event: AlertEvent, text: str) -> None:
        if not self.deaf_to(len(self.events)):
            self.events.append(event)


Meddle = Callable[[list[NewRecord]], Sequence[NewRecord]]


class MeddlingLog(MemoryLog):
    """A log whose appends are changed on the way: what a broken pipeline would have written."""

    meddle: Meddle | None = None

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        changed = self.meddle(list(records)) if self.meddle else records
        return super().append(changed)[: len(records)] if changed else ()


@dataclass
class Bench:
    """A small pipeline in one thread, over twins of the servers."""

    log: MeddlingLog
    historian: MemoryHistorian
    told: Told
    ledger: Ledger
    mint: Mint
    folder: Path

    def send(self, *minted: Minted) -> None:
        append(self.log, topics.READINGS, self.ledger, minted)

    def drain(self, meddle: Meddle | None = None, limit: int = 7) -> None:
        policy = AlertPolicy(plant=PLANT, receivers=(self.told.name,))
        workers: list[Worker] = [
            ScoreWorker(self.log, PLANT, Registry(self.folder)),
            AlertWorker(self.log, policy, [self.told]),
            RecordWorker(self.log, self.historian),
        ]
        for worker in workers:
            self.log.meddle = meddle
            session = Session(worker, self.log.join(worker.name, worker.topics), limit)
            quiet = 0
            while quiet < 3:
                quiet = 0 if session.step(0.0) else quiet + 1
            session.close()
            self.log.meddle = None

    def judge(self) -> verdict.Verdict:
        view, result = LogView(self.log), verdict.Verdict()
        lying, _, _ = self.ledger.lying(view.records(topics.READINGS))
        taken_up = reference.activations(view.records(topics.MODELS))
        expected = reference.expect(lying, PLANT, taken_up, versions.loader(PLANT, self.folder))
        verdict.check_broker(result, self.ledger, view.records(topics.READINGS))
        verdict.check_scores(result, expected, view)
        verdict.check_dead_letters(result, expected, view)
        verdict.check_counters(result, expected, view)
        verdict.check_events(result, expected, "alerts topic", verdict.events_on_topic(view))
        verdict.check_events(result, expected, "receiver", [found.event_of(event) for event in self.told.events])
        readings, scores = (
            found.historian_readings(self.historian, PLANT),
            found.historian_scores(self.historian, PLANT),
        )
        verdict.check_historian(result, expected, readings, scores)
        return result


@cache
def fitted(folder: Path) -> tuple[str, str]:
    return versions.fit(PLANT, Registry(folder), START - 10**13)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def bench(models: Path) -> Bench:
    log = MeddlingLog(Clock())
    log.create(topics.partitions(2), topics.COMPACTED)
    pca, _ = fitted(models)
    promote(log, Serving(GROUP, pca, 0, Rung.WINDOW_PCA))
    return Bench(log, MemoryHistorian(), Told(), Ledger(), Mint(PLANT, START), models)


def some(bench: Bench, records: int, assets: int = 4) -> list[Minted]:
    """Records of so many assets in turn."""
    return [bench.mint.next(asset.path) for _ in range(records) for asset in PLANT.assets[:assets]]


def test_a_sound_pipeline_is_found_sound_whatever_the_plant_does(bench: Bench) -> None:
    chance = random.Random(1)
    first = PLANT.assets[0].path
    sent = some(bench, 50)
    late = [bench.mint.of([bench.mint.row(first, n)]) for n in (3, 250, 400)]
    unknown = [bench.mint.of([Row(first, bench.mint.time(505), {"nobody_knows": 1.0, "temp": 61.0})])]
    bad = [bench.mint.of([replace(bench.mint.row(first, 506), values={"temp": None, "flow": 40.0})])]
    poison = [bench.mint.poison(b"k", b"{", "malformed"), bench.mint.poison(b"k", None, "")]
    shuffled = [*sent[:200], *sent[200:]]
    for i in range(0, len(shuffled) - 8, 8):
        shuffled[i : i + 8] = chance.sample(shuffled[i : i + 8], 8)
    bench.send(*shuffled, *late, *unknown, *bad, *poison)
    bench.mint.skip(first, 40)
    bench.send(bench.mint.next(first, 9))
    bench.drain()
    result = bench.judge()
    assert result.wrong == []
    assert (result.missing, result.spurious, result.corrupted) == (0, 0, 0)
    assert result.readings > 4000


def test_alerts_of_both_kinds_come_and_go(bench: Bench) -> None:
    """Else the bench would prove nothing about alerts."""
    bench.send(*some(bench, 180, assets=1))
    bench.drain()
    assert bench.judge().sound
    kinds = {(event.event, event.alert.anomaly.kind.value) for event in bench.told.events}
    assert kinds >= {("raised", "process"), ("cleared", "process"), ("raised", "instrument"), ("cleared", "instrument")}


def test_scores_are_of_the_version_that_was_taken_up_under_way(bench: Bench) -> None:
    bench.send(*some(bench, 40))
    bench.drain()
    promote(bench.log, Serving(GROUP, fitted(bench.folder)[1], 0, Rung.ROLLING_Z))
    bench.send(*some(bench, 40))
    bench.drain()
    assert bench.judge().wrong == []
    served = {codec.decode_scores(r.value or b"").version for r in LogView(bench.log).records(topics.SCORES)}
    assert served >= set(fitted(bench.folder))


def scores_of(record: NewRecord) -> Scores:
    return codec.decode_scores(record.value or b"")


def on_the_sixth_score(change: Callable[[NewRecord], Sequence[NewRecord]]) -> Meddle:
    seen = iter(range(10**6))

    def meddle(records: list[NewRecord]) -> Sequence[NewRecord]:
        out: list[NewRecord] = []
        for record in records:
            hit = record.topic == topics.SCORES and next(seen) == 5
            out += change(record) if hit else [record]
        return out

    return meddle


def lifted(record: NewRecord) -> NewRecord:
    scores = scores_of(record)
    coverage = scores.coverage.copy()
    coverage[-1] = 0.123456
    [(_, value)] = codec.encode_scores(replace(scores, coverage=coverage))
    return replace(record, value=value)


def moved(record: NewRecord) -> NewRecord:
    scores = scores_of(record)
    [(_, value)] = codec.encode_scores(replace(scores, times=scores.times + 10**6 * TICK))
    return replace(record, value=value)


def test_a_score_that_never_came_is_missing(bench: Bench) -> None:
    bench.send(*some(bench, 20))
    bench.drain(on_the_sixth_score(lambda record: [replace(record, topic=topics.COMMANDS, partition=0)]))
    result = bench.judge()
    assert result.missing > 0
    assert (result.spurious, result.corrupted) == (0, 0)


def test_a_score_nobody_asked_for_is_spurious(bench: Bench) -> None:
    bench.send(*some(bench, 20))
    bench.drain(on_the_sixth_score(lambda record: [record, moved(record)]))
    result = bench.judge()
    assert result.spurious > 0
    assert result.missing == 0


def test_a_score_with_another_figure_is_corrupted(bench: Bench) -> None:
    bench.send(*some(bench, 20))
    bench.drain(on_the_sixth_score(lambda record: [lifted(record)]))
    result = bench.judge()
    assert result.corrupted >= 1
    assert (result.missing, result.spurious) == (0, 0)


def test_a_score_that_came_twice_and_not_alike_is_corrupted(bench: Bench) -> None:
    bench.send(*some(bench, 20))
    bench.drain(on_the_sixth_score(lambda record: [record, lifted(record)]))
    result = bench.judge()
    assert result.corrupted >= 1
    assert (result.missing, result.spurious) == (0, 0)


def test_a_score_that_came_twice_and_alike_is_a_replay(bench: Bench) -> None:
    bench.send(*some(bench, 20))
    bench.drain(on_the_sixth_score(lambda record: [record, record]))
    result = bench.judge()
    assert result.sound
    assert result.replays > 0


def test_a_record_that_was_dropped_on_the_way_in_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    process = ScoreWorker.process
    monkeypatch.setattr(
        ScoreWorker, "process", lambda self, records: process(self, [r for r in records if r.offset != 11])
    )
    bench.send(*some(bench, 20))
    bench.drain()
    result = bench.judge()
    assert result.missing == 2 * 20  # offset 11 of both partitions: five rows of four tags
    assert result.corrupted > 0, "the windows over the hole are others"


def test_a_reading_counted_twice_is_spurious(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send(*some(bench, 20))
    bench.drain()
    committed = LogView.committed

    def one_more(self: LogView, group: str, topic: str) -> dict[int, tuple[int, str]]:
        said = {p: (at, json.loads(text)) for p, (at, text) in committed(self, group, topic).items()}
        said[1][1]["c"]["acknowledged"] += 1
        return {p: (at, json.dumps(body)) for p, (at, body) in said.items()}

    monkeypatch.setattr(LogView, "committed", one_more)
    result = bench.judge()
    assert result.spurious == 1
    assert any("settled" in text for text in result.wrong)


def test_a_historian_that_lost_a_write_is_missing_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send(*some(bench, 20))
    write = MemoryHistorian.write
    calls = iter(range(10**6))

    def forgetful(self: MemoryHistorian, readings: Sequence[Readings] = (), *rest: Sequence[object]) -> None:
        write(self, [] if next(calls) == 0 else readings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryHistorian, "write", forgetful)
    bench.drain()
    result = bench.judge()
    assert result.missing > 0
    assert (result.spurious, result.corrupted) == (0, 0)


def test_an_alert_that_was_not_told_is_missing(bench: Bench) -> None:
    bench.told.deaf_to = _once_deaf()
    bench.send(*some(bench, 180, assets=1))
    bench.drain()
    result = bench.judge()
    assert result.missing == 1
    assert [text for text in result.wrong if text.startswith("receiver")] == result.wrong


def _once_deaf() -> Callable[[int], bool]:
    calls = iter(range(10**6))
    return lambda _: next(calls) == 1


def test_a_dead_letter_with_other_bytes_is_corrupted(bench: Bench) -> None:
    bench.send(*some(bench, 5), bench.mint.poison(b"k", b"not json", "malformed"))
    bench.drain(lambda records: [replace(r, value=b"?") if r.topic == topics.DEAD_LETTERS else r for r in records])
    result = bench.judge()
    assert result.corrupted == 1
    assert (result.missing, result.spurious) == (0, 0)


def test_what_the_broker_lost_is_missing(bench: Bench) -> None:
    bench.send(*some(bench, 5))
    bench.ledger.note_sent(replace(bench.mint.next(PLANT.assets[0].path)))
    bench.ledger.note_acknowledged(next(reversed(bench.ledger.sent.values())), 0, 999)
    bench.drain()
    result = bench.judge()
    assert result.missing == 20


def test_a_pipeline_that_stands_still_is_told(bench: Bench) -> None:
    bench.send(*some(bench, 5))
    bench.drain()
    bench.send(*some(bench, 5))
    assert any("not committed" in text for text in bench.judge().wrong)


def test_the_pipeline_may_not_fail_the_receiver_silently(bench: Bench) -> None:
    """A receiver that refuses is told again: the bench sees each transition at least once, in the end."""
    refusals = threading.Event()
    notify = bench.told.notify

    def refuse_once(event: AlertEvent, text: str) -> None:
        if not refusals.is_set():
            refusals.set()
            raise Unreachable("no answer")
        notify(event, text)

    bench.told.notify = refuse_once  # type: ignore[method-assign]
    bench.send(*some(bench, 180, assets=1))
    bench.drain()
    assert refusals.is_set()
    assert any(text.startswith("receiver") for text in bench.judge().wrong)
