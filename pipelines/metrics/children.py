"""Children of metrics, looked up once: prometheus_client takes 2 µs to find one by its labels."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram


@functools.cache
def counter(metric: Counter, *labels: str) -> Counter:
    """The child of those labels, at 0 if it is new."""
    return metric.labels(*labels) if labels else metric


@functools.cache
def histogram(metric: Histogram, *labels: str) -> Histogram:
    """The child of those labels."""
    return metric.labels(*labels) if labels else metric


class Shown:
    """Children of a gauge that come and go (partitions, versions). `owner`: who shows them; each replaces only its own.

    What is no longer shown is removed, so that no alert rule fires over a partition that another worker has now.
    """

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._children: dict[str, dict[tuple[str, ...], tuple[Gauge, float]]] = {}
        self._lock = threading.Lock()

    def replace(self, owner: str, values: Mapping[tuple[str, ...], float]) -> None:
        """From now on `owner` shows exactly these values by labels. Cheap where nothing changed."""
        with self._lock:
            mine = self._children.setdefault(owner, {})
            for labels in mine.keys() - values.keys():
                del mine[labels]
                if not any(labels in others for others in self._children.values()):
                    self._gauge.remove(*labels)
            for labels, value in values.items():
                known = mine.get(labels)
                if known is None or known[1] != value:
                    child = known[0] if known else self._gauge.labels(*labels)
                    child.set(value)
                    mine[labels] = (child, value)
