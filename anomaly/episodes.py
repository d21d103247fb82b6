"""Scores → anomalies: N of M rows over a line, hysteresis, off-delay, onset; and whether it is the machine or a sensor.

`Episodes` is fed rows as they come and says what each changed; `episodes()` does a whole history. They agree for any
chunking, and rows that come twice (a replay after a crash) count once. Each asset is judged alone.

What a row says to each cause:

- `process`: rows with state OK. Others neither raise nor clear; warming up, off and maintenance wipe what is pending,
  as the windows after them share nothing with those before. Off or in maintenance for long closes it.
- `instrument:<tag>`: rows with a fault code count whatever the state, except off and maintenance, where a machine may
  rightly be dead; healthy rows count always. A row over the line whose score falls below it once its strongest tag is
  masked (`isolated`) is *lone*, on rungs that relate tags to each other. While most of the rows that would raise a
  process anomaly are lone in one tag, nothing is told until it is known whether others join, or are not quite usual
  without it: then the machine is blamed, else that sensor DISAGREES. A process anomaly that is open is not told again
  as a sensor. Later rows explained by an accused sensor do not count against the machine; others do, so a process
  anomaly may still join.
- `data_loss`: rows in which every tag (of two or more) is missing at once, and rows of the pseudo-tag `silence`. They
  say nothing of a single sensor; every ordinary row with a value speaks for the data.
- `instrument:clock`: rows of the pseudo-tag `clock`; every ordinary row speaks for the clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from anomaly import troubles
from anomaly.domain import Anomaly, Kind, Scores, SensorFault, State
from anomaly.episode_policy import (
    CLOCK,
    DATA_LOSS,
    NOTICES,
    PROCESS,
    SILENCE,
    Change,
    EpisodePolicy,
    EpisodeState,
    Seen,
    Trouble,
    instrument,
)
from anomaly.episode_rows import AWAY, Row, fresh, notable


class Episodes:
    """The running judge of one asset: a frozen policy and a small state, changed in place.

    >>> Episodes("s1/pump-1", EpisodePolicy()).state.troubles
    {}
    """

    def __init__(self, asset: str, policy: EpisodePolicy, state: EpisodeState | None = None) -> None:
        self.asset = asset
        self.policy = policy
        self.state = state if state is not None else EpisodeState()

    def push(self, scores: Scores) -> tuple[Change, ...]:
        """Take the asset's new rows in and say what each changed, in row order.

        Rows of other assets, and rows not later than the newest one taken (repetitions), are ignored.
        """
        notice = scores.tags in NOTICES
        rows = fresh(scores, self.asset, self.state.clock_time if notice else self.state.time)
        worth = notable(scores, self.policy.line)
        changes: list[Change] = []
        for index in rows:
            if worth[index] or self.state.troubles:
                changes += self._notice(Row(scores, index)) if notice else self._judge(Row(scores, index))
        if rows and notice:
            self.state.clock_time = int(scores.times[rows[-1]])
        elif rows:
            self.state.time = int(scores.times[rows[-1]])
        return tuple(changes)

    def _notice(self, row: Row) -> list[Change]:
        """A row that says nothing of the machine: its device's clock is wrong, or it sends nothing at all."""
        if row.scores.tags == (SILENCE,):
            return self._fault(DATA_LOSS, row, "", row.codes.get(SILENCE, 0))
        return self._fault(instrument(CLOCK), row, CLOCK, row.codes.get(CLOCK, 0))

    def _judge(self, row: Row) -> list[Change]:
        lost = row.all_missing
        changes = self._fault(instrument(CLOCK), row, CLOCK, 0)
        changes += self._fault(DATA_LOSS, row, "", int(SensorFault.MISSING) if lost else 0)
        for tag in () if lost else self._tags_to_judge(row):
            changes += self._sensor(row, tag)
        return changes + self._process(row)

    # ---------------------------------------------------------------- sensors

    def _tags_to_judge(self, row: Row) -> Iterable[str]:
        """Tags with a fault at this row or a history of them, in a fixed order."""
        prefix = instrument("")
        known = {cause.removeprefix(prefix) for cause in self.state.troubles if cause.startswith(prefix)}
        return sorted(({*row.codes} | known) - {CLOCK})

    def _sensor(self, row: Row, tag: str) -> list[Change]:
        cause = instrument(tag)
        trouble = self.state.troubles.get(cause)
        code = row.codes.get(tag, 0)
        if trouble is not None and tag not in row.scores.tags:
            trouble.away += 1
            gone = trouble.open is None or trouble.away >= self.policy.away_rows
            return self._close(cause, row, "no longer watched") if gone else []
        if trouble is not None and not code and _disagrees(trouble):
            if row.state is not State.OK:
                return []
            strange = row.score > self.policy.clear_when.line and row.top == tag
            code = int(SensorFault.DISAGREES) if strange and not row.isolated >= self.policy.lone_line else 0
        return self._fault(cause, row, tag, code)

    def _fault(self, cause: str, row: Row, tag: str, code: int) -> list[Change]:
        """One row's word on a sensor (or on the data path: `tag` empty): a fault code, or 0 for healthy."""
        trouble = self.state.troubles.get(cause)
        if (trouble is None and not code) or (code and row.state in AWAY):
            return []
        if trouble is None:
            trouble = self.state.troubles[cause] = Trouble()
        rules = self.policy.fault_rules
        troubles.next_row(trouble, troubles.horizon(rules, self.policy))
        if code:
            score = row.score if code == SensorFault.DISAGREES else 0.0  # never the NaN of a row without a score
            troubles.see(trouble, Seen(trouble.rows, row.time, score, code=code))
            for index, rule in enumerate(rules):
                if code == SensorFault.SPIKE or index < len(self.policy.fault_when):
                    troubles.extend_run(trouble, index, rule, row.time)
            if trouble.open is None or _disagrees(trouble):
                return self._accuse(cause, trouble, row, tag)
        return self._settle(cause, trouble, row, "the sensor reads well again" if tag else "data come again")

    def _accuse(self, cause: str, trouble: Trouble, row: Row, tag: str) -> list[Change]:
        """Open an instrument (or data loss) anomaly if a rule is met, or name the fault of one that only disagreed."""
        verdict = troubles.accuse(trouble, self.policy)
        if verdict is None:
            return []
        if trouble.open is not None:
            trouble.open = replace(trouble.open, fault=verdict.fault)
            return [row.change("extended", trouble.open)]
        kind, tags = (Kind.INSTRUMENT, (tag,)) if tag else (Kind.DATA_LOSS, ())
        trouble.open = Anomaly(
            self.asset, kind, cause, verdict.onset, None, 0.0, tags, row.scores.version, fault=verdict.fault
        )
        trouble.opened, trouble.span = trouble.rows, verdict.span
        return [row.change("opened", trouble.open)]

    # ---------------------------------------------------------------- machine

    def _process(self, row: Row) -> list[Change]:
        trouble = self.state.troubles.get(PROCESS)
        if row.state is not State.OK:
            return self._unknown(trouble, row) if trouble is not None else []
        line = self.policy.line if trouble is None or trouble.open is None else self.policy.clear_when.line
        counts = row.score > line
        if counts and self._fault_is_fresh():
            return []
        lone = row.top if counts and row.isolated < self.policy.lone_line else ""
        counts = counts and not (lone and self._accused(lone))
        if trouble is None and not counts:
            return []
        if trouble is None:
            trouble = self.state.troubles[PROCESS] = Trouble()
        troubles.next_row(trouble, troubles.horizon((*self.policy.raise_when, self.policy.lone_when), self.policy))
        if counts:
            self._count(trouble, row, lone)
        if trouble.open is None:
            return self._raise(trouble, row) if counts else self._settle(PROCESS, trouble, row, "")
        return self._grow(trouble, row, counts) + self._settle(PROCESS, trouble, row, self._why_well(trouble))

    def _count(self, trouble: Trouble, row: Row, lone: str) -> None:
        troubles.see(trouble, Seen(trouble.rows, row.time, row.score, lone, row.isolated if lone else 0.0))
        if row.score > self.policy.line:
            if troubles.extend_run(trouble, 0, self.policy.raise_when[0], row.time) and trouble.open is None:
                trouble.weights.clear()
            troubles.weigh(trouble, row.shares(), row.score)

    def _raise(self, trouble: Trouble, row: Row) -> list[Change]:
        """Open a process anomaly if a rule is met, or accuse the one sensor in which most of its rows are strange."""
        onset = trouble.runs[0].since
        for rule in self.policy.raise_when:
            rows = troubles.recent(trouble, rule)
            if len(rows) < rule.rows or row.time - onset < self.policy.min_duration:
                continue
            tag = troubles.lone_tag(rows, self.policy)
            alone = troubles.is_lone(trouble, tag, self.policy) if tag else False
            if alone is None or (alone and self._accused(tag)):
                return []
            if alone:
                return self._disagree(trouble, row, tag)
            peak = max(seen.score for seen in trouble.seen if seen.time >= onset)
            tags = troubles.blamed(trouble.weights)
            trouble.open = Anomaly(self.asset, Kind.PROCESS, PROCESS, onset, None, peak, tags, row.scores.version)
            trouble.opened, trouble.span = trouble.rows, self.policy.clear_when.of
            return [row.change("opened", trouble.open)]
        return []

    def _disagree(self, trouble: Trouble, row: Row, tag: str) -> list[Change]:
        cause, fault = instrument(tag), SensorFault.DISAGREES.name
        forgotten = trouble.runs[0].since if troubles.outlasts(trouble) else None
        sensor = troubles.take_lone(trouble, tag, self.policy.clear_when.of)
        self.state.troubles[cause] = sensor
        onset = sensor.seen[0].time if forgotten is None else forgotten
        peak = max(seen.score for seen in sensor.seen)
        sensor.open = Anomaly(
            self.asset, Kind.INSTRUMENT, cause, onset, None, peak, (tag,), row.scores.version, fault=fault
        )
        if not trouble.seen:
            del self.state.troubles[PROCESS]
        return [row.change("opened", sensor.open)]

    def _grow(self, trouble: Trouble, row: Row, counts: bool) -> list[Change]:
        assert trouble.open is not None
        if not counts or row.score <= trouble.open.peak:
            return []
        trouble.open = replace(trouble.open, peak=row.score, tags=troubles.blamed(trouble.weights))
        return [row.change("extended", trouble.open)]

    def _unknown(self, trouble: Trouble, row: Row) -> list[Change]:
        """A row without a score: what is pending may lapse; an open anomaly waits, but not for a machine put away."""
        trouble.away += row.state in AWAY
        trouble.unknown += row.state is State.INSUFFICIENT_COVERAGE
        if trouble.open is None:
            if row.state is not State.INSUFFICIENT_COVERAGE or trouble.unknown >= self.policy.unknown_rows:
                del self.state.troubles[PROCESS]
            return []
        if trouble.away < self.policy.away_rows:
            return []
        return self._close(PROCESS, row, "the machine is off" if row.state is State.OFF else "in maintenance")

    def _accused(self, tag: str) -> bool:
        trouble = self.state.troubles.get(instrument(tag))
        return trouble is not None and (trouble.open is not None or bool(trouble.seen))

    def _fault_is_fresh(self) -> bool:
        """Whether some sensor's fault is so new that the window still holds its values from before it was masked."""
        return any(
            t.rows <= self.policy.settle_rows and any(s.code != SensorFault.DISAGREES for s in t.seen)
            for cause, t in self.state.troubles.items()
            if cause not in (PROCESS, DATA_LOSS, instrument(CLOCK))
        )

    # ---------------------------------------------------------------- ends

    def _why_well(self, trouble: Trouble) -> str:
        return f"at most {self.policy.clear_when.rows} of {trouble.span} rows over {self.policy.clear_when.line:g}"

    def _settle(self, cause: str, trouble: Trouble, row: Row, reason: str) -> list[Change]:
        """Close what is well again; forget what never came to anything."""
        if trouble.open is None:
            if not trouble.seen:
                del self.state.troubles[cause]
            return []
        return self._close(cause, row, reason) if troubles.is_well(trouble, self.policy) else []

    def _close(self, cause: str, row: Row, reason: str) -> list[Change]:
        trouble = self.state.troubles.pop(cause)
        if trouble.open is None:
            return []
        tags = troubles.blamed(trouble.weights) if cause == PROCESS else trouble.open.tags
        return [row.change("closed", replace(trouble.open, end=trouble.until, tags=tags), reason)]


def _disagrees(trouble: Trouble) -> bool:
    return trouble.open is not None and trouble.open.fault == SensorFault.DISAGREES.name


def episodes(scores: Scores, policy: EpisodePolicy | None = None) -> tuple[Anomaly, ...]:
    """Every anomaly of a history, asset by asset in order of first appearance, each in order of opening.

    An anomaly that lasts at the end has `end` None. Rows of one asset must be in time order.
    """
    found: list[Anomaly] = []
    for asset in dict.fromkeys(scores.assets):
        changes = Episodes(asset, policy or EpisodePolicy()).push(scores)
        newest = {(change.anomaly.cause, change.anomaly.onset): change.anomaly for change in changes}
        found += newest.values()
    return tuple(found)
