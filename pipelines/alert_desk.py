"""The open alerts of one asset while one record is worked on: what each change and each command does to them.

The meaning is told in `alerting`, which is the way in.
"""

from __future__ import annotations

from dataclasses import replace

from anomaly.domain import Alert, AlertState, Anomaly, alert_id
from anomaly.episode_policy import Change
from pipelines import wording
from pipelines.alert_state import TOPIC, AlertPolicy, AssetAlerts, Held, Outgoing, Shelf, limited, more_urgent
from pipelines.codec import Command, CommandKind
from pipelines.ports import AlertEvent


def state_of(alert: Alert) -> AlertState:
    """The ISA-18.2 state that follows from what happened to an alert.

    >>> from anomaly.domain import Kind, Priority
    >>> anomaly = Anomaly("s/p", Kind.PROCESS, "process", 0, 9, 2.4, ("vib",), "v1")
    >>> state_of(Alert("a", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, raised_at=5, cleared_at=9))
    <AlertState.RETURNED_UNACKNOWLEDGED: 'returned_unacknowledged'>
    """
    cleared, acknowledged = alert.cleared_at is not None, alert.acknowledged_at is not None
    if cleared and acknowledged:
        return AlertState.CLOSED
    if alert.shelved_until is not None:
        return AlertState.SHELVED
    if cleared:
        return AlertState.RETURNED_UNACKNOWLEDGED
    return AlertState.ACKNOWLEDGED_ACTIVE if acknowledged else AlertState.UNACKNOWLEDGED_ACTIVE


