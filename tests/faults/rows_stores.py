"""Rows in which what stands behind the services suffers: the historian, the broker, their disks."""

from __future__ import annotations

import time
from pathlib import Path

from anomaly.domain import SECOND
from tests.faults.proxy import Mode
from tests.faults.rows_processes import FIRST, RATE
from tests.faults.stage import Stage

_DAY = 86_400 * SECOND
_MOST_GROWTH_MB = 80.0
"""Resident memory that a worker may gain while its sink is away."""


def historian_down(stage: Stage) -> None:
    """The historian refuses connections, then hangs: scoring goes on, recording waits in its session and catches up."""
    spans: dict[Mode, float] = {"refuse": 90.0, "hang": 90.0} if stage.full else {"refuse": 8.0, "hang": 14.0}
    stage.start()
    with stage.load(RATE):
        time.sleep(3.0)
        for mode, span in spans.items():  # one that hangs is noticed when a request times out, after 10 s
            _away(stage, mode, span)
            time.sleep(6.0 if stage.full else 3.0)


def _away(stage: Stage, mode: Mode, span: float) -> None:
    record = stage.workers["record-1"]
    life, memory = record.process, record.rss_mb()
    strike = stage.strike(f"historian: {mode}", stage.at_work(*FIRST["record"]))
    before = stage.done("score")
    stage.proxy.set(mode)
    told, ends = "", time.monotonic() + span
    while time.monotonic() < ends:
        status, body = record.answer("/readyz")
        told = body if status == 503 and "degraded" in body else told
        time.sleep(0.5)
    if stage.done("score") - before < span * RATE / 2:
        stage.complaints.append(f"scoring did not go on while the historian was away ({mode})")
    if not told:
        stage.complaints.append(f"record did not say that it was degraded ({mode}): {record.answer('/readyz')}")
    stage.proxy.set("pass")
    stage.over(strike)
    stage.await_recovery(strike, span + 30)
    if record.process is not life:
        stage.complaints.append(f"record did not outlive the outage ({mode}): {stage.notes[-1:]}")
    grown = record.rss_mb() - memory
    if grown > _MOST_GROWTH_MB:
        stage.complaints.append(f"record grew by {grown:.0f} MB while the historian was away ({mode})")
    stage.notes.append(f"{mode} for {span:.0f} s: caught up after {strike.recovery_s or -1:.1f} s, {grown:+.0f} MB")


def points_refused(stage: Stage) -> None:
    """The historian refuses some points for ever: older than its retention, or of another type than the field has.

    All others are stored; what is set aside is counted. In InfluxDB a field has one type for all machines of a shard,
    and a query that meets another type hides the field: so the field that is fought over is one machine's own.
    """
    old, other = stage.plant.assets[1].path, stage.plant.assets[2].path
    stage.mint.shift[old] = -400 * _DAY
    stage.mint.extra[other] = {"odd": 1.5}
    stage.refused_readings |= {old, other}
    stage.refused_scores |= {old}
    tags = f"site=bench,asset={other}"
    stage.store.write("samples", f'sample,{tags} v.odd="words" {stage.mint.start}')
    stage.start()
    rounds = 6 if stage.full else 2
    with stage.load(RATE):
        for _ in range(rounds):
            time.sleep(3.0)
            strike = stage.strike("points refused", stage.at_work(*FIRST["record"]))
            stage.over(strike)
    status, page = stage.workers["record-1"].answer("/metrics")
    dropped = [line for line in page.splitlines() if line.startswith("plantwatch_points_dropped_total")]
    if status != 200 or not any(float(line.split()[-1]) for line in dropped):
        stage.complaints.append(f"no refused point was counted: {dropped}")


def broker_dies(stage: Stage) -> None:
    """kill -9 of the broker under load; it comes back after some seconds on the same folder."""
    stage.start()
    with stage.load(RATE):
        time.sleep(3.0)
        for _ in range(6 if stage.full else 1):
            strike = stage.strike("kill -9 broker", stage.at_work())
            stage.broker.kill()
            time.sleep(stage.chance.uniform(0.5, 6.0) if stage.full else 1.0)
            stage.broker.start()
            stage.over(strike)
            stage.await_recovery(strike, 90)


def historian_dies(stage: Stage) -> None:
    """kill -9 of InfluxDB under load, and its orderly start and stop before it takes writes again."""
    stage.start()
    with stage.load(RATE):
        time.sleep(3.0)
        for _ in range(4 if stage.full else 1):
            strike = stage.strike("kill -9 InfluxDB", stage.at_work(*FIRST["record"]))
            stage.proxy.set("refuse")
            stage.influx.kill()
            stage.influx.start()
            stage.proxy.set("pass")
            stage.over(strike)
            stage.await_recovery(strike, 90)


# ----------------------------------------------------------------------- disks


def disks_full(stage: Stage) -> None:
    """The historian's disk is full for a while, then the broker's: both are small tmpfs mounts of this row's own.

    Both servers want to be started again once there is room.
    """
    stage.start()
    with stage.load(RATE):
        time.sleep(3.0)
        _fill(stage, "historian", stage.influx.data)
        _fill(stage, "broker", stage.broker.data)


def _fill(stage: Stage, whose: str, folder: Path) -> None:
    span = 25.0 if stage.full else 8.0
    strike = stage.strike(f"disk of the {whose} full", stage.at_work(*FIRST["record"]))
    ballast = folder / "ballast"
    _write_until_full(ballast)
    ends = time.monotonic() + span
    while time.monotonic() < ends:
        _write_until_full(ballast)
        time.sleep(0.2)
    ballast.unlink()
    if whose == "broker":  # it gives up when it cannot write its log; whoever runs it starts it again
        stage.broker.kill()
        stage.broker.start()
    else:  # it closes the shard that it could not write, and opens it again only when it starts
        stage.proxy.set("refuse")
        stage.influx.stop()
        stage.influx.start()
        stage.proxy.set("pass")
    stage.over(strike)
    stage.await_recovery(strike, 120)


def _write_until_full(path: Path) -> None:
    size = 1 << 20
    with path.open("ab", buffering=0) as ballast:
        while size >= 512:
            try:
                ballast.write(b"\0" * size)
            except OSError:
                size //= 2
