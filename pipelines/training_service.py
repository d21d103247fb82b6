"""From stored readings to a training set that cleaned itself, and an account of what was left out and why.

    found = training_set_from_historian(historian, plant, "pumps", assets=None, since=a, until=b)
    found.training.rows, found.left_out          # 52 000, {"alert": 1 200, "off": 11 000}

Every row is either used or counted under exactly one reason; the first of `REASONS` that applies is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from anomaly.alignment import AlignmentPolicy, align
from anomaly.domain import (
    SECOND,
    Alert,
    AlertState,
    Asset,
    Kind,
    Plant,
    Quality,
    Readings,
    Samples,
    SensorFault,
    State,
    Tag,
)
from anomaly.errors import ConfigurationError, TooFewRowsError
from anomaly.sensors import check, fit_limits
from anomaly.training_set import TrainingSet
from anomaly.windows import mode_rows
from pipelines.ports import HistorianReader

REASONS: Final = (
    "alert",
    "maintenance",
    "off",
    "hold_off",
    "instrument_fault",
    "data_loss",
    "warm_up",
)
"""Why a row was left out, strongest first. `hold_off`: just after a start or a change of regime; `warm_up`: just after
a gap; `data_loss`: too few of the signals were seen."""
NO_REPROACH: Final = frozenset({"false", "process_change"})
"""Closing codes that say the machine was well: rows under such an alert are normal."""
_MISSING: Final = (SensorFault.NONE, SensorFault.MISSING, SensorFault.BAD_QUALITY)
QUARTERS: Final = 4
_ALL_ALERTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class CleaningPolicy:
    """What to leave out. `margin` (ns) before and after each alert; rows after a start and after a gap; `min_coverage`:
    share of the signals a row must have seen, 0..1.
    """

    margin: int = 300 * SECOND
    hold_off_rows: int = 2
    warm_up_rows: int = 2
    min_coverage: float = 0.5


class CleanedSet(NamedTuple):
    """A training set and the rows it left out, by reason (only reasons that occurred)."""

    training: TrainingSet
    left_out: Mapping[str, int]


class _Span(NamedTuple):
    """A stretch of event time [since, until] of one asset (ns) that is left out, and the reason."""

    asset: str
    since: int
    until: int
    reason: str


def training_set_from_historian(
    historian: HistorianReader,
    plant: Plant,
    group: str,
    assets: Sequence[str] | None,
    since: int,
    until: int,
    policy: CleaningPolicy | None = None,
) -> CleanedSet:
    """Stored readings of [since, until) (ns) of the group's assets (all if None), cleaned of all that was not normal.

    Raises TooFewRowsError if nothing normal is left, ConfigurationError for an unknown group or asset, StorageError.
    """
    rules = policy or CleaningPolicy()
    members = group_assets(plant, group, assets)
    blocks = [historian.readings(asset.path, since, until) for asset in members]
    spans = _alert_spans(historian.alerts(limit=_ALL_ALERTS), until, rules.margin)
    for asset in members:
        spans += _maintenance_spans(historian, asset, since, until)
    return _clean(group, members, blocks, spans, rules)


def training_set_from_readings(
    plant: Plant,
    group: str,
    assets: Sequence[str] | None,
    readings: Iterable[Readings],
    since: int,
    until: int,
    policy: CleaningPolicy | None = None,
) -> CleanedSet:
    """The same from blocks of readings (files): several blocks an asset, oldest first; other assets are passed over.

    There are no alerts beside files, so faults in them are believed to be normal: choose `since` and `until` with care.
    Raises TooFewRowsError, ConfigurationError.
    """
    members = group_assets(plant, group, assets)
    wanted: dict[str, list[Readings]] = {asset.path: [] for asset in members}
    for block in readings:
        if block.asset in wanted:
            inside = (block.times >= since) & (block.times < until)
            if inside.any():
                wanted[block.asset].append(
                    replace(
                        block, times=block.times[inside], values=block.values[inside], quality=block.quality[inside]
                    )
                )
    joined = [block for blocks in wanted.values() for block in _joined(blocks)]
    return _clean(group, members, joined, [], policy or CleaningPolicy())


def group_assets(plant: Plant, group: str, assets: Sequence[str] | None) -> tuple[Asset, ...]:
    """The group's assets, or those of them named. Raises ConfigurationError for names the plant does not have."""
    groups = plant.groups()
    if group not in groups:
        raise ConfigurationError(f"no group {group!r} in plant {plant.name!r}; expected one of {', '.join(groups)}")
    members = groups[group]
    known = {asset.path for asset in members}
    unknown = [path for path in assets or () if path not in known]
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)} not in group {group!r}; expected one or more of {', '.join(sorted(known))}"
        )
    return tuple(asset for asset in members if not assets or asset.path in assets)


