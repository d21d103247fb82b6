"""Whatever happens between the plant and the scores topic, the scores are those of an undisturbed reading of the log.

A Hypothesis state machine lets workers poll, fail, crash, join and swap versions over an in-memory log that breaks on
demand, and compares all that came out with a slow reference: one pass over the log, whole arrays, no windows kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anomaly.alignment import Aligner, AlignmentPolicy
from anomaly.blocks import join, rows
from anomaly.detector import Detector, rules_detector
from anomaly.domain import SECOND, Asset, Plant, Quality, Readings, Rung, Tag
from anomaly.errors import DecodeError, ModelRefused, StorageError
from anomaly.scorers.rolling_z import RollingZ
from pipelines import codec, feeding, topics
from pipelines.adapters.memory_log import MemoryLog
from pipelines.codec import Serving
from pipelines.decoding import decode
from pipelines.notices import VERSIONS as NOTICES
from pipelines.ports import Batch, Consumer, NewRecord, Partition, Position, Record
from pipelines.scoring import ScoreWorker
from pipelines.service import Session
from pipelines.serving import ServingTable, promote

TICK = 10 * SECOND
START = 1_800_000_000 * SECOND
TAGS = (Tag("temp", "°C", 0.0, 100.0), Tag("flow", "m³/h", -5.0, 5.0))
ASSETS = tuple(Asset(path, group, TAGS, TICK) for path, group in (("s/a1", "g1"), ("s/a2", "g1"), ("s/b1", "g2")))
PLANT = Plant("test", ASSETS)
GROUPS = PLANT.groups()
BUCKETS = (
    "scored", "warming_up", "dead_lettered", "late", "duplicate", "gap_discarded", "unknown_tag", "pending"
)  # fmt: skip


class Versions:
    """Versions by name: `z<N>` is a rolling z-score over N rows; `bad` is refused."""

    def load(self, group: str, version: str) -> Detector:
        if version == "bad":
            raise ModelRefused("flipped bit")
        base = rules_detector(group, GROUPS[group], version)
        return replace(base, scorer=RollingZ(int(version[1:]), np.array([0.1, 0.1])))


class BreakingLog(MemoryLog):
    """Breaks the next append or commit, before or after it is done."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, session_s=10.0, timer=clock.now)
        self.breaking: str | None = None

    def breaks(self, moment: str) -> bool:
        hit, self.breaking = self.breaking == moment, None if self.breaking == moment else self.breaking
        return hit

    def append(self, records: Sequence[NewRecord]) -> tuple[int, ...]:
        if self.breaks("before append"):
            raise StorageError("broken before the append")
        offsets = super().append(records)
        if self.breaks("after append"):
            raise StorageError("broken after the append")
        return offsets


class BreakingConsumer:
    """The log's consumer, whose commit breaks on demand."""

    def __init__(self, log: BreakingLog, inner: Consumer) -> None:
        self.log, self.inner = log, inner

    def poll(self, limit: int, timeout_s: float) -> Batch:
        return self.inner.poll(limit, timeout_s)

    def seek(self, partition: Partition, offset: int) -> None:
        self.inner.seek(partition, offset)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        if self.log.breaks("before commit"):
            raise StorageError("broken before the commit")
        self.inner.commit(positions)
        if self.log.breaks("after commit"):
            raise StorageError("broken after the commit")

    def pause(self) -> None:
        self.inner.pause()

    def resume(self) -> None:
        self.inner.resume()

    def lag(self) -> Mapping[Partition, int]:
        return self.inner.lag()

    def close(self) -> None:
        self.inner.close()


