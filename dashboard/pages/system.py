"""System: is plantwatch itself well?"""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboard import frame, parts, wording
from dashboard.parts import Part
from dashboard.queries import Moment
from dashboard.world import World
from pipelines import topics
from pipelines.ports import Record

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
    shown = parts.present(heartbeats, here.wall(), wording.zone(here.plant.timezone))
    set_aside = sum(end - first for first, end in here.log.ends(topics.DEAD_LETTERS).values())
    frame.answer(_answer(shown, set_aside))
    if not shown:
        st.caption(
            "No part has reported yet. Start them all with `plantwatch run`, or look at it with `plantwatch demo`."
        )
    with st.container(key="tiles_of_parts"):
        for number, part in enumerate(shown):
            _card(number, part)
    _dead_letters(here, at)


def _answer(shown: list[Part], set_aside: int) -> str:
    if not shown:
        return "Not known: no part has reported."
    letters = (
        f" {wording.count(set_aside, 'message')} could not be read and {'was' if set_aside == 1 else 'were'} set aside."
    )
    silent = ", ".join(wording.escape(part.title) for part in shown if part.silent)
    trouble = ", ".join(wording.escape(part.title) for part in shown if part.trouble)
    wrong = [f"{what}: **{names}**." for what, names in (("Silent", silent), ("In trouble", trouble)) if names]
    said = f"No. {' '.join(wrong)}" if wrong else "Yes, every part reports."
    return said + (letters if set_aside else "")


def _card(number: int, part: Part) -> None:
    colour = "medium" if part.silent or part.trouble else "part"
    with st.container(key=f"card_{colour}_{number}"):
        st.markdown(f"**{wording.escape(part.title)}**")
        (st.markdown if part.trouble else st.caption)(wording.escape(part.status))
        lines = [f"{wording.escape(name)}: **{wording.escape(value)}**" for name, value in part.figures]
        if lines:
            st.markdown("  \n".join(lines))


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
