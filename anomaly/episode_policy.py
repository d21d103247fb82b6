"""The rule that turns rows of scores into anomalies, and what it must remember between rows. Pure values, no logic.

Defaults, in rows (one row is one tick):

- *Raise* when 6 of the last 10 rows are over 1.0, or 4 of the last 5 over 3.0. The line is fitted on rows from an alert
  budget, so single rows over it are expected; neighbouring scores share most of their window, so such rows come
  in short bursts. Six of ten outlives a burst of five, needs no unbroken run, and costs a fault of medium strength six
  ticks. Three lines over is far outside what normal rows reach: there four ticks are enough (two-speed alarm, as the
  Western Electric rules pair a far and a near zone).
- *Clear* when at most 1 of the last 12 rows is over 0.8, and no sooner than 12 rows after raising: lower line and
  off-delay (ISA-18.2 §11: dead-band and off-delay against chattering).
- *Sensor faults* raise at 5 of 8 rows, or 15 of 60 for a sensor that comes and goes; spikes are single rows by nature,
  so 3 of 60 of them are enough. A fault clears on the span it was judged on, never on less than the clear rule's.
- *A sensor that disagrees* with all others is accused at 36 of 48 rows. A fault of the machine often shows in one tag
  first and in the others minutes later; a drifting sensor stays alone for ever, and can wait. By then it is also known
  whether the others are really normal without it, or only just under the line: a fault of the machine that one tag
  shows best leaves the rest at 0.7 to 0.9 of the line, a drifting sensor at the usual 0.3 to 0.5 (docs/adr/0014). A run
  longer than the 48 rows that hovers at the line, with fewer rows over it, is told too: as the sensor's if 3 of 4 of
  them are lone in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from anomaly.domain import Anomaly, Rung

PROCESS = "process"
"""Cause of an anomaly of the machine itself."""
DATA_LOSS = "data_loss"
"""Cause of an anomaly where every tag of the asset is missing at once: the path of the data, not a sensor."""
CLOCK = "clock"
"""Pseudo-tag of rows that report a wrong device clock."""
SILENCE = "silence"
"""Pseudo-tag of rows that report an asset that sends nothing at all."""
NOTICES = ((CLOCK,), (SILENCE,))
"""Tags of rows that say nothing of the machine, but of its device; they come on the log's time line."""


def instrument(tag: str) -> str:
    """Cause of trouble with one sensor.

    >>> instrument("vib_de")
    'instrument:vib_de'
    """
    return f"instrument:{tag}"


@dataclass(frozen=True, slots=True)
class Density:
    """So many `rows` of the last `of` judged rows over `line` (in alert lines; unused for sensor faults)."""

    rows: int
    of: int
    line: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.rows <= self.of or self.of < 1 or not self.line >= 0:
            raise ValueError(
                f"{self.rows} of {self.of} rows over {self.line}: expected 0 ≤ rows ≤ of, of ≥ 1, line ≥ 0"
            )

    @property
    def gap(self) -> int:
        """Longest hole, in rows, that a run meeting this density can have."""
        return self.of - self.rows


