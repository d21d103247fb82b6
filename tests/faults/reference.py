"""What must come out, computed from what lies on the readings topic and what its records mean: whole arrays, no stream.

Independent of the pipeline under test: no decoding (the mint knows the values), an aligner of its own, no windows kept,
no batches, no crash. Shared with it are the fitted detector and the episode rule, which are pure and tested elsewhere.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from anomaly.blocks import rows as rows_of
from anomaly.detector import Detector
from anomaly.domain import SECOND, Asset, Kind, Plant, Priority, Scores, State, alert_id
from anomaly.episode_policy import Change, EpisodePolicy
from anomaly.episodes import Episodes
from anomaly.rounding import significant
from tests.faults.alignment import Aligned, align
from tests.faults.ledger import Stored
from tests.faults.minting import Minted, Row

RULES = "rules"
SCORE_DIGITS, ACTUAL_DIGITS = 6, 9
"""Significant digits of what a model says, and of what a sensor said."""
_REOPEN = 30 * 60 * SECOND
_LEVELS = (Priority.LOW, Priority.MEDIUM, Priority.HIGH)

Lying = Sequence[tuple[Stored, Minted]]


class Activation(NamedTuple):
    """From event time `since[asset]`, else `default`, `version` scores what is at home on `partition` (ns)."""

    partition: int
    wish: int
    version: str
    since: Mapping[str, int]
    default: int


class Event(NamedTuple):
    """A transition of an alert, as told. `time`: event time, ns."""

    event: str
    asset: str
    cause: str
    time: int


@dataclass(slots=True)
class Expected:
    """All that must be found once everything is drained."""

    scores: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Canonical bytes of each row by (asset, window end in ns)."""
    single: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """The same in single precision."""
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """Where readings ended, per partition (guarantee G1)."""
    events: dict[str, Event] = field(default_factory=dict)
    """Transitions by id, those about clocks left out."""
    readings: dict[tuple[str, str, int], float | None] = field(default_factory=dict)
    """Value by (asset, tag, time)."""
    dead: dict[tuple[int, int], tuple[bytes | None, str]] = field(default_factory=dict)
    """Original bytes and reason by (partition, offset)."""


def activations(models_topic: Sequence[Stored]) -> list[Activation]:
    """What the models topic says of which version scores what; a second answer to one wish changes nothing, nor does
    one of which not all parts are there.
    """
    found: dict[tuple[int, int], Activation] = {}
    parts: dict[tuple[int, int, str], dict[int, Mapping[str, int]]] = {}
    for record in models_topic:
        if record.key is not None and record.value is not None and record.key.startswith(b"activation/"):
            body = json.loads(record.value)
            which = body["partition"], body["wish"]
            known = parts.setdefault((*which, body["attempt"]), {})
            known[body["number"]] = body["since"]
            if len(known) == body["parts"]:
                since = {asset: time for part in known.values() for asset, time in part.items()}
                found.setdefault(which, Activation(*which, body["version"], since, body["default"]))
    return list(found.values())


def expect(lying: Lying, plant: Plant, taken_up: Sequence[Activation], load: Callable[[str], Detector]) -> Expected:
    """Everything that must come of what lies on the readings topic. `load`: the detector of a version."""
    expected = Expected()
    rows: dict[str, list[Row]] = defaultdict(list)
    home: dict[str, int] = {}
    for stored, minted in lying:
        counts = expected.counts.setdefault(stored.partition, Counter())
        counts["acknowledged"] += minted.readings
        for row in minted.rows:
            expected.readings |= {(row.asset, tag, row.time): value for tag, value in row.values.items()}
        counts["tombstone"] += minted.value is None
        if minted.poison:
            counts["dead_lettered"] += 1
            expected.dead[stored.partition, stored.offset] = (minted.value, minted.poison)
            continue
        for row in minted.rows:
            rows[row.asset].append(row)
            home[row.asset] = stored.partition
    for asset in plant.assets:
        if asset.path in rows:
            _expect_asset(expected, asset, rows[asset.path], home[asset.path], taken_up, load)
    return expected


def _expect_asset(
    expected: Expected,
    asset: Asset,
    rows: Sequence[Row],
    home: int,
    taken_up: Sequence[Activation],
    load: Callable[[str], Detector],
) -> None:
    aligned = align(asset.path, rows, tuple(tag.name for tag in asset.tags), asset.tick)
    blocks = list(_judged(asset.path, aligned, [a for a in taken_up if a.partition == home], load))
    counts = expected.counts[home]
    _count(counts, aligned, blocks)
    for block, _ in blocks:
        expected.scores |= canonical(block)
        expected.single |= canonical(block, np.float32)
    expected.events |= transitions(asset.path, [block for block, _ in blocks])


