"""The train service: the ladder by itself, retraining and promotion on demand, each command done once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly.domain import SECOND, Asset, Plant, Readings, Rung, Tag
from anomaly.errors import ModelRefused, StorageError
from anomaly.registry import MemoryRegistry
from pipelines import topics
from pipelines.adapters.memory import MemoryClock, MemoryHistorian, MemoryLog
from pipelines.codec import Command, CommandKind, encode_command
from pipelines.fit_client import FitClient
from pipelines.fit_process import Job, Word
from pipelines.fitting import fit_version
from pipelines.ladder import LadderPolicy
from pipelines.ports import NewRecord, Partition
from pipelines.service import Session
from pipelines.serving import ServingTable
from pipelines.trainer import LADDER, TrainWorker
from pipelines.training_service import training_set_from_historian

TICK = 10 * SECOND
START = 1_700_000_000 * SECOND
TAGS = (Tag("flow", "m3/h", 0.0, 100.0), Tag("power", "kW", 0.0, 50.0))
PLANT = Plant(
    "works", (Asset("s/p1", "pumps", TAGS, TICK), Asset("s/p2", "pumps", TAGS, TICK), Asset("s/f", "fans", TAGS, TICK))
)
POLICY = LadderPolicy(window_pca_rows=300, lstm_rows=2_000)
PCA, NET = Rung.WINDOW_PCA, Rung.LSTM_AUTOENCODER


class FakeFits(FitClient):
    """Takes jobs and says what the test lets it say."""

    def __init__(self) -> None:
        self.job = None
        self.jobs: list[Job] = []
        self.said: list[Word] = []
        self.rested = 0

    def submit(self, job: Job) -> None:
        assert self.job is None, "one job at a time"
        self.job = job
        self.jobs.append(job)

    def words(self) -> list[Word]:
        said, self.said = self.said, []
        if any(word.stage in ("fitted", "failed") for word in said):
            self.job = None
        return said

    def rest(self) -> None:
        self.rested += 1

    def close(self) -> None:
        self.job = None


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MemoryClock(START + 10**6 * SECOND)
        self.log = MemoryLog(self.clock)
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.historian = MemoryHistorian()
        self.registry = MemoryRegistry()
        self.fits = FakeFits()
        self.ready = True
        self.asked = 0
        self.worker = self._worker()
        self.session = self._session()

    def _worker(self) -> TrainWorker:
        return TrainWorker(
            self.log,
            self.historian,
            self.registry,
            PLANT,
            self.clock,
            self.fits,
            policy=POLICY,
            ready=lambda: self.ready,
        )

    def _session(self) -> Session:
        self.worker.reset()  # as the loop does
        return Session(self.worker, self.log.join("train", self.worker.topics), 64)

    def rebuild(self) -> None:
        """A store failed: the session ends and a new one begins, the process lives on."""
        self.session.close()
        self.session = self._session()
        self.turns()

    def restart(self) -> None:
        """A new process: the fit that was under way is gone with the old one."""
        self.session.close()
        self.fits = FakeFits()
        self.worker = self._worker()
        self.session = self._session()
        self.turns()

    def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.session.step(0.0)

    def store(self, asset: str, rows: int) -> None:
        load = np.sin(np.arange(rows) / 30.0)
        values = np.stack([50 + 10 * load, 20 + 5 * load], axis=1)
        values += np.random.default_rng(len(asset)).normal(0, 0.2, values.shape)
        times = START + TICK * np.arange(1, rows + 1)
        self.historian.write([Readings(asset, ("flow", "power"), times, values, np.zeros(values.shape, np.uint8))])

    def fit(self, rung: Rung = PCA, objections: tuple[str, ...] = (), group: str = "pumps") -> str:
        """What the fit process does with the job under way: make a version, and say so. The rung is only said."""
        cleaned = training_set_from_historian(self.historian, PLANT, group, None, 0, 2**62)
        self.clock.sleep(1.0)
        fitted = fit_version(cleaned, TAGS, PCA, self.registry, now=self.clock.now(), workdir=self.folder)
        word = Word(group, rung, "fitted", 1.0, fitted.version, fitted.card.rows, "a summary", objections)
        self.fits.said.append(word)
        self.turns()
        return fitted.version

    def ask(self, kind: CommandKind, target: str = "pumps", role: str = "engineer", **arguments: str) -> None:
        self.asked += 1
        command = Command(f"c{self.asked}", kind, target, "", "ann", role, self.clock.now(), "why", arguments)
        self.log.append([NewRecord(topics.COMMANDS, b"c", encode_command(command))])

    def wish(self, group: str = "pumps") -> tuple[str, str] | None:
        """Version and actor of the newest wish."""
        table = ServingTable()
        table.refresh(self.log)
        found = table.wishes.get(group)
        return None if found is None else (found.serving.version, found.serving.actor)

    def committed(self) -> int:
        found = self.log.committed("train", topics.COMMANDS).get(Partition(topics.COMMANDS, 0))
        return 0 if found is None else found.offset


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def quiet(tmp_path: Path) -> Bench:
    """With rows to learn from, but no ladder."""
    found = Bench(tmp_path)
    found.ready = False
    found.store("s/p1", 400)
    found.store("s/p2", 400)
    found.turns()
    return found


# ------------------------------------------------------------------------------------------------------------ ladder


def test_the_ladder_waits_for_rows_and_then_fits_one_group_after_the_other(bench: Bench) -> None:
    bench.store("s/p1", 100)
    bench.turns()
    assert bench.fits.jobs == []
    bench.store("s/p1", 400)
    bench.store("s/f", 400)
    bench.turns()
    [job] = bench.fits.jobs
    assert (job.group, job.rung, job.actor, job.champion) == ("pumps", PCA, LADDER, None)
    bench.fit()
    assert [job.group for job in bench.fits.jobs] == ["pumps", "fans"]


def test_nothing_is_learned_from_a_history_that_is_still_being_loaded(bench: Bench) -> None:
    bench.ready = False
    bench.store("s/p1", 400)
    bench.turns()
    assert bench.fits.jobs == []
    bench.ready = True
    bench.turns()
    assert len(bench.fits.jobs) == 1


def test_what_the_ladder_fitted_serves_and_is_the_champion_of_the_next_comparison(bench: Bench) -> None:
    bench.store("s/p1", 1200)
    bench.store("s/p2", 1200)
    bench.turns()
    version = bench.fit()
    assert bench.wish() == (version, LADDER)
    assert bench.registry.aliases("pumps")["champion"] == version
    assert (bench.fits.jobs[-1].rung, bench.fits.jobs[-1].champion) == (NET, version)


def test_what_something_speaks_against_stays_a_challenger_and_says_why(bench: Bench) -> None:
    bench.store("s/p1", 400)
    bench.turns()
    version = bench.fit(objections=("too many false alarms",))
    assert bench.wish() is None
    assert bench.registry.aliases("pumps") == {"challenger": version}
    assert bench.worker.status()["reason:pumps"] == "too many false alarms"
    assert len(bench.fits.jobs) == 1  # and it is not fitted again and again


def test_every_group_has_its_first_rung_before_any_has_its_second(bench: Bench) -> None:
    for asset in ("s/p1", "s/p2", "s/f"):
        bench.store(asset, 2400)
    bench.turns()
    bench.fit()
    bench.fit(group="fans")
    assert [(job.group, job.rung) for job in bench.fits.jobs] == [("pumps", PCA), ("fans", PCA), ("pumps", NET)]


def test_a_fit_that_failed_is_tried_again_only_with_half_as_many_rows_more(bench: Bench) -> None:
    bench.store("s/p1", 400)
    bench.turns()
    bench.fits.said.append(Word("pumps", PCA, "failed", reason="too few normal rows"))
    bench.turns()
    assert bench.wish() is None
    assert bench.worker.status()["reason:pumps"] == "too few normal rows"
    bench.store("s/p1", 590)
    bench.turns()
    assert len(bench.fits.jobs) == 1
    bench.store("s/p1", 620)
    bench.turns()
    assert len(bench.fits.jobs) == 2


def test_when_nothing_is_to_be_fitted_the_process_may_go(bench: Bench) -> None:
    bench.turns()
    assert bench.fits.rested > 0


def test_a_version_that_vanished_before_it_was_promoted_is_not_served(bench: Bench) -> None:
    bench.store("s/p1", 400)
    bench.turns()
    bench.fits.said.append(Word("pumps", PCA, "fitted", 1.0, "20260101T000000-00000000"))
    bench.turns()
    assert bench.wish() is None


def test_a_store_that_fails_while_promoting_does_not_make_the_ladder_forget_what_it_fitted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise StorageError("disk full")

    bench.store("s/p1", 400)
    bench.turns()
    with monkeypatch.context() as patch:
        patch.setattr(bench.log, "append", broken)
        bench.fit()
        assert bench.wish() is None
    version = bench.registry.versions("pumps")[-1]
    bench.rebuild()
    assert bench.wish() == (version, LADDER)


def test_cards_are_read_once_although_the_ladder_looks_at_them_all_the_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store("s/p1", 400)
    bench.turns()
    bench.fit()
    read = []
    monkeypatch.setattr(bench.registry, "card", lambda *key: read.append(key))
    bench.turns(20)
    assert read == []


def test_the_status_tells_how_far_a_fit_got(bench: Bench) -> None:
    bench.store("s/p1", 400)
    bench.turns()
    bench.fits.said.append(Word("pumps", PCA, "fit", 0.4))
    bench.turns()
    assert bench.worker.status() == {"waiting": 0, "stage:pumps": "window pca: fit", "done:pumps": 0.4}
    assert len(bench.fits.jobs) == 1


# ---------------------------------------------------------------------------------------------------------- commands


def test_a_retraining_is_committed_only_when_it_is_done_and_makes_a_challenger(quiet: Bench) -> None:
    quiet.ask(CommandKind.RETRAIN, rung="window_pca", since="2023-11-15T00:00:00Z", until="2030-01-01T00:00:00Z")
    quiet.turns()
    [job] = quiet.fits.jobs
    assert (job.actor, job.reason, job.rung) == ("ann", "why", PCA)
    assert (job.since, job.until) == (1_700_006_400 * SECOND, 1_893_456_000 * SECOND)
    assert quiet.committed() == 0
    assert quiet.worker.status()["waiting"] == 1
    version = quiet.fit()
    assert quiet.committed() == 1
    assert quiet.wish() is None
    assert quiet.registry.aliases("pumps") == {"challenger": version}


def test_commands_are_done_in_order_one_after_the_other(quiet: Bench) -> None:
    quiet.ask(CommandKind.RETRAIN, rung="window_pca")
    quiet.ask(CommandKind.RETRAIN, target="fans")
    quiet.turns()
    assert [job.group for job in quiet.fits.jobs] == ["pumps"]
    version = quiet.fit()
    quiet.ask(CommandKind.PROMOTE, version=version)
    quiet.turns()
    assert [job.group for job in quiet.fits.jobs] == ["pumps", "fans"]
    assert (quiet.wish(), quiet.committed()) == (None, 1)
    quiet.fits.said.append(Word("fans", NET, "failed", reason="too few rows"))
    quiet.turns()
    assert (quiet.wish(), quiet.committed()) == ((version, "ann"), 3)


def test_a_retraining_that_failed_is_done_too(quiet: Bench) -> None:
    quiet.ask(CommandKind.RETRAIN)
    quiet.turns()
    quiet.fits.said.append(Word("pumps", NET, "failed", reason="too few rows"))
    quiet.turns()
    assert quiet.committed() == 1
    assert quiet.worker.status()["reason:pumps"] == "too few rows"


def test_a_retraining_goes_on_through_a_store_that_failed_is_not_promoted_and_not_done_twice(quiet: Bench) -> None:
    quiet.ask(CommandKind.RETRAIN, rung="window_pca")
    quiet.turns()
    quiet.rebuild()
    version = quiet.fit()
    assert len(quiet.fits.jobs) == 1
    assert quiet.wish() is None
    assert quiet.registry.aliases("pumps") == {"challenger": version}
    assert quiet.committed() == 1
    quiet.rebuild()
    assert len(quiet.fits.jobs) == 1


def test_a_retraining_that_a_stop_cut_off_is_begun_again_by_the_next_process(quiet: Bench) -> None:
    quiet.ask(CommandKind.RETRAIN, rung="window_pca")
    quiet.turns()
    for _ in range(5):  # more often than a record may end a process
        quiet.restart()
        assert [job.group for job in quiet.fits.jobs] == ["pumps"]
        assert quiet.committed() == 0
    quiet.fit()
    assert quiet.committed() == 1
    quiet.restart()
    assert quiet.fits.jobs == []


def test_a_promotion_and_a_rollback_are_wishes_and_aliases(quiet: Bench) -> None:
    first, second = quiet.fit(), quiet.fit()
    quiet.ask(CommandKind.PROMOTE, version=first)
    quiet.ask(CommandKind.PROMOTE, role="admin", version=second)
    quiet.turns()
    assert quiet.wish() == (second, "ann")
    quiet.ask(CommandKind.ROLLBACK)
    quiet.turns()
    assert quiet.wish() == (first, "ann")
    assert quiet.registry.aliases("pumps")["champion"] == first
    assert quiet.committed() == 3


@pytest.mark.parametrize("role", ["viewer", "operator", ""])
def test_only_engineers_and_admins_may_change_what_serves(quiet: Bench, role: str) -> None:
    version = quiet.fit()
    before = quiet.wish()
    quiet.ask(CommandKind.PROMOTE, role=role, version=version)
    quiet.ask(CommandKind.ROLLBACK, role=role)
    quiet.ask(CommandKind.RETRAIN, role=role)
    quiet.turns()
    assert quiet.wish() == before
    assert quiet.fits.jobs == []
    assert quiet.committed() == 3


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CommandKind.PROMOTE, {"version": "20260101T000000-00000000"}),
        (CommandKind.PROMOTE, {"version": ""}),
        (CommandKind.PROMOTE, {"version": "../../etc"}),
        (CommandKind.PROMOTE, {}),
        (CommandKind.ROLLBACK, {}),
        (CommandKind.RETRAIN, {"rung": "crystal_ball"}),
        (CommandKind.RETRAIN, {"since": "yesterday"}),
        (CommandKind.RETRAIN, {"since": "2026-01-01T00:00:00"}),
    ],
)
def test_a_command_that_cannot_be_done_is_refused_and_the_next_one_is_done(
    quiet: Bench, kind: CommandKind, arguments: dict[str, str]
) -> None:
    quiet.ask(kind, **arguments)
    quiet.ask(CommandKind.RETRAIN, rung="window_pca")
    quiet.turns()
    assert quiet.wish() is None
    assert len(quiet.fits.jobs) == 1
    assert quiet.committed() == 1


def test_commands_for_others_unknown_groups_and_rubbish_are_passed_over(quiet: Bench) -> None:
    quiet.ask(CommandKind.ACKNOWLEDGE)
    quiet.ask(CommandKind.RETRAIN, target="nobody")
    for value in (b"{", b"", None):
        quiet.log.append([NewRecord(topics.COMMANDS, b"c", value)])
    quiet.turns()
    assert quiet.fits.jobs == []
    assert quiet.committed() == 5


def test_a_damaged_version_is_not_promoted(quiet: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    version = quiet.fit(objections=("keep it a challenger",))

    def refused(*_: object) -> None:
        raise ModelRefused("a bit flipped")

    monkeypatch.setattr(quiet.registry, "load", refused)
    quiet.ask(CommandKind.PROMOTE, version=version)
    quiet.turns()
    assert quiet.wish() is None
    assert quiet.committed() == 1
