"""Which version scores which window: a function of the models topic and event time alone (guarantee G8).

Three kinds of records lie on the compacted topic. A *serving* record is a wish: "group G shall be served by version V".
Each partition of the readings takes it up between two batches and says so durably before it scores with it: an
*activation* names, per asset, the event time from which V scores. A replay reads the same activations and so picks the
same version for every window; no window waits for a swap, none is scored by two versions.

An asset that was silent for so long that no state is rebuilt of it any more would be forgotten by the next activation,
and its old windows be scored by the new version in a replay. So before the service lets go of it, it writes an *idle*
record: the time of the asset's newest score.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import structlog
from jaxtyping import Int64

from anomaly.errors import DecodeError
from pipelines import activations, codec, topics
from pipelines.activations import Activation, Gathering
from pipelines.codec import Serving
from pipelines.ports import Log, NewRecord, Partition

RULES_VERSION: Final = "rules"
"""What serves every group until something was learned."""

_SERVING_KEY: Final = b"serving/"
_IDLE_KEY: Final = b"idle/"
_HOME: Final = Partition(topics.MODELS, 0)
_PAGE: Final = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Idle:
    """Scores of `asset`, at home on `partition`, are out up to event time `newest` (ns), and it is silent since."""

    partition: int
    asset: str
    newest: int


@dataclass(frozen=True, slots=True)
class Wish:
    """A serving record and the offset at which it stands."""

    offset: int
    serving: Serving


@dataclass(slots=True)
class ServingTable:
    """What one reader of the models topic knows so far."""

    next_offset: int = 0
    wishes: dict[str, Wish] = field(default_factory=dict)
    """Newest wish per group."""
    activations: dict[tuple[int, str], list[Activation]] = field(default_factory=dict)
    """Per (partition, group), in the order they were taken up, which is that of their wishes."""
    idle: dict[int, dict[str, int]] = field(default_factory=dict)
    """Per partition: time of the newest score (ns) of each asset that was let go of."""
    _gathering: Gathering = field(default_factory=Gathering)

    def refresh(self, log: Log) -> None:
        """Read what is new on the topic. Raises StorageError; malformed records are passed over."""
        while records := log.read(_HOME, self.next_offset, _PAGE):
            for record in records:
                self.next_offset = record.offset + 1
                if record.key is not None and record.value is not None:
                    self._read(record.offset, record.key, record.value)

    def _read(self, offset: int, key: bytes, value: bytes) -> None:
        try:
            if key.startswith(_SERVING_KEY):
                serving = codec.decode_serving(value)
                self.wishes[serving.group] = Wish(offset, serving)
            elif key.startswith(activations.KEY):
                if (activation := self._gathering.take(value)) is not None:
                    self._take(activation)
            elif key.startswith(_IDLE_KEY):
                idle = msgspec.json.decode(value, type=Idle)
                self.idle.setdefault(idle.partition, {})[idle.asset] = idle.newest
        except (DecodeError, msgspec.MsgspecError) as error:
            _log.error("models_record_unreadable", offset=offset, key=key, reason=str(error))

    def _take(self, activation: Activation) -> None:
        known = self.activations.setdefault((activation.partition, activation.group), [])
        if not known or activation.wish > known[-1].wish:  # of two answers to one wish the first counts, for ever
            known.append(activation)

    def emitted(self, partition: int, live: Mapping[str, int]) -> dict[str, int]:
        """Time of the newest score (ns) of every asset at home on the partition: of `live` ones as given."""
        idle = self.idle.get(partition, {})
        return idle | {asset: max(time, idle.get(asset, time)) for asset, time in live.items()}

    def open_wish(self, partition: int, group: str) -> Wish | None:
        """The wish that this partition has not taken up yet."""
        wish = self.wishes.get(group)
        known = self.activations.get((partition, group), [])
        return None if wish is None or (known and known[-1].wish >= wish.offset) else wish

    def current(self, partition: int, group: str) -> str:
        """The version that scores the newest windows of the partition."""
        known = self.activations.get((partition, group), [])
        return known[-1].version if known else RULES_VERSION

    def runs(
        self, partition: int, group: str, asset: str, times: Int64[np.ndarray, " window"]
    ) -> Sequence[tuple[Sequence[str], int, int]]:
        """Split ascending window times into `(versions, first, stop)` runs. The first of `versions` scores the run; the
        others served before it, newest first, and stand in where it is refused.
        """
        known = self.activations.get((partition, group), [])
        if known and len(times) and int(times[0]) >= known[-1].since.get(asset, known[-1].default):
            return [((*(a.version for a in reversed(known)), RULES_VERSION), 0, len(times))]
        versions = np.zeros(len(times), dtype=np.int64)
        for number, activation in enumerate(known, start=1):
            versions[times >= activation.since.get(asset, activation.default)] = number
        cuts = [0, *(np.flatnonzero(np.diff(versions)) + 1).tolist(), len(times)]
        names = (RULES_VERSION, *(a.version for a in known))
        return [(names[versions[a] :: -1], a, b) for a, b in itertools.pairwise(cuts) if b > a]


def activate(log: Log, partition: int, wish: Wish, emitted: Mapping[str, int]) -> None:
    """Write the activation of `wish` durably. `emitted`: time of the newest score of each asset at home there (ns).

    Large plants need several records: no reader takes any of them in until all are there. Raises StorageError: then
    nothing changed, unless the log had stored all of them.
    """
    serving = wish.serving
    since = {asset: max(serving.since, newest + 1) for asset, newest in emitted.items()}
    activation = Activation(partition, wish.offset, serving.group, serving.version, serving.rung, since, serving.since)
    log.append([NewRecord(topics.MODELS, *part, partition=0) for part in activations.encode(activation)])


def let_go(log: Log, partition: int, newest: Mapping[str, int]) -> None:
    """Note durably the time of the newest score (ns) of assets that are silent for long. Raises StorageError."""
    records = [
        NewRecord(
            topics.MODELS,
            _IDLE_KEY + f"{partition}/{asset}".encode(),
            msgspec.json.encode(Idle(partition, asset, time)),
            partition=0,
        )
        for asset, time in newest.items()
    ]
    if records:
        log.append(records)


def promote(log: Log, serving: Serving) -> None:
    """Wish that `serving.version` serves its group from event time `serving.since` on, as soon as each partition can.

    Raises StorageError.
    """
    key = _SERVING_KEY + serving.group.encode()
    log.append([NewRecord(topics.MODELS, key, codec.encode_serving(serving), partition=0)])
