"""The truth file: what really went wrong in a simulated life, for people and for scoring a detector against it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.sources.simulator.faults import INSTRUMENT_FAULTS, MACHINE_FAULTS
from pipelines.sources.simulator.simulator import Simulator


def truth(simulator: Simulator, until: int | None = None) -> dict[str, Any]:
    """Everything known about the faults with onset before `until` (ns; default: now), fit for JSON.

    Times are given twice: ns as integers, and ISO-8601 UTC as `…_utc` for people.
    """
    texts = {**MACHINE_FAULTS, **INSTRUMENT_FAULTS}
    faults = []
    for fault in simulator.faults(until):
        times = {f"{name}_utc": utc(getattr(fault, name)) for name in ("onset", "developed", "until")}
        faults.append({**fault.to_dict(), **times, "description": texts[fault.name]})
    span = {"start": simulator.start, "live_from": simulator.live_from, "now": simulator.now}
    readable = {f"{name}_utc": utc(time) for name, time in span.items()}
    return {"seed": simulator.seed, **span, **readable, "faults": faults}


def utc(time: int) -> str:
    """ISO-8601 UTC with milliseconds.

    >>> utc(1_700_000_000_250_000_000)
    '2023-11-14T22:13:20.250Z'
    """
    return f"{np.datetime64(time, 'ns').astype('datetime64[ms]')}Z"
