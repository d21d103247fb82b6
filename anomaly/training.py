"""Normal samples and a spec → a detector of the rung `lstm_autoencoder`, its model card and the net's files.

    trained = fit_lstm_autoencoder(training, tags, TrainingSpec(), version="new", on_progress=print, workdir=folder)
    version = registry.add(trained.detector, trained.card, files=trained.files, now=clock.now())

TensorFlow is imported inside `fit_lstm_autoencoder` only. Three blocks of rows are kept apart: those the net learns
from, those that stop it and size its errors, and those that place the alert line.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from anomaly.compiled import Compiled, Golden, check_golden, export_onnx, load_compiled, save_keras
from anomaly.cross_fit import raw_by_asset
from anomaly.detector import Detector, calibrate
from anomaly.domain import SECOND, Tag
from anomaly.errors import TooFewRowsError
from anomaly.model_card import ModelCard, data_sha256, library_versions
from anomaly.models import builder
from anomaly.models.batches import Rows, drop_channels, join_rows, window_ends
from anomaly.models.fitting import FitState, Fitted, fit
from anomaly.panel_fit import Net, fit_panel
from anomaly.scaling import Scaler, fit_scaler
from anomaly.scorers import Scorer
from anomaly.scorers.reconstruction import fit_reconstruction
from anomaly.sensors import SensorLimits, fit_limits
from anomaly.thresholds import Threshold, highest
from anomaly.thresholds.control import control_lines
from anomaly.training_set import Split, TrainingSet
from anomaly.training_spec import OnProgress, Progress, TrainingSpec
from anomaly.windows import sliding

__all__ = ["OnProgress", "Progress", "Trained", "TrainingSpec", "card_of", "fit_lstm_autoencoder", "rows_of"]

GOLDEN_WINDOWS: Final = 16
"""Windows whose answers by Keras travel with the model; a quarter of them with a sensor missing."""
FEWEST_WINDOWS: Final = 24
"""Windows of each of the three blocks below which a net says nothing about its errors."""
WHITENING_WINDOWS: Final = 8192
"""Held-back windows, at most, on which the size of normal errors is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A new detector, its card, and the folder with `model.keras`, `model.onnx` and `golden.npz`."""

    detector: Detector
    card: ModelCard
    files: Path


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """The three blocks, the rows to learn from and to stop by in scaled units, and what scaled them."""

    limits: SensorLimits
    scaler: Scaler
    split: Split
    learn: Rows
    stop: Rows


def fit_lstm_autoencoder(
    training: TrainingSet,
    tags_info: Sequence[Tag],
    spec: TrainingSpec,
    *,
    version: str,
    on_progress: OnProgress,
    workdir: Path,
    budget_per_week: float = 1.0,
    left_out: Mapping[str, int] | None = None,
) -> Trained:
    """Train, measure the errors on rows never seen, place the line, export.

    Same data, spec and library versions on CPU → same weights. `on_progress` is called after every batch; an error it
    raises stops the training, and so may any signal: `workdir` holds a checkpoint, and a second call with equal
    arguments goes on from it. `left_out` (rows by reason) goes into the card. Raises TooFewRowsError if the normal rows
    make too few windows, ModelRefused if the exported net disagrees with Keras.
    """
    started = time.monotonic()
    on_progress(Progress("prepare", 0.0, epochs=spec.epochs))
    workdir.mkdir(parents=True, exist_ok=True)
    digest = data_sha256(training.samples, training.normal)
    prepared = _prepare(training, tags_info, spec)
    model, fitted = _fit(prepared, spec, digest, on_progress, workdir)
    on_progress(_at("export", 0.86, fitted.state, spec))
    predict, difference = _export(model, prepared.stop, spec, workdir)
    on_progress(_at("calibrate", 0.9, fitted.state, spec))
    judge = _judge if spec.panel else _judge_alone
    detector, judged = judge(training, prepared, predict, version, budget_per_week)
    figures = {
        "held_out_loss": fitted.state.best,
        "loss": fitted.state.loss,
        "epochs": float(fitted.state.epoch),
        "windows": float(len(prepared.learn.ends)),
        **judged,
        "onnx_difference": difference,
        "seconds": time.monotonic() - started,
    }
    card = card_of(detector, training, figures, seed=spec.seed, spec=asdict(spec), left_out=left_out, digest=digest)
    on_progress(_at("done", 1.0, fitted.state, spec))
    return Trained(detector, card, workdir)


def rows_of(part: TrainingSet, scaler: Scaler, limits: SensorLimits, length: int) -> Rows:
    """Scaled rows, sensor faults masked, and the ends of wholly normal windows: `TrainingSet.windows`, not copied."""
    parts = []
    for samples, keep in zip(part.samples, part.keep, strict=True):
        single = sliding(samples, 0, 1, part.tags, limits, None)
        values, mask = scaler.scale_windows(single)[:, 0], np.ascontiguousarray(single.mask[:, 0])
        ends = window_ends(keep, samples.restart, length)
        parts.append((values, mask, ends[mask[ends].any(axis=1)]))
    empty = np.zeros((0, len(part.tags)))
    parts.append((empty.astype(np.float32), empty.astype(bool), np.zeros(0, np.int64)))
    return join_rows(parts, length)


def card_of(
    detector: Detector,
    training: TrainingSet,
    figures: Mapping[str, float],
    *,
    seed: int = 0,
    spec: Mapping[str, int | float | str] | None = None,
    left_out: Mapping[str, int] | None = None,
    digest: str | None = None,
) -> ModelCard:
    """The card of any detector fitted on `training`; adds the figure `line`. `digest`: the data's hash, if known."""
    since, until = training.span
    return ModelCard(
        group=training.group,
        rung=detector.rung.value,
        assets=tuple(dict.fromkeys(samples.asset for samples in training.samples)),
        tags=training.tags,
        rows=training.rows,
        hours=training.rows * training.tick / (3600 * SECOND),
        since=since,
        until=until,
        data_sha256=digest or data_sha256(training.samples, training.normal),
        seed=seed,
        spec=dict(spec or {"length": detector.length}),
        libraries=library_versions(),
        figures={"line": detector.threshold.default, **figures},
        left_out=dict(left_out or {}),
        ranges=_ranges(training),
    )


