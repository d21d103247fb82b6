"""Services as processes over a real broker and a real InfluxDB: nothing lost, told when not ready, ended in order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Tag
from pipelines import codec, feeding, topics
from pipelines.adapters.influx_config import InfluxConfig
from pipelines.adapters.influx_historian import InfluxHistorian
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.plant_file import write_plant
from tests.faults.proxy import Proxy
from tests.integration.processes import Served, free_port, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]

TICK = 10 * SECOND
TAGS = (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "m³/h", 0.0, 50.0))
ASSETS = tuple(Asset(f"works/hall/pump-{n}", "pumps", TAGS, TICK) for n in range(8))
PLANT = Plant("works", ASSETS)


class Works:
    """A plant on the servers: its settings, what was fed, and what came of it."""

    def __init__(self, kafka: KafkaConfig, influx: InfluxConfig, folder: Path) -> None:
        self.folder = folder
        self.influx = influx
        self.log = KafkaLog(kafka)
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.historian = InfluxHistorian(influx)
        write_plant(PLANT, folder / "plant.toml")
        self.settings: dict[str, object] = {
            "log": "kafka",
            "kafka_servers": ",".join(kafka.servers),
            "topic_prefix": kafka.prefix,
            "historian": "influxdb",
            "influx_url": influx.url,
            "influx_org": influx.org,
            "influx_token": influx.token,
            "influx_bucket_prefix": influx.bucket_prefix,
            "data_dir": folder,
        }
        self.start = time.time_ns() // TICK * TICK - 6 * 3600 * SECOND
        self.fed = 0
        self.served: list[Served] = []

    def serve(self, service: str, *arguments: str, **settings: object) -> Served:
        self.served.append(Served(service, self.settings | settings, self.folder, *arguments))
        return self.served[-1]

    def feed(self, ticks: int, temp: float = 40.0) -> None:
        """So many ticks of every asset, a record of ten ticks each."""
        rng = np.random.default_rng(self.fed)
        for first in range(0, ticks, 10):
            count = min(10, ticks - first)
            times = self.start + (self.fed + first + np.arange(count)) * TICK
            blocks = []
            for asset in ASSETS:
                values = np.column_stack([temp + rng.normal(0, 1, count), 20 + rng.normal(0, 1, count)])
                blocks.append(
                    Readings(
                        asset.path,
                        ("temp", "flow"),
                        times.astype(np.int64),
                        values,
                        np.full(values.shape, Quality.GOOD, np.uint8),
                    )
                )
            feeding.append(self.log, blocks)
        self.fed += ticks

    def stored(self) -> dict[str, int]:
        """Rows of readings in the historian, by asset."""
        return {a.path: len(self.historian.readings(a.path, 0, 2**62)) for a in ASSETS}

    def all_stored(self) -> bool:
        return set(self.stored().values()) == {self.fed}

    def scored(self) -> Counter[tuple[str, int]]:
        """How often each row was scored, on the scores topic."""
        found: Counter[tuple[str, int]] = Counter()
        for partition, (first, end) in self.log.ends(topics.SCORES).items():
            position = first
            while position < end:
                page = self.log.read(partition, position, 500)
                for record in page:
                    scores = codec.decode_scores(record.value or b"")
                    found.update((scores.assets[0], int(t)) for t in scores.times)
                position = page[-1].offset + 1
        return found

    def every_row_scored(self, behind: int = 3) -> bool:
        """Whether all rows but the newest few, which wait for late readings, have their score."""
        found = self.scored()
        return all((asset.path, self.start + i * TICK) in found for asset in ASSETS for i in range(self.fed - behind))

    def close(self) -> None:
        for one in self.served:
            one.kill()
        self.log.close()
        self.historian.close()


@pytest.fixture
def works(kafka: KafkaConfig, influx: InfluxConfig, tmp_path: Path) -> Iterator[Works]:
    made = Works(kafka, influx, tmp_path)
    yield made
    made.close()


def test_readings_become_scores_records_and_alerts_through_a_stop_a_second_worker_and_a_kill(works: Works) -> None:
    record, alert = works.serve("record"), works.serve("alert")
    first = works.serve("score", "--member", "one")
    for one in (record, alert, first):
        one.await_ready()
    works.feed(200)
    until(lambda: first.figure("plantwatch_readings_total") > 0, "work to be under way")
    second = works.serve("score", "--member", "two").await_ready()
    until(lambda: first.ready() and second.ready(), "both workers to hold a partition")
    feeder = threading.Thread(target=works.feed, args=(200,))
    feeder.start()
    assert first.stop() == 0
    assert first.events()[-1] == "stopped"
    third = works.serve("score", "--member", "one").await_ready()
    second.kill()
    feeder.join()
    works.feed(100, temp=140.0)  # over the engineering range
    until(works.every_row_scored, "every row to be scored", 90)
    until(works.all_stored, "every reading to be stored")
    assert set(works.scored().values()) == {1}
    until(lambda: len(works.historian.alerts(open_only=True)) == len(ASSETS), "an alert an asset")
    until(lambda: {"score", "record", "alert"} <= set(works.historian.heartbeats()), "heartbeats")
    assert third.ask("/healthz")[0] == 200
    assert [one.stop() for one in (record, alert, third)] == [0, 0, 0]
    assert not any(line["level"] == "error" for one in works.served for line in one.said())


def test_a_historian_that_goes_away_is_waited_for_without_restart_and_nothing_is_lost(works: Works) -> None:
    proxy = Proxy(int(works.influx.url.rsplit(":", 1)[1]))
    try:
        record = works.serve("record", influx_url=proxy.url).await_ready()
        works.feed(50)
        until(works.all_stored, "the first readings")
        proxy.set("refuse")
        works.feed(100)
        until(lambda: not record.ready(), "the outage to be seen")
        before = record.rss_kb()
        works.feed(1500)
        status, said = record.ask("/readyz")
        assert (status, said["ready"]) == (503, False)
        assert any(reason.startswith("degraded: InfluxDB at") for reason in said["reasons"])
        assert record.ask("/healthz")[0] == 200
        time.sleep(12)  # longer than the group keeps a member that is silent
        assert record.rss_kb() - before < 30_000
        proxy.set("pass")
        started = time.monotonic()
        until(works.all_stored, "all readings after the outage", 90)
        until(record.ready, "readiness after the outage")
        assert time.monotonic() - started < 60
        events = record.events()
        assert "sink_failed" in events
        assert "sink_works_again" in events
        assert "session_ended" not in events
        assert record.stop() == 0
    finally:
        proxy.close()


def test_a_stop_while_the_historian_hangs_ends_in_time_and_loses_nothing(works: Works) -> None:
    proxy = Proxy(int(works.influx.url.rsplit(":", 1)[1]))
    try:
        record = works.serve("record", influx_url=proxy.url).await_ready()
        works.feed(20)
        until(works.all_stored, "the first readings")
        proxy.set("hang")
        works.feed(20)
        time.sleep(3)
        started = time.monotonic()
        assert record.stop(patience_s=20.0) in (0, 74)
        assert time.monotonic() - started < 20.0
        works.serve("record").await_ready()
        until(works.all_stored, "the readings that waited")
    finally:
        proxy.close()


def _ends(works: Works, service: str, *arguments: str, **settings: object) -> tuple[int, list[dict[str, Any]]]:
    one = works.serve(service, *arguments, **settings)
    code = one.process.wait(60)
    return code, one.said()


def test_what_is_wrong_ends_a_service_at_once_with_78_and_what_is_absent_after_the_patience_with_69(
    works: Works, tmp_path: Path
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    code, said = _ends(works, "score", "--patience", "3", kafka_servers=nobody)
    assert (code, said[-1]["event"], said[-1]["exit_code"]) == (69, "ended", 69)
    assert [line["event"] for line in said].count("waiting") >= 2
    code, said = _ends(works, "record", "--patience", "3", influx_url=f"http://{nobody}")
    assert code == 69
    code, said = _ends(works, "record", influx_token="not-the-token-that-was-made")
    assert code == 78
    assert "refuses the token" in said[-1]["reason"]
    code, said = _ends(works, "alert", topic_prefix="nobody-made-these.")
    assert code == 78
    assert "plantwatch topics init" in said[-1]["reason"]
    code, said = _ends(works, "score", "--patience", "1", plant=tmp_path / "nowhere.toml")
    assert code == 78
    assert "no plant file" in said[-1]["reason"]
    (tmp_path / "wrong.toml").write_text("asset = 1")
    assert _ends(works, "score", plant=tmp_path / "wrong.toml")[0] == 78


def test_a_service_that_waits_for_its_servers_lives_says_why_it_is_not_ready_and_can_be_stopped(works: Works) -> None:
    one = works.serve("score", kafka_servers=f"127.0.0.1:{free_port()}")
    until(lambda: "waiting" in one.events(), "a line that it waits")
    assert one.ask("/healthz")[0] == 200
    status, said = one.ask("/readyz")
    assert status == 503
    assert said["reasons"][0].startswith("waiting for the log: ")
    assert one.ask("/nowhere")[0] == 404
    assert one.stop() == 0


def test_the_simulator_feeds_the_log_goes_on_after_a_restart_and_never_runs_ahead(works: Works) -> None:
    there = works.folder / "simulated" / "plant.toml"
    arguments = ("--speed", "600", "--backlog", "1", "--write-plant", str(there))
    data = {"data_dir": works.folder / "simulator"}
    one = works.serve("simulator", *arguments, **data).await_ready()
    until(lambda: _appended(works) > 200, "the history", 150)
    assert there.is_file()
    assert one.stop() == 0
    before = _appended(works)
    two = works.serve("simulator", *arguments, **data).await_ready()
    assert next(line for line in two.said() if line["event"] == "started")["resumed"] is True
    until(lambda: _appended(works) > before, "more life", 150)
    until(lambda: "plant" in works.historian.heartbeats(), "the word of the plant")
    assert two.stop() == 0
    newest = 0
    for partition, (first, end) in works.log.ends(topics.READINGS).items():
        for record in works.log.read(partition, max(first, end - 20), 20):
            block = codec_times(record.value or b"")
            newest = max(newest, block - record.time)
    assert newest < 300 * SECOND


def codec_times(value: bytes) -> int:
    from pipelines.decoding import decode

    return max(int(block.times.max()) for block in decode(value, None, 2**62))


def _appended(works: Works) -> int:
    return sum(end - first for first, end in works.log.ends(topics.READINGS).values())
