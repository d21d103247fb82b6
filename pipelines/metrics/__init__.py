"""Figures for Prometheus: what the services call where something happens. `families` lists them all.

Names, units and meaning for people: docs/metrics.md; what to do about them: docs/operating.md, "Rules".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from prometheus_client import generate_latest, start_http_server

from pipelines.metrics import families
from pipelines.metrics.children import Shown, counter, histogram
from pipelines.metrics.families import REGISTRY
from pipelines.ports import Partition

_lag, _committed = Shown(families.LAG), Shown(families.COMMITTED)
_active, _models = Shown(families.ACTIVE), Shown(families.MODEL)
_ages, _drift, _engines = Shown(families.MODEL_AGE), Shown(families.DRIFT), Shown(families.ENGINE)


# -------------------------------------------------------------------- the log


def messages_consumed(service: str, topic: str, count: int = 1) -> None:
    """`service` took records from `topic`."""
    counter(families.CONSUMED, service, topic).inc(count)


def consumer_lag(service: str, lag: Mapping[Partition, int]) -> None:
    """Records that `service` has not read, of every partition it holds; of all others nothing is shown."""
    _lag.replace(service, {(service, p.topic, str(p.number)): count for p, count in lag.items()})


def committed(service: str, offsets: Mapping[Partition, int]) -> None:
    """Offsets that `service` has committed, of every partition it holds."""
    _committed.replace(service, {(service, p.topic, str(p.number)): offset for p, offset in offsets.items()})


def consumer_rebuilt(service: str, reason: str) -> None:
    """A session of `service` ended in trouble and begins anew."""
    counter(families.REBUILDS, service, reason).inc()


def position_outside(service: str, side: str) -> None:
    """What `service` had committed on a partition lay `before` the start of the log, or `beyond` its end."""
    counter(families.OUTSIDE, service, side).inc()


def dead_letter(reason: str) -> None:
    """One record was set aside."""
    counter(families.DEAD, reason).inc()


def tombstone() -> None:
    """One record of readings held none on purpose: it was skipped."""
    families.TOMBSTONES.inc()


def payload_hint(hint: str) -> None:
    """A payload was taken, though its producer should mend something."""
    counter(families.HINTS, hint).inc()


# ------------------------------------------------------------------- readings


def readings(bucket: str, count: int) -> None:
    """Readings that ended in `bucket`."""
    counter(families.READINGS, bucket).inc(count)
    if bucket == "late":
        families.LATE.inc(count)


def samples(seen: NDArray[np.int64], tags: int) -> None:
    """Rows by how many of their `tags` were seen and believed: `good` all, `partial` some, `missing` none."""
    whole, none = int((seen >= tags).sum()), int((seen == 0).sum())
    for quality, count in (("good", whole), ("missing", none), ("partial", len(seen) - whole - none)):
        if count:
            counter(families.SAMPLES, quality).inc(count)


# -------------------------------------------------------------------- scoring


def windows_scored(rung: str, count: int) -> None:
    """Windows that got a finite score."""
    counter(families.WINDOWS, rung).inc(count)


@contextmanager
def inference(engine: str, size: int) -> Iterator[None]:
    """Time one model call over `size` windows, seconds."""
    families.BATCH.observe(size)
    started = time.perf_counter()
    yield
    histogram(families.INFERENCE, engine).observe(time.perf_counter() - started)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of one batch, seconds."""
    started = time.perf_counter()
    try:
        yield
    finally:
        histogram(families.STAGE, name).observe(time.perf_counter() - started)


def engines(by_group: Mapping[str, str]) -> None:
    """What computes the newest scores of each group: numpy, onnx_cpu or onnx_gpu."""
    _engines.replace("score", dict.fromkeys(by_group.items(), 1))


def gpu_fallback(active: bool) -> None:
    """Whether nets run on the CPU though this process was told to use a GPU."""
    families.GPU_FALLBACK.set(active)


# ---------------------------------------------------------------------- sinks


@contextmanager
def sink(name: str) -> Iterator[None]:
    """Time one write to a sink; a write that raises counts as a failure, and the sink as degraded until one succeeds.

    Nothing is caught. An error's `kind` is the name of its class.
    """
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        counter(families.SINK_FAILURES, name, type(error).__name__).inc()
        families.SINK_DEGRADED.labels(name).set(1)
        raise
    histogram(families.SINK, name).observe(time.perf_counter() - started)
    families.SINK_DEGRADED.labels(name).set(0)


def end_to_end(now: int, times: NDArray[np.int64]) -> None:
    """Scores of event time `times` are written at `now`; both ns."""
    families.END_TO_END.observe((now - times) / 1e9)


def points_dropped(reason: str, count: int) -> None:
    """A sink refused points for good. Must never happen; whoever calls this also says it in the log."""
    counter(families.DROPPED, reason).inc(count)


# --------------------------------------------------------------------- alerts


def alert_raised(priority: str) -> None:
    """An alert was raised."""
    counter(families.RAISED, priority).inc()


def alerts_active(by_priority: Mapping[str, int]) -> None:
    """Alerts whose cause lasts, of the assets this process looks after. A priority that is not named counts 0."""
    _active.replace("alert", {(priority,): by_priority.get(priority, 0) for priority in ("low", "medium", "high")})


def alert_flood(active: bool) -> None:
    """Whether alerts come faster than people can take them in."""
    families.FLOOD.set(active)


def notification(channel: str, result: str) -> None:
    """A delivery was tried: `result` is delivered or failed."""
    counter(families.NOTIFIED, channel, result).inc()


# --------------------------------------------------------------------- models


def models(role: str, served: Iterable[tuple[str, str]]) -> None:
    """(group, version) of all versions that have the role `champion` or `challenger` now."""
    _models.replace(role, {(group, name, role): 1 for group, name in served})


def model_ages(seconds: Mapping[str, float]) -> None:
    """Age of each group's champion; a group on rules has none."""
    _ages.replace("score", {(group,): age for group, age in seconds.items()})


def drift(ratios: Mapping[str, float]) -> None:
    """Drift ratio of each group where enough scores are known."""
    _drift.replace("score", {(group,): ratio for group, ratio in ratios.items()})


def retrained(result: str) -> None:
    """A fit ended: `promoted`, `challenger`, `objected` or `failed`."""
    counter(families.RETRAINED, result).inc()


# ----------------------------------------------------------------- exposition


def totals() -> dict[str, float]:
    """Every counter's value by `name{labels}`, for tests and the System page."""
    return {
        sample.name + "".join(f"{{{v}}}" for v in sample.labels.values()): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_sum", "_count"))
    }


def _say_version() -> None:
    try:
        families.BUILD.labels(version("plantwatch")).set(1)
    except PackageNotFoundError:  # run from a tree that was never installed
        families.BUILD.labels("unknown").set(1)


def page() -> bytes:
    """All metrics in Prometheus's text format (`prometheus_client.CONTENT_TYPE_LATEST`)."""
    return generate_latest(REGISTRY)


def serve(port: int, host: str = "127.0.0.1") -> None:
    """Answer Prometheus at `http://host:port/metrics`, from a thread of its own. Raises OSError: port taken."""
    start_http_server(port, addr=host, registry=REGISTRY)


_say_version()
