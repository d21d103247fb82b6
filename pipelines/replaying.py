"""Files as if they came live: learn from each machine's first rows, score the rest, raise what would have been raised.

Replay is live: samples, windows, scores and alerts come from the code that serves, fed with the same readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anomaly.alignment import AlignmentPolicy, align
from anomaly.detector import Detector
from anomaly.domain import Alert, Asset, Plant, Readings, Scores
from anomaly.errors import DataError
from pipelines.alert_state import AlertPolicy, AssetAlerts
from pipelines.alerting import apply_scores
from pipelines.row_scores import detect
from pipelines.rungs import fit_model
from pipelines.training_service import group_tags, training_set_from_readings


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """One machine's rest: the scores of its samples, and its alerts in their last state, in order of raising."""

    asset: Asset
    trained_rows: int
    scores: Scores
    alerts: tuple[Alert, ...]


def by_asset(blocks: Sequence[Readings], plant: Plant) -> dict[str, Readings]:
    """All readings of each machine of the plant as one block with its tags, in the order they came."""
    whole: dict[str, Readings] = {}
    for asset in plant.assets:
        mine = [block for block in blocks if block.asset == asset.path and len(block)]
        if mine:
            whole[asset.path] = _joined(mine, tuple(tag.name for tag in asset.tags))
    return whole


def replay(
    plant: Plant,
    readings: Mapping[str, Readings],
    train_rows: int,
    model: str,
    seed: int = 0,
    on_step: Callable[[str, float], None] = lambda _what, _share: None,
    policy: AlertPolicy | None = None,
) -> tuple[Replayed, ...]:
    """Learn one model a group from the first `train_rows` rows of each of its machines, then score and judge the rest.

    Raises DataError if no machine has rows beyond those, TooFewRowsError if the rows do not make a model.
    """
    longer = {path: block for path, block in readings.items() if len(block) > train_rows}
    if not longer:
        most = max(map(len, readings.values()), default=0)
        raise DataError(
            f"no machine has more than {train_rows} rows (the longest has {most}), so nothing is left to score; "
            "expected a smaller --train-rows"
        )
    rules = policy or AlertPolicy(plant=plant)
    found: list[Replayed] = []
    for group, assets in plant.groups().items():
        members = [asset for asset in assets if asset.path in readings]
        if not any(asset.path in longer for asset in members):
            continue
        on_step(f"{group}: learning", len(found) / len(longer))
        detector = _learn(plant, group, [readings[a.path] for a in members], train_rows, model, seed)
        for asset in members:
            if asset.path in longer:
                on_step(asset.path, len(found) / len(longer))
                found.append(_rest(detector, asset, readings[asset.path], train_rows, rules))
    return tuple(found)


def _learn(plant: Plant, group: str, blocks: Sequence[Readings], rows: int, model: str, seed: int) -> Detector:
    first = [_rows(block, slice(rows)) for block in blocks]
    since = min(int(block.times.min()) for block in first)
    until = max(int(block.times.max()) for block in first) + 1
    names = [block.asset for block in first]
    cleaned = training_set_from_readings(plant, group, names, first, since, until)
    tags = group_tags([asset for asset in plant.groups()[group] if asset.path in names])
    return fit_model(cleaned.training, tags, model, seed)


def _rest(detector: Detector, asset: Asset, readings: Readings, rows: int, policy: AlertPolicy) -> Replayed:
    """Samples after the last training row, scored with the training rows as their history."""
    samples = align(readings, readings.tags, AlignmentPolicy.of(asset.tick)).samples
    learned = int(readings.times[:rows].max())
    last_tick = -(-learned // asset.tick) * asset.tick
    first = int(np.searchsorted(samples.times, last_tick, side="right"))
    scores = detect(detector, samples, first)
    last: dict[str, Alert] = {}
    _, events = apply_scores(AssetAlerts(asset.path), scores, 0, policy)
    for event in events:
        last[event.alert.id] = event.alert
    return Replayed(asset, rows, scores, tuple(last.values()))


def _rows(readings: Readings, rows: slice) -> Readings:
    return Readings(readings.asset, readings.tags, readings.times[rows], readings.values[rows], readings.quality[rows])


def _joined(blocks: Sequence[Readings], tags: tuple[str, ...]) -> Readings:
    """Blocks of one asset under one another; a tag that a block lacks did not come there."""
    count = sum(map(len, blocks))
    values, quality = np.full((count, len(tags)), np.nan), np.full((count, len(tags)), 3, np.uint8)
    start = 0
    for block in blocks:
        for column, tag in enumerate(tags):
            if tag in block.tags:
                source = block.tags.index(tag)
                values[start : start + len(block), column] = block.values[:, source]
                quality[start : start + len(block), column] = block.quality[:, source]
        start += len(block)
    return Readings(blocks[0].asset, tags, np.concatenate([block.times for block in blocks]), values, quality)