def group_tags(assets: Sequence[Asset]) -> tuple[Tag, ...]:
    """One tag a name over all assets of a group, with the widest engineering range any of them has."""
    merged: dict[str, Tag] = {}
    for tag in (tag for asset in assets for tag in asset.tags):
        known = merged.setdefault(tag.name, tag)
        low = None if known.low is None or tag.low is None else min(known.low, tag.low)
        high = None if known.high is None or tag.high is None else max(known.high, tag.high)
        merged[tag.name] = replace(known, low=low, high=high)
    return tuple(merged.values())


def _clean(
    group: str, members: Sequence[Asset], blocks: Sequence[Readings], spans: Sequence[_Span], policy: CleaningPolicy
) -> CleanedSet:
    """Align, name a reason for every row that is not normal, and account for them."""
    by_path = {asset.path: asset for asset in members}
    samples = [_aligned(by_path[block.asset], block) for block in blocks if len(block)]
    samples = [part for part in samples if len(part)]
    signals = tuple(dict.fromkeys(name for asset in members for name in asset.signals))
    tags = group_tags(members)
    before = [_time_reasons(part, by_path[part.asset], spans, policy) for part in samples]
    faults = _faults(samples, tags, before)
    reasons = [
        _sensor_reasons(part, by_path[part.asset].signals, found, known, policy)
        for part, found, known in zip(samples, faults, before, strict=True)
    ]
    found = np.concatenate([*reasons, np.zeros(0, np.uint8)])
    left_out = {name: int(count) for name, count in zip(REASONS, _counts(found), strict=True) if count}
    if not (found == 0).any():
        raise TooFewRowsError(
            f"group {group} has no normal row in the span: {len(found)} rows stored, left out {left_out or 'none'}; "
            "expected some hours of normal running; choose another span, or wait"
        )
    normal = tuple(np.asarray(row == 0) for row in reasons)
    _require_movement(group, signals, samples, normal)
    mode = next((asset.mode for asset in members if asset.mode), None)
    return CleanedSet(TrainingSet(group, signals, tuple(samples), normal, mode), left_out)


def _require_movement(
    group: str, signals: Sequence[str], samples: Sequence[Samples], normal: Sequence[Bool[np.ndarray, " _row"]]
) -> None:
    """Raises TooFewRowsError if every signal of every asset stays at one value: a model of that knows no machine."""
    for part, rows in zip(samples, normal, strict=True):
        for name in signals:
            column = part.tags.index(name) if name in part.tags else None
            seen = part.values[rows & part.mask[:, column], column] if column is not None else np.zeros(0)
            if len(seen) and seen.min() < seen.max():
                return
    count = sum(int(rows.sum()) for rows in normal)
    raise TooFewRowsError(
        f"group {group}: every signal ({', '.join(signals[:5])}{'…' if len(signals) > 5 else ''}) stays at one value "
        f"in all {count} normal rows, so there is nothing to learn; expected signals that move; choose another span, "
        "or look whether the sensors are alive"
    )


def _aligned(asset: Asset, block: Readings) -> Samples:
    return align(block, tuple(tag.name for tag in asset.tags), AlignmentPolicy.of(asset.tick)).samples


def _time_reasons(
    samples: Samples, asset: Asset, spans: Sequence[_Span], policy: CleaningPolicy
) -> UInt8[np.ndarray, " row"]:
    """Reasons that time and mode give: 0 for none, else 1 + place in `REASONS`."""
    out = np.zeros(len(samples), np.uint8)
    off = ~running(samples, asset.mode)
    restart = samples.restart.copy()
    restart[:1] = True
    _name(out, _after(restart, policy.warm_up_rows), "warm_up")
    changed = mode_rows(samples, asset.mode).back > 0
    _name(out, _after(off, policy.hold_off_rows + 1) | _after(changed, policy.hold_off_rows), "hold_off")
    _name(out, off, "off")
    for reason in ("data_loss", "instrument_fault", "maintenance", "alert"):
        for span in spans:
            if span.asset == samples.asset and span.reason == reason:
                _name(out, (samples.times >= span.since) & (samples.times <= span.until), reason)
    return out


