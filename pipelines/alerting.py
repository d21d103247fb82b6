"""Alerts of one asset, as a pure function of its scores and of what people asked for. ISA-18.2 states.

    state, events = apply_scores(state, scores, offset, policy)
    state, events, refused = apply_command(state, command, offset, policy)

Nothing here reads a clock or writes anything; the same input gives the same alerts, ids and texts after any crash.

Decisions of meaning:

- One open alert per asset and cause. Its id is made of asset, cause and onset, so that a replay finds the same one.
- Acknowledging says *I have seen it*. An alert that is both cleared and acknowledged, in either order, is closed.
- A cause that returns within `reopen_within` of clearing, before anyone acknowledged, reopens the same alert: event
  `raised` again, same id, next number. To the operator a chattering cause is one trouble, and one acknowledgement
  covers it. Later than that, the old alert is closed as superseded, and a new one is raised.
- Shelving hides a cause from people, not its state: events go on to the topic, marked SHELVED. It covers alerts of that
  cause raised later too, until it ends. It ends by the asset's event time; what is then true is told as `unshelved`.
- Closing by hand ends the alert even while its anomaly lasts; the cause must clear before it can raise again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from anomaly.domain import Alert, Scores
from anomaly.episode_policy import NOTICES, EpisodeState
from anomaly.episodes import Episodes
from pipelines import wording
from pipelines.alert_desk import Desk, state_of
from pipelines.alert_state import TOPIC, AlertPolicy, AssetAlerts, decode_state, encode_state
from pipelines.codec import Command, CommandKind
from pipelines.ports import AlertEvent

__all__ = [
    "ROLES_THAT_ACT",
    "TOPIC",
    "AlertPolicy",
    "AssetAlerts",
    "Step",
    "Verdict",
    "apply_command",
    "apply_quiet",
    "apply_scores",
    "decode_state",
    "encode_state",
    "open_alerts",
    "sentence",
    "state_of",
]

ROLES_THAT_ACT = frozenset({"operator", "engineer", "admin"})
"""Roles that may act on alerts."""
_ABOUT_ALERTS = (
    CommandKind.ACKNOWLEDGE,
    CommandKind.SHELVE,
    CommandKind.UNSHELVE,
    CommandKind.CLOSE,
    CommandKind.COMMENT,
)


class Step(NamedTuple):
    """What a block of scores led to. The events are also in the state's outbox."""

    state: AssetAlerts
    events: tuple[AlertEvent, ...]


class Verdict(NamedTuple):
    """What a command led to; `refused` says why it led to nothing, or is empty."""

    state: AssetAlerts
    events: tuple[AlertEvent, ...]
    refused: str = ""


def apply_scores(state: AssetAlerts, scores: Scores, offset: int, policy: AlertPolicy) -> Step:
    """Take in one record of the scores topic. Applied once: a record at or before `applied_scores` changes nothing.

    Rows of other assets are ignored, and so are rows not newer than those taken (a scorer that crashed writes twice).
    """
    if offset <= state.applied_scores:
        return Step(state, ())
    desk = Desk(state, policy)
    tracker = Episodes(state.asset, policy.episodes, state.episodes.copy())
    for change in tracker.push(scores):
        if scores.tags not in NOTICES:
            desk.unshelve_due(change.time)
        desk.take(change)
    now = max(state.now, tracker.state.time)
    desk.unshelve_due(now)
    after, events = desk.result()
    return Step(replace(after, applied_scores=offset, episodes=tracker.state, now=now), events)


def apply_quiet(state: AssetAlerts, scores: Scores, offset: int, policy: AlertPolicy) -> AssetAlerts | None:
    """What `apply_scores` leads to where no row is worth a look and nothing is remembered; None: look at the rows."""
    episodes = state.episodes
    if episodes.troubles or state.shelves or offset <= state.applied_scores or scores.tags in NOTICES:
        return None
    if bool((scores.score > policy.episodes.line).any()) or bool(scores.faults.any()):
        return None
    if scores.assets.count(state.asset) != len(scores) or not len(scores):
        return None
    time = max(episodes.time, int(scores.times.max()))
    after = EpisodeState(time, episodes.clock_time)
    return replace(state, applied_scores=offset, episodes=after, now=max(state.now, time))


def apply_command(state: AssetAlerts, command: Command, offset: int, policy: AlertPolicy) -> Verdict:
    """Take in one record of the commands topic, once; commands about other assets or other things change nothing.

    Times of a person's acts are `command.time`; how long a shelf lasts is counted on the asset's event time from now.
    """
    if offset <= state.applied_commands:
        return Verdict(state, ())
    seen = replace(state, applied_commands=offset)
    if command.kind not in _ABOUT_ALERTS or command.asset != state.asset:
        return Verdict(seen, ())
    desk = Desk(seen, policy)
    refused = _why_not(seen, command) or desk.act(command)
    if refused:
        return Verdict(seen, (), refused)
    after, events = desk.result()
    return Verdict(after, events)


def _why_not(state: AssetAlerts, command: Command) -> str:
    if command.role not in ROLES_THAT_ACT:
        return f"role {command.role!r} may not act on alerts; expected one of {', '.join(sorted(ROLES_THAT_ACT))}"
    if state.alert(command.target) is None:
        return f"asset {state.asset} has no open alert {command.target!r}; it may be closed already"
    return ""


def open_alerts(states: Iterable[AssetAlerts]) -> tuple[Alert, ...]:
    """All alerts that are not closed, newest first."""
    alerts = [held.alert for state in states for held in state.held]
    return tuple(sorted(alerts, key=lambda alert: (-alert.raised_at, alert.id)))


def sentence(event: AlertEvent, policy: AlertPolicy) -> str:
    """The words for a transition, with the plant's names, units and time zone: what notifiers are given as `text`."""
    return wording.event_text(event, policy.asset(event.alert.anomaly.asset), policy.timezone)
