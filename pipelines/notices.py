"""Rows of the scores topic that say nothing of a machine, but of its device: a wrong clock, or silence.

They are keyed and ordered by the log's clock, since the device's own is wrong or stands still; the alert service reads
them, the historian does not keep them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Int64

from anomaly.alignment import AlignmentPolicy
from anomaly.domain import SECOND, Asset, Rung, Scores, SensorFault, State
from anomaly.episode_policy import CLOCK, SILENCE, EpisodePolicy

CLOCK_VERSION: Final = CLOCK
"""`Scores.version` of notices about a device's clock."""
SILENCE_VERSION: Final = SILENCE
"""`Scores.version` of notices about an asset that sends nothing."""
VERSIONS: Final = frozenset({CLOCK_VERSION, SILENCE_VERSION})

_LEAST_PATIENCE: Final = 600 * SECOND
_SILENT_ROWS: Final = EpisodePolicy().fault_when[0].rows
"""Rows of one notice of silence: enough for the alert rule, since no more will come."""


def patience(asset: Asset) -> int:
    """An asset is silent if it was not heard of for so long (ns) while others were: its gap limit, 10 min at least."""
    return max(AlignmentPolicy.of(asset.tick).gap, _LEAST_PATIENCE)


def clock_notice(asset: str, time: int) -> Scores:
    """One row: the clock of the asset's device was seen to be wrong at `time` (ns, the log's clock)."""
    return _notice(asset, CLOCK, np.array([time], dtype=np.int64), SensorFault.CLOCK, CLOCK_VERSION)


def silence_notice(asset: Asset, heard: int) -> Scores:
    """Rows of the ticks after `heard` (ns, the log's clock), when the asset last sent something."""
    times = heard + np.arange(1, _SILENT_ROWS + 1, dtype=np.int64) * asset.tick
    return _notice(asset.path, SILENCE, times, SensorFault.MISSING, SILENCE_VERSION)


def _notice(asset: str, tag: str, times: Int64[np.ndarray, " row"], fault: SensorFault, version: str) -> Scores:
    count = len(times)
    unknown = np.full(count, np.nan)
    return Scores(
        tags=(tag,),
        assets=(asset,) * count,
        times=times,
        score=unknown,
        contributions=np.zeros((count, 1)),
        expected=unknown.reshape(count, 1),
        actual=unknown.reshape(count, 1),
        coverage=np.zeros(count),
        isolated=unknown,
        faults=np.full((count, 1), fault, dtype=np.uint8),
        state=(State.INSUFFICIENT_COVERAGE,) * count,
        version=version,
        rung=Rung.RULES,
    )
