from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly.domain import SECOND, Role, Rung, Samples, State, Tag
from anomaly.errors import ConfigurationError, TooFewRowsError
from anomaly.model_card import data_sha256
from anomaly.registry import Registry
from anomaly.scaling import fit_scaler
from anomaly.sensors import fit_limits
from anomaly.training import Progress, Trained, TrainingSpec, fit_lstm_autoencoder, rows_of
from anomaly.training_set import TrainingSet

NOW = 1_795_255_200 * SECOND
TAGS = (*(Tag(name) for name in ("load", "flow", "power", "temp")), Tag("state", role=Role.MODE, running=(1.0,)))
SPEC = TrainingSpec(
    length=12, units=16, latent=6, epochs=10, batch=64, windows_per_epoch=2_048, learning_rate=1e-2, seed=7
)


def plant_samples(asset: str, rows: int, seed: int) -> Samples:
    """Four tags that hang together by one load, and a mode that is off for a while."""
    chance = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 40.0 + seed) + 0.3 * np.sin(np.arange(rows) / 7.0)
    columns = [load, 10 + 2 * load, 5 - load + 0.3 * load**2, 60 + 4 * load]
    values = np.stack([c + 0.05 * chance.normal(size=rows) * np.ptp(c) for c in columns] + [np.ones(rows)], axis=1)
    values[200:220] = 0.0
    mask = chance.random(values.shape) < 0.99
    mask[:, 4] = True
    values[~mask] = np.nan
    restart = np.arange(rows) == 0
    names = tuple(tag.name for tag in TAGS)
    times = (1 + np.arange(rows)) * 10 * SECOND
    quality = np.where(mask, 0, 3).astype(np.uint8)
    return Samples(asset, names, times, values, mask, quality, restart, mask.sum(axis=1).astype(np.int64))


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    samples = tuple(plant_samples(f"s1/pump-{i}", 2_000, i) for i in range(2))
    normal = tuple(np.arange(2_000) % 500 != 250 for _ in samples)
    return TrainingSet("pumps", ("load", "flow", "power", "temp"), samples, normal, TAGS[4])


def train(training: TrainingSet, work: Path, spec: TrainingSpec = SPEC, steps: list[Progress] | None = None) -> Trained:
    on_progress = (steps if steps is not None else []).append
    return fit_lstm_autoencoder(training, TAGS, spec, version="new", on_progress=on_progress, workdir=work)


def test_rows_for_training_make_the_windows_of_the_training_set(training: TrainingSet) -> None:
    limits = fit_limits(training.samples, TAGS, training.keep)
    scaler = fit_scaler(training.samples, training.tags, training.keep)
    for length in (1, 5, 12):
        slow = training.windows(scaler, limits, length)
        rows = rows_of(training, scaler, limits, length)
        values, mask = rows.gather(rows.ends)
        assert len(values) > 2_000
        np.testing.assert_array_equal(values, slow.values)
        np.testing.assert_array_equal(mask, slow.mask)


def test_an_empty_set_has_no_rows(training: TrainingSet) -> None:
    limits, scaler = fit_limits(training.samples, TAGS), fit_scaler(training.samples, training.tags, training.keep)
    empty = replace(training, samples=(), normal=())
    assert len(rows_of(empty, scaler, limits, 12).ends) == 0


def test_the_data_hash_knows_values_masks_and_what_was_used(training: TrainingSet) -> None:
    whole = data_sha256(training.samples, training.normal)
    assert whole == data_sha256(training.samples, training.normal)
    block, rest = training.samples[0], training.samples[1:]
    values = np.where(np.arange(block.values.size).reshape(block.values.shape) == 7, 1e-9, block.values)
    mask = block.mask.copy()
    mask[9] = ~mask[9]
    for other in (replace(block, values=values), replace(block, mask=mask), replace(block, asset="x")):
        assert data_sha256((other, *rest), training.normal) != whole
    assert data_sha256(training.samples, tuple(np.ones(2_000, bool) for _ in range(2))) != whole


def test_senseless_specs_and_too_few_rows_are_told_before_tensorflow_is_loaded(
    training: TrainingSet, tmp_path: Path
) -> None:
    for wrong in (
        {"length": 1},
        {"units": 0},
        {"dropout": 1.0},
        {"focus": -0.1},
        {"learning_rate": 0.0},
        {"seed": -1},
        {"linear": -1},
    ):
        with pytest.raises(ConfigurationError, match="expected"):
            TrainingSpec(**wrong)
    nothing = replace(training, normal=tuple(np.arange(2_000) < 100 for _ in range(2)))
    with pytest.raises(TooFewRowsError, match="expected at least 24"):
        train(nothing, tmp_path)


