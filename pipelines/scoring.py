"""The score service: readings in, scores and dead letters out.

Everything that is emitted is a function of the log: windows of the readings (rebuilt from a rewind offset), versions of
the models topic. What a crash left emitted but not committed is found on the scores topic and not emitted twice.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from anomaly.detector import Detector
from anomaly.domain import Asset, Plant, Readings, Scores
from anomaly.errors import DecodeError
from anomaly.judging import judge
from anomaly.plain_rows import PlainRow, Rows
from pipelines import metrics, topics
from pipelines.decoding import decode, plain_row
from pipelines.held import Held, Intake
from pipelines.metrics import births
from pipelines.notices import clock_notice, silence_notice
from pipelines.partition_state import PartitionState, recover
from pipelines.ports import Log, Partition, Record
from pipelines.reasons import Reason
from pipelines.score_outputs import Outputs
from pipelines.score_queue import Home, Job, Laid, lay_out
from pipelines.score_swaps import let_idle_go, take_up
from pipelines.score_watch import ScoreWatch, engine_of
from pipelines.service import FATAL_TRIES, Metadata
from pipelines.serving import ServingTable
from pipelines.streams import LONGEST_WINDOW, AssetStream, Pushed
from pipelines.versions import ModelSource, Versions

_log = structlog.get_logger(__name__)


class ScoreWorker:
    """Worker of the score service, for the loop in `service`. `look_s`: how often it is asked what shall serve."""

    name = "score"
    topics: tuple[str, ...] = (topics.READINGS,)
    patient = False

    def __init__(
        self, log: Log, plant: Plant, models: ModelSource, *, readings_format: str = "auto", look_s: float = 0.0
    ) -> None:
        self._log = log
        self._look_s = look_s
        self._format = readings_format
        self._assets: dict[str, Asset] = {asset.path: asset for asset in plant.assets}
        self._groups: dict[str, tuple[Asset, ...]] = dict(plant.groups())
        self._versions = Versions(models, self._groups, LONGEST_WINDOW)
        self._watch = ScoreWatch()
        births.of_score()
        self.reset()

    def reset(self) -> None:
        """Forget all that came from the log."""
        self._table = ServingTable()
        self._looked = -math.inf
        self._partitions: dict[int, PartitionState] = {}
        self._intake = Intake(self._let_in)
        self._jobs: list[Job] = []
        self._laid: list[Laid] = []
        self._out = Outputs()

    def assign(self, partition: Partition, committed: int | None, metadata: Metadata) -> int:
        """Find what was emitted beyond the commit, and where the windows must be refilled from."""
        self._table.refresh(self._log)
        state = recover(self._log, partition.number, committed, metadata)
        self._partitions[partition.number] = state
        return state.read_to

    def revoke(self, partition: Partition) -> None:
        """Drop the partition: whoever owns it now rebuilds it."""
        self._partitions.pop(partition.number, None)

    # ---------------------------------------------------------------- process

    def process(self, records: Sequence[Record]) -> None:
        """Decode, align and window the records; nothing is written."""
        with metrics.stage("align"):
            for record in records:
                state = self._partitions[record.partition.number]
                if record.time != state.newest_append:  # else nothing is new in it
                    state.heard(record.time)
                row = plain_row(record, self._format)
                if row is None or not self._take_row(state, record, row):
                    self._take_any(state, record)
                self._advance(state, record)
            self._intake.release()
            self._lay_out()

    def set_aside(self, record: Record) -> None:
        """The record ended the process again and again: a dead letter, unread."""
        state = self._partitions[record.partition.number]
        self._reject(state, record, DecodeError("kills_process", f"ended the process {FATAL_TRIES} times"))
        self._advance(state, record)

    def _take_row(self, state: PartitionState, record: Record, row: PlainRow) -> bool:
        """Take in one plain row, as nearly all are, if it is of an asset that is known."""
        if record.time < state.next_look and self._intake.take_row(state.number, record, row):
            return True
        asset = self._assets.get(row.asset)
        if asset is not None:
            self._take(state, record, asset, row.rows())
        return asset is not None

    def _take_any(self, state: PartitionState, record: Record) -> None:
        """Take in whatever the record holds."""
        try:
            blocks = decode(record.value, record.key, record.time, record.headers, self._format)
            assets = [self._asset(readings) for readings in blocks]
        except DecodeError as error:
            self._reject(state, record, error)
        else:
            for asset, readings in zip(assets, blocks, strict=True):
                self._take(state, record, asset, readings)

    @staticmethod
    def _advance(state: PartitionState, record: Record) -> None:
        state.read_to = record.offset + 1
        state.next_offset = max(state.next_offset, record.offset + 1)

    def _asset(self, readings: Readings) -> Asset:
        asset = self._assets.get(readings.asset)
        if asset is None:
            message = f"asset {readings.asset!r} is not in the plant file; add it, then plantwatch dead-letters replay"
            raise DecodeError("unknown_asset", message)
        return asset

    def _take(self, state: PartitionState, record: Record, asset: Asset, readings: Rows) -> None:
        """Take in readings of an asset, and see to what they tell of clocks and of who is silent."""
        if self._intake.take(state, record, asset, readings):
            self._notice_clock(state, asset, record)
        if record.time >= state.next_look:
            self._look_for_silence(state, record, state.streams[asset.path].newest)

    def _let_in(self, held: Held, readings: Rows, pushed: Pushed) -> None:
        """Count readings that were aligned, and queue the windows that end in the new rows."""
        state, stream = held.state, held.stream
        times = pushed.samples.times[pushed.first :]
        if not held.refilling:
            self._count_readings(state, readings, pushed)
            if len(times):
                self._queue(state, stream, pushed, held.offset)
        if len(times):
            state.note_emitted(stream.asset.path, int(times[-1]))

    def _queue(self, state: PartitionState, stream: AssetStream, pushed: Pushed, offset: int) -> None:
        """Queue the windows that end in the new rows, each for the version that its time belongs to."""
        asset, first = stream.asset, pushed.first
        emitted, home = state.emitted.get(asset.path, 0), Home(state.number, offset)
        times = pushed.samples.times[first:]
        for choice, start, stop in self._table.runs(state.number, asset.group, asset.path, times):
            detector = self._versions.first_usable(asset.group, choice)
            self._jobs.append(Job(home, detector, stream, pushed.samples, first + start, first + stop, emitted))

    def _lay_out(self) -> None:
        """Cut the windows that are queued, and count them."""
        jobs, self._jobs = self._jobs, []
        laid, counts = lay_out(jobs)
        self._laid += laid
        for number, found in counts.items():
            state = self._partitions[number]
            for bucket in ("warming_up", "scored"):
                self._add(state, bucket, found.pop(bucket))
            state.counts.update(found)

    def _reject(self, state: PartitionState, record: Record, error: DecodeError) -> None:
        """The record becomes a dead letter with its original bytes and where it came from (guarantee G6)."""
        if record.offset < state.next_offset:
            return
        if error.reason == Reason.TOMBSTONE:
            self._skip(state, record, error)
            return
        self._add(state, "acknowledged", 1)
        self._add(state, "dead_lettered", 1)
        asset = self._assets.get((record.key or b"").decode("utf-8", "replace"))
        if error.reason == "future_dated" and asset is not None:
            self._notice_clock(state, asset, record)
        if (record.offset, record.time) in state.buried:
            return
        metrics.dead_letter(error.reason)
        self._out.add_dead_letter(record, error)

    @staticmethod
    def _skip(state: PartitionState, record: Record, error: DecodeError) -> None:
        """A null or a deleted row holds no reading: it is counted beside the buckets of readings, and said once."""
        if not state.counts["tombstone"]:
            _log.info("tombstone_skipped", partition=state.number, offset=record.offset, why=str(error))
        state.counts["tombstone"] += 1
        metrics.tombstone()

    def _notice_clock(self, state: PartitionState, asset: Asset, record: Record) -> None:
        """Tell the alert service that the device's clock is wrong, at most once a tick of the log's clock."""
        time = record.time // asset.tick * asset.tick
        if time > state.noticed.get(asset.path, 0):
            state.noticed[asset.path] = time
            self._tell(state, clock_notice(asset.path, time), record)

    def _look_for_silence(self, state: PartitionState, record: Record, event_time: int) -> None:
        """Tell the alert service of assets that send nothing any more, though others do."""
        self._intake.release()  # whether a machine is off is known by its samples
        for asset, heard in state.fall_silent(record.time, event_time):
            notice = silence_notice(asset, heard)
            newest = int(notice.times[-1])
            if record.offset >= state.next_offset and newest > state.told_silent.get(asset.path, 0):
                self._tell(state, notice, record)
            state.told_silent[asset.path] = max(newest, state.told_silent.get(asset.path, 0))

    # ------------------------------------------------------------------ counts

    @staticmethod
    def _add(state: PartitionState, bucket: str, count: int) -> None:
        if count:
            state.counts[bucket] += count
            metrics.readings(bucket, count)

    def _count_readings(self, state: PartitionState, readings: Rows, pushed: Pushed) -> None:
        self._add(state, "acknowledged", readings.count)
        if pushed.late or pushed.duplicates or pushed.ignored:
            self._add(state, "late", pushed.late)
            self._add(state, "duplicate", pushed.duplicates)
            self._add(state, "unknown_tag", pushed.ignored)
        state.counts["samples"] += len(pushed.samples) - pushed.first

    def counts(self) -> Counter[str]:
        """Where readings ended, windows judged by rung (`w:…`), samples, and readings still pending."""
        total: Counter[str] = Counter()
        for state in list(self._partitions.values()):
            total.update(state.counts)
            total["pending"] += sum(stream.pending for stream in list(state.streams.values()))
        return total

    def serving(self) -> dict[str, str]:
        """The version that scores the newest windows, per group (as the lowest partition held sees it)."""
        lowest = min(self._partitions, default=0)
        return {group: self._table.current(lowest, group) for group in self._groups}

    def _serving_detectors(self) -> dict[str, Detector]:
        """What scores the newest windows of each group; of nothing while no partition is held."""
        serving = self.serving() if self._partitions else {}
        return {group: self._versions.first_usable(group, [version]) for group, version in serving.items()}

    def device(self) -> str:
        """What computes the newest scores, in words."""
        return self._watch.device

    def refusals(self) -> dict[str, str]:
        """Versions that must not serve, as `group/version`, and why."""
        return {f"{group}/{version}": why for (group, version), why in list(self._versions.refused.items())}

    # ------------------------------------------------------------------- write

    def write(self) -> Mapping[Partition, tuple[int, Metadata]]:
        """Score what was queued, one call a version, and append everything; then take up new versions."""
        self._score()
        with metrics.stage("append"):
            self._out.append(self._log, self._partitions)
        self._watch.tell(self._serving_detectors, max((s.newest_append for s in self._partitions.values()), default=0))
        self._look()
        for state in self._partitions.values():
            if state.refilled:
                take_up(self._log, self._table, self._versions, self._groups, state)
                let_idle_go(self._log, state)
        return {Partition(topics.READINGS, s.number): (s.next_offset, s.metadata()) for s in self._partitions.values()}

    def _look(self) -> None:
        """Whether another version is wished: a question to the log, so not for every small batch."""
        now = time.monotonic()
        if now - self._looked >= self._look_s:
            self._table.refresh(self._log)
            self._looked = now

    def _score(self) -> None:
        """Judge the windows that are laid out, one strip a version."""
        laid, self._laid = self._laid, []
        with metrics.stage("score"):
            for detector, strip, homes in laid:
                with metrics.inference(engine_of(detector), len(strip)):
                    scores = judge(detector, strip)
                self._watch.judged(detector, strip, scores)
                self._out.add_scores(scores, homes)

    def _tell(self, state: PartitionState, notice: Scores, record: Record) -> None:
        """Queue a notice behind the scores of all records before it: the alert service reads them in that order."""
        self._intake.release()
        self._lay_out()
        self._score()
        self._out.add_scores(notice, {notice.assets[0]: Home(state.number, record.offset)})
