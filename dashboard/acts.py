"""What people may do here: put a command on the log, then wait until the historian shows that it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from anomaly.domain import SECOND, Alert
from anomaly.errors import ConfigurationError
from pipelines import topics
from pipelines.codec import Command, CommandKind, encode_command
from pipelines.ports import AlertEvent, Log, NewRecord

ROLE: Final = "operator"
PATIENCE: Final = 20 * SECOND
"""Wall time after which an unanswered command is called unanswered."""
DONE_BY: Final[Mapping[CommandKind, frozenset[str]]] = {
    CommandKind.ACKNOWLEDGE: frozenset({"acknowledged", "closed"}),
    CommandKind.SHELVE: frozenset({"shelved", "closed"}),
    CommandKind.UNSHELVE: frozenset({"unshelved", "closed"}),
    CommandKind.CLOSE: frozenset({"closed"}),
    CommandKind.COMMENT: frozenset({"updated", "closed"}),
}
"""Events that show a command was carried out. An update without an actor is the machine's, not a comment."""
SENT_WORDS: Final[Mapping[CommandKind, str]] = {
    CommandKind.ACKNOWLEDGE: "Acknowledgement",
    CommandKind.SHELVE: "Shelving",
    CommandKind.UNSHELVE: "Unshelving",
    CommandKind.CLOSE: "Closing",
    CommandKind.COMMENT: "Comment",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A command on its way. `seen`: ids of the alert's events when it was sent. `wall`: when, ns."""

    kind: CommandKind
    wall: int
    seen: frozenset[str]

    def settled(self, events: Sequence[AlertEvent]) -> bool:
        """Whether the alert's history now shows that it was carried out."""
        new = [event for event in events if event.id not in self.seen and event.event in DONE_BY[self.kind]]
        return any(event.actor or event.event != "updated" for event in new)

    def words(self, wall: int) -> str:
        """What to show meanwhile."""
        what = SENT_WORDS[self.kind]
        if wall - self.wall > PATIENCE:
            return f"{what} sent, no answer yet. Is the alert service running? See the System page."
        return f"{what} sent, waiting…"


def alert_command(
    kind: CommandKind,
    alert: Alert,
    actor: str,
    identity: str,
    now: int,
    note: str = "",
    arguments: Mapping[str, str] | None = None,
) -> Command:
    """A command about an alert. `now`: the plant's clock, ns. Raises ConfigurationError without a name."""
    if not actor.strip():
        message = "Enter your name first: the log keeps who did what."
        raise ConfigurationError(message)
    return Command(
        id=identity,
        kind=kind,
        target=alert.id,
        asset=alert.anomaly.asset,
        actor=actor.strip(),
        role=ROLE,
        time=now,
        note=note.strip(),
        arguments=dict(arguments or {}),
    )


def put(log: Log, command: Command) -> None:
    """Append it durably; keyed by asset, as all that concerns one asset. Raises StorageError."""
    log.append([NewRecord(topics.COMMANDS, command.asset.encode(), encode_command(command))])
