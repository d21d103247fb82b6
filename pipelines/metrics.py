"""Figures for Prometheus. Each is documented where it is made; children are kept, since looking one up costs 2 µs."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

REGISTRY = CollectorRegistry()
_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)

_consumed = Counter("plantwatch_messages_consumed", "Records taken from a topic", ["topic"], registry=REGISTRY)
_dead = Counter("plantwatch_dead_letters", "Records set aside, by reason", ["reason"], registry=REGISTRY)
_rebuilds = Counter("plantwatch_consumer_rebuilds", "Sessions begun anew after trouble", ["reason"], registry=REGISTRY)
_readings = Counter("plantwatch_readings", "Readings by where they ended (guarantee G1)", ["bucket"], registry=REGISTRY)
_windows = Counter("plantwatch_windows_scored", "Windows with a finite score, by rung", ["model"], registry=REGISTRY)
_batch = Histogram(
    "plantwatch_score_batch_size", "Windows in one model call", buckets=(1, 8, 64, 256, 1024, 4096), registry=REGISTRY
)
_stage = Histogram(
    "plantwatch_stage_seconds", "Work of one stage on one batch", ["stage"], buckets=_SECONDS, registry=REGISTRY
)
_raised = Counter("plantwatch_alerts_raised", "Alerts raised, by priority", ["priority"], registry=REGISTRY)
_notified = Counter(
    "plantwatch_notifications", "Deliveries by channel and result", ["channel", "result"], registry=REGISTRY
)
_model = Gauge(
    "plantwatch_model_info", "1 for the version that serves a group", ["group", "version"], registry=REGISTRY
)
_build = Gauge("plantwatch_build_info", "1, labelled with the version that runs", ["version"], registry=REGISTRY)


@functools.cache
def _child(metric: Counter | Histogram | Gauge, *labels: str) -> Counter | Histogram | Gauge:
    return metric.labels(*labels)


def _count(metric: Counter, amount: float, *labels: str) -> None:
    child = _child(metric, *labels)
    assert isinstance(child, Counter)
    child.inc(amount)


def messages_consumed(topic: str, count: int = 1) -> None:
    """Records taken from `topic`."""
    _count(_consumed, count, topic)


def dead_letter(reason: str) -> None:
    """One record was set aside."""
    _count(_dead, 1, reason)


def consumer_rebuilt(reason: str) -> None:
    """A session ended in trouble and begins anew."""
    _count(_rebuilds, 1, reason)


def readings(bucket: str, count: int) -> None:
    """Readings that ended in `bucket`."""
    _count(_readings, count, bucket)


def windows_scored(rung: str, count: int) -> None:
    """Windows that got a finite score."""
    _count(_windows, count, rung)


def score_batch(size: int) -> None:
    """Windows in one model call."""
    _batch.observe(size)


def alert_raised(priority: str) -> None:
    """An alert was raised."""
    _count(_raised, 1, priority)


def notification(channel: str, result: str) -> None:
    """A delivery was tried: `result` is delivered or failed."""
    _count(_notified, 1, channel, result)


def model_serves(group: str, served: str, before: str | None = None) -> None:
    """`served` scores `group` now, in place of `before`."""
    if before is not None and before != served:
        _model.labels(group, before).set(0)
    _model.labels(group, served).set(1)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of one batch, seconds."""
    started = time.perf_counter()
    try:
        yield
    finally:
        child = _child(_stage, name)
        assert isinstance(child, Histogram)
        child.observe(time.perf_counter() - started)


def totals() -> dict[str, float]:
    """Every counter's value by `name{labels}`, for tests and the System page."""
    return {
        sample.name + "".join(f"{{{v}}}" for v in sample.labels.values()): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_sum", "_count"))
    }


def serve(port: int, host: str = "127.0.0.1") -> None:
    """Answer Prometheus at `http://host:port/metrics`, from a thread of its own. Raises OSError: port taken."""
    try:
        _build.labels(version("plantwatch")).set(1)
    except PackageNotFoundError:  # run from a tree that was never installed
        _build.labels("unknown").set(1)
    start_http_server(port, addr=host, registry=REGISTRY)
