"""The list of metrics, its page, and that each figure is really fed by what happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipelines import metrics
from pipelines.metrics.children import Shown
from pipelines.metrics.families import FAMILIES, REGISTRY, Family
from pipelines.ports import Partition

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(plantwatch_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
WANTED = """
messages_consumed_total dead_letters_total consumer_lag_records consumer_rebuilds_total samples_total late_total
windows_scored_total score_batch_size inference_seconds end_to_end_seconds stage_seconds sink_write_seconds
sink_failures_total points_dropped_total alerts_active alerts_raised_total alert_flood_active notifications_total
model_info model_age_seconds drift_ratio retrain_runs_total build_info
""".split()  # noqa: SIM905  # as the agreed list is written


def documented() -> Iterator[tuple[Family, str]]:
    for name, kind, labels, unit, meaning in ROW.findall(PAGE.read_text(encoding="utf-8")):
        assert meaning.strip()
        yield Family(name, kind, tuple(re.findall(r"`(\w+)`", labels)), ""), unit.strip()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_the_page_names_every_metric_and_nothing_else() -> None:
    on_page = {family.name: (family.kind, family.labels) for family, _ in documented()}
    in_code = {family.name: (family.kind, family.labels) for family in FAMILIES.values()}
    assert on_page == in_code


def test_every_metric_of_the_agreed_list_exists() -> None:
    assert {f"plantwatch_{name}" for name in WANTED} <= FAMILIES.keys()


def test_names_carry_their_unit_and_it_is_a_base_unit() -> None:
    for family, unit in documented():
        assert unit == "seconds" or "seconds" not in family.name
        assert unit != "seconds" or "_seconds" in family.name
        assert family.kind != "counter" or family.name.endswith("_total")
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|percent)\b", family.name)


def test_no_label_names_a_machine_or_a_sensor() -> None:
    assert not {label for family in FAMILIES.values() for label in family.labels} & {"asset", "tag", "alert", "id"}


def test_what_prometheus_reads_is_what_the_list_says() -> None:
    metrics.points_dropped("none", 0)
    found = {f.name + ("_total" if f.type == "counter" else ""): f for f in text_string_to_metric_families(text())}
    assert found.keys() <= FAMILIES.keys()
    for name, family in found.items():
        assert family.type == FAMILIES[name].kind
        assert family.documentation == FAMILIES[name].text
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(FAMILIES[name].labels), name


def text() -> str:
    return metrics.page().decode()


def test_lag_of_a_partition_that_went_to_another_worker_is_no_longer_shown() -> None:
    one, two = Partition("t", 1), Partition("t", 2)
    metrics.consumer_lag("a", {one: 5, two: 7})
    metrics.consumer_lag("b", {one: 1})
    metrics.consumer_lag("a", {two: 8})
    shown = {s.labels["service"] + s.labels["partition"]: s.value for s in lag_samples() if s.labels["topic"] == "t"}
    assert shown == {"a2": 8.0, "b1": 1.0}
    metrics.consumer_lag("a", {})
    metrics.consumer_lag("b", {})
    assert not [s for s in lag_samples() if s.labels["topic"] == "t"]


def lag_samples() -> list[Sample]:
    families = text_string_to_metric_families(text())
    return [s for family in families if family.name == "plantwatch_consumer_lag_records" for s in family.samples]


def test_what_two_owners_show_stays_until_both_have_let_go() -> None:
    registry = CollectorRegistry()
    shown = Shown(Gauge("g", "g", ["group"], registry=registry))
    shown.replace("one", {("x",): 1})
    shown.replace("two", {("x",): 1})
    shown.replace("one", {})
    assert registry.get_sample_value("g", {"group": "x"}) == 1
    shown.replace("two", {})
    assert registry.get_sample_value("g", {"group": "x"}) is None


def test_a_write_that_fails_degrades_its_sink_until_one_succeeds() -> None:
    def fails() -> None:
        with metrics.sink("test"):
            raise OSError("no")

    before = value("plantwatch_sink_write_seconds_count", sink="test")
    with pytest.raises(OSError, match="no"):
        fails()
    assert value("plantwatch_sink_failures_total", sink="test", kind="OSError") == 1
    assert value("plantwatch_sink_degraded", sink="test") == 1
    assert value("plantwatch_sink_write_seconds_count", sink="test") == before, "only what was confirmed is timed"
    with metrics.sink("test"):
        pass
    assert value("plantwatch_sink_degraded", sink="test") == 0
    assert value("plantwatch_sink_write_seconds_count", sink="test") == before + 1


def test_times_to_the_historian_fall_into_their_buckets() -> None:
    def upto(edge: str) -> float:
        return value("plantwatch_end_to_end_seconds_bucket", le=edge)

    before = {edge: upto(edge) for edge in ("20.0", "30.0", "+Inf")}
    now = 1_700_000_000_000_000_000
    metrics.end_to_end(now, now - np.array([20, 25, 31], np.int64) * 1_000_000_000)
    assert {edge: upto(edge) - before[edge] for edge in before} == {"20.0": 1, "30.0": 2, "+Inf": 3}


def test_rows_are_counted_by_what_was_seen() -> None:
    names = ("good", "partial", "missing")
    before = [value("plantwatch_samples_total", quality=name) for name in names]
    metrics.samples(np.array([3, 3, 2, 0], np.int64), 3)
    after = [value("plantwatch_samples_total", quality=name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 1]