def _prepare(training: TrainingSet, tags_info: Sequence[Tag], spec: TrainingSpec) -> _Prepared:
    """Limits and scaler from the normal rows, then the three blocks in scaled units."""
    limits = fit_limits(training.samples, tags_info, training.keep)
    scaler = fit_scaler(training.samples, training.tags, training.keep)
    split = training.split()
    learn, stop, last = (
        rows_of(part, scaler, limits, spec.length) for part in (split.fit, split.stopping, split.calibration)
    )
    counts = [len(rows.ends) for rows in (learn, stop, last)]
    if min(counts) < FEWEST_WINDOWS:
        raise TooFewRowsError(
            f"group {training.group} has {training.rows} normal rows, which make {counts} windows of {spec.length} "
            f"rows to learn from, to stop by and to place the line by; expected at least {FEWEST_WINDOWS} of each; "
            "wait for more running time, or give a longer span"
        )
    return _Prepared(limits, scaler, split, learn, stop)


def _fit(
    prepared: _Prepared, spec: TrainingSpec, digest: str, on_progress: OnProgress, workdir: Path
) -> tuple[Any, Fitted]:
    """A fresh, uncompiled model with the best weights: what is saved is a function of the weights alone."""
    channels = prepared.learn.values.shape[1]
    build = builder(spec.architecture)
    sizes = {
        "units": spec.units,
        "depth": spec.depth,
        "latent": spec.latent,
        "linear": spec.linear,
        "dropout": spec.dropout,
        "seed": spec.seed,
    }
    learned = asdict(replace(spec, panel=True))  # how the net is judged does not change what it learns
    key = hashlib.sha256(json.dumps([learned, digest, library_versions()], sort_keys=True).encode()).hexdigest()

    def on_batch(state: FitState, share: float) -> None:
        on_progress(_at("fit", 0.02 + 0.84 * share, state, spec))

    model = build(spec.length, channels, **sizes)
    fitted = fit(model, prepared.learn, prepared.stop, spec.policy(), on_batch, workdir / "checkpoint.npz", key)
    if not np.isfinite(fitted.state.best):
        raise TooFewRowsError(
            f"the net did not learn: its held-back loss is {fitted.state.best}; expected a finite number; "
            "lower the learning rate, or look for wild values in the data"
        )
    fresh = build(spec.length, channels, **sizes)
    fresh.set_weights(fitted.weights)
    return fresh, fitted


