"""What the parts of plantwatch say of themselves (heartbeats), as the System page shows it. No Streamlit here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from anomaly.domain import SECOND
from dashboard import wording
from dashboard.queries import SILENT_WALL
from pipelines.heartbeats import MEMBER_MARK, STOPPED
from pipelines.ports import Heartbeat

NAMES: Final = {
    "plant": "Data source",
    "simulator": "Data source",
    "score": "Scoring",
    "record": "Recording",
    "alert": "Alerts",
    "train": "Training",
}
INSTANTS: Final = 10**17
"""No count is that large; times of this century in ns are."""
ELSEWHERE: Final = ("wall", "state", STOPPED, "serving:", "stage:", "done:", "reason:")
"""Figures that are told otherwise, belong to the Models page, or to nobody."""
GONE: Final = 300 * SECOND
"""A member that has been silent for so long, while its service reports, was taken away or speaks under another name."""
STARTING: Final = "waiting: starting"
"""State of a part that has only just begun: no trouble yet."""
_FIRST: Final = ("lag", "per second", "delay s", "computed on", "dead_lettered", "undelivered", "failing", "open")
"""What an operator looks for, in this order; then the rest as it came."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part as a card. `trouble` is empty while it is well; `silent` counts as trouble, having stopped does not."""

    title: str
    status: str
    """How it is, in a few words."""
    trouble: str
    silent: bool
    figures: tuple[tuple[str, str], ...]
    """Name and value, what matters most first."""


def part(heartbeat: Heartbeat, wall: int, tz: ZoneInfo) -> Part:
    """The card of one part at wall time `wall`, ns."""
    told = heartbeat.status
    silent = not _young(heartbeat, wall) and STOPPED not in told
    trouble = "" if silent or STOPPED in told else _trouble(told)
    named = {name: value for name, value in told.items() if not name.startswith(ELSEWHERE)}
    order = sorted(named, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return Part(
        title=title(heartbeat.part),
        status=_status(heartbeat, wall, silent) if silent or STOPPED in told else trouble or _well(told),
        trouble=trouble,
        silent=silent,
        figures=tuple(_figure(name, named[name], tz) for name in order),
    )


def present(heartbeats: Mapping[str, Heartbeat], wall: int, tz: ZoneInfo) -> list[Part]:
    """The cards of all parts at wall time `wall`, ns, in the order that a reading goes."""
    shown = [name for name in heartbeats if not _gone(name, heartbeats, wall)]
    return [part(heartbeats[name], wall, tz) for name in sorted(shown, key=order)]


def _gone(name: str, heartbeats: Mapping[str, Heartbeat], wall: int) -> bool:
    service, _, member = name.partition(MEMBER_MARK)
    speaker = heartbeats.get(service)
    return bool(member) and speaker is not None and _young(speaker, wall) and not _young(heartbeats[name], wall, GONE)


def title(name: str) -> str:
    """A part's name for people, with the member that speaks where there are several.

    >>> title("score"), title("score@worker-2"), title("my_part")
    ('Scoring', 'Scoring · worker-2', 'my part')
    """
    service, _, member = name.partition(MEMBER_MARK)
    known = NAMES.get(service, wording.plain(service))
    return f"{known} · {member}" if member else known


def order(name: str) -> tuple[int, str]:
    """Where a part stands on the page: as a reading goes."""
    known, service = list(NAMES), name.partition(MEMBER_MARK)[0]
    return (known.index(service) if service in known else len(known), name)


def _young(heartbeat: Heartbeat, wall: int, patience: int = SILENT_WALL) -> bool:
    """Whether its last word is young by the wall clock; a part that gives no wall time is judged by its own."""
    written = heartbeat.status.get("wall", heartbeat.time)
    return isinstance(written, int | float) and wall - written <= patience


def _status(heartbeat: Heartbeat, wall: int, silent: bool) -> str:
    written = heartbeat.status.get("wall", heartbeat.time)
    ago = wording.duration(wall - int(written)) if isinstance(written, int | float) else "unknown time"
    return f"silent for {ago}" if silent else f"stopped in order {ago} ago"


def _well(told: Mapping[str, str | int | float]) -> str:
    return "starting" if told.get("state") == STARTING else "reporting"


def _trouble(told: Mapping[str, str | int | float]) -> str:
    """What is wrong though it reports."""
    state = str(told.get("state", "ok"))
    if state not in ("ok", "starting", STARTING):
        return state
    if told.get("failing"):
        return f"receivers do not answer: {told['failing']}"
    return ""


def _figure(name: str, value: str | float, tz: ZoneInfo) -> tuple[str, str]:
    """Name and value of a figure, with its unit."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "lag" and number:
        return "lag", wording.count(int(value), "message")
    if name == "per second" and number:
        return "taken", f"{float(value):,.1f} messages/s"
    if name == "delay s" and number:
        return "newest score stored", f"{wording.number(float(value), 's')} after its time"
    if name == "dead_lettered" and number:
        return "set aside", wording.count(int(value), "message")
    return wording.plain(name), _value(value, tz)


def _value(value: str | float, tz: ZoneInfo) -> str:
    """A figure as text; whole numbers above `INSTANTS` are times in ns."""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) and value > INSTANTS:
        return f"{wording.local(value, tz):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else wording.number(value)
