"""Faults injected into the real services on a real broker and a real InfluxDB: the rows of `make faults --subset`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import CANNOT_RUN
from tests.faults.bench import ROWS

SERVERS = "PLANTWATCH_TEST_SERVERS"
SUBSET = tuple(row for row in ROWS if row.in_subset)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("faults"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, dict[str, Any]], str]:
    """What the bench found, by row, and what it printed: run once for all rows."""
    if not os.environ.get(SERVERS) and not Path("../shared/servers/kafka_server.py").is_file():
        pytest.skip(f"no servers to kill: set {SERVERS} to the folder of kafka_server.py and influx_server.py")
    told = tmp_path_factory.mktemp("faults") / "table.json"
    command = [sys.executable, "-m", "tests.faults", "--subset", "--json", str(told)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        table, said = running.communicate(timeout=1100)
    finally:
        running.terminate()  # it ends its servers and workers
        code = running.wait(60)
    if code == CANNOT_RUN:
        pytest.skip(said.strip().splitlines()[-1])
    assert told.exists(), table + said
    lines = {line["number"]: line for line in json.loads(told.read_text(encoding="utf-8"))}
    return lines, table


@pytest.mark.parametrize("row", SUBSET, ids=[f"row {row.number}" for row in SUBSET])
def test_nothing_is_missing_spurious_or_corrupted(row: Any, bench: tuple[dict[int, dict[str, Any]], str]) -> None:
    lines, table = bench
    line = lines[row.number]
    assert line["sound"], table
    assert line["injected"] > 0
    assert line["readings"] > 1000


def test_the_last_line_sums_up(bench: tuple[dict[int, dict[str, Any]], str]) -> None:
    lines, table = bench
    faults = sum(line["injected"] for line in lines.values())
    last = table.splitlines()[-1]
    assert last.startswith(f"faults {faults}, readings ")
    assert ", missing 0, spurious 0, corrupted 0, replays " in last
