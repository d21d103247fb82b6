"""Which one tag explains a strange window best, and what is left of the score without it.

The tag that is farthest off need not be the one that is wrong: where the speed reads high, every tag that speed
foretells looks strange. So the window is scored again without each of its strongest tags, and the one without which
least is left is the suspect (reconstruction-based identification: Dunia & Qin 1996; Alcala & Qin 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float, Int64

SUSPECTS: Final = 3
"""So many of the strongest tags are tried."""


def isolate(
    score: Float[np.ndarray, " window"],
    contributions: Float[np.ndarray, "window tag"],
    without: Callable[[Int64[np.ndarray, " window"]], Float[np.ndarray, " window"]],
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "window tag"]]:
    """The score of each window without its suspect (NaN if it cannot be told), and the contributions in its light.

    `without` scores the windows again, each without the tag (its number) given for it. The share of the score that goes
    away with the suspect is the suspect's; the rest is shared as it was.

    >>> rest, shares = isolate(np.array([2.0]), np.array([[0.6, 0.4]]), lambda tag: np.where(tag == 1, 0.5, 1.5))
    >>> rest.tolist(), shares.round(2).tolist()
    ([0.5], [[0.15, 0.85]])
    """
    tags = np.argsort(-contributions, axis=1, kind="stable")[:, :SUSPECTS]
    rests = np.stack([without(tags[:, place]) for place in range(tags.shape[1])], axis=1)
    place = np.where(np.isfinite(rests), rests, np.inf).argmin(axis=1)[:, None]
    rest = np.take_along_axis(rests, place, axis=1)[:, 0]
    explained = np.where(np.isfinite(rest), np.clip(1.0 - rest / score, 0.0, 1.0), 0.0)
    shares = contributions * (1.0 - explained)[:, None]
    shares[np.arange(len(shares)), np.take_along_axis(tags, place, axis=1)[:, 0]] += explained
    return np.where(np.isfinite(rest), rest, np.nan), shares