@pytest.fixture(scope="module")
def trained(training: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[Progress]]:
    steps: list[Progress] = []
    return train(training, tmp_path_factory.mktemp("work"), steps=steps), steps


@pytest.mark.slow
def test_a_trained_detector_is_calm_when_healthy_and_sees_what_breaks(
    trained: tuple[Trained, list[Progress]],
) -> None:
    detector = trained[0].detector
    healthy = plant_samples("s1/pump-0", 1_500, 0)
    broken = healthy.values.copy()
    broken[800:, 1] -= np.linspace(0.0, 3.0, 700)  # flow leaks away while the load stays
    fault = replace(healthy, values=broken)
    calm, alarm = (detector.detect(detector.windows(samples, 0)) for samples in (healthy, fault))
    known = np.isfinite(calm.score)
    assert known.sum() > 1_500 - 3 * detector.length  # after the start and after two holes
    assert calm.anomalous[known].mean() < 0.02
    assert alarm.anomalous[1_300:].mean() > 0.9
    assert alarm.contributions[1_300:].sum(axis=0).argmax() == 1
    assert calm.rung is Rung.LSTM_AUTOENCODER
    expected, actual = alarm.expected[1_400:, 1], alarm.actual[1_400:, 1]
    assert np.nanmean(expected - actual) > 1.0, "it says what the flow should have been, in its unit"


@pytest.mark.slow
def test_a_missing_sensor_is_no_anomaly(trained: tuple[Trained, list[Progress]]) -> None:
    detector = trained[0].detector
    healthy = plant_samples("s1/pump-1", 1_200, 1)
    for column in range(4):
        mask = healthy.mask.copy()
        mask[600:, column] = False
        samples = replace(healthy, mask=mask, values=np.where(mask, healthy.values, np.nan))
        scores = detector.detect(detector.windows(samples, 0))
        assert np.mean([state is State.OK for state in scores.state[650:]]) > 0.9
        assert scores.anomalous[600:].mean() < 0.1
        assert (scores.contributions[600:, column] == 0.0).all()


@pytest.mark.slow
def test_the_card_says_what_it_was_made_of(trained: tuple[Trained, list[Progress]], training: TrainingSet) -> None:
    card = trained[0].card
    assert (card.rows, card.seed, card.spec["units"]) == (training.rows, 7, 16)
    assert card.rows == 2 * (2_000 - 20 - 4)
    assert card.data_sha256 == data_sha256(training.samples, training.normal)
    assert {"line", "held_out_loss", "calibration_exceed_rate", "seconds", "onnx_difference"} <= set(card.figures)
    assert all(np.isfinite(value) for value in card.figures.values())
    assert card.figures["calibration_exceed_rate"] < 0.02
    assert "keras" in card.libraries
    assert card.ranges.keys() == set(training.tags)


@pytest.mark.slow
def test_progress_goes_from_nothing_to_done(trained: tuple[Trained, list[Progress]]) -> None:
    steps = trained[1]
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert list(dict.fromkeys(step.stage for step in steps)) == ["prepare", "fit", "export", "calibrate", "done"]
    assert len([step for step in steps if step.stage == "fit"]) > 50


@pytest.mark.slow
def test_what_was_trained_is_loaded_from_the_registry_and_scores_the_same(
    trained: tuple[Trained, list[Progress]], tmp_path: Path
) -> None:
    result = trained[0]
    registry = Registry(tmp_path)
    version = registry.add(result.detector, result.card, files=result.files, now=NOW)
    loaded = registry.load("pumps", version)
    samples = plant_samples("s1/pump-0", 400, 9)
    one, other = (d.detect(d.windows(samples, 0)) for d in (result.detector, loaded))
    np.testing.assert_array_equal(one.score, other.score)
    assert registry.card("pumps", version) == result.card


@pytest.mark.slow
def test_equal_seeds_and_data_give_equal_scores_even_after_a_kill(
    trained: tuple[Trained, list[Progress]], training: TrainingSet, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(step: Progress) -> None:
        if step.share > 0.4:
            raise Killed

    with pytest.raises(Killed):
        fit_lstm_autoencoder(training, TAGS, SPEC, version="new", on_progress=kill, workdir=tmp_path)
    assert not (tmp_path / "model.onnx").exists(), "nothing that could serve was left"
    again = train(training, tmp_path)
    samples = plant_samples("s1/pump-0", 400, 9)
    one, other = (d.detect(d.windows(samples, 0)) for d in (trained[0].detector, again.detector))
    np.testing.assert_array_equal(one.score, other.score)
    assert trained[0].detector.threshold == again.detector.threshold
