"""The bookkeeping of one cause: which rows count, whether a rule is met, since when, whom to blame.

All functions change the `Trouble` given in place and look at no more than its last `horizon` rows.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, NamedTuple

from anomaly.domain import SensorFault
from anomaly.episode_policy import Density, EpisodePolicy, Run, Seen, Trouble

MOST_BLAMED: Final = 5
"""At most so many tags are blamed…"""
LEAST_SHARE: Final = 0.2
"""…each with at least this share of the strongest one's blame."""
_LEAST: Final = 1e-3
"""Scores below are as good as this one."""
_HEAVIEST: Final = 10.0
"""A row's blame counts by its score up to this many lines, so that one wild row does not speak for all."""


def next_row(trouble: Trouble, horizon: int) -> None:
    """One more row was judged; forget the rows seen longer ago than `horizon`."""
    trouble.rows += 1
    trouble.unknown = trouble.away = 0
    oldest = trouble.rows - horizon
    if trouble.seen and trouble.seen[0].row <= oldest:
        trouble.seen = [seen for seen in trouble.seen if seen.row > oldest]


def horizon(rules: tuple[Density, ...], policy: EpisodePolicy) -> int:
    """Rows that the rules and the clear rule look back."""
    return max(policy.clear_when.of, *(rule.of for rule in rules))


def see(trouble: Trouble, seen: Seen) -> None:
    """The present row counts against the cause."""
    trouble.seen.append(seen)
    trouble.until = seen.time


def extend_run(trouble: Trouble, index: int, rule: Density, time: int) -> bool:
    """The present row goes on with the run of rule `index`, or begins a new one (then True)."""
    while len(trouble.runs) <= index:
        trouble.runs.append(Run(time, trouble.rows))
    old = trouble.runs[index]
    begins = trouble.rows - old.row > rule.gap + 1 or old.row == trouble.rows
    trouble.runs[index] = Run(time if begins else old.since, trouble.rows)
    return begins


def recent(trouble: Trouble, rule: Density) -> list[Seen]:
    """Rows among the last `rule.of` that are over the rule's line."""
    return [seen for seen in trouble.seen if seen.row > trouble.rows - rule.of and seen.score > rule.line]


def weigh(trouble: Trouble, shares: dict[str, float], score: float) -> None:
    """Add one row's contributions to the blame of each tag."""
    for tag, share in shares.items():
        trouble.weights[tag] = trouble.weights.get(tag, 0.0) + share * min(score, _HEAVIEST)


def blamed(weights: dict[str, float]) -> tuple[str, ...]:
    """Tags to blame, strongest first; equal ones by name.

    >>> blamed({"temp": 1.0, "vib": 4.0, "flow": 0.1})
    ('vib', 'temp')
    """
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:MOST_BLAMED]
    return tuple(tag for tag, weight in ranked if weight > 0.0 and weight >= LEAST_SHARE * ranked[0][1])


def is_well(trouble: Trouble, policy: EpisodePolicy) -> bool:
    """Whether an open anomaly may close: it has been looked at for its span, and hardly any row in it counts."""
    span = [seen for seen in trouble.seen if seen.row > trouble.rows - trouble.span]
    return trouble.rows - trouble.opened >= trouble.span and len(span) <= policy.clear_when.rows


class Verdict(NamedTuple):
    """A sensor fault that is now proven."""

    fault: str
    onset: int
    span: int
    """Rows it must read well before it closes."""


def accuse(trouble: Trouble, policy: EpisodePolicy) -> Verdict | None:
    """The fault that its rows prove, by the first rule that is met. DISAGREES is judged elsewhere, not here."""
    for index, rule in enumerate(policy.fault_rules):
        spikes = index == len(policy.fault_when)
        rows = [s for s in trouble.seen if s.row > trouble.rows - rule.of and s.code != SensorFault.DISAGREES]
        codes = [s.code for s in rows if not spikes or s.code == SensorFault.SPIKE]
        if len(codes) >= rule.rows:
            commonest = Counter(codes).most_common(1)[0][0]
            span = max(rule.of, policy.clear_when.of)
            return Verdict(SensorFault(commonest).name, trouble.runs[index].since, span)
    return None


def lone_tag(rows: list[Seen], policy: EpisodePolicy) -> str:
    """The tag that may be to blame alone, or an empty text: most of these rows are strange in it alone, or most are
    strange in some one tag alone, and the rest is so usual that the machine can hardly be to blame.
    """
    alone = [seen for seen in rows if seen.lone]
    if not alone:
        return ""
    tag, count = Counter(seen.lone for seen in alone).most_common(1)[0]
    least = policy.lone_share * len(rows)
    if count > least:
        return tag
    return tag if len(alone) > least and typical([seen.rest for seen in alone]) <= policy.quiet_line else ""


def is_lone(trouble: Trouble, tag: str, policy: EpisodePolicy) -> bool | None:
    """Whether it is the sensor of `tag` (True) or the machine (False); None while it is too early to say.

    It is decided as soon as enough rows were strange in it alone; if the rest is not normal then, the machine is to
    blame. A run that outlasts the rule without that is the sensor's only if the rule's share of its rows was: nothing
    that lasts may stay untold.
    """
    rule = policy.lone_when
    rows = [seen for seen in trouble.seen if seen.row > trouble.rows - rule.of]
    alone = [seen.rest for seen in rows if seen.lone == tag]
    if len(alone) < rule.rows and not outlasts(trouble):
        return None
    enough = len(alone) >= rule.rows or len(alone) * rule.of >= rule.rows * len(rows)
    return enough and typical(alone) <= policy.rest_line


def typical(scores: list[float]) -> float:
    """Geometric mean: scores are judged by their logarithm.

    >>> typical([0.25, 1.0])
    0.5
    """
    return math.exp(math.fsum(math.log(max(score, _LEAST)) for score in scores) / len(scores))


def outlasts(trouble: Trouble) -> bool:
    """Whether the run began before the oldest row that is remembered."""
    return bool(trouble.seen) and trouble.runs[0].since < trouble.seen[0].time


def take_lone(trouble: Trouble, tag: str, span: int) -> Trouble:
    """Move the rows that are strange in `tag` alone out of `trouble` into a trouble of that sensor."""
    rows = [seen for seen in trouble.seen if seen.lone == tag]
    trouble.seen = [seen for seen in trouble.seen if seen.lone != tag]
    trouble.weights.pop(tag, None)
    trouble.runs = [Run(trouble.seen[0].time, trouble.seen[-1].row)] if trouble.seen else []
    evidence = [Seen(s.row, s.time, s.score, code=SensorFault.DISAGREES) for s in rows]
    return Trouble(trouble.rows, evidence, opened=trouble.rows, span=span, until=rows[-1].time)