def _export(model: Any, held: Rows, spec: TrainingSpec, workdir: Path) -> tuple[Compiled, float]:
    """Write `model.keras`, `model.onnx`, `golden.npz`; the compiled net and its largest difference from Keras."""
    values, mask = held.gather(held.thinned(GOLDEN_WINDOWS))
    quarter = len(values) // 4
    chance = np.random.default_rng(spec.seed)
    mask[:quarter] &= drop_channels(chance, mask[:quarter].shape, 0.5)
    values = np.where(mask, values, np.float32(0.0))
    outputs = np.asarray(model.predict_on_batch([values, mask.astype(np.float32)]), np.float32)
    golden = Golden(values, mask, outputs)
    save_keras(model, workdir / "model.keras")
    export_onnx(model, workdir / "model.onnx")
    part = workdir / "golden.part"
    part.write_bytes(golden.to_bytes())
    part.replace(workdir / "golden.npz")
    predict = load_compiled(workdir / "model.onnx")
    return predict, check_golden(predict, golden)


def _judge(
    training: TrainingSet, prepared: _Prepared, predict: Compiled, version: str, budget_per_week: float
) -> tuple[Detector, dict[str, float]]:
    """The net as one view of a panel; figures: the share of unseen rows over the line, and the net's error there by the
    forecast's (from 1 on, the net has no say).
    """
    net = Net(predict, predict.length, prepared.split.held_back)
    panel, raws, net_error = fit_panel(training, prepared.scaler, prepared.limits, net)
    threshold = control_lines(raws, budget_per_week, training.tick)
    over = sum(int((raw > threshold.line(asset)).sum()) for asset, raw in raws.items())
    detector = _detector(training, prepared, panel, threshold, version)
    exceed = over / max(sum(len(raw) for raw in raws.values()), 1)
    return detector, {"calibration_exceed_rate": exceed, "net_error": float(net_error or 0.0)}


def _judge_alone(
    training: TrainingSet, prepared: _Prepared, predict: Compiled, version: str, budget_per_week: float
) -> tuple[Detector, dict[str, float]]:
    """The net alone; figures: the share of the newest held-back rows over its line.

    Errors are sized on the stopping block. The line is the higher of those that either held-back block asks for: they
    are hours of different load, and the next hour may be like either.
    """
    values, mask = prepared.stop.gather(prepared.stop.thinned(WHITENING_WINDOWS))
    scorer = fit_reconstruction(predict, values, mask)
    calibration = prepared.split.calibration
    threshold = highest(
        [
            calibrate(scorer, prepared.scaler, prepared.limits, block, budget_per_week)
            for block in (prepared.split.stopping, calibration)
        ]
    )
    raws = raw_by_asset(scorer, calibration.windows(prepared.scaler, prepared.limits, predict.length))
    over = sum(int((raw > threshold.line(asset)).sum()) for asset, raw in raws.items())
    detector = _detector(training, prepared, scorer, threshold, version)
    return detector, {"calibration_exceed_rate": over / max(sum(len(raw) for raw in raws.values()), 1)}


def _detector(
    training: TrainingSet, prepared: _Prepared, scorer: Scorer, threshold: Threshold, version: str
) -> Detector:
    since, until = training.span
    return Detector(
        group=training.group,
        version=version,
        tags=training.tags,
        mode=training.mode,
        tick=training.tick,
        scaler=prepared.scaler,
        scorer=scorer,
        sensors=prepared.limits,
        threshold=threshold,
        trained_from=since,
        trained_until=until,
    )


def _ranges(training: TrainingSet) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each tag in the rows used; a tag never seen is absent."""
    ranges: dict[str, tuple[float, float]] = {}
    for samples, keep in zip(training.samples, training.keep, strict=True):
        for column, tag in enumerate(samples.tags):
            seen = samples.values[keep & samples.mask[:, column], column]
            if tag in training.tags and len(seen):
                low, high = ranges.get(tag, (np.inf, -np.inf))
                ranges[tag] = (min(low, float(seen.min())), max(high, float(seen.max())))
    return ranges


def _at(stage: str, share: float, state: FitState, spec: TrainingSpec) -> Progress:
    return Progress(stage, share, state.epoch, spec.epochs, state.loss, state.best)
