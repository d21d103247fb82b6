"""The training loop: seeded batches, early stopping on held-back windows, a checkpoint after every epoch.

Kill it at any moment: the checkpoint is replaced whole, and a second run with the same work folder, settings and data
goes on to the same weights.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from anomaly.models.batches import Batch, Rows, epoch_batches


@dataclass(frozen=True, slots=True)
class FitPolicy:
    """How to descend. `limit`: windows an epoch; `focus`: share of the loss that the last row carries, 0..1."""

    epochs: int
    patience: int
    batch: int
    limit: int
    held_limit: int
    learning_rate: float
    channel_dropout: float
    focus: float
    seed: int


@dataclass(frozen=True, slots=True)
class FitState:
    """How far a training got. `best` (held-back) and `loss` (drawn windows): squared errors in scaled units."""

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    loss: float = math.nan
    history: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The best weights found, in the order of `model.get_weights()`."""

    weights: list[np.ndarray]
    state: FitState = field(default_factory=FitState)


def fit(
    model: Any,
    train: Rows,
    held: Rows,
    policy: FitPolicy,
    on_batch: Callable[[FitState, float], None],
    checkpoint: Path,
    key: str,
) -> Fitted:
    """Train `model` in place and return its best weights by held-back loss.

    `on_batch(state, share)` is called after every batch with the share done, 0..1; what it raises stops the training.
    `key` names settings and data: a checkpoint of another key is ignored.
    """
    _compile(model, policy)
    fitted = _restore(model, checkpoint, key) or Fitted(model.get_weights())
    while fitted.state.epoch < policy.epochs and not _exhausted(fitted.state, policy):
        loss = _one_epoch(model, train, policy, fitted.state, on_batch)
        held_loss = held_out_loss(model, held, policy)
        fitted = _after_epoch(model, fitted, loss, held_loss)
        _save(model, fitted, checkpoint, key)
    return fitted


def held_out_loss(model: Any, held: Rows, policy: FitPolicy) -> float:
    """The training loss, without dropped sensors, over held-back windows."""
    ends = held.thinned(policy.held_limit)
    total = weight = 0.0
    for first in range(0, len(ends), policy.batch):
        part = ends[first : first + policy.batch]
        values, mask = held.gather(np.resize(part, policy.batch))  # one fixed size: nothing is traced twice
        expected = np.asarray(model.predict_on_batch([values, mask.astype(np.float32)]))
        weights = (_row_weights(held.length, policy.focus)[None, :, None] * mask)[: len(part)]
        total += float(np.sum(weights * (expected - values)[: len(part)].astype(np.float64) ** 2))
        weight += float(np.sum(weights))
    return total / weight if weight else math.nan


def _compile(model: Any, policy: FitPolicy) -> None:
    """Adam with clipped gradients on the masked, row-weighted squared error."""
    import keras  # noqa: PLC0415  (loaded already by whoever built the model)

    channels = int(model.output_shape[-1])

    def masked_error(truth: Any, expected: Any) -> Any:
        target, weights = truth[..., :channels], truth[..., channels:]
        error = keras.ops.sum(weights * keras.ops.square(expected - target))
        return error / keras.ops.maximum(keras.ops.sum(weights), 1e-6)

    optimizer = keras.optimizers.Adam(policy.learning_rate, global_clipnorm=1.0)
    model.compile(optimizer=optimizer, loss=masked_error, jit_compile=False)
    optimizer.build(model.trainable_variables)


def _one_epoch(
    model: Any, train: Rows, policy: FitPolicy, state: FitState, on_batch: Callable[[FitState, float], None]
) -> float:
    """Mean loss over the epoch's batches; the learning rate falls along a cosine over all epochs."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * state.epoch / policy.epochs))
    model.optimizer.learning_rate = policy.learning_rate * (0.05 + 0.95 * cosine)
    batches = max(min(len(train.ends), policy.limit) // policy.batch, 1)
    losses: list[float] = []
    drawn = epoch_batches(
        train,
        batch=policy.batch,
        limit=policy.limit,
        dropout=policy.channel_dropout,
        seed=policy.seed,
        epoch=state.epoch,
    )
    for batch in drawn:
        losses.append(float(model.train_on_batch([batch.values, batch.mask.astype(np.float32)], _truth(batch, policy))))
        on_batch(replace(state, loss=losses[-1]), (state.epoch + len(losses) / batches) / policy.epochs)
    return float(np.mean(losses))


def _truth(batch: Batch, policy: FitPolicy) -> Float32[np.ndarray, "window time _twice"]:
    """Targets and their weights side by side, because a Keras loss takes one array."""
    weights = _row_weights(batch.target.shape[1], policy.focus)[None, :, None] * batch.known
    return np.concatenate([batch.target, weights.astype(np.float32)], axis=-1)


def _row_weights(length: int, focus: float) -> Float32[np.ndarray, " time"]:
    """Weights of a window's rows with mean 1; the last row carries `focus` of them all.

    The score looks at the last row: a net that spreads its care evenly spends most of it on what nobody asks.
    """
    weights = np.full(length, (1.0 - focus) * length / max(length - 1, 1), dtype=np.float32)
    weights[-1] = focus * length
    return weights


def _exhausted(state: FitState, policy: FitPolicy) -> bool:
    """Whether `patience` epochs went by without a better held-back loss."""
    return state.epoch - state.best_epoch >= policy.patience and state.epoch > 0


def _after_epoch(model: Any, fitted: Fitted, loss: float, held_loss: float) -> Fitted:
    """The state one epoch later; keeps the weights if they are the best so far."""
    epoch = fitted.state.epoch + 1
    state = replace(fitted.state, epoch=epoch, loss=loss, history=(*fitted.state.history, held_loss))
    if held_loss < fitted.state.best:
        return Fitted(model.get_weights(), replace(state, best=held_loss, best_epoch=epoch))
    return Fitted(fitted.weights, state)


def _save(model: Any, fitted: Fitted, checkpoint: Path, key: str) -> None:
    """Write variables, optimiser, best weights and state; the old checkpoint stays until the new one is whole."""
    arrays = {f"model_{i}": np.asarray(variable) for i, variable in enumerate(model.variables)}
    arrays |= {f"optimizer_{i}": np.asarray(variable) for i, variable in enumerate(model.optimizer.variables)}
    arrays |= {f"best_{i}": weights for i, weights in enumerate(fitted.weights)}
    state = json.dumps({"key": key, **asdict(fitted.state)})
    part = checkpoint.with_name(checkpoint.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, state=np.array(state), **arrays)  # type: ignore[arg-type]  # numpy's stub wants one type
    part.replace(checkpoint)


def _restore(model: Any, checkpoint: Path, key: str) -> Fitted | None:
    """Set the model back to where the checkpoint left it; None if there is none of this key that can be read."""
    try:
        with checkpoint.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        state = json.loads(str(stored["state"]))
        if state.pop("key") != key:
            return None
        found = {
            name: [stored[f"{name}_{i}"] for i in range(count)]
            for name, count in (
                ("model", len(model.variables)),
                ("optimizer", len(model.optimizer.variables)),
                ("best", len(model.get_weights())),
            )
        }
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    for variables, values in ((model.variables, found["model"]), (model.optimizer.variables, found["optimizer"])):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return Fitted(found["best"], FitState(**state | {"history": tuple(state["history"])}))