def _judged(
    asset: str, aligned: Aligned, taken_up: Sequence[Activation], load: Callable[[str], Detector]
) -> list[tuple[Scores, np.ndarray]]:
    """Scores of all samples, a block for each run of one version, with the readings in each row."""
    samples = aligned.samples
    names = [RULES, *(a.version for a in taken_up)]
    which = np.zeros(len(samples), dtype=np.int64)
    for number, activation in enumerate(taken_up, start=1):
        which[samples.times >= activation.since.get(asset, activation.default)] = number
    found = []
    edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(samples)]
    for first, stop in itertools.pairwise(edges):
        if stop > first:
            detector = load(names[int(which[first])])
            windows = rows_of(detector.windows(samples, 0), slice(first, stop))
            found.append((detector.detect(windows), samples.readings[first:stop]))
    return found


def _count(counts: Counter[str], aligned: Aligned, blocks: Sequence[tuple[Scores, np.ndarray]]) -> None:
    for name in ("late", "duplicate", "unknown_tag", "pending"):
        counts[name] += getattr(aligned, name)
    counts["samples"] += len(aligned.samples)
    for block, readings in blocks:
        warming = np.array([state is State.WARMING_UP for state in block.state], dtype=bool)
        counts["warming_up"] += int(readings[warming].sum())
        counts["scored"] += int(readings[~warming].sum())


def canonical(scores: Scores, number: type = np.float64) -> dict[tuple[str, int], bytes]:
    """Each row of a block by (asset, time), as bytes that are equal where the rows are, as precise as `number`."""
    columns = (scores.score, scores.coverage, scores.isolated, scores.contributions, scores.expected)
    rounded = [significant(column, SCORE_DIGITS) for column in columns]
    numbers: list[np.ndarray] = [
        column.astype(number) for column in (*rounded, significant(scores.actual, ACTUAL_DIGITS))
    ]
    known: list[np.ndarray] = [np.where(np.isnan(column), number(np.nan), column + number(0)) for column in numbers]
    said = "\n".join((scores.version, scores.rung, *scores.tags)).encode()
    found = {}
    for i, (asset, time) in enumerate(zip(scores.assets, scores.times.tolist(), strict=True)):
        cells = [column[i].tobytes() for column in (*known, scores.faults)]
        found[asset, time] = b"\n".join((said, scores.state[i].encode(), *cells))
    return found


# ---------------------------------------------------------------------- alerts


@dataclass(slots=True)
class _Open:
    """An alert that is not closed, as far as its transitions need it."""

    id: str
    priority: int
    fault: str
    raised: int
    peak: float
    number: int = 1
    cleared: int | None = None


def transitions(asset: str, blocks: Sequence[Scores]) -> dict[str, Event]:
    """The transitions of all alerts of one asset, by id, as nobody acts on them; the whole history in one go."""
    judge = Episodes(asset, EpisodePolicy())
    desk: dict[str, _Open] = {}
    told: dict[str, Event] = {}
    for block in blocks:
        for change in judge.push(block):
            told |= _transition(desk, change)
    return told


def _transition(desk: dict[str, _Open], change: Change) -> dict[str, Event]:
    anomaly = change.anomaly
    held = desk.get(anomaly.cause)
    if change.event == "opened":
        return _opened(desk, held, change)
    if held is None:
        return {}
    if change.event == "extended":
        held.peak = max(held.peak, anomaly.peak)
        level = max(held.priority, _level(anomaly.kind, held.peak))
        if level == held.priority and anomaly.fault == held.fault:
            return {}
        held.priority, held.fault = level, anomaly.fault
        return _told(held, "updated", change, change.time)
    held.cleared = max(change.time, held.raised, anomaly.end or 0)
    return _told(held, "cleared", change, held.cleared)


def _opened(desk: dict[str, _Open], held: _Open | None, change: Change) -> dict[str, Event]:
    anomaly, told = change.anomaly, {}
    if held is not None and change.time - (held.cleared or 0) <= _REOPEN:
        held.cleared, held.peak = None, max(held.peak, anomaly.peak)
        held.priority, held.fault = max(held.priority, _level(anomaly.kind, held.peak)), anomaly.fault
        return _told(held, "raised", change, change.time)
    if held is not None:
        told = _told(held, "closed", change, change.time)
    name = alert_id(anomaly.asset, anomaly.cause, anomaly.onset)
    new = _Open(name, _level(anomaly.kind, anomaly.peak), anomaly.fault, change.time, anomaly.peak, number=0)
    desk[anomaly.cause] = new
    return told | _told(new, "raised", change, change.time)


def _told(held: _Open, event: str, change: Change, time: int) -> dict[str, Event]:
    held.number += 1
    return {f"{held.id}-{held.number}": Event(event, change.anomaly.asset, change.anomaly.cause, time)}


def _level(kind: Kind, peak: float) -> int:
    """0 low, 1 medium, 2 high."""
    if kind is Kind.PROCESS:
        return int(peak >= 2.0) + int(peak >= 5.0)
    return int(kind is Kind.DATA_LOSS)
