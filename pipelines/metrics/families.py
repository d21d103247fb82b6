"""Every metric there is, once: name, type, labels, unit and meaning. `docs/metrics.md` is held to this list by a test.

No label names an asset or a tag: a plant has thousands of them, and each would be a series for ever.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from pipelines.metrics.bulk import BulkHistogram

disable_created_metrics()  # type: ignore[no-untyped-call]  # one series a child, that nobody reads

REGISTRY: Final = CollectorRegistry()
_PREFIX: Final = "plantwatch_"
_STAGE_S: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_CALL_S: Final = (0.0002, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
_SINK_S: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_WINDOWS: Final = (1, 8, 64, 256, 1024, 4096)
END_TO_END_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Family(NamedTuple):
    """One metric as Prometheus sees it. `name` as it is queried, a counter with its `_total`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


FAMILIES: Final[dict[str, Family]] = {}
"""By name."""


def _note(name: str, kind: str, text: str, labels: tuple[str, ...]) -> str:
    whole = _PREFIX + name
    FAMILIES[whole] = Family(whole, kind, labels, text)
    return whole


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(_note(f"{name}_total", "counter", text, labels), text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(_note(name, "gauge", text, labels), text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(_note(name, "histogram", text, labels), text, labels, buckets=buckets, registry=REGISTRY)


# ------------------------------------------------------------------ the log
CONSUMED = _counter("messages_consumed", "Records taken from a topic", "service", "topic")
LAG = _gauge("consumer_lag_records", "Records not read yet, by partition", "service", "topic", "partition")
COMMITTED = _gauge("consumer_committed_offset", "Next record to be read after a crash", "service", "topic", "partition")
REBUILDS = _counter("consumer_rebuilds", "Sessions begun anew after trouble, by class of error", "service", "reason")
OUTSIDE = _counter(
    "positions_outside_log", "Committed positions found outside the log, by which side", "service", "side"
)
DEAD = _counter("dead_letters", "Records set aside, by reason", "reason")
TOMBSTONES = _counter("tombstones", "Records of readings that hold none: a null, a deleted row, a keep-alive; skipped")
HINTS = _counter("payload_hints", "Payloads taken, but not as their producer meant them, by what to mend", "hint")

# ----------------------------------------------------------------- readings
READINGS = _counter("readings", "Readings by where they ended (guarantee G1)", "bucket")
LATE = _counter("late", "Readings that came after their tick was closed, unused")
SAMPLES = _counter("samples", "Rows made, by what was seen of their tags", "quality")

# ------------------------------------------------------------------ scoring
WINDOWS = _counter("windows_scored", "Windows with a finite score, by rung of the ladder", "model")
BATCH = _histogram("score_batch_size", "Windows in one model call", _WINDOWS)
INFERENCE = _histogram("inference_seconds", "One model call, by what computes it", _CALL_S, "engine")
STAGE = _histogram("stage_seconds", "Work of one stage on one batch", _STAGE_S, "stage")
ENGINE = _gauge("scoring_engine", "1 for what computes the newest scores of a group", "group", "engine")
GPU_FALLBACK = _gauge("gpu_fallback_active", "1 while nets are computed on the CPU though a GPU was asked for")

# -------------------------------------------------------------------- sinks
END_TO_END = BulkHistogram(
    _note("end_to_end_seconds", "histogram", "From a score's event time to its place in the historian", ()),
    FAMILIES[f"{_PREFIX}end_to_end_seconds"].text,
    END_TO_END_S,
)
REGISTRY.register(END_TO_END)
SINK = _histogram("sink_write_seconds", "One write that a sink confirmed", _SINK_S, "sink")
SINK_FAILURES = _counter("sink_failures", "Writes that a sink did not confirm, by class of error", "sink", "kind")
SINK_DEGRADED = _gauge("sink_degraded", "1 from a failed write until the next confirmed one", "sink")
DROPPED = _counter("points_dropped", "Points a sink will never hold; must stay 0", "reason")

# ------------------------------------------------------------------- alerts
ACTIVE = _gauge("alerts_active", "Alerts whose cause lasts, by priority", "priority")
RAISED = _counter("alerts_raised", "Alerts raised, by priority", "priority")
FLOOD = _gauge("alert_flood_active", "1 while more than 10 alerts were raised within 10 minutes")
NOTIFIED = _counter("notifications", "Deliveries by channel and result", "channel", "result")

# ------------------------------------------------------------------- models
MODEL = _gauge("model_info", "1 for each version that has a role in its group", "group", "version", "role")
MODEL_AGE = _gauge("model_age_seconds", "From the newest row the champion learned from to the newest reading", "group")
DRIFT = _gauge("drift_ratio", "Median of the newest scores over the median when the champion was calibrated", "group")
RETRAINED = _counter("retrain_runs", "Fits that ended, by result", "result")
BUILD = _gauge("build_info", "1, labelled with the version that runs", "version")
