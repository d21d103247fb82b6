"""The historian over a real InfluxDB: what the contract suite cannot ask, and everything that goes wrong there."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from anomaly.domain import Alert, AlertState, Anomaly, Kind, Priority, Quality, Readings, Rung, Scores, State
from anomaly.errors import ConfigurationError, PlantwatchError, StorageError, StorageFull, Unreachable
from pipelines import metrics
from pipelines.adapters.influx_client import InfluxClient
from pipelines.adapters.influx_config import EVENTS, HEARTBEATS, ROLLUP, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_historian import InfluxHistorian
from pipelines.adapters.influx_names import flux
from pipelines.adapters.influx_reading import InfluxReader
from pipelines.adapters.influx_setup import KEEP, Report, Server, ensure_buckets, ensure_organisation, rollup_script
from pipelines.adapters.influx_tokens import SERVICES, setup
from pipelines.adapters.influx_writing import InfluxWriter
from pipelines.adapters.memory import MemoryHistorian
from pipelines.ports import AlertEvent
from tests.servers.influx import Influx, forget, fresh, script

pytestmark = pytest.mark.integration

NAN = float("nan")
EVER = (0, 2**63 - 1)
MINUTE = 60_000_000_000


@pytest.fixture
def historian(influx: InfluxConfig) -> Iterator[InfluxHistorian]:
    made = InfluxHistorian(influx)
    yield made
    made.close()


def rows(count: int, asset: str = "s1/p", tags: tuple[str, ...] = ("a", "b"), start: int = 0) -> Readings:
    values = np.arange(count * len(tags), dtype=np.float64).reshape(count, len(tags)) + start
    times = np.arange(start, start + count, dtype=np.int64)
    return Readings(asset, tags, times, values, np.zeros(values.shape, dtype=np.uint8))


def judged(times: list[int], score: list[float], asset: str = "s1/p", version: str = "v1") -> Scores:
    shape = (len(times), 2)
    return Scores(
        tags=("a", "b"),
        assets=(asset,) * len(times),
        times=np.array(times),
        score=np.array(score),
        contributions=np.full(shape, 0.5),
        expected=np.ones(shape),
        actual=np.ones(shape),
        coverage=np.ones(len(times)),
        isolated=np.full(len(times), NAN),
        faults=np.zeros(shape, dtype=np.uint8),
        state=tuple(State.OK if np.isfinite(one) else State.OFF for one in score),
        version=version,
        rung=Rung.WINDOW_PCA,
    )


def dropped() -> float:
    return sum(value for name, value in metrics.totals().items() if "points_dropped" in name)


# ------------------------------------------------------------------------------------------------ beyond the contract


_CELL = st.sampled_from([(None, 3), (NAN, 2), (0.0, 0), (1.5, 0), (-2.0, 1), (1.5, 1)])


@st.composite
def _blocks(draw: st.DrawFn) -> tuple[str, str, list[int], list[list[tuple[float | None, int]]]]:
    tags = "".join(draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)))
    times = draw(st.lists(st.integers(0, 6), max_size=5))
    return draw(st.sampled_from(["x", "y"])), tags, times, [[draw(_CELL) for _ in tags] for _ in times]


def made(raw: tuple[str, str, list[int], list[list[tuple[float | None, int]]]]) -> Readings:
    asset, tags, times, cells = raw
    shape = (len(times), len(tags))
    values = np.array([[NAN if value is None else value for value, _ in row] for row in cells], dtype=np.float64)
    quality = np.array([[mark for _, mark in row] for row in cells], dtype=np.uint8)
    return Readings(asset, tuple(tags), np.array(times, dtype=np.int64), values.reshape(shape), quality.reshape(shape))


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(writes=st.lists(st.lists(_blocks(), max_size=4), max_size=4))
def test_any_blocks_overwrite_as_in_the_twin_in_memory(writes: list[list[Any]], historian: InfluxHistorian) -> None:
    run = f"{time.time_ns()}/"
    twin = MemoryHistorian()
    for raws in writes:
        blocks = [made(raw) for raw in raws]
        twin.write(blocks)
        historian.write([replace(block, asset=run + block.asset) for block in blocks])
    for asset in twin.assets():
        expected, stored = twin.readings(asset, 0, 7), historian.readings(run + asset, 0, 7)
        came = (expected.quality != Quality.MISSING).any(axis=1)
        seen = [i for i, tag in enumerate(expected.tags) if (expected.quality[:, i] != Quality.MISSING).any()]
        order = sorted(seen, key=lambda i: expected.tags[i])
        assert stored.tags == tuple(expected.tags[i] for i in order)
        assert stored.times.tolist() == expected.times[came].tolist()
        np.testing.assert_array_equal(stored.quality, expected.quality[came][:, order])
        np.testing.assert_array_equal(stored.values, expected.values[came][:, order])


def test_names_of_any_kind_come_back(historian: InfluxHistorian) -> None:
    tags = ("time", "_time", "_value", "site", "a b", "c,d=e", "f/g", "h#1", 'i"j', "k\\", "50 %", "%41", "é℃", "${x}")
    asset = 'wörk s/l=1,2/pump "7"\\'
    block = rows(3, asset, tags)
    historian.write([block], [judged([1], [0.5], asset)])
    stored = historian.readings(asset, *EVER)
    assert set(stored.tags) == set(tags)
    for tag in tags:
        np.testing.assert_array_equal(stored.values[:, stored.tags.index(tag)], block.values[:, tags.index(tag)])
    assert historian.assets() == (asset,)
    assert [one.asset for one in historian.latest()] == [asset]
    assert set(historian.heat(0, 10, 10)) == {asset}
    charts = historian.chart(asset, tags, 0, 10, points=2)
    assert [len(charts[tag]) for tag in tags] == [2] * len(tags)


@pytest.mark.parametrize(
    "name",
    ['") |> drop(columns: ["_value"]) //', '" or true or r.asset == "', "${1 + 1}", '\\") |> yield() //', "a\nb"],
)
def test_a_name_cannot_change_the_question(historian: InfluxHistorian, name: str) -> None:
    historian.write([rows(3, "secret")])
    assert historian.span(name) is None
    assert len(historian.readings(name, *EVER)) == 0
    assert len(historian.chart(name, [name], *EVER, points=10)[name]) == 0
    assert len(historian.chart("secret", [name], *EVER, points=10)[name]) == 0
    assert list(historian.scores(name, *EVER)) == []
    assert list(historian.events(name)) == []


def test_uncertain_readings_are_flagged_and_drawn(historian: InfluxHistorian) -> None:
    block = rows(1000, tags=("a",))
    doubtful = Readings(block.asset, block.tags, block.times, block.values, np.full((1000, 1), 1, dtype=np.uint8))
    historian.write([doubtful])
    assert set(historian.readings("s1/p", *EVER).quality.ravel().tolist()) == {Quality.UNCERTAIN}
    drawn = historian.chart("s1/p", ["a"], 0, 1000, points=50)["a"]
    assert len(drawn) <= 50
    assert {0.0, 999.0} <= set(drawn.values.ravel().tolist())
    assert set(drawn.quality.ravel().tolist()) == {Quality.UNCERTAIN}


@pytest.mark.parametrize("points", [0, 2, 3, 4, 7, 50])
def test_a_thinned_chart_keeps_extremes_and_shows_where_all_was_bad(historian: InfluxHistorian, points: int) -> None:
    values = np.sin(np.arange(2000) / 50)
    values[1234], values[55] = 9.0, -9.0
    bad = (np.arange(2000) > 700) & (np.arange(2000) < 1100)
    block = Readings(
        "p",
        ("a",),
        np.arange(2000) * 977 + 13,
        np.where(bad, NAN, values)[:, None],
        np.where(bad, 2, 0).astype(np.uint8)[:, None],
    )
    historian.write([block])
    drawn = historian.chart("p", ["a"], *EVER, points=points)["a"]
    assert len(drawn) <= max(points, 2)
    assert (np.diff(drawn.times) > 0).all()
    assert {9.0, -9.0} <= set(drawn.values.ravel().tolist())
    assert (Quality.BAD in drawn.quality) == (points >= 50)


@pytest.mark.parametrize("points", [2, 9, 100])
def test_a_thinned_chart_of_mixed_qualities_shows_rows_as_they_are(historian: InfluxHistorian, points: int) -> None:
    chance = np.random.default_rng(points)
    quality = chance.choice([0, 1, 2], size=(1500, 2), p=[0.9, 0.05, 0.05]).astype(np.uint8)
    quality[:700, 0] = 0
    values = np.where(quality == 2, NAN, chance.normal(size=(1500, 2)))
    historian.write([Readings("p", ("a", "b"), np.arange(1500) * 11 - 4000, values, quality)])
    stored = historian.readings("p", -(2**62), 2**62)
    charts = historian.chart("p", ["a", "b"], -(2**62), 2**62, points=points)
    for column, tag in enumerate(("a", "b")):
        drawn = charts[tag]
        at = np.searchsorted(stored.times, drawn.times)
        np.testing.assert_array_equal(stored.times[at], drawn.times)
        np.testing.assert_array_equal(stored.values[at, column], drawn.values[:, 0])
        np.testing.assert_array_equal(stored.quality[at, column], drawn.quality[:, 0])
        assert np.nanmin(drawn.values) == np.nanmin(values[:, column])
        assert np.nanmax(drawn.values) == np.nanmax(values[:, column])
        assert len(drawn) <= points
        assert (np.diff(drawn.times) > 0).all()


def test_of_two_rows_of_one_moment_in_one_write_the_later_counts(historian: InfluxHistorian) -> None:
    historian.write(scores=[judged([10, 10], [0.1, 0.2]), judged([10], [0.3])])
    (block,) = historian.scores("s1/p", *EVER)
    assert block.score.tolist() == [0.3]


def test_a_score_that_becomes_unknown_leaves_no_trace_of_the_old(historian: InfluxHistorian) -> None:
    historian.write(scores=[judged([10], [5.0], version="v1")])
    historian.write(scores=[judged([10], [NAN], version="v2")])
    assert historian.heat(0, 100, 10) == {}
    (block,) = historian.scores("s1/p", *EVER)
    assert (block.version, block.state, np.isnan(block.score[0])) == ("v2", (State.OFF,), True)


def test_two_alerts_of_one_machine_and_moment_keep_apart(historian: InfluxHistorian) -> None:
    anomaly = Anomaly("s1/p", Kind.PROCESS, "process", 1, None, 2.0, ("a",), "v1")
    first = Alert("id-1", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.HIGH, 10)
    other = replace(first, id="id-2", anomaly=replace(anomaly, cause="instrument:a", kind=Kind.INSTRUMENT))
    events = [AlertEvent(f"{alert.id}-1", "raised", 10, alert, note='it\'s\n"odd"') for alert in (first, other)]
    historian.write(events=events)
    assert list(historian.alerts()) == [first, other]
    assert [list(historian.events(event.alert.id)) for event in events] == [[event] for event in events]


def test_plain_fields_are_there_for_other_tools(historian: InfluxHistorian, influx: InfluxConfig) -> None:
    alert = Alert(
        "id-1",
        Anomaly("s1/p", Kind.PROCESS, "process", 1, None, 2.0, ("a",), "v1"),
        AlertState.CLOSED,
        Priority.LOW,
        10,
    )
    historian.write([rows(1)], [judged([5], [3.0])], [AlertEvent("id-1-1", "closed", 10, alert, "eva", "fixed")])
    assert plain(historian, SAMPLES) == {("sample", "v.a"): "0", ("sample", "v.b"): "1"}
    told = plain(historian, SCORES)
    assert {told["score", "score"], told["score", "anomalous"], told["score", "state"]} == {"3", "1", "ok"}
    assert told["contribution", "share"] == "0.5"
    told = plain(historian, EVENTS)
    assert (told["alert", "alert_id"], told["alert", "actor"], told["alert", "note"]) == ("id-1", "eva", "fixed")


def plain(historian: InfluxHistorian, bucket: str) -> dict[tuple[str, str], str]:
    name = flux(historian.client.config.bucket(bucket))
    script = f'from(bucket: {name}) |> range(start: 0) |> keep(columns: ["_measurement", "_field", "_value"])'
    tables = historian.client.query(script, "look")
    return {(row["_measurement"], row["_field"]): row["_value"] for table in tables for row in table.rows()}


# ------------------------------------------------------------------------------------------------------------- set-up


@pytest.fixture
def bare(influx_server: InfluxConfig) -> Iterator[InfluxConfig]:
    """A server on which nothing of this prefix was made yet; what the test makes is deleted."""
    config = fresh(influx_server)
    yield config
    client = InfluxClient(config)
    server = Server(config, client)
    forget(server)
    tasks, tokens = client.api("tasks_api"), client.api("authorizations_api")
    for task in tasks.find_tasks(limit=500):
        if task.name.startswith(config.bucket_prefix):
            tasks.delete_task(task.id)
    for token in tokens.find_authorizations():
        if config.bucket_prefix in (token.description or ""):
            tokens.delete_authorization(token)
    client.close()


def test_setup_makes_everything_once_and_mends_what_changed(bare: InfluxConfig, tmp_path: Path) -> None:
    assert setup(bare, tokens=tmp_path).changed
    again = setup(bare, tokens=tmp_path)
    assert not again.changed, again.lines
    assert len(again.lines) == 1 + 5 + 1 + len(SERVICES)
    for service in SERVICES:
        assert (tmp_path / service / "token").stat().st_mode & 0o777 == 0o600
    shorter = setup(bare, keep={**KEEP, SAMPLES: 3600}, tokens=tmp_path)
    assert [line for line in shorter.lines if "now keeps" in line] == [
        f"bucket {bare.bucket(SAMPLES)} now keeps 1 hours, before 30 days"
    ]
    assert setup(bare, tokens=tmp_path).changed
    assert not setup(bare, tokens=tmp_path).changed


def test_a_lost_token_is_made_anew_and_the_old_one_withdrawn(bare: InfluxConfig, tmp_path: Path) -> None:
    setup(bare, tokens=tmp_path)
    path = tmp_path / "record" / "token"
    old = path.read_text().strip()
    path.unlink()
    (line,) = [line for line in setup(bare, tokens=tmp_path).lines if "made a token" in line]
    assert "cannot be read back" in line
    assert "restart record" in line
    assert path.read_text().strip() != old
    with pytest.raises(ConfigurationError, match="401"):
        writer(replace(bare, token=old)).write([rows(1)])
    writer(replace(bare, token=path.read_text().strip())).heartbeat("record", 1, {})


def test_a_foreign_token_in_the_file_is_not_taken_for_ours(bare: InfluxConfig, tmp_path: Path) -> None:
    setup(bare, tokens=tmp_path)
    path = tmp_path / "score" / "token"
    path.write_text(bare.token)
    assert [line for line in setup(bare, tokens=tmp_path).lines if "made a token for score" in line]
    assert path.read_text().strip() != bare.token


def test_a_service_may_do_its_work_and_nothing_else(bare: InfluxConfig, tmp_path: Path) -> None:
    setup(bare, tokens=tmp_path)
    now = time.time_ns()
    configs = {service: replace(bare, token=(tmp_path / service / "token").read_text().strip()) for service in SERVICES}
    historians = {service: InfluxHistorian(config) for service, config in configs.items()}
    try:
        historians["record"].write([rows(3, start=now)], [judged([now], [0.5])], [])
        assert historians["record"].span() == (now, now + 2)
        assert historians["dashboard"].assets() == ("s1/p",)
        assert len(historians["dashboard"].scores("s1/p", *EVER)) == 1
        assert historians["dashboard"].alerts() == []
        assert len(historians["train"].readings("s1/p", *EVER)) == 3
        for service in ("record", "train", "score", "alert"):
            historians[service].heartbeat(service, now, {"ok": 1})
        assert set(historians["dashboard"].heartbeats()) == {"record", "train", "score", "alert"}
        for service in ("dashboard", "train", "score", "alert"):
            with pytest.raises(ConfigurationError, match=r"403.*setup-historian"):
                historians[service].write([rows(1, start=now)])
        for service in ("score", "alert"):
            with pytest.raises(ConfigurationError, match=r"may not read it \(404.*setup-historian"):
                historians[service].span()
        with pytest.raises(ConfigurationError, match="403"):
            historians["dashboard"].heartbeat("dashboard", now, {})
    finally:
        for historian in historians.values():
            historian.close()


def test_setup_with_a_token_without_rights_says_which_is_expected(bare: InfluxConfig, tmp_path: Path) -> None:
    setup(bare, tokens=tmp_path)
    scoped = (tmp_path / "dashboard" / "token").read_text().strip()
    with pytest.raises(ConfigurationError, match="operator token"):
        setup(replace(bare, token=scoped))
    with pytest.raises(ConfigurationError, match="401"):
        setup(replace(bare, token="a wrong token"))
    with pytest.raises(ConfigurationError, match="at least 3600 s"):
        setup(bare, keep={**KEEP, SAMPLES: 60})
    with pytest.raises(ConfigurationError, match="cannot be written"):
        setup(bare, tokens=Path("/proc/nowhere"))


def test_the_rollup_keeps_the_highest_score_and_the_count_of_each_whole_minute(bare: InfluxConfig) -> None:
    setup(bare)
    historian = InfluxHistorian(bare)
    minute = time.time_ns() // MINUTE * MINUTE - 5 * MINUTE
    historian.write(scores=[judged([minute, minute + 1, minute + MINUTE], [0.4, 2.5, NAN])])
    script = rollup_script(bare)
    for _ in range(2):
        historian.client.query("\n".join(line for line in script.split("\n") if "option task" not in line), "roll up")
    told = (
        f'from(bucket: {flux(bare.bucket(ROLLUP))}) |> range(start: 0) |> keep(columns: ["_time", "_field", "_value"])'
    )
    found = sorted(
        (row["_field"], float(row["_value"])) for t in historian.client.query(told, "look") for row in t.rows()
    )
    assert found == [("count", 2.0), ("max", 2.5)]
    historian.close()


# ---------------------------------------------------------------------------------------------------------- bad input


def writer(config: InfluxConfig) -> InfluxHistorian:
    return InfluxHistorian(config)


def test_no_organisation_no_bucket_no_token_are_told_apart_and_nothing_is_written(influx: InfluxConfig) -> None:
    for wrong, words in (
        ({"token": "wrong-token-of-some-length"}, r"401.*influx_token"),
        ({"org": "nowhere"}, r"organisation 'nowhere'"),
        ({"bucket_prefix": "nowhere_"}, r"404.*nowhere_…"),
    ):
        historian = InfluxHistorian(replace(influx, **wrong))  # type: ignore[arg-type]
        write = partial(historian.write, [rows(1)])
        for ask in (write, historian.span, historian.assets, historian.latest):
            with pytest.raises(ConfigurationError, match=words):
                ask()
        historian.close()


def test_points_of_another_type_are_set_aside_and_the_others_stored(historian: InfluxHistorian) -> None:
    historian.client.write(SAMPLES, 'sample,site=s1,asset=s1/p v.b="text" 500000')
    before = dropped()
    with capture_logs() as logs:
        historian.write([rows(1000), rows(1000, tags=("a",), start=5000)])
    assert dropped() == before + 1000
    assert logs[0]["counts"] == {"field_type": 1000}
    assert len(historian.chart("s1/p", ["a"], *EVER, points=2000)["a"]) == 1000


def test_a_malformed_line_takes_no_other_with_it(historian: InfluxHistorian) -> None:
    good = [f"sample,site=s1,asset=s1/p v.a=1.0 {i}" for i in range(5000)]
    bad = ["sample,site=s1,asset=s1/p v.a=NaN 7", "sample,site=,asset=x v.a=1.0 8", "rubbish"]
    before = dropped()
    historian.writer.send(SAMPLES, good[:2500] + bad + good[2500:])
    assert dropped() == before + 3
    assert len(historian.readings("s1/p", *EVER)) == 5000


def test_points_older_than_the_retention_are_set_aside_once(influx_server: InfluxConfig) -> None:
    config = fresh(influx_server)
    client = InfluxClient(config)
    server = Server(config, client)
    ensure_buckets(server, ensure_organisation(server, Report()), Report(), {**KEEP, SAMPLES: 3600})
    historian = InfluxHistorian(config)
    now, before = time.time_ns(), dropped()
    with capture_logs() as logs:
        historian.write([rows(7000), rows(10, start=now)])
    assert dropped() == before + 7000
    assert logs[0]["counts"] == {"retention": 7000}
    assert len(historian.readings("s1/p", *EVER)) == 10
    historian.close()
    forget(server)
    client.close()


def test_a_huge_batch_is_stored_whole(historian: InfluxHistorian) -> None:
    historian.write([rows(23_000), rows(4, asset="wide", tags=tuple(f"t{i}" for i in range(10_000)))])
    assert len(historian.readings("s1/p", *EVER)) == 23_000
    assert historian.readings("wide", *EVER).values.shape == (4, 10_000)


def test_a_query_that_fails_in_the_middle_of_its_answer_is_an_error(historian: InfluxHistorian) -> None:
    historian.write([rows(40_000, tags=("a",))])
    source = f"from(bucket: {flux(historian.client.config.bucket(SAMPLES))}) |> range(start: 0, stop: 1)"
    broken = f"{source} |> map(fn: (r) => ({{r with _value: 1 / int(v: 0.0)}}))"
    asked = f'{source} |> yield(name: "a")\n{broken} |> yield(name: "b")'
    with pytest.raises(StorageError, match=r"broke off in the middle of its answer.*divide by zero"):
        historian.client.query(asked, "look")


def test_a_frozen_server_is_unreachable_within_the_timeout_and_serves_again(own_influx: Callable[[], Influx]) -> None:
    server = own_influx()
    setup(server.config())
    historian = InfluxHistorian(server.config(timeout_s=1.0))
    now = time.time_ns()
    historian.write([rows(10, start=now)])
    os.kill(int(server.facts["pid"]), 19)
    try:
        for ask in (lambda: historian.write([rows(10, start=now)]), historian.span):
            with pytest.raises(Unreachable, match="no answer within 1 s"):
                ask()
    finally:
        os.kill(int(server.facts["pid"]), 18)
    historian.write([rows(20, start=now)])
    assert historian.span() == (now, now + 19)
    historian.close()


@pytest.mark.slow
def test_what_was_acknowledged_before_a_crash_is_there_after_it(own_influx: Callable[[], Influx]) -> None:
    server = own_influx()
    setup(server.config())
    historian, start = InfluxHistorian(server.config()), time.time_ns()
    acknowledged: list[Readings] = []
    errors: list[PlantwatchError] = []

    def write() -> None:
        block = 0
        while not errors:
            part = rows(2000, start=start + block * 2000)
            try:
                historian.write([part])
                acknowledged.append(part)
                block += 1
            except PlantwatchError as error:
                errors.append(error)
                failed.append(part)

    for _ in range(3):
        errors.clear()
        failed: list[Readings] = []
        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.7)
        server.kill()
        thread.join()
        assert isinstance(errors[0], Unreachable)
        server.start()
        server.stop()  # a torn end of the write-ahead log is set right only by a second start
        server.start()
        historian.write(failed)
        acknowledged += failed
        start += 10_000_000
    stored = historian.readings("s1/p", *EVER)
    wanted = np.unique(np.concatenate([part.times for part in acknowledged]))
    assert len(wanted) > 6000
    np.testing.assert_array_equal(stored.times[np.isin(stored.times, wanted)], wanted)
    expected = {
        time: values
        for part in acknowledged
        for time, values in zip(part.times.tolist(), part.values.tolist(), strict=True)
    }
    assert all(
        expected[time] == values for time, values in zip(stored.times.tolist(), stored.values.tolist(), strict=True)
    )
    historian.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB; skips where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("no small disk: this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_as_one_and_with_room_and_a_restart_writing_goes_on(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(36 << 20))
    server = Influx(script(), small_disk / "data").start()
    try:
        setup(server.config())
        historian, start, chance = InfluxHistorian(server.config()), time.time_ns(), np.random.default_rng(0)
        tags, quality, times = tuple("abcdefgh"), np.zeros((5000, 8), dtype=np.uint8), start + np.arange(5000)

        def fill() -> None:
            nonlocal times
            for _ in range(400):
                historian.write([Readings("s1/p", tags, times, chance.random((5000, 8)), quality)])
                times = times + 5000

        with pytest.raises(StorageFull, match=r"its disk is full.*no space left.*free some space"):
            fill()
        filler.unlink()
        server.stop()  # InfluxDB does not try again what it could not open, until it is restarted
        server.start()
        historian.write([Readings("s1/p", tags, times, chance.random((5000, 8)), quality)])
        assert len(historian.readings("s1/p", int(times[0]), int(times[-1]) + 1)) == 5000
        historian.close()
    finally:
        server.stop()


def test_a_reader_alone_and_a_writer_alone_are_enough(influx: InfluxConfig) -> None:
    alone, reader = InfluxWriter(influx), InfluxReader(influx)
    alone.write([rows(5)])
    alone.heartbeat("score", 7, {"lag": 0})
    assert reader.span("s1/p") == (0, 4)
    assert reader.heartbeats()["score"].time == 7
    alone.close()
    reader.close()
    assert HEARTBEATS in influx.bucket(HEARTBEATS)
