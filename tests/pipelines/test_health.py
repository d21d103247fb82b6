"""What a service answers about itself: live or stuck, ready or why not, and only what may be asked."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

from anomaly.errors import ConfigurationError
from pipelines.condition import LAG_FLOOR, STILL_S, Condition
from pipelines.health import Health, answering
from pipelines.ports import Partition


class Bench:
    """A service's health, with a timer set by hand."""

    def __init__(self, *, consumes: bool = True) -> None:
        self.time = 100.0
        self.condition = Condition(timer=lambda: self.time)
        self.health = Health("score", self.condition, consumes=consumes)

    def serving(self) -> None:
        self.condition.turned()
        self.condition.waiting, self.condition.held = "", (Partition("readings", 0),)

    def ready(self) -> tuple[HTTPStatus, dict[str, object]]:
        status, _, body = self.health.answer("/readyz")
        return status, json.loads(body)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_service_is_ready_once_it_holds_a_partition(bench: Bench) -> None:
    assert bench.health.reasons() == ["starting"]
    bench.condition.waiting = ""
    assert bench.health.reasons()[0].startswith("no partition assigned yet")
    bench.serving()
    assert bench.ready() == (200, {"ready": True, "service": "score", "reasons": [], "notes": []})


def test_a_service_that_reads_nothing_waits_for_no_partition() -> None:
    bench = Bench(consumes=False)
    bench.condition.waiting = ""
    assert bench.health.reasons() == []


def test_a_loop_that_stands_still_is_neither_live_nor_ready(bench: Bench) -> None:
    bench.serving()
    bench.time += STILL_S - 1
    assert bench.health.answer("/healthz")[0] == 200
    bench.time += 2
    status, _, body = bench.health.answer("/healthz")
    assert (status, json.loads(body)["live"]) == (503, False)
    assert bench.ready()[1]["reasons"] == ["the loop has not turned for 61 s"]


def test_a_failing_sink_and_a_lost_log_are_reasons_and_the_service_lives_on(bench: Bench) -> None:
    bench.serving()
    bench.condition.degraded = "InfluxDB does not answer"
    assert bench.ready() == (
        503,
        {"ready": False, "service": "score", "reasons": ["degraded: InfluxDB does not answer"], "notes": []},
    )
    bench.condition.ended("the broker is gone")
    assert bench.health.reasons() == ["the broker is gone"]
    assert bench.health.answer("/healthz")[0] == 200


def test_a_lag_that_grows_is_a_reason_a_small_or_a_shrinking_one_is_none(bench: Bench) -> None:
    bench.serving()
    for second in range(70):
        bench.time += 1
        bench.condition.turned()
        bench.condition.note_lag(second)
    assert bench.health.reasons() == []
    for second in range(70):
        bench.time += 1
        bench.condition.turned()
        bench.condition.note_lag(LAG_FLOOR + 50 * second)
    assert bench.health.reasons()[0].startswith("lag is growing: 4450 records, 3")
    for second in range(40):
        bench.time += 1
        bench.condition.turned()
        bench.condition.note_lag(LAG_FLOOR + 4000 - 50 * second)
    assert bench.health.reasons() == []


def test_notes_are_told_and_change_nothing(bench: Bench) -> None:
    bench.serving()
    bench.health.notes = lambda: ["version 7 is refused"]
    status, said = bench.ready()
    assert (status, said["notes"]) == (200, ["version 7 is refused"])


def test_it_answers_over_http_on_its_port_and_nothing_else(bench: Bench) -> None:
    bench.serving()
    with answering(bench.health, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{url}/readyz?verbose=1", timeout=5) as answer:
            assert json.loads(answer.read())["ready"] is True
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            assert b"plantwatch_build_info" in answer.read()
        for path, method, code in (("/", "GET", 404), ("/../etc/passwd", "GET", 404), ("/readyz", "POST", 501)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(url + path, method=method), timeout=5)
            refused.value.close()
            assert refused.value.code == code
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(b"\x00\xff not http\r\n\r\n")
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


def test_a_port_that_is_taken_is_refused_with_the_mend(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(ConfigurationError, match="choose another with --metrics-port"),
            answering(bench.health, "127.0.0.1", taken.getsockname()[1]),
        ):
            pass
