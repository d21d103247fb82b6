"""System: is plantwatch itself well?"""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

import streamlit as st

from dashboard import frame, wording
from dashboard.queries import SILENT_WALL, Moment
from dashboard.world import World
from pipelines import topics
from pipelines.ports import Heartbeat, Record

PARTS: Final = {
    "plant": "Data source",
    "score": "Scoring",
    "record": "Recording",
    "alert": "Alerts",
    "train": "Training",
}
INSTANTS: Final = 10**17
"""No count is that large; times of this century in ns are."""
ELSEWHERE: Final = ("wall", "serving:", "stage:", "done:", "reason:")
"""Figures that belong to the Models page, or to nobody."""
NEWEST: Final = 10
"""Dead letters shown."""


@frame.whole
def page() -> None:
    """Parts, then what was set aside."""
    frame.question("Is plantwatch itself well?")
    _show()


@frame.live(frame.LIVE)
def _show() -> None:
    here = frame.here()
    at = frame.now(here)
    heartbeats = here.reader.heartbeats()
    wall = here.wall()
    silent = [part for part, heartbeat in heartbeats.items() if not _alive(heartbeat, wall)]
    set_aside = sum(end - first for first, end in here.log.ends(topics.DEAD_LETTERS).values())
    frame.answer(_answer(silent, set_aside, bool(heartbeats)))
    if not heartbeats:
        st.caption(
            "No part has reported yet. Start them all with `plantwatch run`, or look at it with `plantwatch demo`."
        )
    with st.container(key="tiles_of_parts"):
        for number, part in enumerate(sorted(heartbeats, key=_order)):
            _part(number, heartbeats[part], wall, wording.zone(here.plant.timezone))
    _dead_letters(here, at)


def _order(part: str) -> tuple[int, str]:
    known = list(PARTS)
    return (known.index(part) if part in known else len(known), part)


def _alive(heartbeat: Heartbeat, wall: int) -> bool:
    """Whether its last word is young by the wall clock; a part that gives no wall time is judged by its own."""
    written = heartbeat.status.get("wall", heartbeat.time)
    return isinstance(written, int | float) and wall - written <= SILENT_WALL


def _answer(silent: list[str], set_aside: int, any_part: bool) -> str:
    if not any_part:
        return "Not known: no part has reported."
    names = ", ".join(wording.escape(PARTS.get(part, part)) for part in silent)
    letters = (
        f" {wording.count(set_aside, 'message')} could not be read and {'was' if set_aside == 1 else 'were'} set aside."
    )
    if silent:
        return f"No. Silent: **{names}**.{letters if set_aside else ''}"
    return f"Yes, every part reports.{letters if set_aside else ''}"


def _part(number: int, heartbeat: Heartbeat, wall: int, tz: ZoneInfo) -> None:
    alive = _alive(heartbeat, wall)
    with st.container(key=f"card_{'part' if alive else 'medium'}_{number}"):
        st.markdown(f"**{wording.escape(PARTS.get(heartbeat.part, wording.plain(heartbeat.part)))}**")
        written = heartbeat.status.get("wall", heartbeat.time)
        age = wording.duration(wall - int(written)) if isinstance(written, int | float) else "unknown time"
        st.caption("reporting" if alive else f"silent for {age}")
        figures = {name: value for name, value in heartbeat.status.items() if not name.startswith(ELSEWHERE)}
        lines = [
            f"{wording.escape(wording.plain(name))}: **{wording.escape(_value(value, tz))}**"
            for name, value in figures.items()
        ]
        if lines:
            st.markdown("  \n".join(lines))


def _value(value: str | float, tz: ZoneInfo) -> str:
    """A figure of a heartbeat as text; whole numbers above `INSTANTS` are times in ns."""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) and value > INSTANTS:
        return f"{wording.local(value, tz):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else wording.number(value)


def _dead_letters(here: World, at: Moment) -> None:
    st.subheader("Set aside", anchor=False)
    records = newest_dead_letters(here)
    if not records:
        st.caption("Nothing. Messages that cannot be read would be listed here with the reason.")
        return
    tz = wording.zone(here.plant.timezone)
    rows = [
        {
            "When": wording.clock(record.time, tz, here.wall()),
            "Reason": wording.plain(_header(record, "x-reason") or "unknown"),
            "Why": wording.escape(_header(record, "x-exception")),
            "Begins": wording.escape((record.value or b"")[:60].decode("utf-8", "replace")),
        }
        for record in records
    ]
    st.table(rows, border="horizontal", hide_index=True)
    st.caption(
        "Look at them with `plantwatch dead-letters list`; they keep their original bytes. Once the cause is mended, "
        "`plantwatch dead-letters replay` sends them again."
    )


def newest_dead_letters(here: World) -> list[Record]:
    """The newest messages that could not be read, newest first."""
    found: list[Record] = []
    for partition, (first, end) in here.log.ends(topics.DEAD_LETTERS).items():
        found += here.log.read(partition, max(first, end - NEWEST), NEWEST)
    return sorted(found, key=lambda record: record.time, reverse=True)[:NEWEST]


def _header(record: Record, name: str) -> str:
    return next((value.decode("utf-8", "replace") for key, value in record.headers if key == name), "")
