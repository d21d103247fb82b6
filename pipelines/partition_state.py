"""What the score service remembers of one partition of the readings, and how it finds where a crash left it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import structlog

from anomaly.domain import SECOND, Asset, Scores
from pipelines import codec, topics
from pipelines.notices import SILENCE_VERSION, VERSIONS, patience
from pipelines.ports import Log, Partition, Record
from pipelines.service import Metadata
from pipelines.streams import AssetStream

IDLE_LIMIT: Final = 24 * 3600 * SECOND
"""An asset silent for so long (append time) no longer holds the rewind offset back; it starts anew when it returns."""
SILENCE_LOOK: Final = 60 * SECOND
"""So often (append time) it is looked who is silent."""
PAUSE: Final = 300 * SECOND
"""Where the whole partition brought nothing for so long (append time), nobody counts as silent for that."""
LOOK_SHARE: Final = 64
"""Going through all streams costs about 0.2 µs each; at least a 64th as many records lie between two such walks."""
_PAGE: Final = 1000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PartitionState:
    """Windows, counters and output positions of partition `number`."""

    number: int
    next_offset: int
    """First offset whose results are not out; records below it only refill the windows."""
    read_to: int = 0
    """Next offset to be read."""
    streams: dict[str, AssetStream] = field(default_factory=dict)
    emitted: dict[str, int] = field(default_factory=dict)
    """Time of the newest score that is out, per asset."""
    let_go: set[str] = field(default_factory=set)
    """Assets silent for too long, of which a successor will find nothing but the idle record."""
    noticed: dict[str, int] = field(default_factory=dict)
    """Time of the newest clock notice that is out, per asset."""
    silent: dict[str, int] = field(default_factory=dict)
    """Append time (ns) at which each silent asset was last heard of, of those already told."""
    told_silent: dict[str, int] = field(default_factory=dict)
    """Time of the newest row of a notice of silence that is out, per asset."""
    flowing_since: int = 0
    """Append time of the first record after the last pause, ns."""
    next_look: int = 0
    """Append time from which it is looked again who is silent."""
    buried: set[tuple[int, int]] = field(default_factory=set)
    """Offset and append time of records from `next_offset` on whose dead letter is already out. Both: in a topic that
    was made anew, another record lies where one was set aside before.
    """
    counts: Counter[str] = field(default_factory=Counter)
    outputs: tuple[int, int] = (0, 0)
    """Ends of the scores partition and of the dead letters, as far as this state knows them."""
    replaying: tuple[int, int] = (0, 0)
    """What `outputs` was at the commit from which a replay began: all that is out beyond it may be needed again …"""
    replay_until: int = 0
    """… until this offset is passed."""
    newest_append: int = 0
    _looked: tuple[int, int] | None = None
    """Where `next_offset` was when the rewind offset was last looked for, and what was found."""

    @property
    def refilled(self) -> bool:
        """Whether the windows are those of an uninterrupted run again."""
        return self.read_to >= self.next_offset

    def stream(self, asset: Asset, append_time: int) -> AssetStream:
        """The asset's stream; a new one if it was silent too long, its pending readings counted as discarded."""
        stream = self.streams.get(asset.path)
        if stream is not None and append_time - stream.last_append <= IDLE_LIMIT:
            return stream
        if stream is not None and self.refilled:
            self.counts["gap_discarded"] += stream.pending
        stream = self.streams[asset.path] = AssetStream(asset)
        self.let_go.discard(asset.path)
        return stream

    def heard(self, append_time: int) -> None:
        """A record came, of whatever kind."""
        if append_time - self.newest_append > PAUSE:
            self.flowing_since = append_time
        self.newest_append = max(self.newest_append, append_time)

    def fall_silent(self, append_time: int, event_time: int) -> list[tuple[Asset, int]]:
        """Assets that now count as silent, with when they were last heard of (append time, ns), each told once.

        They sent nothing for their patience, though others on the partition came, and came to later event times: files
        that are read one after the other make nobody silent. A function of the log since the rewind offset.
        """
        if append_time < self.next_look:
            return []
        self.next_look = append_time + SILENCE_LOOK
        found = []
        for path, stream in self.streams.items():
            heard = max(stream.last_append, self.noticed.get(path, 0), self.flowing_since)
            wait = patience(stream.asset)
            gone = append_time - heard > wait and event_time - stream.newest > wait
            if gone and path not in self.silent and not stream.off:
                self.silent[path] = heard
                found.append((stream.asset, heard))
        return found

    def note_emitted(self, asset: str, time: int) -> None:
        """Scores of `asset` up to `time` are out."""
        self.emitted[asset] = max(self.emitted.get(asset, 0), time)

    def newly_idle(self) -> dict[str, int]:
        """Time of the newest score (ns) of assets that the next commit lets go of; told until `let_go` has them."""
        if not self._looks:
            return {}
        silent = {a for a, s in self.streams.items() if self._is_idle(s)} - self.let_go
        return {asset: self.emitted[asset] for asset in sorted(silent) if asset in self.emitted}

    def _is_idle(self, stream: AssetStream) -> bool:
        return self.newest_append - stream.last_append > IDLE_LIMIT

    @property
    def _looks(self) -> bool:
        """Whether all streams are gone through at this commit: not for every few records of a large plant.

        What was found before still holds, since no stream ever needs older records than it did: a restart reads more.
        """
        few = self._looked is not None and self.next_offset - self._looked[0] < len(self.streams) // LOOK_SHARE
        return not few

    def metadata(self) -> Metadata:
        """What a successor needs: rewind offset `r`, ends of the outputs `s` and `d`, counters `c`.

        While outputs of records from `next_offset` on are out already, `s` and `d` stay before them.
        """
        if self._looks or self._looked is None:
            live = [stream for stream in self.streams.values() if not self._is_idle(stream)]
            found = min((s.rewind for s in live if s.rewind is not None), default=self.next_offset)
            self._looked = (self.next_offset, found) if self.refilled else None
            rewind = found
        else:
            rewind = self._looked[1]
        scores, dead = self.outputs if self.next_offset >= self.replay_until else self.replaying
        return {"r": rewind, "s": scores, "d": dead, "c": dict(self.counts)}


