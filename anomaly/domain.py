"""The values everything else speaks of: `Reading → Sample → Window → Score → Anomaly → Alert`.

Scalars describe one thing; their plurals (`Readings`, `Samples`, `Windows`, `Scores`) are columnar blocks of many,
which is what flows. All are frozen; arrays inside them are never written to after construction.

Times are integer nanoseconds since 1970-01-01T00:00:00Z, always UTC. Tag order inside a block is the block's `tags`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

SECOND = 1_000_000_000
"""Nanoseconds in a second."""


class Quality(IntEnum):
    """Quality of one reading, as stored in `UInt8` arrays. `MISSING`: this row has no reading of the tag."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    MISSING = 3


_MISSING = int(Quality.MISSING)  # comparing an array with the enum itself takes three times as long


class Role(StrEnum):
    """What a tag is for: `SIGNAL` is modelled; `MODE` says whether the machine runs; `STATUS` is only shown."""

    SIGNAL = "signal"
    MODE = "mode"
    STATUS = "status"


class State(StrEnum):
    """What is known about a window. Only `OK` carries a finite score; the others are words for not knowing."""

    OK = "ok"
    WARMING_UP = "warming_up"
    INSUFFICIENT_COVERAGE = "insufficient_coverage"
    OFF = "off"
    MAINTENANCE = "maintenance"


class Rung(StrEnum):
    """Steps of the cold-start ladder, lowest first."""

    RULES = "rules"
    ROLLING_Z = "rolling_z"
    WINDOW_PCA = "window_pca"
    LSTM_AUTOENCODER = "lstm_autoencoder"


class SensorFault(IntEnum):
    """Why a tag's value is not believed at a row; stored in `UInt8` arrays. `NONE` is a healthy sensor."""

    NONE = 0
    MISSING = 1
    BAD_QUALITY = 2
    OUT_OF_RANGE = 3
    STUCK = 4
    FLAT = 5
    SPIKE = 6
    NOISE = 7
    UNIT_JUMP = 8
    DISAGREES = 9
    """All the strangeness is in this one tag: drift, or a wrong calibration. Decided from `Scores.isolated`."""
    CLOCK = 10
    """The device's clock is wrong: its readings come late or dated in the future."""


class Kind(StrEnum):
    """Which question an alert asks: is it the machine, the sensor, or the data path?"""

    PROCESS = "process"
    INSTRUMENT = "instrument"
    DATA_LOSS = "data_loss"