class Desk:
    """One asset's alerts while one record is worked on."""

    def __init__(self, state: AssetAlerts, policy: AlertPolicy) -> None:
        self._state = state
        self._policy = policy
        self._held = {held.alert.anomaly.cause: held for held in state.held}
        self._shelves = {shelf.cause: shelf for shelf in state.shelves}
        self._events: list[AlertEvent] = []
        self._outbox = list(state.outbox)

    def result(self) -> tuple[AssetAlerts, tuple[AlertEvent, ...]]:
        """The state after, and the transitions in order."""
        held, shelves = tuple(self._held.values()), tuple(self._shelves.values())
        after = replace(self._state, held=held, shelves=shelves, outbox=limited(self._outbox))
        return after, tuple(self._events)

    # ----------------------------------------------------------------- scores

    def take(self, change: Change) -> None:
        """One change of one anomaly."""
        held = self._held.get(change.anomaly.cause)
        if change.event == "opened":
            self._open(held, change)
        elif held is not None and change.event == "extended":
            self._extend(held, change)
        elif held is not None:
            # A clock is accused on the log's time line and cleared by rows of the device's own.
            time = max(change.time, held.alert.raised_at, change.anomaly.end or 0)
            alert = replace(held.alert, anomaly=_carry(held.alert, change.anomaly), cleared_at=time)
            self._tell("cleared", alert, time, note=change.reason)

    def _open(self, held: Held | None, change: Change) -> None:
        if held is not None and change.time - (held.alert.cleared_at or 0) <= self._policy.reopen_within:
            anomaly = _carry(held.alert, change.anomaly)
            alert = replace(held.alert, anomaly=anomaly, cleared_at=None)
            self._tell("raised", self._worded(alert, change), change.time, note="it came back")
            return
        if held is not None:
            closed = replace(held.alert, state=AlertState.CLOSED, shelved_until=None)
            self._tell("closed", closed, change.time, note="superseded by a new alert of the same cause")
        anomaly = change.anomaly
        name = alert_id(anomaly.asset, anomaly.cause, anomaly.onset)
        alert = Alert(name, anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, self._policy.priority(anomaly), change.time)
        shelf = self._shelves.get(anomaly.cause)
        if shelf is not None:
            alert = replace(alert, shelved_until=shelf.until, reason=shelf.reason)
        self._tell("raised", self._worded(alert, change), change.time)

    def _extend(self, held: Held, change: Change) -> None:
        """A higher peak is told only if it makes the alert more urgent, a new name of the fault always."""
        anomaly = _carry(held.alert, change.anomaly)
        before = held.alert
        alert = replace(before, anomaly=anomaly)
        urgent = more_urgent(before.priority, self._policy.priority(anomaly))
        if urgent is not before.priority or anomaly.fault != before.anomaly.fault:
            self._tell("updated", self._worded(alert, change), change.time)
        else:
            self._held[anomaly.cause] = Held(alert, held.events)

    def _worded(self, alert: Alert, change: Change) -> Alert:
        asset, zone = self._policy.asset(alert.anomaly.asset), self._policy.timezone
        return replace(
            alert,
            priority=more_urgent(alert.priority, self._policy.priority(alert.anomaly)),
            message=wording.message(alert.anomaly, change.values, change.coverage, asset, zone, change.rung),
            expected=dict(change.values) or alert.expected,
        )

    def unshelve_due(self, now: int) -> None:
        """End the shelves whose time is over at event time `now`."""
        for shelf in sorted(self._shelves.values(), key=lambda s: (s.until, s.cause)):
            if shelf.until <= now:
                self._unshelve(shelf.cause, shelf.until, "", "its time is over")

    def _unshelve(self, cause: str, time: int, actor: str, note: str) -> None:
        del self._shelves[cause]
        held = self._held.get(cause)
        if held is not None:
            self._tell("unshelved", replace(held.alert, shelved_until=None, reason=""), time, actor, note)

    # --------------------------------------------------------------- commands

    def act(self, command: Command) -> str:
        """Do what a person asked; returns why not, or an empty text."""
        held = next(held for held in self._held.values() if held.alert.id == command.target)
        acts = {
            CommandKind.ACKNOWLEDGE: self._acknowledge,
            CommandKind.SHELVE: self._shelve,
            CommandKind.UNSHELVE: self._unshelve_by_hand,
            CommandKind.CLOSE: self._close,
            CommandKind.COMMENT: self._comment,
        }
        return acts[command.kind](held.alert, command)

    def _acknowledge(self, alert: Alert, command: Command) -> str:
        if alert.acknowledged_at is not None:
            return f"already acknowledged by {alert.acknowledged_by}"
        done = replace(alert, acknowledged_by=command.actor, acknowledged_at=command.time)
        self._tell("acknowledged", done, command.time, command.actor, command.note)
        return ""

    def _shelve(self, alert: Alert, command: Command) -> str:
        span = shelf_span(command)
        if isinstance(span, str):
            return span
        if span > self._policy.shelf_limit:
            return (
                f"{span / 3600e9:g} h is too long to shelve; expected at most {self._policy.shelf_limit / 3600e9:g} h"
            )
        until = (self._state.now if self._state.now >= 0 else command.time) + span
        reason = command.note or command.arguments.get("reason", "")
        self._shelves[alert.anomaly.cause] = Shelf(alert.anomaly.cause, until, command.actor, reason)
        shelved = replace(alert, shelved_until=until, reason=reason)
        self._tell("shelved", shelved, command.time, command.actor, reason)
        return ""

    def _unshelve_by_hand(self, alert: Alert, command: Command) -> str:
        if alert.anomaly.cause not in self._shelves:
            return "it is not shelved"
        self._unshelve(alert.anomaly.cause, command.time, command.actor, command.note)
        return ""

    def _close(self, alert: Alert, command: Command) -> str:
        code = command.arguments.get("reason", "")
        reason = ": ".join(part for part in (code, command.note) if part)
        done = replace(alert, state=AlertState.CLOSED, shelved_until=None, reason=reason)
        self._tell("closed", done, command.time, command.actor, reason)
        return ""

    def _comment(self, alert: Alert, command: Command) -> str:
        if not command.note.strip():
            return "an empty comment"
        self._tell("updated", alert, command.time, command.actor, command.note)
        return ""

    # ----------------------------------------------------------------- events

    def _tell(self, event: str, alert: Alert, time: int, actor: str = "", note: str = "") -> None:
        """Record a transition: number it, keep or drop the alert, and say who must hear of it."""
        cause = alert.anomaly.cause
        before = self._held.get(cause)
        same = before is not None and before.alert.id == alert.id
        count = before.events + 1 if before is not None and same else 1
        after = alert if event == "closed" else replace(alert, state=state_of(alert))
        told = AlertEvent(f"{alert.id}-{count}", event, time, after, actor, note)
        if after.state is AlertState.CLOSED:
            self._held.pop(cause, None)
        else:
            self._held[cause] = Held(after, count)
        quiet = after.state is AlertState.SHELVED and event != "shelved"
        self._events.append(told)
        self._outbox.append(Outgoing(told, (TOPIC,) if quiet else (TOPIC, *self._policy.receivers)))


def _carry(alert: Alert, anomaly: Anomaly) -> Anomaly:
    """The anomaly as this alert tells it: a reopened alert keeps its first onset, its peak only rises."""
    return replace(anomaly, onset=alert.anomaly.onset, peak=max(alert.anomaly.peak, anomaly.peak))


def shelf_span(command: Command) -> int | str:
    """How long to shelve, ns, from `minutes` or `until` (ns, against the command's own time); or what is wrong."""
    name = "minutes" if "minutes" in command.arguments else "until"
    text = command.arguments.get(name, "")
    try:
        span = round(float(text) * 60e9) if name == "minutes" else int(text) - command.time
    except (ValueError, OverflowError):
        return f"how long to shelve? {name} = {text!r}; expected `minutes` (a number) or `until` (ns)"
    return span if span > 0 else f"the time to shelve is over before it begins ({name} = {text})"
