"""What the score service shows of its models: engine, age, drift, and the quality of what they were given.

Drift is a lasting change of what is normal. Its figure is the median of a group's newest scores divided by the median
of the champion's calibration scores: both in alert lines, both over rows of all machines of the group. A fault of one
machine hardly moves a median; a changed normal does. 1 is as when it was trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anomaly.detector import Detector
from anomaly.domain import SECOND, Scores
from anomaly.strips import Strip
from pipelines import metrics

DRIFT_ROWS: Final = 4096
"""Newest known scores of a group that its level is the median of."""
LEAST_ROWS: Final = 256
"""Scores needed before a ratio is told."""
TELL_S: Final = 1.0
"""What is shown is computed so often, at most."""
NUMPY: Final = "numpy"
"""Engine of scorers without a net."""


def engine_of(detector: Detector) -> str:
    """What computes a detector's scores: `numpy` for those without a net, else what the net says of itself."""
    return str(getattr(_net(detector), "engine", NUMPY))


def _net(detector: Detector) -> object:
    """The compiled net of a detector; None if it has none."""
    return getattr(detector.scorer, "predict", None)


def device_of(detectors: Iterable[Detector]) -> str:
    """What computes the scores of these, in words: `CPU`, `GPU`, or the CPU in its place."""
    nets = [net for net in map(_net, detectors) if net is not None]
    if any(getattr(net, "fell_back", False) for net in nets):
        return "CPU, since no GPU could be used"
    engines = {str(getattr(net, "engine", NUMPY)) for net in nets}
    return "GPU" if engines == {"onnx_gpu"} else "GPU and CPU" if "onnx_gpu" in engines else "CPU"


class Level:
    """Median of the newest known scores that one version gave.

    >>> level = Level("v1")
    >>> level.push(np.array([0.2, np.nan, 0.4])); level.median(least=2), level.median(least=3)
    (0.3, None)
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self._ring = np.empty(DRIFT_ROWS)
        self._count = 0

    def push(self, scores: NDArray[np.float64]) -> None:
        """Take in scores, oldest first; those not known (NaN) are passed over."""
        known = scores[np.isfinite(scores)][-DRIFT_ROWS:]
        places = (self._count + np.arange(len(known))) % DRIFT_ROWS
        self._ring[places] = known
        self._count += len(known)

    def median(self, least: int = LEAST_ROWS) -> float | None:
        """The level, or None while fewer than `least` scores are known."""
        if self._count < least:
            return None
        return round(float(np.median(self._ring[: min(self._count, DRIFT_ROWS)])), 12)


class ScoreWatch:
    """Feeds the metrics of one score service."""

    def __init__(self) -> None:
        self._levels: dict[str, Level] = {}
        self._told = -TELL_S
        self.device = "CPU"
        """What computes the newest scores, in words."""

    def judged(self, detector: Detector, strip: Strip, scores: Scores) -> None:
        """Take in what one model call was given and said."""
        metrics.windows_scored(scores.rung, int(np.isfinite(scores.score).sum()))
        metrics.samples(strip.seen()[1], len(strip.tags))
        if detector.threshold.typical is None:
            return
        level = self._levels.get(detector.group)
        if level is None or level.version != detector.version:
            level = self._levels[detector.group] = Level(detector.version)
        level.push(scores.score)

    def tell(self, find: Callable[[], Mapping[str, Detector]], newest: int) -> None:
        """Show what serves each group, at most once a second. `newest`: append time of the newest reading, ns."""
        if time.monotonic() - self._told < TELL_S:
            return
        self._told = time.monotonic()
        serving = find()
        metrics.models("champion", [(group, detector.version) for group, detector in serving.items()])
        metrics.engines({group: engine_of(detector) for group, detector in serving.items()})
        self.device = device_of(serving.values())
        metrics.gpu_fallback(any(getattr(_net(detector), "fell_back", False) for detector in serving.values()))
        learned = {group: detector for group, detector in serving.items() if detector.trained_until}
        metrics.model_ages({group: max(0.0, (newest - d.trained_until) / SECOND) for group, d in learned.items()})
        metrics.drift({group: ratio for group, d in serving.items() if (ratio := self.ratio(d)) is not None})

    def ratio(self, detector: Detector) -> float | None:
        """Drift ratio of the version that serves a group; None while it is not known."""
        level, typical = self._levels.get(detector.group), detector.threshold.typical
        if level is None or level.version != detector.version or not typical:
            return None
        median = level.median()
        return None if median is None else median / typical
