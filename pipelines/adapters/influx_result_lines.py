"""Scores, alert transitions and heartbeats as line protocol. Pure.

Plain fields are for people and their tools; the field `detail` (of a score) and `body` (of a transition, a heartbeat)
hold the whole value exactly, as Base64 in one text: written whole, so that no row is ever a mixture of two writes, and
NaN needs no word. docs/adr/0010 says why.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from anomaly.domain import AlertState, Rung, Scores, State
from pipelines.adapters.historian_rows import pack_rows, unpack_rows
from pipelines.adapters.influx_names import head, key, stored, text
from pipelines.ports import AlertEvent, Heartbeat

SCORE: Final = "score"
CONTRIBUTION: Final = "contribution"
ALERT: Final = "alert"
HISTORY: Final = "alert_history"
HEARTBEAT: Final = "heartbeat"
CHAMPION: Final = "champion"
"""Value of the tag `role`: these are the scores that count. Shadow scores will be beside them."""
UNKNOWN: Final = -1.0
"""Plain field `score` of a window that was not judged; `state` says why."""
LARGEST: Final = np.finfo(np.float64).max.item()
"""Plain field `score` for infinity, which line protocol cannot say."""
TELLING: Final = 0.8
"""From this score on, contributions are written for people too …"""
STRONGEST: Final = 3
"""… of so many sensors."""
EVENT_FIELD: Final = "e"
_SHIFT: Final = 1_000_000
_STATES: Final = (State.OK, State.WARMING_UP, State.INSUFFICIENT_COVERAGE, State.OFF, State.MAINTENANCE)
"""By their number in `detail`; append only."""
_NUMBER: Final = {state: number for number, state in enumerate(_STATES)}
_PARTS: Final = ("<f4", "<f4", "<f4", "u1")
_HEAD: Final = np.dtype([("numbers", "<f8", (3,)), ("state", "u1")])
_encode: Final = msgspec.json.Encoder().encode
_ROLE: Final = f"role={CHAMPION}"


def score_lines(blocks: Sequence[Scores]) -> list[str]:
    """A line a window, and up to `STRONGEST` more where the score is telling."""
    return [line for block in blocks if len(block) for line in (*_windows(block), *_contributions(block))]


def _windows(block: Scores) -> Iterator[str]:
    run = text(_encode([block.version, block.rung, block.tags]).decode())
    tail = f"model_version={text(block.version)},run={run}"
    plain = np.where(np.isnan(block.score), UNKNOWN, np.clip(block.score, -LARGEST, LARGEST))
    coverage = np.nan_to_num(block.coverage, nan=0.0, posinf=1.0, neginf=0.0)
    columns = (
        [head(SCORE, asset, _ROLE) for asset in block.assets],
        _texts(plain),
        _texts(coverage),
        block.anomalous.tolist(),
        block.state,
        details(block),
        block.times.tolist(),
    )
    for place, score, covered, over, state, detail, time in zip(*columns, strict=True):
        yield (
            f"{place} score={score},coverage={covered},anomalous={'1.0' if over else '0.0'},"
            f'state="{state}",{tail},detail="{detail}" {time}'
        )


def _texts(values: np.ndarray) -> list[str]:
    return _encode(values.tolist())[1:-1].decode().split(",")


def _contributions(block: Scores) -> Iterator[str]:
    for row in np.flatnonzero(np.isfinite(block.score) & (block.score >= TELLING)).tolist():
        shares = np.nan_to_num(block.contributions[row])
        for column in np.argsort(-shares, kind="stable")[:STRONGEST].tolist():
            known = {
                "share": shares[column],
                "actual": block.actual[row, column],
                "expected": block.expected[row, column],
            }
            fields = ",".join(f"{name}={float(value)!r}" for name, value in known.items() if np.isfinite(value))
            place = head(CONTRIBUTION, block.assets[row], f"tag={key(block.tags[column])}", _ROLE)
            yield f"{place} {fields} {block.times[row]}"


def details(block: Scores) -> list[str]:
    """Each window's numbers as Base64: score, coverage, isolated in float64, state; then of each tag contribution,
    expected and actual in float32, and the sensor fault.
    """
    with np.errstate(over="ignore"):
        floats = [part.astype("<f4") for part in (block.contributions, block.expected, block.actual)]
    numbers = np.stack([block.score, block.coverage, block.isolated], axis=1).astype("<f8")
    states = np.array([[_NUMBER[state]] for state in block.state], dtype=np.uint8)
    width = 25 + 13 * len(block.tags)
    padding = np.zeros((len(block), -width % 3), dtype=np.uint8)
    rows = pack_rows(numbers, states, *floats, block.faults, padding)
    whole = base64.b64encode(b"".join(rows)).decode()
    size = len(whole) // len(rows)
    return [whole[i * size : (i + 1) * size] for i in range(len(rows))]


@lru_cache(maxsize=1024)
def _run(run: str) -> tuple[str, Rung, tuple[str, ...]]:
    version, rung, tags = msgspec.json.decode(run, type=tuple[str, Rung, tuple[str, ...]])
    return version, rung, tags


def read_scores(asset: str, run: str, times: Sequence[int], texts: Sequence[str]) -> Scores:
    """Windows of one asset and run (the fields `run` and `detail`). Raises ValueError if they do not fit together."""
    version, rung, tags = _run(run)
    rows = [base64.b64decode(one, validate=True)[: 25 + 13 * len(tags)] for one in texts]
    if {len(row) for row in rows} != {25 + 13 * len(tags)}:
        message = f"a score row of {asset} does not hold {len(tags)} tags"
        raise ValueError(message)
    first = np.frombuffer(b"".join(row[:25] for row in rows), dtype=_HEAD)
    contributions, expected, actual, faults = unpack_rows([row[25:] for row in rows], *_PARTS)
    score, coverage, isolated = (np.ascontiguousarray(column) for column in first["numbers"].T.astype(np.float64))
    return Scores(
        tags=tags,
        assets=(asset,) * len(rows),
        times=np.array(times, dtype=np.int64),
        score=score,
        contributions=contributions.astype(np.float64),
        expected=expected.astype(np.float64),
        actual=actual.astype(np.float64),
        coverage=coverage,
        isolated=isolated,
        faults=faults,
        state=tuple(_STATES[number] for number in first["state"].tolist()),
        version=version,
        rung=rung,
    )


def event_lines(events: Sequence[AlertEvent]) -> list[str]:
    """Two lines a transition: one for people at its time, one field more of its alert's history."""
    return [line for event in events for line in (_told(event), _history(event))]


