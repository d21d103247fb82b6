"""Rules: engineering limits, the first rung of the ladder. Needs no data at all.

A scorer sees no units, so `rules_scaling` puts every tag on the scale where its limits are −1 and +1; the score is how
far out the worst tag is: 1.0 at the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Rung, Tag
from anomaly.scorers import Raw, State

MARGIN = 0.25
"""A sensor is believed this share of its range beyond its limits: there the machine is out, not the instrument."""
SHARPNESS = 8
"""Contributions go with this power of the distance: the tag that is out takes nearly all the blame."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Limits at −1 (`lower`) and +1 (`upper`) of the scaled value, where a tag has them. A tag without is not judged.

    >>> import numpy as np
    >>> scorer = Rules(np.array([True, False]), np.array([True, False]))
    >>> scorer.score(np.array([[[1.5, 99.0]]], np.float32), np.ones((1, 1, 2), bool)).raw.tolist()
    [1.5]
    """

    lower: Bool[np.ndarray, " tag"]
    upper: Bool[np.ndarray, " tag"]

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return Rung.RULES

    @property
    def length(self) -> int:
        """A rule needs one row."""
        return 1

    def score(
        self,
        values: Float32[np.ndarray, "window time tag"],
        mask: Bool[np.ndarray, "window time tag"],
        times: Int64[np.ndarray, " window"] | None = None,
    ) -> Raw:
        """Score by the worst tag; `expected` is the limit for tags beyond it, NaN for the others.

        NaN where no tag that has a limit was seen: not knowing is never a silent zero.
        """
        last = values[:, -1].astype(np.float64)
        judged = mask[:, -1] & (self.lower | self.upper)
        out = np.maximum(np.where(self.upper, last, -np.inf), np.where(self.lower, -last, -np.inf))
        distance = np.where(judged, np.maximum(out, 0.0), 0.0)
        worst = distance.max(axis=1, keepdims=True, initial=0.0)
        blame = np.where(worst > 0, (distance / np.where(worst > 0, worst, 1.0)) ** SHARPNESS, judged)
        known = judged.any(axis=1)
        shares = blame / np.maximum(blame.sum(axis=1, keepdims=True), 1e-300)
        expected = np.where(judged & (distance > 1.0), np.clip(last, -1.0, 1.0), np.nan)
        return Raw(np.where(known, worst[:, 0], np.nan), np.where(known[:, None], shares, 0.0), expected)

    def state(self) -> State:
        """Arrays that rebuild it."""
        return {"lower": self.lower, "upper": self.upper}

    @classmethod
    def from_state(cls, state: State) -> Rules:
        """The scorer of that state."""
        return cls(np.asarray(state["lower"], bool), np.asarray(state["upper"], bool))


def rules_for(tags: Sequence[Tag]) -> Rules:
    """Rules from the plant file's limits, tags in the order given."""
    return Rules(
        np.array([tag.low is not None for tag in tags], bool), np.array([tag.high is not None for tag in tags], bool)
    )


def rules_scaling(tag: Tag) -> tuple[float, float]:
    """`(centre, scale)` in the tag's unit that puts its limits at −1 and +1.

    With one limit only, the other end is unknown: the score then grows by 1 for each size of the limit beyond it.

    >>> rules_scaling(Tag("p", low=2.0, high=10.0)), rules_scaling(Tag("t", high=90.0)), rules_scaling(Tag("x"))
    ((6.0, 4.0), (0.0, 90.0), (0.0, 1.0))
    """
    if tag.low is not None and tag.high is not None:
        return (tag.low + tag.high) / 2, max(abs(tag.high - tag.low) / 2, 1e-9)
    if tag.low is not None:
        return tag.low + (abs(tag.low) or 1.0), abs(tag.low) or 1.0
    if tag.high is not None:
        return tag.high - (abs(tag.high) or 1.0), abs(tag.high) or 1.0
    return 0.0, 1.0


def scaling_of(tags: Sequence[str], own: Sequence[Tag], widest: Mapping[str, Tag]) -> Float[np.ndarray, "tag two"]:
    """Centre and scale of each named tag, from its own limits; one it lacks is the group's `widest`."""
    known = {tag.name: tag for tag in own}
    return np.array([rules_scaling(_filled(known.get(name), widest[name])) for name in tags], float).reshape(-1, 2)


def widest(tags: Sequence[Tag]) -> list[Tag]:
    """One tag a name, with the widest limits of all of that name.

    >>> [(tag.low, tag.high) for tag in widest([Tag("p", high=9.0), Tag("p", low=0.0, high=8.0)])]
    [(0.0, 9.0)]
    """
    merged: dict[str, Tag] = {}
    for tag in tags:
        known = merged.setdefault(tag.name, tag)
        lows = [t.low for t in (known, tag) if t.low is not None]
        highs = [t.high for t in (known, tag) if t.high is not None]
        merged[tag.name] = replace(known, low=min(lows, default=None), high=max(highs, default=None))
    return list(merged.values())


def beyond(tag: Tag) -> Tag:
    """The same tag with a range wider by `MARGIN` on each side.

    >>> beyond(Tag("p", low=0.0, high=10.0)).high
    12.5
    """
    extra = 2 * MARGIN * rules_scaling(tag)[1]
    low = None if tag.low is None else tag.low - extra
    return replace(tag, low=low, high=None if tag.high is None else tag.high + extra)


def _filled(tag: Tag | None, group: Tag) -> Tag:
    if tag is None:
        return group
    low = group.low if tag.low is None else tag.low
    return replace(tag, low=low, high=group.high if tag.high is None else tag.high)
