"""Machine: what is wrong with it?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import streamlit as st

from anomaly.domain import SECOND, AlertState, Asset, Kind, State
from dashboard import charts, frame, signals, wording
from dashboard.queries import Moment, active
from dashboard.signals import Explanation, MachineView

SPANS: Final = {
    "15 min": 900 * SECOND,
    "1 h": 3600 * SECOND,
    "6 h": 6 * 3600 * SECOND,
    "24 h": 24 * 3600 * SECOND,
}
EXPLAINED: Final = ("Latest", "Peak", "Onset")
LONG: Final = 2 * 3600 * SECOND
"""Spans longer than this are refreshed slowly: they hardly change."""


@frame.whole
def page() -> None:
    """Choices, then the live part at the pace the span asks for."""
    frame.question("What is wrong with it?")
    here = frame.here()
    if not here.plant.assets:
        frame.answer("No machine is known yet.")
        st.caption(
            "Machines appear with the first readings. Start a data source: `plantwatch demo` or `plantwatch run`."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        frame.pick_machine(here.plant, "asset")
        st.segmented_control("Span", list(SPANS), default="1 h", required=True, key="span", bind="query-params")
        st.segmented_control(
            "Explain the score at its", EXPLAINED, default="Latest", required=True, key="explain", bind="query-params"
        )
    if SPANS[_span()] > LONG:
        _slow()
    else:
        _fast()


def _span() -> str:
    chosen = st.session_state.get("span")
    return chosen if chosen in SPANS else "1 h"


@frame.live(frame.LIVE)
def _fast() -> None:
    _show()


@frame.live(frame.SLOW)
def _slow() -> None:
    _show()


def _show() -> None:
    here = frame.here()
    at = frame.now(here)
    asset = frame.asset_of(here.plant, st.session_state.get("asset") or here.plant.assets[0].path)
    until = _until(at, max(asset.tick, SPANS[_span()] // signals.POINTS))
    view = signals.machine_view(here.reader, asset, until - SPANS[_span()], until)
    tz = wording.zone(here.plant.timezone)
    chosen = _explained_time(view)
    explanation = signals.explain(view.blocks, chosen)
    frame.answer(_answer(view, explanation, at, tz))
    if explanation is None and not any(len(track.times) for track in view.tracks):
        st.caption(
            "Nothing is stored of this machine in this span. Choose a longer span, or wait for its first readings."
        )
        return
    if explanation is not None:
        _explain(explanation, asset, at, tz)
    st.echarts_chart(
        charts.machine_chart(view, tz, chosen),
        height=charts.machine_height(view),
        key="machine_chart",
        alt="Score and signals of the machine over time, with expected values and alerts",
    )
    st.caption(
        "Blue: measured. Dashed: what the model expected; the light band is the usual spread around it. "
        "Shaded: an alert. Grey stretches of the score: not judged."
    )


def _until(at: Moment, step: int) -> int:
    """The end of the span: now, or the time a link names (`until=`, ISO 8601).

    Now is taken up to the next multiple of `step` ns: a chart that has not changed is not sent, so a tooltip stays.
    """
    live = at.now // step * step + step
    named = st.query_params.get("until")
    if not named:
        return live
    try:
        moment = datetime.fromisoformat(named)
    except ValueError:
        return live
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * SECOND


def _explained_time(view: MachineView) -> int | None:
    chosen = st.session_state.get("explain")
    if chosen == "Peak":
        return signals.peak_time(view)
    if chosen == "Onset" and view.alerts:
        return max(view.alerts[0].anomaly.onset, view.since)
    return None


def _answer(view: MachineView, explanation: Explanation | None, at: Moment, tz: ZoneInfo) -> str:
    lasting = [alert for alert in view.alerts if active(alert)]
    if lasting:
        alert = lasting[0]
        hand = f", in the hands of {alert.acknowledged_by}" if alert.state is AlertState.ACKNOWLEDGED_ACTIVE else ""
        since = wording.clock(alert.anomaly.onset, tz, at.now)
        more = f" and {wording.count(len(lasting) - 1, 'other alert')}" if len(lasting) > 1 else ""
        peak = (
            f", at its worst {wording.score(alert.anomaly.peak)} × its line"
            if alert.anomaly.kind is Kind.PROCESS
            else ""
        )
        subject = wording.subject(alert)
        what = f"**{wording.escape(subject[:1].upper() + subject[1:])}**"
        return f"{what}, since {since}{peak}{wording.escape(hand)}{more}."
    if explanation is None:
        return "Not known: nothing has been scored in this span."
    if explanation.state is not State.OK:
        return f"Not known: {wording.state(explanation.state)}."
    if explanation.score > 1.0:
        return f"Its score is {wording.score(explanation.score)} × the line just now; no alert has been raised."
    past = f" {wording.count(len(view.alerts), 'alert')} in this span, over now." if view.alerts else ""
    return f"Nothing. Its score is {wording.score(explanation.score)}, the line is 1.{past}"


def _explain(explanation: Explanation, asset: Asset, at: Moment, tz: ZoneInfo) -> None:
    """Bars of the strangest tags on the left, figures on the right."""
    units = {tag.name: tag.unit for tag in asset.tags}
    bars, figures = st.columns([3, 2], gap="large")
    with bars:
        st.subheader(f"What makes the score, at {wording.clock(explanation.time, tz, at.now)}", anchor=False)
        if explanation.shares.sum() > 0:
            st.echarts_chart(
                charts.contributions(explanation, units),
                height=charts.contributions_height(explanation),
                key="contributions",
                alt="Share of each tag in the score, with actual and expected value",
            )
        else:
            st.caption(f"No score at this time: {wording.state(explanation.state)}.")
    shown = [
        ("score", "Score (line: 1)", wording.score(explanation.score), ""),
        ("coverage", "Sensors seen", f"{explanation.coverage:.0%}", ""),
        ("mode", "State", "running" if explanation.state is State.OK else wording.state(explanation.state), ""),
        ("rung", "Judged by", wording.rung(explanation.rung), f"version {wording.escape(explanation.version)}"),
    ]
    for tag, fault in list(explanation.faults.items())[:4]:
        shown.append((f"fault_{tag}", f"Sensor {wording.escape(tag)}", wording.plain(fault), "left out of the score"))
    with figures, st.container(horizontal=True, gap="medium", key="figures"):
        for key, label, value, note in shown:
            frame.figure(key, label, value, note, width=150)
    with figures:
        st.page_link(frame.linked("alerts"), label="Its alerts", query_params={"machine": asset.path, "show": "All"})