def _told(event: AlertEvent) -> str:
    alert = event.alert
    place = head(ALERT, alert.anomaly.asset, f"priority={alert.priority}", f"event={key(event.event or '-')}")
    peak = float(np.clip(np.nan_to_num(alert.anomaly.peak, nan=UNKNOWN, posinf=LARGEST), -LARGEST, LARGEST))
    fields = f"alert_id={text(alert.id)},score={peak!r},actor={text(event.actor)},note={text(event.note)}"
    return f"{place} {fields},message={text(alert.message)} {event.time + shift(event.id)}"


def _history(event: AlertEvent) -> str:
    alert = event.alert
    name = key(EVENT_FIELD + event.id.removeprefix(alert.id))
    closed = ',closed="yes"' if alert.state is AlertState.CLOSED else ""
    body = base64.b64encode(msgspec.msgpack.encode(event)).decode()
    time = alert.raised_at + shift(alert.id)
    place = head(HISTORY, alert.anomaly.asset, f"cause={key(alert.anomaly.cause or '-')}")
    return f'{place} alert_id={text(stored(alert.id))}{closed},{name}="{body}" {time}'


def shift(identity: str) -> int:
    """Nanoseconds, less than a millisecond, that keep two alerts of one machine and moment apart.

    >>> shift("b6391a52f07e50ff")
    42312
    """
    return zlib.crc32(identity.encode("utf-8", "replace")) % _SHIFT


def read_event(body: str) -> AlertEvent:
    """Inverse of what `event_lines` stores. Raises ValueError."""
    return msgspec.msgpack.decode(base64.b64decode(body, validate=True), type=AlertEvent)


def heartbeat_line(part: str, time: int, status: Mapping[str, str | int | float]) -> str:
    """The part's word, at time 0 always, so that it overwrites its last one."""
    body = base64.b64encode(msgspec.msgpack.encode((part, time, dict(status)))).decode()
    return f'{HEARTBEAT},part={key(part)} body="{body}" 0'


def read_heartbeat(body: str) -> Heartbeat:
    """Inverse of `heartbeat_line`. Raises ValueError."""
    part, time, status = msgspec.msgpack.decode(
        base64.b64decode(body, validate=True), type=tuple[str, int, dict[str, str | int | float]]
    )
    return Heartbeat(part, time, status)
