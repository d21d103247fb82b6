"""What historians derive from stored values alike."""

from __future__ import annotations

import re

from anomaly.domain import Scores, SensorFault
from pipelines.ports import AlertEvent, ScoreSummary


def sequence(event: AlertEvent) -> int:
    """Number of a transition within its alert, from the end of its id; 0 if it has none."""
    digits = re.search(r"\d+$", event.id.removeprefix(event.alert.id))
    return min(int(digits.group()), 2**63 - 1) if digits else 0


def summarise(block: Scores, row: int = 0) -> ScoreSummary:
    """One row of a block for the overview."""
    return ScoreSummary(
        asset=block.assets[row],
        time=int(block.times[row]),
        score=float(block.score[row]),
        state=str(block.state[row]),
        coverage=float(block.coverage[row]),
        rung=str(block.rung),
        version=block.version,
        faults={
            tag: SensorFault(code).name.lower()
            for tag, code in zip(block.tags, block.faults[row].tolist(), strict=True)
            if code != SensorFault.NONE
        },
    )