def recover(log: Log, number: int, committed: int | None, metadata: Metadata) -> PartitionState:
    """The state from which to go on: reads what is out beyond the commit. Raises StorageError."""
    log_start, log_end = log.ends(topics.READINGS)[Partition(topics.READINGS, number)]
    start = committed if committed is not None else log_start
    rewind = min(start, _whole(metadata, "r", start))
    if rewind < log_start:
        _log.warning(
            "history_gone", partition=number, wanted=rewind, log_start=log_start, effect="windows warm up anew"
        )
    state = PartitionState(number, max(start, log_start), read_to=max(rewind, log_start))
    counts = metadata.get("c", {})
    state.counts.update(counts if isinstance(counts, dict) else {})
    state.replaying = _whole(metadata, "s", 0), _whole(metadata, "d", 0)
    state.outputs = _find_scores(log, state, state.replaying[0]), _find_dead_letters(log, state, state.replaying[1])
    state.replay_until = min(state.replay_until, log_end)  # beyond it lies what came of another topic of this name
    return state


def _find_scores(log: Log, state: PartitionState, position: int) -> int:
    home = Partition(topics.SCORES, state.number)
    while records := log.read(home, position, _PAGE):
        for record in records:
            if record.value is not None:
                state.replay_until = max(state.replay_until, _origin(record)[1] + 1)
                _note(state, codec.decode_scores(record.value))
        position = records[-1].offset + 1
    return position


def _note(state: PartitionState, scores: Scores) -> None:
    newest = state.emitted
    if scores.version in VERSIONS:
        newest = state.told_silent if scores.version == SILENCE_VERSION else state.noticed
    newest[scores.assets[0]] = max(newest.get(scores.assets[0], 0), int(scores.times[-1]))


def _find_dead_letters(log: Log, state: PartitionState, position: int) -> int:
    while records := log.read(Partition(topics.DEAD_LETTERS, 0), position, _PAGE):
        for record in records:
            number, offset = _origin(record)
            if number == state.number:
                state.replay_until = max(state.replay_until, offset + 1)
                state.buried.add((offset, int(dict(record.headers).get("x-orig-ts", b"-1"))))
        position = records[-1].offset + 1
    return position


def origin_headers(partition: Partition, offset: int) -> tuple[tuple[str, bytes], ...]:
    """Headers that say of an output which reading record (the newest, if several) it came from."""
    return (
        ("x-orig-topic", partition.topic.encode()),
        ("x-orig-partition", str(partition.number).encode()),
        ("x-orig-offset", str(offset).encode()),
    )


def _origin(record: Record) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["x-orig-partition"]), int(headers["x-orig-offset"])


def _whole(metadata: Metadata, key: str, default: int) -> int:
    value = metadata.get(key, default)
    return value if isinstance(value, int) else default
