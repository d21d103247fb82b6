"""The alert service: scores and commands in; alert state, alerts and notifications out.

Order is everything (guarantee G5): the state, with its outbox of undelivered transitions, is on the compacted topic
before anyone is told; every receiver is told; the outbox without what was confirmed is written; only then is the input
committed. A receiver that fails keeps its transitions in the outbox and holds up nobody else.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from anomaly.domain import Scores
from anomaly.errors import DecodeError, Unreachable
from pipelines import codec, metrics, topics
from pipelines.alert_state import TOPIC, AlertPolicy, AssetAlerts, decode_state, encode_state
from pipelines.alert_watch import AlertWatch, lasting
from pipelines.alerting import apply_command, apply_quiet, apply_scores, open_alerts, sentence
from pipelines.codec import Command
from pipelines.metrics import births
from pipelines.ports import AlertEvent, Log, NewRecord, Notifier, Partition, Record, Reminded
from pipelines.service import Metadata

RETRY_S: Final = 15.0
"""A receiver that failed is left alone for so long."""
SHOWN_S: Final = 1.0
"""What lasts is shown, and reminded of, so often at most."""
_COMMANDS: Final = Partition(topics.COMMANDS, 0)
_PAGE: Final = 1000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Home:
    """Alert states of the assets on one partition, and how far scores and commands were read."""

    next_offset: int
    commands: int
    states: dict[str, AssetAlerts] = field(default_factory=dict)
    stored: dict[str, AssetAlerts] = field(default_factory=dict)
    """The states as they lie on the topic."""
    touched: set[str] = field(default_factory=set)
    """Assets whose state may say something that is not stored. A plant is large, what happens in it at once is not."""
    waiting: set[str] = field(default_factory=set)
    """Assets with an outbox."""

    def put(self, state: AssetAlerts) -> None:
        """A state after something was looked at."""
        self.states[state.asset] = state
        self.touched.add(state.asset)
        (self.waiting.add if state.outbox else self.waiting.discard)(state.asset)

    def take(self, scores: Scores, offset: int, policy: AlertPolicy) -> tuple[AlertEvent, ...]:
        """Take in one asset's rows; returns what happened."""
        asset = scores.assets[0]
        state = self.states.get(asset)
        quiet = apply_quiet(state, scores, offset, policy) if state is not None and asset in self.stored else None
        if quiet is not None:
            self.states[asset] = quiet
            return ()
        after, events = apply_scores(state or AssetAlerts(asset), scores, offset, policy)
        self.put(after)
        return events

    def unstored(self) -> list[AssetAlerts]:
        """States that say something new, in the order in which the assets were first heard of."""
        changed = [
            self.states[asset]
            for asset in self.touched
            if asset not in self.stored or not self.states[asset].says_the_same(self.stored[asset])
        ]
        if len(changed) < 2:
            return changed
        names = {state.asset for state in changed}
        return [state for asset, state in self.states.items() if asset in names]