@dataclass(frozen=True, slots=True)
class EpisodePolicy:
    """When an anomaly opens and closes. Counts are rows, `min_duration` is ns; the module gives the reasons.

    Raises ValueError if the clear line is above the raise line, or a raising density needs no row.
    """

    raise_when: tuple[Density, ...] = (Density(6, 10), Density(4, 5, 3.0))
    """Any of these opens a process anomaly. The first is *the line* that runs, and so the onset, are counted by."""
    clear_when: Density = Density(1, 12, 0.8)
    """At most so many rows over this line close it."""
    fault_when: tuple[Density, ...] = (Density(5, 8), Density(15, 60))
    """Any of these opens an instrument anomaly; rows with any sensor fault count."""
    spike_when: Density = Density(3, 60)
    """Opens an instrument anomaly too; only spikes count."""
    min_duration: int = 0
    """A process anomaly opens no sooner than this long after its onset, ns."""
    lone_share: float = 0.5
    """More than this share of the raising rows strange in one and the same tag alone: it may be the sensor, not the
    machine. Nothing is said of the machine then …"""
    quiet_line: float = 0.5
    """… nor where so many rows are strange in some one tag alone, and the typical score without it is at most this."""
    lone_line: float = 1.0
    """A row is strange in one tag alone if its score without that tag is below this line."""
    lone_when: Density = Density(36, 48)
    """… and it is decided once so many rows were strange in it alone: …"""
    rest_line: float = 0.65
    """… the sensor is accused if the typical score of those rows without it is at most this, else it is the machine."""
    settle_rows: int = 12
    """So many rows after a sensor's first faulty row, scores over the line say nothing about the machine: the window
    still holds values from before the fault was recognised."""
    unknown_rows: int = 12
    """So many rows without sufficient coverage and evidence not yet raised is forgotten."""
    away_rows: int = 90
    """So many rows off or in maintenance close an open process anomaly."""

    def __post_init__(self) -> None:
        if not self.raise_when or any(rule.rows < 1 for rule in self._alarms()):
            raise ValueError("a raising rule must need at least one row")
        if self.lone_line > self.line:
            raise ValueError(f"lone line {self.lone_line} is above the raise line {self.line}: every row would be lone")
        if self.clear_when.line > self.line:
            raise ValueError(f"clear line {self.clear_when.line} is above the raise line {self.line}: it would chatter")
        if any(rule.line < self.line for rule in self.raise_when):
            raise ValueError(f"the first raising rule must have the lowest line, it has {self.line}")

    def _alarms(self) -> tuple[Density, ...]:
        return (*self.raise_when, *self.fault_rules, self.lone_when)

    @property
    def line(self) -> float:
        """The raise line, in alert lines."""
        return self.raise_when[0].line

    @property
    def fault_rules(self) -> tuple[Density, ...]:
        """Every rule that opens an instrument anomaly, the spike rule last."""
        return (*self.fault_when, self.spike_when)


@dataclass(frozen=True, slots=True)
class Seen:
    """One row that counts against a cause, kept while a rule looks back at it."""

    row: int
    time: int
    score: float = 0.0
    lone: str = ""
    """Process: the tag that is strange all alone in this row."""
    rest: float = 0.0
    """Process: the score without that tag, in lines."""
    code: int = 0
    """Instrument: the `SensorFault`."""


@dataclass(frozen=True, slots=True)
class Run:
    """The present run of counted rows with no hole longer than its rule allows: where it began and was last seen."""

    since: int
    row: int


@dataclass(slots=True)
class Trouble:
    """What is remembered of one cause: pending evidence, or an open anomaly. Absent when there is neither."""

    rows: int = 0
    """Rows judged for this cause since it was first noticed."""
    seen: list[Seen] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    """One a rule."""
    weights: dict[str, float] = field(default_factory=dict)
    """Blame per tag: contributions summed over the rows over the line."""
    open: Anomaly | None = None
    opened: int = 0
    """Row number at which it opened."""
    span: int = 0
    """Rows it must look well for before it closes."""
    until: int = 0
    """Time of the newest row counted against it."""
    unknown: int = 0
    """Consecutive rows whose score is not known."""
    away: int = 0
    """Consecutive rows off or in maintenance."""

    def copy(self) -> Trouble:
        """A copy that can be changed alone."""
        return replace(self, seen=list(self.seen), runs=list(self.runs), weights=dict(self.weights))


@dataclass(slots=True)
class EpisodeState:
    """Everything remembered of one asset between rows; empty troubles when all is well. Plain numbers, fit for JSON."""

    time: int = -1
    """Time of the newest row taken; older rows are repetitions and ignored."""
    clock_time: int = -1
    """The same for rows of a pseudo-tag (`clock`, `silence`), which come on their own time line."""
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def copy(self) -> EpisodeState:
        """A copy that can be changed alone."""
        return EpisodeState(self.time, self.clock_time, {cause: t.copy() for cause, t in self.troubles.items()})


class Change(NamedTuple):
    """What one row did to one anomaly. `extended`: its peak rose or its fault got a better name."""

    event: Literal["opened", "extended", "closed"]
    anomaly: Anomaly
    time: int
    """Event time of the row, ns."""
    coverage: float
    """Of the row, 0..1 (NaN where unknown)."""
    values: Mapping[str, tuple[float, float]]
    """(actual, expected) of the blamed tags at the row, in the tag's unit, where both are known."""
    reason: str = ""
    """Why it closed."""
    rung: Rung | None = None
    """What judged the row: it says what `values` expect."""