def _faults(
    samples: Sequence[Samples], tags: Sequence[Tag], known: Sequence[UInt8[np.ndarray, " _row"]]
) -> list[UInt8[np.ndarray, "_row _tag"]]:
    """Sensor faults of each block, where most of the other times say so: a stuck sensor must not vouch for itself.

    Limits are learned from each quarter of the rows alone; a row is judged by those of the other three.
    """
    quarters = [np.arange(len(part)) * QUARTERS // max(len(part), 1) for part in samples]
    votes = [np.zeros((QUARTERS, *part.values.shape), np.uint8) for part in samples]
    for number in range(QUARTERS):
        limits = fit_limits(samples, tags, [(k == 0) & (q == number) for k, q in zip(known, quarters, strict=True)])
        for part, rows, out in zip(samples, quarters, votes, strict=True):
            out[number] = np.where((rows == number)[:, None], SensorFault.NONE, check(part, limits))
    # the second largest of three votes and a blank: a fault if two of three say so
    return [np.asarray(np.sort(vote, axis=0)[-2]) for vote in votes]


def _sensor_reasons(
    samples: Samples,
    signals: Sequence[str],
    verdicts: UInt8[np.ndarray, "row tag"],
    known: UInt8[np.ndarray, " row"],
    policy: CleaningPolicy,
) -> UInt8[np.ndarray, " row"]:
    """The same, with rows added whose instruments cannot be believed or hardly answer."""
    columns = [samples.tags.index(name) for name in signals]
    faults = verdicts[:, columns]
    seen = samples.mask[:, columns] & (faults == SensorFault.NONE)
    out = np.zeros(len(samples), np.uint8)
    _name(out, np.asarray(seen.mean(axis=1) < policy.min_coverage), "data_loss")
    _name(out, ~np.asarray(np.isin(faults, _MISSING).all(axis=1)), "instrument_fault")
    return np.where((known > 0) & ((out == 0) | (known < out)), known, out)


def running(samples: Samples, mode: Tag | None) -> Bool[np.ndarray, " row"]:
    """Where the machine ran, by the last known mode; before any is known it counts as running."""
    if mode is None or not mode.running or mode.name not in samples.tags:
        return np.ones(len(samples), dtype=bool)
    column = samples.tags.index(mode.name)
    rows = np.arange(len(samples))
    last = np.maximum.accumulate(np.where(samples.mask[:, column], rows, -1))
    ran = np.isin(samples.values[:, column], mode.running)
    return np.where(last >= 0, ran[np.maximum(last, 0)], True)


def _after(flags: Bool[np.ndarray, " row"], rows: int) -> Bool[np.ndarray, " row"]:
    """So many rows from each flagged one on, itself included."""
    place = np.arange(len(flags))
    last = np.maximum.accumulate(np.where(flags, place, -1 - rows))
    return np.asarray(place - last < rows)


def _name(out: UInt8[np.ndarray, " row"], rows: Bool[np.ndarray, " row"], reason: str) -> None:
    """Give the rows that reason, over any they have."""
    out[rows] = 1 + REASONS.index(reason)


def _counts(reasons: UInt8[np.ndarray, " row"]) -> list[int]:
    return [int(count) for count in np.bincount(reasons, minlength=len(REASONS) + 1)[1:]]


def _alert_spans(alerts: Iterable[Alert], until: int, margin: int) -> list[_Span]:
    """Stretches under alerts, with the margin around them; not those closed as false, or as a change of the process."""
    reasons = {Kind.PROCESS: "alert", Kind.INSTRUMENT: "instrument_fault", Kind.DATA_LOSS: "data_loss"}
    spans = []
    for alert in alerts:
        code = alert.reason.split(":")[0].strip().lower().replace(" ", "_").replace("-", "_")
        if alert.state is AlertState.CLOSED and code in NO_REPROACH:
            continue
        end = alert.anomaly.end if alert.anomaly.end is not None else alert.cleared_at
        last = until if end is None else end
        spans.append(
            _Span(alert.anomaly.asset, alert.anomaly.onset - margin, last + margin, reasons[alert.anomaly.kind])
        )
    return spans


def _maintenance_spans(historian: HistorianReader, asset: Asset, since: int, until: int) -> list[_Span]:
    """Rows whose stored score says maintenance, each with the tick that leads to it."""
    spans = []
    for block in historian.scores(asset.path, since, until):
        for time, state in zip(block.times.tolist(), block.state, strict=True):
            if state is State.MAINTENANCE:
                spans.append(_Span(asset.path, time - asset.tick + 1, time, "maintenance"))
    return spans


def _joined(blocks: Sequence[Readings]) -> list[Readings]:
    """Blocks of one asset as one; tags that only some have are missing in the others."""
    if not blocks:
        return []
    tags = tuple(dict.fromkeys(tag for block in blocks for tag in block.tags))
    widened = [_widened(block, tags) for block in blocks]
    return [
        Readings(
            blocks[0].asset,
            tags,
            np.concatenate([block.times for block in blocks]),
            np.concatenate([values for values, _ in widened]),
            np.concatenate([quality for _, quality in widened]),
        )
    ]


def _widened(block: Readings, tags: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Values and quality with a column for each of `tags`."""
    values = np.full((len(block), len(tags)), np.nan)
    quality = np.full(values.shape, Quality.MISSING, np.uint8)
    columns = [tags.index(tag) for tag in block.tags]
    values[:, columns], quality[:, columns] = block.values, block.quality
    return values, quality
