"""Rivals are chosen by name like every model, are fitted fairly, and the naive one is as naive as people build it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly.detector import Detector
from anomaly.domain import SECOND, Asset, Plant, Tag
from anomaly.errors import PlantwatchError
from anomaly.model_card import ModelCard
from anomaly.registry.bundle import pack, unpack
from anomaly.scorers.mean_error import MeanError
from anomaly.thresholds.quantile import quantile_line
from anomaly.training import card_of
from anomaly.training_set import TrainingSet
from pipelines.datasets.bench import Bench, Protocol, Series, Summary, Task, clock, part, readings_of, stamps_of
from pipelines.evaluating import evaluate, fit
from pipelines.rungs import MODELS, RIVALS, SEEDED
from pipelines.training_service import training_set_from_readings

TAGS = ("a", "b", "c", "d")
ROWS, LEARNED = 1_800, 1_200


def task() -> Task:
    """Four tags under two loads; from row 1500 on the second one leaves the others."""
    time, chance = np.arange(ROWS), np.random.default_rng(1)
    loads = np.stack([np.sin(time / 9.0), np.sin(time / 31.0)], axis=1)
    values = loads @ np.random.default_rng(3).normal(size=(2, 4)) + chance.normal(0, 0.1, (ROWS, 4))
    labels = (time >= 1_500) & (time < 1_560)
    values[labels, 1] += 2.5
    rows = readings_of("pump", TAGS, clock(ROWS, SECOND), values)
    series = Series("pump", rows, stamps_of(rows.times), labels, time < LEARNED)
    return Task("pump", TAGS, SECOND, part(rows, slice(LEARNED)), (series,))


def bench() -> Bench:
    return Bench("made-up", Protocol(Summary.MEAN, 20), (task(),))


def silent(_what: str, _share: float) -> None:
    """Tell nobody."""


def test_every_rival_can_be_chosen_and_those_with_chance_have_seeds() -> None:
    assert set(RIVALS) <= set(MODELS)
    assert {"isolation_forest", "lstm_naive"} <= SEEDED
    assert "hotelling" not in SEEDED


@pytest.mark.parametrize("model", ["hotelling", "isolation_forest"])
def test_a_rival_finds_a_plain_fault_from_a_line_on_rows_left_out(model: str) -> None:
    found = evaluate(bench(), model, 0, silent)
    assert found.summary.events_hit == 1
    assert found.summary.vus_pr > {"hotelling": 0.9, "isolation_forest": 0.5}[model]
    assert found.summary.far < 0.05


def test_chance_makes_another_forest_and_the_same_seed_the_same() -> None:
    scores = [evaluate(bench(), "isolation_forest", seed, silent).scores[0].score for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0][LEARNED:] != scores[2][LEARNED:]).any()


@pytest.mark.parametrize("model", ["hotelling", "isolation_forest"])
def test_a_bundle_never_brings_a_rival_into_service(model: str) -> None:
    detector = fit(task(), model, 0)
    with pytest.raises(PlantwatchError):
        unpack(pack(detector, card(detector), None, created=0), "v1")


def card(detector: Detector) -> ModelCard:
    one, asset = task(), Asset("pump", "pump", tuple(Tag(name) for name in TAGS), SECOND)
    return card_of(detector, training_set(one, asset), {})


def training_set(one: Task, asset: Asset) -> TrainingSet:
    until = int(one.train.times.max()) + 1
    return training_set_from_readings(Plant("p", (asset,)), "pump", None, [one.train], 0, until).training


@pytest.mark.slow
def test_the_naive_autoencoder_has_its_line_at_the_rows_it_was_trained_on(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorFlow's own import
        detector = fit(task(), "lstm_naive", 0)
        calibrated = fit(replace(task(), calibration=part(task().series[0].rows, slice(1_200, 1_400))), "lstm_naive", 0)
    assert isinstance(detector.scorer, MeanError)
    assert "trained on" in detector.threshold.method
    assert calibrated.threshold == detector.threshold
    asset = Asset("pump", "pump", tuple(Tag(name) for name in TAGS), SECOND)
    learned = training_set(task(), asset).split().fit.windows(detector.scaler, detector.sensors, detector.length)
    raw = detector.scorer.score(learned.values, learned.mask).raw
    assert detector.threshold.line("pump") == pytest.approx(quantile_line(raw, 0.99), rel=1e-4)
    found = evaluate(bench(), "lstm_naive", 0, silent)
    assert found.summary.events_hit == 1
