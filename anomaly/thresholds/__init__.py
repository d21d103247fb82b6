"""Thresholds: from the scores of normal rows to the alert line. Only rows the model was not fitted on may be used."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anomaly.errors import ModelRefused


@dataclass(frozen=True, slots=True)
class Threshold:
    """The alert line of each asset, in the scorer's raw units; `default` serves assets that have none of their own.

    >>> line = Threshold({"s1/pump-1": 2.5}, default=3.0, method="budget")
    >>> line.line("s1/pump-1"), line.line("s1/pump-2")
    (2.5, 3.0)
    """

    lines: Mapping[str, float]
    default: float
    method: str
    """How it was found, for people."""
    typical: float | None = field(default=None, repr=False, compare=False)
    """Median score of the normal rows it was found from, in alert lines: drift is measured against it."""

    def __post_init__(self) -> None:
        """Refuse a line that no score can be divided by (ModelRefused)."""
        for asset, line in {**self.lines, "every other asset": self.default}.items():
            if not 0.0 < line < float("inf"):
                raise ModelRefused(f"The alert line of {asset} is {line}; it must be finite and above 0. Train again.")

    def line(self, asset: str) -> float:
        """The alert line of that asset."""
        return self.lines.get(asset, self.default)

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {"lines": dict(self.lines), "default": self.default, "method": self.method, "typical": self.typical}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Threshold:
        """The threshold of those plain values; raises ModelRefused if they are not a threshold's."""
        lines, default = plain.get("lines"), plain.get("default")
        if not isinstance(lines, Mapping) or not isinstance(default, int | float):
            raise ModelRefused(f"A threshold has 'lines' and 'default'; this one has {sorted(plain)}. Train again.")
        typical = plain.get("typical")
        if not (isinstance(typical, int | float) and math.isfinite(typical) and typical > 0):
            typical = None
        own = {str(asset): float(line) for asset, line in lines.items()}
        return cls(own, float(default), str(plain.get("method", "")), typical)


def highest(thresholds: Sequence[Threshold]) -> Threshold:
    """For each asset the highest of its lines: what none of several calibration blocks would alarm at.

    >>> highest([Threshold({"a": 2.0}, 3.0, "budget"), Threshold({"a": 2.5, "b": 1.0}, 2.0, "budget")])
    Threshold(lines={'a': 2.5, 'b': 3.0}, default=3.0, method='budget')
    """
    assets = sorted({asset for threshold in thresholds for asset in threshold.lines})
    return Threshold(
        {asset: max(threshold.line(asset) for threshold in thresholds) for asset in assets},
        max(threshold.default for threshold in thresholds),
        thresholds[0].method,
        _middle([t.typical for t in thresholds if t.typical is not None]),
    )


def _middle(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
