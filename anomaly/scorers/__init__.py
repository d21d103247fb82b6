"""Scorers: windows in, one number a window out. A scorer does not decide; one scorer a file.

Every scorer is a frozen value: it is built by its own `fit…`/`from_state`, never changed afterwards, and passes the one
check-suite in `tests/anomaly/test_scorers.py`. It sees no units: values are scaled, and 0.0 wherever `mask` is False.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Rung

BATCH = 64
"""Windows in one scorer call. Every call has exactly this many, so that no result depends on the batch's make-up."""

State: TypeAlias = dict[str, float | int | str | np.ndarray]
"""What rebuilds a scorer: plain numbers and words for the manifest, arrays for `scorer.npz`."""


class Raw(NamedTuple):
    """What a scorer says of windows, before it is divided by the alert line. NaN in `raw`: it cannot tell."""

    raw: Float[np.ndarray, " window"]
    contributions: Float[np.ndarray, "window tag"]
    """≥ 0, sum 1 where `raw` is finite (0 elsewhere); 0 for tags whose last row is masked."""
    expected: Float[np.ndarray, "window tag"]
    """What the last row should have been, scaled units; NaN where the scorer has no opinion."""


@runtime_checkable
class Scorer(Protocol):
    """Gives windows their scores; pure, and one window's score never depends on the others in the call.

    Never raises for values that are finite where the mask is True; says NaN where too little was seen.
    """

    @property
    def rung(self) -> Rung:
        """Which step of the cold-start ladder it is."""
        ...

    @property
    def length(self) -> int:
        """Rows a window must have."""
        ...

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score scaled windows (0.0 where masked) by their last rows; higher is stranger, 0 is perfectly normal.

        `times`: event time of the last rows, ns, for scorers that know the time of day.
        """
        ...

    def state(self) -> State:
        """All that `from_state` needs to rebuild an equal scorer; arrays hold numbers only (no pickling)."""
        ...


Cut: TypeAlias = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""Values and mask of the windows `start` to `stop` - 1, `(window, time, tag)` each."""


def score_in_batches(
    scorer: Scorer,
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
    times: Int64[np.ndarray, " window"] | None = None,
) -> Raw:
    """Score any number of windows in calls of exactly `BATCH`; the last call is filled up with all-zero windows.

    A kernel may sum in another order for another batch size; with one size only, a replay gives the same bytes.
    """
    return score_cut(scorer, values.shape, lambda start, stop: (values[start:stop], mask[start:stop]), times)


def score_cut(
    scorer: Scorer, shape: tuple[int, ...], cut: Cut, times: Int64[np.ndarray, " window"] | None = None
) -> Raw:
    """The same for windows of that shape (window, time, tag) that are cut as they are needed."""
    count, tags = shape[0], shape[2]
    raw, contributions, expected = np.empty(count), np.empty((count, tags)), np.empty((count, tags))
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        filled = np.zeros((BATCH, *shape[1:]), np.float32)
        seen = np.ones(filled.shape, bool)
        filled[: stop - start], seen[: stop - start] = cut(start, stop)
        clock = None
        if times is not None:
            clock = np.zeros(BATCH, np.int64)
            clock[: stop - start] = times[start:stop]
        part = scorer.score(filled, seen, clock)
        raw[start:stop] = part.raw[: stop - start]
        contributions[start:stop] = part.contributions[: stop - start]
        expected[start:stop] = part.expected[: stop - start]
    return Raw(raw, contributions, expected)
