"""`plantwatch bench stream`: what it measures adds up, and nothing of the load is lost. No speed is asserted."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from anomaly.scorers.reconstruction import Reconstruction
from pipelines.bench import report, stream
from pipelines.bench.latency import Latency
from pipelines.bench.memory import Memory
from pipelines.bench.meters import Meter, cpu_seconds, pid_listening, rss_bytes
from pipelines.bench.net import bench_detector
from pipelines.bench.phases import Cost, Live
from pipelines.bench.places import EVENT_START, Places
from pipelines.bench.rival import Rival
from pipelines.bench.stream import Plan, Result, Workers
from pipelines.bench.workload import TICK, Workload, bench_plant
from pipelines.decoding import decode
from pipelines.streams import MEMORY

TINY = Plan(
    assets=5,
    column_rows=70,
    native_rows=20,
    live_s=1.5,
    outage_s=0.5,
    memory=(3, 6),
    later_rows=20,
    rival_native=3,
    rival_columns=1,
)


def numbers(tree: Any) -> Iterator[float]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from numbers(part)
    elif isinstance(tree, int | float):
        yield float(tree)


def test_rows_are_the_same_as_columns_and_one_by_one() -> None:
    load = Workload(bench_plant(3), EVENT_START, faulty=2)
    [(key, value), *_] = load.columns(470, 20)
    [columns] = decode(value, key, EVENT_START + 10**15)
    rows = [
        decode(value, key, EVENT_START + 10**15)[0]
        for key, value in load.natives(470, 20)
        if key == columns.asset.encode()
    ]
    assert [int(row.times[0]) for row in rows] == columns.times.tolist()
    np.testing.assert_array_equal(np.concatenate([row.values for row in rows]), columns.values)
    assert np.diff(columns.times).tolist() == [TICK] * 19


def test_faults_of_the_workload_go_over_the_line_and_normal_rows_do_not() -> None:
    load = Workload(bench_plant(1), EVENT_START, faulty=1)
    detector = bench_detector(load)
    assert isinstance(detector.scorer, Reconstruction)
    from anomaly.alignment import AlignmentPolicy, align

    samples = align(load.block(0, 0, 560), detector.tags, AlignmentPolicy.of(TICK)).samples
    scores = detector.detect(detector.windows(samples, 100))
    assert not scores.anomalous[:370].any()
    assert scores.anomalous[390:440].mean() > 0.8


def test_a_stage_inside_another_counts_for_itself_alone() -> None:
    meter = Meter()
    with meter.stage("outer"), meter.stage("inner"):
        started = time.thread_time()
        while time.thread_time() - started < 0.05:
            pass
    assert 0.04 < meter.seconds["inner"] < 0.2
    assert 0.0 <= meter.seconds["outer"] < 0.03


def test_a_server_on_this_machine_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert pid_listening(port) == os.getpid()
    assert pid_listening(port) is None
    assert cpu_seconds(os.getpid()) > 0.0
    assert cpu_seconds(2**22 + 1) == 0.0
    assert rss_bytes() > 1_000_000


def made_up(ours: float = 5.0, later: int = 100) -> Result:
    stages = {"score": {"process": 3.0, "model": 9.0}, "record": {"sink": 2.0}}
    services = {"score": 12.0, "record": 2.0}
    costs = tuple(
        Cost(kind, 100, 1000.0, stages, services, 9.0, ours, {"broker": 3.0, "influxdb": None}, 0.01)
        for kind in ("columns", "native")
    )
    lived = Live(500.0, 0.2, Latency(10, 0.3, 0.4), Latency(0, 0.0, 0.0), 3.0, 1.0, 3.0)
    memory = Memory({10: 100, 20: 120}, later, 60)
    rivals = (Rival("native", 3, 900.0, 500.0, 400.0, "json"),)
    return Result("cpu", 2, "here", 5, costs, lived, Workers(2.0, (1.0, 1.1), 1.82), memory, rivals, {"sent": 5})


def test_goals_are_told_as_met_or_missed_and_the_rival_stands_beside() -> None:
    assert [goal.met for goal in report.goals(made_up())] == [True] * 6
    assert [goal.met for goal in report.goals(made_up(20.0, later=130))] == [False, True, True, True, False, True]
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file:
        report.show(made_up(20.0), console)
    text = console.export_text()
    for words in ("missed", "20.0 µs", "20.0 × ours without the model", "not seen", "none came", "1.82 × by CPU time"):
        assert words in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tiny_run_over_files_loses_nothing_and_tells_finite_figures(tmp_path: Path) -> None:
    places = Places(tmp_path, TINY.assets, EVENT_START)
    places.make()
    said: list[str] = []
    result = stream.run(places, TINY, said.append)
    found = json.loads(json.dumps(result.to_dict()))
    assert all(math.isfinite(number) and number >= 0 for number in numbers(found["costs"]))
    assert all(math.isfinite(number) for number in numbers(found))
    assert [cost.kind for cost in result.costs] == ["columns", "native"]
    assert [cost.rows for cost in result.costs] == [TINY.column_rows * TINY.assets, TINY.native_rows * TINY.assets]
    assert set(result.costs[0].services) == {"score", "record", "alert"}
    assert 0 < result.costs[0].ours < sum(result.costs[0].services.values())
    assert result.counted["sent"] - result.counted["judged"] == 2 * TINY.assets  # they wait for stragglers
    assert result.counted["sent"] > MEMORY * TINY.assets
    assert result.live.to_score.count > 0
    assert len(result.workers.two) == 2
    assert set(result.memory.rss) == {3, 6}
    assert {rival.kind for rival in result.rivals} == {"columns", "native"}
    assert all(rival.total >= rival.model > 0 for rival in result.rivals)
    assert {"column batches", "native rows", "one score worker, then two"} <= set(said)
