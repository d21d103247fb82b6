"""Overview: which machines need me now?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import streamlit as st

from anomaly.domain import SECOND, AlertState, State
from dashboard import charts, frame, wording
from dashboard.queries import Machine, Moment, Need, machines
from dashboard.world import World

SPANS: Final = {"1 h": 3600 * SECOND, "6 h": 6 * 3600 * SECOND, "24 h": 24 * 3600 * SECOND}
COLUMNS: Final = 72
"""Time steps of the heat map."""
_KEYS: Final = {need: need.name.lower() for need in Need}


@frame.whole
def page() -> None:
    """Tiles by need, then the heat map."""
    frame.question("Which machines need me now?")
    _tiles()
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.subheader("The last hours", anchor=False)
        st.segmented_control(
            "Span",
            list(SPANS),
            default="6 h",
            required=True,
            key="heat",
            label_visibility="collapsed",
            bind="query-params",
        )
    _heat()


@frame.live(frame.LIVE)
def _tiles() -> None:
    here = frame.here()
    at = frame.now(here)
    if at.newest is None:
        _empty()
        return
    found = machines(here.reader, here.plant, at)
    frame.answer(_answer(found, here, at))
    needing = [machine for machine in found if machine.need <= Need.HANDLED]
    quiet = [machine for machine in found if machine.need > Need.HANDLED]
    for name, group in (("needing", needing), ("quiet", quiet)):
        if group:
            with st.container(key=f"tiles_of_{name}"):
                for machine in group:
                    _tile(machine, here, at)
    st.caption(_counts(found))


def _empty() -> None:
    frame.answer("Nothing has been measured yet.")
    st.caption(
        "Start a data source: `plantwatch demo` for a simulated plant, or `plantwatch run --data FOLDER` for your own "
        "files. Tiles appear here with the first readings."
    )


def _answer(found: Sequence[Machine], here: World, at: Moment) -> str:
    acting = [machine for machine in found if machine.need.acts]
    if not acting:
        blind = [machine for machine in found if machine.need is Need.UNKNOWN]
        if blind:
            return f"None of those that can be judged; {wording.count(len(blind), 'machine')} cannot be judged now."
        return f"None. All {wording.count(len(found), 'machine')} are looked after."
    tz = wording.zone(here.plant.timezone)
    named = [
        f"**{wording.escape(wording.machine(machine.asset))}** since "
        f"{wording.clock(machine.alerts[0].anomaly.onset, tz, at.now)}"
        for machine in acting[:4]
    ]
    rest = f" and {len(acting) - 4} more" if len(acting) > 4 else ""
    return f"{len(acting)} of {len(found)}: {', '.join(named)}{rest}."


def _counts(found: Sequence[Machine]) -> str:
    states = Counter(
        "without data"
        if machine.summary is None or machine.silent
        else wording.state(machine.summary.state)
        if machine.summary.state != State.OK
        else wording.rung(machine.summary.rung)
        for machine in found
    )
    parts = ", ".join(f"{wording.escape(word)} {count}" for word, count in states.most_common())
    return f"{wording.count(len(found), 'machine')}. Judged by: {parts}."


def _tile(machine: Machine, here: World, at: Moment) -> None:
    place = here.plant.assets.index(machine.asset)
    with st.container(key=f"tile_{_KEYS[machine.need]}_{place}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", wrap=False):
            st.page_link(
                frame.linked("machine"),
                label=wording.escape(wording.machine(machine.asset)),
                query_params={"asset": machine.asset.path},
            )
            with st.container(key=f"number_{place}", width="content"):
                st.markdown(_number(machine))
        st.caption(_reason(machine, here, at))
        st.html(charts.spark(machine.trend))
        st.caption(_footer(machine))


def _number(machine: Machine) -> str:
    if machine.silent or machine.summary is None:
        return "–"
    if machine.summary.state != State.OK:
        return wording.state(machine.summary.state)
    return f"**{wording.score(machine.score)}**"


def _reason(machine: Machine, here: World, at: Moment) -> str:
    """Why it stands where it stands, in one line."""
    tz = wording.zone(here.plant.timezone)
    if machine.alerts and machine.need <= Need.HANDLED and machine.need is not Need.OVER_LINE:
        alert = machine.alerts[0]
        what = wording.subject(alert)
        since = wording.clock(alert.anomaly.onset, tz, at.now)
        who = f" · {alert.acknowledged_by}" if alert.state is AlertState.ACKNOWLEDGED_ACTIVE else ""
        more = f" · {len(machine.alerts) - 1} more" if len(machine.alerts) > 1 else ""
        over = " · back to normal" if machine.need is Need.RETURNED else ""
        return wording.escape(f"{what} · since {since}{who}{over}{more}")
    if machine.need is Need.OVER_LINE:
        return "over its line just now, no alert yet"
    if machine.summary is None:
        return "waiting for its first score"
    if machine.silent:
        return f"no score since {wording.clock(machine.summary.time, tz, at.now)}"
    if machine.summary.faults:
        named = ", ".join(f"{tag} {wording.plain(fault)}" for tag, fault in list(machine.summary.faults.items())[:2])
        return wording.escape(f"sensor: {named}")
    return wording.escape(wording.place(machine.asset)) or "within its line"


def _footer(machine: Machine) -> str:
    if machine.summary is None:
        return "not scored yet"
    seen = "" if machine.summary.coverage >= 0.995 else f" · {machine.summary.coverage:.0%} of its sensors seen"
    return wording.escape(f"{wording.rung(machine.summary.rung)}{seen}")


@frame.live(frame.SLOW, first=False)
def _heat() -> None:
    here = frame.here()
    at = frame.now_quietly(here)
    span = SPANS.get(st.session_state.get("heat") or "6 h", SPANS["6 h"])
    bucket = span // COLUMNS
    until = at.now // bucket * bucket + bucket
    heat = here.reader.heat(until - span, until, bucket)
    if not any(heat.values()):
        st.caption("No scores in this span yet. The first appear seconds after the first readings.")
        return
    tz = wording.zone(here.plant.timezone)
    st.echarts_chart(
        charts.heat_map(heat, here.plant.assets, until - span, until, bucket, tz),
        height=charts.heat_height(len(here.plant.assets)),
        key="heat_map",
        alt="Highest score of each machine over time; coloured where it was over the alert line",
    )
