"""Counters that rules watch, made at 0 before anything happens: `increase()` does not see the birth of a counter."""

from __future__ import annotations

from collections.abc import Iterable

from anomaly.domain import Priority
from pipelines.metrics import families
from pipelines.metrics.children import counter
from pipelines.reasons import Reason

RESULTS = ("promoted", "challenger", "objected", "failed")
"""What a fit can come to."""
OTHER_REASONS = ("unknown_asset", "kills_process")
"""Reasons of dead letters beside those of decoding."""


def of_score() -> None:
    """Dead letters, by every reason."""
    for reason in (*Reason, *OTHER_REASONS):
        counter(families.DEAD, str(reason))


def of_alert(receivers: Iterable[str]) -> None:
    """Alerts raised, and deliveries to each receiver."""
    for priority in Priority:
        counter(families.RAISED, str(priority))
    for receiver in receivers:
        for result in ("delivered", "failed"):
            counter(families.NOTIFIED, receiver, result)


def of_train() -> None:
    """Fits, by what they came to."""
    for result in RESULTS:
        counter(families.RETRAINED, result)