class Clock:
    """A clock that is set by hand; members expire by it too."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)


def readings(asset: Asset, times: Sequence[int], values: Sequence[float], tags: tuple[str, ...]) -> Readings:
    table = np.array(values, dtype=np.float64).reshape(len(times), len(tags))
    quality = np.where(np.isfinite(table), Quality.GOOD, Quality.BAD).astype(np.uint8)
    return Readings(asset.path, tags, np.array(times, dtype=np.int64), table, quality)


class ScoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.log = BreakingLog(self.clock)
        self.log.create(topics.partitions(2), topics.COMPACTED)
        self.sessions: dict[int, Session | None] = {0: None, 1: None}
        self.excused: dict[int, dict[Partition, tuple[int, int]]] = {0: {}, 1: {}}
        self.sent = dict.fromkeys((a.path for a in ASSETS), START)
        self.acknowledged = 0

    # ----------------------------------------------------------------- plant

    @rule(
        which=st.integers(0, 2),
        count=st.integers(1, 8),
        value=st.sampled_from([1.0, 50.0, 99.0, 300.0, float("nan")]),
        slip=st.sampled_from([0, 1, 3, 40]),
    )
    def send(self, which: int, count: int, value: float, slip: int) -> None:
        """Some rows after those sent before; a slip of 40 ticks is a gap."""
        asset = ASSETS[which]
        begin = self.sent[asset.path] + slip * TICK
        times = [begin + (i + 1) * TICK for i in range(count)]
        self.sent[asset.path] = times[-1]
        self.clock.time = max(self.clock.time, times[-1])
        self._append(readings(asset, times, [value, 1.5] * count, ("temp", "flow")))

    @rule(
        count=st.integers(1, 8),
        value=st.sampled_from([1.0, 50.0, 99.0, 300.0]),
        slip=st.sampled_from([0, 0, 0, 1, 40]),
    )
    def send_rows(self, count: int, value: float, slip: int) -> None:
        """Native rows as gateways send them: a row of every machine, then the next row of every machine."""
        begin = {path: sent + slip * TICK for path, sent in self.sent.items()}
        for row in range(1, count + 1):
            for asset in ASSETS:
                time = begin[asset.path] + row * TICK
                self.sent[asset.path] = time
                self.clock.time = max(self.clock.time, time)
                body = {"asset": asset.path, "ts": time, "values": {"temp": value + row, "flow": 1.5}}
                self._send(asset, json.dumps(body).encode())

    def _send(self, asset: Asset, value: bytes | None) -> None:
        try:
            self.log.append([NewRecord(topics.READINGS, asset.path.encode(), value)])
        except StorageError:
            return  # not acknowledged; the broken log stored it or not

    @rule(which=st.integers(0, 2), back=st.integers(0, 60), tag=st.sampled_from(["temp", "flow", "nobody_knows"]))
    def send_out_of_order(self, which: int, back: int, tag: str) -> None:
        """A reading that came before, or is late, or of a tag that the plant file does not have."""
        asset = ASSETS[which]
        self._append(readings(asset, [self.sent[asset.path] - back * TICK], [42.0], (tag,)))

    @rule(which=st.integers(0, 2), poison=st.sampled_from([b"{", b"", b'{"asset":"s/who","ts":1,"values":{}}', None]))
    def send_poison(self, which: int, poison: bytes | None) -> None:
        self._send(ASSETS[which], poison)

    @rule(which=st.integers(0, 2))
    def send_from_the_future(self, which: int) -> None:
        asset = ASSETS[which]
        self._append(readings(asset, [self.clock.time + 3600 * SECOND], [1.0], ("temp",)))

    def _append(self, block: Readings) -> None:
        try:
            feeding.append(self.log, [block])
        except StorageError:
            return

    # --------------------------------------------------------------- workers

    @rule(number=st.integers(0, 1), limit=st.sampled_from([1, 3, 64]))
    def step(self, number: int, limit: int) -> None:
        session = self.sessions[number]
        try:
            if session is None:
                worker = ScoreWorker(self.log, PLANT, Versions())
                consumer = BreakingConsumer(self.log, self.log.join("score", worker.topics))
                session = self.sessions[number] = Session(worker, consumer, limit, excused=self.excused[number])
            session.limit = limit
            session.step(0.0)
        except StorageError:
            if session is not None:
                session.close()
            self.sessions[number] = None

    @rule(number=st.integers(0, 1))
    def leave(self, number: int) -> None:
        session, self.sessions[number] = self.sessions[number], None
        if session is not None:
            session.close()

    @rule(number=st.integers(0, 1))
    def crash(self, number: int) -> None:
        """The process is gone without a word; the group notices by its silence. The other one keeps polling."""
        self.sessions[number], self.excused[number] = None, {}
        self.clock.time += 6 * SECOND
        self.step(1 - number, 1)
        self.clock.time += 6 * SECOND

    @rule(moment=st.sampled_from(["before append", "after append", "before commit", "after commit"]))
    def break_next(self, moment: str) -> None:
        self.log.breaking = moment

    @rule(group=st.sampled_from(["g1", "g2"]), version=st.sampled_from(["z4", "z7", "bad"]))
    def wish(self, group: str, version: str) -> None:
        try:
            promote(self.log, Serving(group, version, 0, Rung.ROLLING_Z))
        except StorageError:
            return

    # ---------------------------------------------------------------- verdict

    @invariant()
    def nothing_is_scored_twice(self) -> None:
        """No (asset, time) lies on the scores topic twice, crash or not."""
        if hasattr(self, "log"):
            seen = Counter((asset, time) for asset, time, _ in self._emitted())
            assert not [key for key, times in seen.items() if times > 1]

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self.log.breaking = None
        for number in self.sessions:
            self.leave(number)
        self.clock.time += 30 * SECOND
        worker = ScoreWorker(self.log, PLANT, Versions())
        session = Session(worker, self.log.join("score", worker.topics), 64)
        quiet = 0
        while quiet < 3:  # the first turns bring partitions, and refill windows of what is committed
            quiet = 0 if session.step(0.0) else quiet + 1
        assert self._drained()
        self._check_scores()
        self._check_conservation(worker.counts())
        self._check_dead_letters()

    def _drained(self) -> bool:
        committed = self.log.committed("score", topics.READINGS)
        ends = self.log.ends(topics.READINGS)
        return all(end == start or (p in committed and committed[p].offset == end) for p, (start, end) in ends.items())

    def _records(self, topic: str) -> list[Record]:
        return [record for p in self.log.ends(topic) for record in self.log.read(p, 0, 100_000)]

    def _emitted(self) -> list[tuple[str, int, bytes]]:
        found = []
        for record in self._records(topics.SCORES):
            assert record.value is not None
            scores = codec.decode_scores(record.value)
            if scores.version not in NOTICES:
                for i in range(len(scores)):
                    [(asset, row)] = codec.encode_scores(rows(scores, slice(i, i + 1)))
                    found.append((asset, int(scores.times[i]), row))
        return found

    def _check_scores(self) -> None:
        expected = sorted(row for asset in ASSETS for row in self._reference(asset))
        assert sorted(self._emitted()) == expected

    def _reference(self, asset: Asset) -> list[tuple[str, int, bytes]]:
        """Every score of an asset from whole arrays: no buffer, no batches, no crash."""
        aligner = Aligner(asset.path, tuple(t.name for t in asset.tags), AlignmentPolicy.of(asset.tick))
        parts, home = [], 0
        for record in self._records(topics.READINGS):
            for block in _decoded(record):
                if block.asset == asset.path:
                    home = record.partition.number
                    parts.append(aligner.push(block).samples)
        if not parts:
            return []
        samples = join(parts)
        table = ServingTable()
        table.refresh(self.log)
        found = []
        for versions, first, stop in table.runs(home, asset.group, asset.path, samples.times):
            name = versions[0]
            detector = (
                rules_detector(asset.group, GROUPS[asset.group])
                if name == "rules"
                else Versions().load(asset.group, name)
            )
            scores = detector.detect(detector.windows(rows(samples, slice(None, stop)), first))
            for i in range(len(scores)):
                [(path, row)] = codec.encode_scores(rows(scores, slice(i, i + 1)))
                found.append((path, int(scores.times[i]), row))
        return found

    def _check_conservation(self, counts: Counter[str]) -> None:
        acknowledged = 0
        for record in self._records(topics.READINGS):
            blocks = _decoded(record)
            unread = 0 if record.value is None else 1
            acknowledged += sum(block.count for block in blocks) if blocks else unread
        assert counts["tombstone"] == sum(record.value is None for record in self._records(topics.READINGS))
        assert counts["acknowledged"] == acknowledged
        assert sum(counts[bucket] for bucket in BUCKETS) == acknowledged

    def _check_dead_letters(self) -> None:
        """Each undecodable record but tombstones lies on the dead-letter topic once, with its original bytes."""
        unread = (r for r in self._records(topics.READINGS) if r.value is not None and not _decoded(r))
        poison = {(r.partition.number, r.offset): r.value for r in unread}
        letters: Counter[tuple[int, int]] = Counter()
        for record in self._records(topics.DEAD_LETTERS):
            headers = dict(record.headers)
            where = int(headers["x-orig-partition"]), int(headers["x-orig-offset"])
            letters[where] += 1
            assert record.value == poison[where]
        assert letters == Counter(poison.keys())


def _decoded(record: Record) -> tuple[Readings, ...]:
    try:
        blocks = decode(record.value, record.key, record.time)
    except DecodeError:
        return ()
    return blocks if all(PLANT.asset(block.asset) for block in blocks) else ()


TestScoreMachine = ScoreMachine.TestCase
TestScoreMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
