"""What the alert service knows of one asset, and the rule it goes by. Values only; `alerting` changes them.

The state is one record on the compacted topic `alert-state.v1`, keyed by the asset. It holds how far scores and
commands are applied, the open alerts, and an outbox: transitions that some receiver has not confirmed. Written before
anything is delivered, it makes each transition reach each receiver at least once, and at most once more per crash (G5).

    write(state) → for each receiver: deliver what is undelivered, state = state.delivered(…), write(state) → commit
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from anomaly.domain import SECOND, Alert, Anomaly, Asset, Kind, Plant, Priority
from anomaly.episode_policy import CLOCK, EpisodePolicy, EpisodeState, instrument
from anomaly.errors import DecodeError
from pipelines.ports import AlertEvent

TOPIC: Final = "topic"
"""The receiver that is told everything, shelved or not: the topic `alerts.v1`, and through it the historian."""
OUTBOX_LIMIT: Final = 500
"""Undelivered transitions kept per asset. Beyond it the oldest are given up for people, never for the topic."""
_STEPS: Final = (Priority.LOW, Priority.MEDIUM, Priority.HIGH)


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """When people are told, of what, how urgently.

    Priority: a process alert is LOW, MEDIUM from a peak of `medium_peak` lines, HIGH from `high_peak`. An instrument
    alert is LOW; a wrong clock and data loss are MEDIUM, since the whole machine is then unwatched. One step more for a
    critical asset. It only ever rises while an alert lives.
    """

    episodes: EpisodePolicy = field(default_factory=EpisodePolicy)
    medium_peak: float = 2.0
    high_peak: float = 5.0
    critical: tuple[str, ...] = ()
    """Paths of assets, or of areas and lines, whose alerts are one step more urgent."""
    reopen_within: int = 30 * 60 * SECOND
    """A cause that returns so soon after it cleared, unacknowledged, reopens its alert (chattering); ns."""
    shelf_limit: int = 7 * 24 * 3600 * SECOND
    """Longest time an alert may be shelved, ns."""
    receivers: tuple[str, ...] = ()
    """Names of those to be told besides the topic."""
    plant: Plant | None = None
    """For names, units and the time zone of messages."""

    def priority(self, anomaly: Anomaly) -> Priority:
        """How urgent this anomaly is.

        >>> AlertPolicy().priority(Anomaly("s/p", Kind.PROCESS, "process", 0, None, 2.4, ("vib",), "v1"))
        <Priority.MEDIUM: 'medium'>
        """
        step = 0
        if anomaly.kind is Kind.PROCESS:
            step = (anomaly.peak >= self.medium_peak) + (anomaly.peak >= self.high_peak)
        elif anomaly.kind is Kind.DATA_LOSS or anomaly.cause == instrument(CLOCK):
            step = 1
        return _STEPS[min(2, step + self.is_critical(anomaly.asset))]

    def is_critical(self, asset: str) -> bool:
        """Whether the asset's path is one of `critical`, or below one.

        >>> [AlertPolicy(critical=("s1/l1",)).is_critical(path) for path in ("s1/l1", "s1/l1/pump", "s1/l10/pump")]
        [True, True, False]
        """
        return any(f"{asset}/".startswith(place.rstrip("/") + "/") for place in self.critical)

    def asset(self, path: str) -> Asset | None:
        """The plant file's description of an asset, if there is one."""
        return self.plant.asset(path) if self.plant else None

    @property
    def timezone(self) -> str:
        """IANA name of the zone that messages are written in."""
        return self.plant.timezone if self.plant else "UTC"


def more_urgent(one: Priority, other: Priority) -> Priority:
    """The more urgent of two.

    >>> more_urgent(Priority.LOW, Priority.HIGH)
    <Priority.HIGH: 'high'>
    """
    return max(one, other, key=_STEPS.index)


@dataclass(frozen=True, slots=True)
class Held:
    """An alert that is not closed, and how many transitions it has had (their numbers make the event ids)."""

    alert: Alert
    events: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """A cause nobody is to be told of until event time `until`, ns."""

    cause: str
    until: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A transition, and the receivers that have not confirmed it."""

    event: AlertEvent
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssetAlerts:
    """All that is known of one asset's alerts. `applied_…`: offset of the newest record applied, −1 for none."""

    asset: str
    applied_scores: int = -1
    applied_commands: int = -1
    now: int = -1
    """Newest event time seen, ns."""
    episodes: EpisodeState = field(default_factory=EpisodeState)
    held: tuple[Held, ...] = ()
    shelves: tuple[Shelf, ...] = ()
    outbox: tuple[Outgoing, ...] = ()

    def alert(self, alert_id: str) -> Alert | None:
        """The alert of that id, unless it is closed."""
        return next((held.alert for held in self.held if held.alert.id == alert_id), None)

    def undelivered(self, receiver: str) -> tuple[AlertEvent, ...]:
        """What `receiver` has not confirmed, in order: deliver it in this order and stop at the first failure."""
        return tuple(outgoing.event for outgoing in self.outbox if receiver in outgoing.to)

    def delivered(self, receiver: str, event_ids: Collection[str]) -> AssetAlerts:
        """The state once `receiver` has confirmed these transitions."""
        marked = [
            replace(o, to=tuple(name for name in o.to if name != receiver)) if o.event.id in event_ids else o
            for o in self.outbox
        ]
        return replace(self, outbox=tuple(outgoing for outgoing in marked if outgoing.to))

    def without_receivers_but(self, receivers: Collection[str]) -> AssetAlerts:
        """The state with deliveries to receivers that are no longer configured dropped; the topic always stays."""
        kept = {TOPIC, *receivers}
        marked = [replace(o, to=tuple(name for name in o.to if name in kept)) for o in self.outbox]
        return replace(self, outbox=tuple(outgoing for outgoing in marked if outgoing.to))

    def says_the_same(self, other: AssetAlerts) -> bool:
        """Whether only the bookkeeping of offsets and time differs, so that `other` need not be written.

        A state with nothing pending is changed by no quiet row: reading such rows again, or not, ends the same.
        """
        mine, theirs = self.episodes, other.episodes
        return (self.held, self.shelves, self.outbox, mine.troubles, self.applied_commands) == (
            other.held,
            other.shelves,
            other.outbox,
            theirs.troubles,
            other.applied_commands,
        )


def limited(outbox: Sequence[Outgoing]) -> tuple[Outgoing, ...]:
    """The outbox, its oldest entries given up for people where there are more than `OUTBOX_LIMIT`."""
    old = max(0, len(outbox) - OUTBOX_LIMIT)
    given_up = [replace(outgoing, to=tuple(name for name in outgoing.to if name == TOPIC)) for outgoing in outbox[:old]]
    return tuple(outgoing for outgoing in (*given_up, *outbox[old:]) if outgoing.to)


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(AssetAlerts)


def encode_state(state: AssetAlerts) -> bytes:
    """UTF-8 JSON, a pure function of the state."""
    return _ENCODER.encode(state)


def decode_state(value: bytes) -> AssetAlerts:
    """The state as it was. Raises DecodeError("malformed")."""
    try:
        return _DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        message = f"expected the alert state of an asset, got {value[:80]!r}… ({len(value)} bytes): {error}"
        raise DecodeError("malformed", message) from error
