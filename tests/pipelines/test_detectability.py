"""How small a fault is still caught: the search agrees with faults put in by hand, and the command says it plainly."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from anomaly.alignment import AlignmentPolicy, align
from anomaly.blocks import rows as rows_of
from anomaly.detector import Detector, fit_window_pca, rules_detector
from anomaly.domain import SECOND, Asset, Kind, Plant, Readings, Role, Rung, Tag
from anomaly.episode_policy import EpisodePolicy
from anomaly.episodes import episodes
from anomaly.errors import ConfigurationError, DataError, PlantwatchError
from anomaly.registry import Registry
from anomaly.training_set import TrainingSet
from pipelines import wiring
from pipelines.commands import detectability as command
from pipelines.detecting import LADDER, STEP, Limit, Place, find_places, limits, smallest, spread, told_as
from pipelines.fitting import fit_version
from pipelines.injecting import Fault, inject, largest, material
from pipelines.plant_file import write_plant
from pipelines.settings import Settings
from pipelines.training_service import CleanedSet, group_tags, training_set_from_readings

TICK = 10 * SECOND
MINUTES = 20.0
NAMES = ("flow", "power", "current", "lone")
TAGS = (
    Tag("flow", "m3/h", 0.0, 200.0),
    Tag("power", "kW", 0.0, 200.0),
    Tag("current", "A", 0.0, 200.0),
    Tag("lone", "°C", 0.0, 200.0),
    Tag("state", role=Role.MODE, running=(2.0,)),
)
PUMP = Asset("s1/pump-1", "pumps", TAGS, TICK)
PLANT = Plant("works", (PUMP,), "Europe/Berlin")
POLICY = EpisodePolicy()
TRIED = (Fault.STEP_UP, Fault.DRIFT_UP, Fault.LOST_RELATION)


def readings(rows: int = 1500, seed: int = 0) -> Readings:
    """Three tags that one load moves, and one of the same spread that nothing else tells of."""
    chance = np.random.default_rng(seed)
    load, other = (np.convolve(chance.normal(0, 1, rows + 19), np.ones(20) / 20**0.5, "valid") for _ in range(2))
    values = 100 + 10 * np.stack([load, load, load, other, other], axis=1)
    values[:, :4] += chance.normal(0, 0.3, (rows, 4))
    values[:, 4] = 2.0
    names = tuple(tag.name for tag in TAGS)
    return Readings(PUMP.path, names, (1 + np.arange(rows)) * TICK, values, np.zeros(values.shape, np.uint8))


def normal_rows() -> CleanedSet:
    return training_set_from_readings(PLANT, "pumps", None, [readings()], 0, 10**15)


@cache
def fitted() -> tuple[Detector, TrainingSet]:
    cleaned = normal_rows()
    return fit_window_pca(cleaned.training, TAGS, "v1", explained=0.99), cleaned.training


def stored_readings(asset: str, since: int, until: int) -> Readings:
    block = readings()
    return rows_of(block, (block.times >= since) & (block.times < until))


@cache
def places() -> tuple[Place, ...]:
    detector, training = fitted()
    return find_places(detector, {PUMP.path: PUMP}, training, stored_readings, MINUTES, POLICY, count=3, seed=1)


@cache
def found() -> dict[tuple[str, Fault], Limit]:
    detector, training = fitted()
    normal = {name: spread(training, name) for name in NAMES}
    every = limits(detector, places(), ("power", "lone"), POLICY, normal, faults=TRIED)
    return {(limit.tag.name, limit.fault): limit for limit in every}


def test_places_are_normal_quiet_and_chosen_by_the_seed() -> None:
    detector, training = fitted()
    again = find_places(detector, {PUMP.path: PUMP}, training, stored_readings, MINUTES, POLICY, count=3, seed=1)
    assert [place.since for place in again] == [place.since for place in places()]
    assert len({place.since for place in places()}) == 3
    for place in places():
        assert place.until - place.since == MINUTES * 60 * SECOND
        assert told_as(detector, [place], [place.readings], "", POLICY) == [None]


def test_the_figure_agrees_with_a_fault_put_in_by_hand_and_judged_the_plain_way() -> None:
    detector, _ = fitted()
    limit = found()["power", Fault.STEP_UP]
    assert limit.size is not None
    raised = {}
    for size in (limit.size, limit.size / 1.2):
        count = 0
        for place in places():
            whole = readings()
            inside = (whole.times > place.since) & (whole.times <= place.until)
            values = whole.values.copy()
            values[inside, 1] += size
            block = rows_of(replace(whole, values=values), whole.times <= place.until)
            samples = align(block, block.tags, AlignmentPolicy.of(TICK)).samples
            scores = detector.detect(detector.windows(samples, 0))
            told = [a for a in episodes(scores) if a.onset > place.since]
            count += any(a.kind is Kind.PROCESS or a.cause == "instrument:power" for a in told)
        raised[size] = count
    assert raised[limit.size] == 3
    assert raised[limit.size / 1.2] < 3


@pytest.mark.parametrize("fault", [Fault.STEP_UP, Fault.LOST_RELATION])
def test_a_tag_tied_to_others_is_easier_than_a_lone_one_of_the_same_spread(fault: Fault) -> None:
    tied, lone = found()["power", fault], found()["lone", fault]
    assert tied.size is not None
    assert lone.size is None or tied.size < lone.size


def test_a_bigger_fault_is_never_harder() -> None:
    detector, training = fitted()
    for fault in (Fault.STEP_UP, Fault.DRIFT_UP):
        limit = found()["power", fault]
        assert limit.size is not None
        normal = spread(training, "power")
        for factor in (1.0, 1.5, 3.0):
            size = min(limit.size * factor, limit.largest)
            blocks = [
                inject(fault, size, material(p.readings, TAGS[1], p.since, np.full(len(p.readings), np.nan), normal, 0))
                for p in places()
            ]
            assert None not in told_as(detector, places(), blocks, "power", POLICY)


def test_more_time_finds_smaller_drifts() -> None:
    detector, training = fitted()
    normal = {"power": spread(training, "power")}
    longer = find_places(detector, {PUMP.path: PUMP}, training, stored_readings, 60.0, POLICY, count=3, seed=1)
    drifts = {limit.fault: limit for limit in limits(detector, longer, ("power",), POLICY, normal)}
    short = found()["power", Fault.DRIFT_UP].size
    long = drifts[Fault.DRIFT_UP].size
    assert short is not None
    assert long is not None
    assert long < short


def test_the_rules_catch_nothing_within_the_engineering_range() -> None:
    _, training = fitted()
    rules = rules_detector("pumps", [PUMP])
    where = find_places(rules, {PUMP.path: PUMP}, training, stored_readings, MINUTES, POLICY, count=1)
    every = limits(rules, where, ("flow",), POLICY, {"flow": spread(training, "flow")})
    assert {limit.size for limit in every if limit.fault is not Fault.NOISE} == {None}
    assert "not within range" in command.words(every[0])


@given(line=st.floats(1e-6, 1e6), most=st.floats(1e-3, 1e6))
def test_the_search_brackets_any_line(line: float, most: float) -> None:
    tried: list[float] = []

    def caught(size: float) -> bool:
        tried.append(size)
        return size >= line

    size = smallest(caught, most)
    if line > most:
        assert size is None
    else:
        assert size is not None
        assert size >= line
        assert size < 1.1 * line or size == pytest.approx(most / STEP**LADDER)
    assert len(tried) <= LADDER + 6


@given(
    fault=st.sampled_from(list(Fault)),
    share=st.floats(0.0, 1.0),
    low=st.sampled_from([None, 0.0, 95.0]),
    high=st.sampled_from([None, 200.0, 105.0]),
)
def test_what_is_put_in_stays_within_the_range_and_after_its_onset(
    fault: Fault, share: float, low: float | None, high: float | None
) -> None:
    block = readings(100)
    tag, since = Tag("lone", "°C", low, high), int(block.times[49])
    other = readings(100, seed=3).values[:, 3]
    given_ = material(block, tag, since, other, (100.0, 40.0), 7)
    most = largest(fault, given_)
    changed = inject(fault, share * most, given_)
    assert most >= 0
    assert (changed.values[:50] == block.values[:50]).all()
    others = [0, 1, 2, 4]
    assert (changed.values[:, others] == block.values[:, others]).all()
    usual, after = block.values[50:, 3], changed.values[50:, 3]
    assert after.max() <= max(usual.max(), 1e9 if high is None else high) + 1e-9
    assert after.min() >= min(usual.min(), -1e9 if low is None else low) - 1e-9
    if share == 0.0:
        assert after == pytest.approx(usual)


def test_a_relation_half_lost_keeps_mean_and_spread_and_halves_the_correlation() -> None:
    block = readings(4000)
    other = readings(4000, seed=9).values[:, 1]
    given_ = material(block, TAGS[1], 0, other, (100.0, 40.0), 0)
    changed = inject(Fault.LOST_RELATION, 0.5, given_).values
    assert changed[:, 1].mean() == pytest.approx(100.0, abs=3.0)
    assert changed[:, 1].std() == pytest.approx(block.values[:, 1].std(), rel=0.25)
    assert np.corrcoef(changed[:, 0], changed[:, 1])[0, 1] == pytest.approx(0.5, abs=0.15)


def test_a_span_too_short_and_a_version_that_is_never_quiet_are_said() -> None:
    detector, training = fitted()
    with pytest.raises(DataError, match="give fewer --minutes"):
        find_places(detector, {PUMP.path: PUMP}, training, stored_readings, 1000.0, POLICY)
    loud = replace(detector, threshold=replace(detector.threshold, lines={}, default=1e-9))
    with pytest.raises(DataError, match="not quiet in any"):
        find_places(loud, {PUMP.path: PUMP}, training, stored_readings, MINUTES, POLICY, count=1)


# ---------------------------------------------------------------- the command


@pytest.fixture
def run(tmp_path: Path) -> Any:
    folder = tmp_path / "data"
    settings = Settings(data_dir=folder)
    write_plant(PLANT, wiring.data_file(settings, wiring.PLANT_FILE))
    historian = wiring.open_historian(settings)
    historian.write(readings=[readings()])
    historian.close()
    registry = wiring.open_registry(settings)
    fit_version(normal_rows(), group_tags([PUMP]), Rung.WINDOW_PCA, registry, now=10**18, workdir=tmp_path / "work")
    assert isinstance(registry, Registry)
    app = typer.Typer()
    app.command()(command.detectability)

    def invoke(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
        if isinstance(done.exception, PlantwatchError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return invoke


@pytest.mark.slow
def test_the_command_prints_a_table_with_units_and_json_for_programs(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    asked = ("pumps", "--version", "challenger", "--minutes", "10", "--tag", "power", "--places", "2")
    shown = run(*asked)
    assert "smallest fault told within 10 minutes, and as what" in shown
    assert "tried at 2 normal stretches:" in shown
    assert "s1/pump-1 from 1970-01-01 0" in shown
    assert " CET" in shown
    assert "power (kW)" in shown
    assert "drift per hour" in shown
    assert " process" in shown or " instrument" in shown
    told = json.loads(run(*asked, "--json"))
    assert (told["group"], told["rung"], len(told["places"])) == ("pumps", "window_pca", 2)
    steps = {limit["fault"]: limit for limit in told["limits"]}
    assert list(steps) == [fault.value for fault in Fault]
    assert steps["drift_up"]["unit"] == "kW/h"
    assert 0 < steps["step_up"]["size"] < 30
    assert steps["step_up"]["as"] in ("process", "instrument")


def test_without_a_champion_the_rules_are_what_serves(run: Any) -> None:
    told = json.loads(run("--minutes", "5", "--tag", "flow", "--places", "1", "--json"))
    assert told["version"] == "rules"


@pytest.mark.slow
def test_files_serve_as_well(run: Any, tmp_path: Path) -> None:
    block, folder = readings(), tmp_path / "files"
    folder.mkdir()
    write_plant(PLANT, folder / wiring.PLANT_FILE)
    lines = ["timestamp,asset," + ",".join(block.tags)]
    lines += [
        f"{int(time) // SECOND},{PUMP.path}," + ",".join(f"{value:.6f}" for value in row)
        for time, row in zip(block.times, block.values, strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    asked = ("--version", "challenger", "--minutes", "5", "--tag", "power", "--places", "1", "--json")
    stored, files = json.loads(run(*asked)), json.loads(run(*asked, "--data", str(folder)))
    assert [place["since"] for place in files["places"]] == [place["since"] for place in stored["places"]]
    for one, other in zip(stored["limits"], files["limits"], strict=True):
        assert one["as"] == other["as"]
        assert (one["size"] or 0.0) == pytest.approx(other["size"] or 0.0, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fans",), "no group 'fans'"),
        (("--asset", "s1/pump-2"), "no asset s1/pump-2 .* did you mean 's1/pump-1'"),
        (("--tag", "pwer", "--version", "challenger"), "models no tag 'pwer'.*did you mean 'power'"),
        (("--version", "2031"), "names no versions"),
        (("--since", "2h", "--until", "3h"), "is not before --until"),
    ],
)
def test_wrong_requests_are_told_plainly(run: Any, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(*words)