class AlertWorker:
    """Worker of the alert service, for the loop in `service`. `timer`: monotonic seconds, for waits alone.

    `look_s`: how often it is asked what people want.
    """

    name = "alert"
    topics: tuple[str, ...] = (topics.SCORES,)
    patient = False

    def __init__(
        self,
        log: Log,
        policy: AlertPolicy,
        notifiers: Sequence[Notifier],
        timer: Callable[[], float] = time.monotonic,
        *,
        look_s: float = 0.0,
    ) -> None:
        self._log = log
        self._policy = policy
        self._notifiers = {notifier.name: notifier for notifier in notifiers}
        self._timer = timer
        self._look_s = look_s
        self._quiet_until: dict[str, float] = {}
        self._remind_at: dict[str, float] = {}
        self._watch = AlertWatch()
        births.of_alert(self._notifiers)
        self._shown = timer() - SHOWN_S
        self.reset()

    def reset(self) -> None:
        """Forget all that came from the log."""
        self._homes: dict[int, _Home] = {}
        self._asked = -math.inf

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        """Load the alert states of the partition's assets."""
        start = committed if committed is not None else self._log.ends(topics.SCORES)[partition][0]
        commands = metadata.get("k", 0)
        home = _Home(start, commands if isinstance(commands, int) else 0)
        position = 0
        source = Partition(topics.ALERT_STATE, partition.number)
        while records := self._log.read(source, position, _PAGE):
            for record in records:
                if record.value is not None:
                    state = decode_state(record.value)
                    home.stored[state.asset] = state
            position = records[-1].offset + 1
        receivers = tuple(self._notifiers)
        for state in home.stored.values():
            home.put(state.without_receivers_but(receivers))
        self._homes[partition.number] = home
        return start

    def revoke(self, partition: Partition) -> None:
        """Drop the partition: its states lie on the topic."""
        self._homes.pop(partition.number, None)

    def process(self, records: Sequence[Record]) -> None:
        """Apply the rows of each record to its asset's state; nothing is written."""
        with metrics.stage("alert"):
            for record in records:
                home = self._homes[record.partition.number]
                if record.value is not None and record.offset >= home.next_offset:
                    try:
                        scores = codec.decode_scores(record.value)
                    except DecodeError as error:
                        _log.error("scores_unreadable", offset=record.offset, reason=str(error))
                    else:
                        self._note(home.take(scores, record.offset, self._policy))
                home.next_offset = max(home.next_offset, record.offset + 1)

    def set_aside(self, record: Record) -> None:
        """Pass over a record that ended the process again and again."""
        self._homes[record.partition.number].next_offset = record.offset + 1

    def _note(self, events: Sequence[AlertEvent]) -> None:
        for event in events:
            if event.event == "raised":
                self._watch.raised(event.alert, self._timer())

    # ------------------------------------------------------------------- write

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """Take in commands, store the states, tell everybody, store what was confirmed."""
        now = self._timer()
        if now - self._asked >= self._look_s:
            self._obey()
            self._asked = now
        self._store()
        if self._tell():
            self._store()
        self._remind()
        return {
            Partition(topics.SCORES, number): (home.next_offset, {"k": home.commands})
            for number, home in self._homes.items()
        }

    def _obey(self) -> None:
        """Take in new commands: they are read once for all partitions."""
        homes = list(self._homes.values())
        position = min((home.commands for home in homes), default=0)
        while homes and (records := self._log.read(_COMMANDS, position, _PAGE)):
            for record in records:
                for home in homes:
                    if record.offset >= home.commands:
                        home.commands = record.offset + 1
                        if record.value is not None:
                            self._apply(home, record.value, record.offset)
            position = records[-1].offset + 1

    def _apply(self, home: _Home, value: bytes, offset: int) -> None:
        try:
            command: Command = codec.decode_command(value)
        except DecodeError as error:
            _log.error("command_unreadable", offset=offset, reason=str(error))
            return
        state = home.states.get(command.asset)
        if state is None:
            return
        verdict = apply_command(state, command, offset, self._policy)
        home.put(verdict.state)
        if verdict.refused:
            _log.warning("command_refused", kind=command.kind, actor=command.actor, reason=verdict.refused)

    def _store(self) -> None:
        """Write every state that says something new. Raises StorageError."""
        changed = [(number, state) for number, home in self._homes.items() for state in home.unstored()]
        if changed:
            self._log.append(
                [
                    NewRecord(topics.ALERT_STATE, state.asset.encode(), encode_state(state), partition=number)
                    for number, state in changed
                ]
            )
        for number, state in changed:
            self._homes[number].stored[state.asset] = state
        for home in self._homes.values():
            home.touched.clear()

    def _tell(self) -> bool:
        """Deliver what is in the outboxes, as far as receivers take it. Returns whether anything was confirmed."""
        waiting = [(home, asset) for home in self._homes.values() for asset in sorted(home.waiting)]
        told = False
        for home, asset in waiting:
            events = home.states[asset].undelivered(TOPIC)
            if events:
                self._log.append([_alert_record(event) for event in events])
                home.put(home.states[asset].delivered(TOPIC, {event.id for event in events}))
                told = True
            for name, notifier in self._notifiers.items():
                told |= self._notify(home, asset, name, notifier)
        return told

    def _notify(self, home: _Home, asset: str, name: str, notifier: Notifier) -> bool:
        """Tell one receiver of one asset's transitions, in order, until it fails."""
        confirmed: set[str] = set()
        for event in home.states[asset].undelivered(name):
            if self._timer() < self._quiet_until.get(name, 0.0):
                break
            if not self._attempt(name, functools.partial(notifier.notify, event, sentence(event, self._policy))):
                break
            confirmed.add(event.id)
        if confirmed:
            home.put(home.states[asset].delivered(name, confirmed))
        return bool(confirmed)

    def _remind(self) -> None:
        """Once a second: show what lasts; tell receivers that forget of it, when their time has come."""
        now = self._timer()
        if now - self._shown < SHOWN_S:
            return
        self._shown = now
        states = [state for home in self._homes.values() for state in home.states.values() if state.held]
        self._watch.tell(states, now)
        alerts = lasting(states)
        if not alerts:
            return
        for name, notifier in self._notifiers.items():
            if isinstance(notifier, Reminded) and now >= max(
                self._remind_at.get(name, now), self._quiet_until.get(name, now)
            ):
                self._remind_at[name] = now + notifier.remind_s
                self._attempt(name, functools.partial(notifier.remind, alerts))

    def _attempt(self, name: str, deliver: Callable[[], None]) -> bool:
        """Whether one delivery was confirmed; a receiver that failed is left alone for a while."""
        try:
            deliver()
        except Unreachable as error:
            metrics.notification(name, "failed")
            self._quiet_until[name] = self._timer() + RETRY_S
            self._remind_at.pop(name, None)
            _log.warning("notification_failed", channel=name, reason=str(error), retry_in_s=RETRY_S)
            return False
        metrics.notification(name, "delivered")
        return True

    def status(self) -> dict[str, str | int | float]:
        """Figures for the System page."""
        states = [state for home in list(self._homes.values()) for state in list(home.states.values())]
        failing = sorted(name for name, until in self._quiet_until.items() if self._timer() < until)
        found: dict[str, str | int | float] = {
            "open": len(open_alerts(states)),
            "undelivered": sum(len(state.outbox) for state in states),
        }
        return found | {"failing": ", ".join(failing)} if failing else found


def _alert_record(event: AlertEvent) -> NewRecord:
    return NewRecord(topics.ALERTS, event.alert.id.encode(), codec.encode_event(event), partition=0)
