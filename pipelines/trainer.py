"""The train service: climbs the cold-start ladder by itself, retrains and promotes when people ask for it.

Fitting happens in a process of its own. A version that was fitted on the ladder serves if nothing speaks against it;
one that somebody asked for stays a challenger until somebody promotes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog

from anomaly.domain import Plant, Rung
from anomaly.errors import ConfigurationError, DecodeError, ModelRefused
from anomaly.registry import Registry
from pipelines import codec, metrics, promotion, topics
from pipelines.codec import Command, CommandKind
from pipelines.fit_client import FitClient
from pipelines.fit_process import Job, Word
from pipelines.ladder import LadderPolicy, next_step
from pipelines.metrics import births
from pipelines.ports import Clock, HistorianReader, Log, Partition, Record
from pipelines.service import Metadata
from pipelines.spans import point

LADDER = "ladder"
"""Actor of what the service does by itself."""
LADDER_ORDER = tuple(Rung)
SHOWN_S = 10.0
"""Aliases are read from the registry so often, for the metrics."""
ROLES_THAT_PROMOTE = frozenset({"engineer", "admin"})

_log = structlog.get_logger(__name__)


class TrainWorker:
    """Worker of the train service, for the loop in `service`.

    `ready`: whether what is stored is worth learning from (false while a history is still being loaded). `look_s`: it
    looks at the ladder no more often, as that asks the log and the historian; commands are done at once.
    """

    name = "train"
    topics: tuple[str, ...] = (topics.COMMANDS,)
    patient = True

    def __init__(
        self,
        log: Log,
        historian: HistorianReader,
        registry: Registry,
        plant: Plant,
        clock: Clock,
        fits: FitClient,
        *,
        policy: LadderPolicy | None = None,
        ready: Callable[[], bool] = lambda: True,
        look_s: float = 0.0,
    ) -> None:
        self._log = log
        self._historian = historian
        self._registry = registry
        self._plant = plant
        self._clock = clock
        self._fits = fits
        self._policy = policy or LadderPolicy()
        self._ready = ready
        self._look_s = look_s
        self._look_at = 0.0
        self._latest: dict[str, Word] = {}
        self._gave_up: dict[tuple[str, Rung], int] = {}
        self._cards: dict[tuple[str, str], tuple[Rung, int]] = {}
        self._unheard: deque[Word] = deque()
        self._at_work: int | None = None
        self._done: int | None = None
        self._shown = time.monotonic() - SHOWN_S
        births.of_train()
        self.reset()

    def reset(self) -> None:
        """Forget what was asked for: it is read again from the commit on. A retraining under way is still that one."""
        self._position: int | None = None
        self._asked: deque[tuple[int, Command]] = deque()
        if self._fits.job is None and not self._unheard:
            self._at_work = None

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        """Go on with the first command that is not done."""
        self._position = committed if committed is not None else self._log.ends(topics.COMMANDS)[partition][0]
        return self._position

    def revoke(self, partition: Partition) -> None:
        """Nothing is kept of a partition; a fit under way goes on and makes a challenger."""
        self.reset()

    def process(self, records: Sequence[Record]) -> None:
        """Note what is asked of this service; the rest is for others."""
        for record in records:
            try:
                command = codec.decode_command(record.value or b"")
            except DecodeError:
                continue
            finally:
                self._position = record.offset + 1
            mine = command.kind in (CommandKind.RETRAIN, CommandKind.PROMOTE, CommandKind.ROLLBACK)
            if mine and record.offset != self._done:
                self._asked.append((record.offset, command))

    def set_aside(self, record: Record) -> None:
        """Pass over a record that ended the process again and again: nobody is to wait for it."""
        _log.error("command_set_aside", offset=record.offset)
        self._position = record.offset + 1

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """Hear what was fitted, do what was asked, climb the ladder. Commits up to the first command not done."""
        self._unheard += self._fits.words()
        while self._unheard:
            self._hear(self._unheard[0])
            self._unheard.popleft()
        while self._asked and self._at_work is None and self._fits.job is None:
            self._do(*self._asked[0])
        if self._fits.job is None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._look_s
            if self._ready():
                self._climb()
        self._show()
        if self._position is None:
            return {}
        offset = min([self._position, *(offset for offset, _ in self._asked)])
        return {Partition(topics.COMMANDS, 0): (offset, {})}

    # ----------------------------------------------------------------- ladder

    def _climb(self) -> None:
        """Fit what is wanted most: every group's lower rung comes before any group's higher one."""
        wanted = []
        for group in self._plant.groups():
            rows = self._stored_rows(group)
            step = next_step(self._policy, rows, self._fitted(group))
            if step is not None and rows >= self._gave_up.get((group, step.rung), 0):
                wanted.append((LADDER_ORDER.index(step.rung), group, step))
        if wanted:
            _, group, step = min(wanted, key=lambda item: item[0])
            self._submit(group, step.rung, LADDER, step.reason)
        else:
            self._fits.rest()

    def _stored_rows(self, group: str) -> int:
        """Ticks stored of the group's assets, about."""
        spans = [(self._historian.span(asset.path), asset.tick) for asset in self._plant.groups()[group]]
        return sum((span[1] - span[0]) // tick for span, tick in spans if span is not None)

    def _fitted(self, group: str) -> dict[Rung, int]:
        """Rows that were stored when the newest version of each rung was fitted, about."""
        rows: dict[Rung, int] = {}
        for version in self._registry.versions(group):
            try:
                rung, count = self._card(group, version)
            except ModelRefused:
                continue
            rows[rung] = count
        return rows

    def _card(self, group: str, version: str) -> tuple[Rung, int]:
        """Rung and rows of a version, read once: a bundle is large, and never changes."""
        if (group, version) not in self._cards:
            card, tick = self._registry.card(group, version), self._plant.groups()[group][0].tick
            self._cards[group, version] = Rung(card.rung), (card.until - card.since) // tick * len(card.assets)
        return self._cards[group, version]

    def _submit(self, group: str, rung: Rung, actor: str, reason: str, since: int = 0, until: int = 2**62) -> None:
        champion = self._registry.aliases(group).get("champion")
        brief = actor == LADDER and rung not in self._fitted(group)
        job = Job(group, rung, since, until, self._clock.now(), actor, reason, champion, brief)
        _log.info("fitting", group=group, rung=rung.value, reason=reason)
        self._latest[group] = Word(group, rung, "starting")
        self._fits.submit(job)

    def _hear(self, word: Word) -> None:
        self._latest[word.group] = word
        if word.stage not in ("fitted", "failed"):
            return
        result = _result(word, self._at_work is None)
        if word.stage == "failed":
            _log.warning("fit_failed", group=word.group, rung=word.rung.value, reason=word.reason)
            self._gave_up[word.group, word.rung] = round(self._stored_rows(word.group) * 1.5) + 1
        elif self._at_work is None:
            self._serve(word)
        metrics.retrained(result)
        if self._at_work is not None:
            self._asked = deque(item for item in self._asked if item[0] != self._at_work)
            self._done, self._at_work = self._at_work, None

    def _serve(self, word: Word) -> None:
        """What the ladder fitted serves, unless something speaks against it."""
        if word.objections:
            _log.warning("not_promoted", group=word.group, version=word.version, reasons=list(word.objections))
            return
        try:
            promotion.promote(
                self._log, self._registry, word.group, word.version, actor=LADDER, reason=f"ladder: {word.summary}"
            )
        except ModelRefused as error:
            _log.error("not_promoted", group=word.group, version=word.version, reasons=[str(error)])

    # --------------------------------------------------------------- commands

    def _do(self, offset: int, command: Command) -> None:
        """Carry out the first command asked for; a retraining is done when its fit is."""
        try:
            if command.role not in ROLES_THAT_PROMOTE:
                raise ConfigurationError(f"role {command.role!r} may not do this; expected engineer or admin")
            if command.target not in self._plant.groups():
                raise ConfigurationError(f"no group {command.target!r} in the plant file")
            if command.kind is CommandKind.RETRAIN:
                self._retrain(command)
                self._at_work = offset
                return
            self._reassign(command)
        except (ConfigurationError, ModelRefused, ValueError) as error:
            _log.warning("command_refused", kind=command.kind, target=command.target, reason=str(error))
        self._asked.popleft()

    def _reassign(self, command: Command) -> None:
        if command.kind is CommandKind.PROMOTE:
            version = command.arguments.get("version", "")
            promotion.promote(
                self._log, self._registry, command.target, version, actor=command.actor, reason=command.note
            )
        else:
            promotion.roll_back(
                self._log,
                self._registry,
                command.target,
                actor=command.actor,
                reason=command.note,
                command=command.id,
            )

    def _retrain(self, command: Command) -> None:
        now = self._clock.now()
        rung = Rung(command.arguments.get("rung", Rung.LSTM_AUTOENCODER))
        since = point(command.arguments["since"], now) if "since" in command.arguments else 0
        until = point(command.arguments["until"], now) if "until" in command.arguments else 2**62
        self._submit(command.target, rung, command.actor, command.note or "asked for", since, until)

    def _show(self) -> None:
        """Which versions ask to serve, for the metrics; once in `SHOWN_S`."""
        if time.monotonic() - self._shown >= SHOWN_S:
            self._shown = time.monotonic()
            asking = {group: self._registry.aliases(group).get("challenger") for group in self._plant.groups()}
            metrics.models("challenger", [(group, version) for group, version in asking.items() if version])

    def close(self) -> None:
        """End a fit under way; it is begun again with the next start."""
        self._fits.close()

    def status(self) -> dict[str, str | int | float]:
        """By group: newest stage (`stage:`), how far it got (`done:`, 0..1), what came in the way (`reason:`)."""
        found: dict[str, str | int | float] = {"waiting": len(self._asked)}
        for group, word in list(self._latest.items()):
            name = word.rung.value.replace("_", " ")
            found[f"stage:{group}"] = f"{name}: {'done' if word.stage == 'fitted' else word.stage}"
            found[f"done:{group}"] = round(word.done, 3)
            if word.objections or word.reason:
                found[f"reason:{group}"] = "; ".join(word.objections) or word.reason
        return found


def _result(word: Word, by_itself: bool) -> str:
    """What a fit came to: `failed`, `objected` (made, but something speaks against it), `challenger`, `promoted`."""
    if word.stage == "failed":
        return "failed"
    if not by_itself:
        return "challenger"
    return "objected" if word.objections else "promoted"