class Priority(StrEnum):
    """Priority of an alert, split near 80/15/5 over a year (EEMUA 191)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class AlertState(StrEnum):
    """ISA-18.2 states of one alert. `SHELVED` is by a person, timed, with a reason."""

    UNACKNOWLEDGED_ACTIVE = "unacknowledged_active"
    ACKNOWLEDGED_ACTIVE = "acknowledged_active"
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"
    SHELVED = "shelved"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Tag:
    """One sensor of an asset. `low`/`high`: engineering range in `unit`; outside it the instrument is not believed.

    `running` (role MODE only): the values of the tag at which the machine is judged; at any other value it is off.
    """

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    role: Role = Role.SIGNAL
    running: tuple[float, ...] = ()
    description: str = ""
    regimes: bool = False
    """Role MODE only: the running modes differ in how the tags belong together, so a window never holds two of them."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One machine, named by its ISA-95 path `site/area/line/machine`. Assets of one `group` share a model."""

    path: str
    group: str
    tags: tuple[Tag, ...]
    tick: int = 10 * SECOND
    """Length of one tick, ns."""
    name: str = ""

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the modelled tags, in plant-file order."""
        return tuple(tag.name for tag in self.tags if tag.role is Role.SIGNAL)

    @property
    def mode(self) -> Tag | None:
        """The tag that says whether the machine runs, if there is one."""
        return next((tag for tag in self.tags if tag.role is Role.MODE), None)


@dataclass(frozen=True, slots=True)
class Plant:
    """The machines we watch. `timezone`: IANA name, for people; data are always UTC."""

    name: str
    assets: tuple[Asset, ...]
    timezone: str = "UTC"
    alert_budget_per_week: float = 1.0
    """False alerts accepted per asset and week of normal running."""

    def asset(self, path: str) -> Asset | None:
        """The asset of that path, or None if the plant file does not describe it."""
        return next((asset for asset in self.assets if asset.path == path), None)

    def groups(self) -> Mapping[str, tuple[Asset, ...]]:
        """Assets by group, in plant-file order."""
        names = dict.fromkeys(asset.group for asset in self.assets)
        return {name: tuple(a for a in self.assets if a.group == name) for name in names}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one tag at its event time (ns)."""

    asset: str
    tag: str
    time: int
    value: float
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Readings of one asset as rows, in the order they came (not necessarily of time). NaN wherever quality ≥ BAD."""

    asset: str
    tags: tuple[str, ...]
    times: Int64[np.ndarray, " row"]
    values: Float[np.ndarray, "row tag"]
    quality: UInt8[np.ndarray, "row tag"]

    def __len__(self) -> int:
        """Rows."""
        return len(self.times)

    @property
    def count(self) -> int:
        """How many readings (tag values that came, whatever their quality) the block holds."""
        return int(np.count_nonzero(self.quality != _MISSING))


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Rows of one asset on its tick, oldest first: what was seen of every tag at each tick.

    `values` is NaN where `mask` is False. `restart` marks a row before which history must be forgotten (the first row,
    or the first after a gap longer than the limit). `readings` counts the readings that ended in the row (G1).
    """

    asset: str
    tags: tuple[str, ...]
    times: Int64[np.ndarray, " row"]
    values: Float[np.ndarray, "row tag"]
    mask: Bool[np.ndarray, "row tag"]
    quality: UInt8[np.ndarray, "row tag"]
    restart: Bool[np.ndarray, " row"]
    readings: Int64[np.ndarray, " row"]

    def __len__(self) -> int:
        """Rows."""
        return len(self.times)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of many assets of one group, ready for one model call. `time` is oldest first.

    `state` is decided before scoring: only rows with `State.OK` reach the scorer. `faults` is of each
    window's last row.
    """

    tags: tuple[str, ...]
    assets: tuple[str, ...]
    """Asset of each window, length `window`."""
    times: Int64[np.ndarray, " window"]
    """End of each window = time of its last row, ns."""
    values: Float[np.ndarray, "window time tag"]
    mask: Bool[np.ndarray, "window time tag"]
    faults: UInt8[np.ndarray, "window tag"]
    state: tuple[State, ...]
    readings: Int64[np.ndarray, " window"]
    """Readings that ended in the window's last row (guarantee G1)."""

    def __len__(self) -> int:
        """Windows."""
        return len(self.times)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Judged windows. `score` is divided by its alert line: 1.0 is the line, for every model.

    `score` is finite exactly where `state` is OK, NaN elsewhere. `contributions` sum to 1 where the score is finite
    (0 for tags not seen). `expected` and `actual` are in the tag's unit, NaN where unknown.
    """

    tags: tuple[str, ...]
    assets: tuple[str, ...]
    times: Int64[np.ndarray, " window"]
    score: Float[np.ndarray, " window"]
    contributions: Float[np.ndarray, "window tag"]
    expected: Float[np.ndarray, "window tag"]
    actual: Float[np.ndarray, "window tag"]
    coverage: Float[np.ndarray, " window"]
    """Share of the model's (time, tag) cells that were seen and believed, 0..1."""
    isolated: Float[np.ndarray, " window"]
    """The score without the tag that explains most of it (and contributes most); NaN where `score` is under the line.
    Below 1.0: that one sensor alone is strange."""
    faults: UInt8[np.ndarray, "window tag"]
    """`SensorFault` of each tag at the window's last row."""
    state: tuple[State, ...]
    version: str
    rung: Rung

    def __len__(self) -> int:
        """Windows."""
        return len(self.times)

    @property
    def anomalous(self) -> Bool[np.ndarray, " window"]:
        """Where the score is over the line. False where it is not known: ask `state` too."""
        over: Bool[np.ndarray, " window"] = np.isfinite(self.score) & (self.score > 1.0)
        return over


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One unbroken episode over the line on one asset. `end` is None while it lasts. Times in ns."""

    asset: str
    kind: Kind
    cause: str
    """What is one and the same trouble: `process`, or `instrument:<tag>`."""
    onset: int
    end: int | None
    peak: float
    tags: tuple[str, ...]
    """Tags to blame, strongest first."""
    version: str
    fault: str = ""
    """Name of the sensor fault, for kind INSTRUMENT."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are told of an anomaly: one id per cause and onset, an ISA-18.2 state, who did what. Times in ns."""

    id: str
    anomaly: Anomaly
    state: AlertState
    priority: Priority
    raised_at: int
    """Event time at which the raising rule was met."""
    cleared_at: int | None = None
    acknowledged_by: str = ""
    acknowledged_at: int | None = None
    shelved_until: int | None = None
    reason: str = ""
    """Why it was shelved, or the closing code."""
    message: str = ""
    expected: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Per blamed tag: (actual, expected) when it was raised, in the tag's unit."""


def alert_id(asset: str, cause: str, onset: int) -> str:
    """Id of an alert: a function of what it is about, so that a replay finds the same one (guarantee G5).

    >>> alert_id("s1/pump-1", "process", 1_700_000_000_000_000_000)
    'b6391a52f07e50ff'
    """
    return hashlib.sha256(f"{asset}\n{cause}\n{onset}".encode()).hexdigest()[:16]
