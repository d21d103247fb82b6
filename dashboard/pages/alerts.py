"""Alerts: what must I act on?"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import streamlit as st

from anomaly.domain import SECOND, Alert, AlertState, Kind
from anomaly.episode_policy import CLOCK, instrument
from anomaly.errors import PlantwatchError
from dashboard import acts, frame, wording
from dashboard.acts import Sent
from dashboard.queries import AlertFigures, Moment, active, alert_figures, pressing
from dashboard.world import World
from pipelines.codec import CommandKind

SHOWN: Final = ("To act on", "Open", "All")
KINDS: Final = {"Machine": Kind.PROCESS, "Sensor": Kind.INSTRUMENT, "Data lost": Kind.DATA_LOSS}
SHELF: Final = {"30 min": 1800, "2 h": 7200, "8 h": 28800, "24 h": 86400, "7 d": 604800}
"""Times an alert may be shelved for, seconds."""
MOST: Final = 60
"""Alerts listed at once."""
DAY: Final = 86400 * SECOND
_NEW: Final = frozenset({AlertState.UNACKNOWLEDGED_ACTIVE, AlertState.RETURNED_UNACKNOWLEDGED})


@frame.whole
def page() -> None:
    """Filters, the list, and one alert in full when it is chosen."""
    frame.question("What must I act on?")
    here = frame.here()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control("Show", SHOWN, default="To act on", required=True, key="show", bind="query-params")
        st.pills("Kind", list(KINDS), selection_mode="multi", key="kind", bind="query-params")
        frame.pick_machine(here.plant, "machine", "all machines", width=250)
        st.text_input(
            "Your name",
            key="operator",
            placeholder="who acts",
            max_chars=60,
            persist_state="session",
            width=180,
            help="Written to the log with everything you do here.",
        )
    if _chosen():
        left, right = st.columns([5, 4], gap="large")
        with left:
            _list()
        with right:
            _detail()
            _forms(here)
    else:
        _list()
    _figures()


def _chosen() -> str:
    return st.query_params.get("alert", "")


def _actor() -> str:
    return str(st.session_state.get("operator") or "")


def _sent() -> dict[str, Sent]:
    """Commands of this session on their way, by alert."""
    found: dict[str, Sent] = st.session_state.setdefault("sent", {})
    return found


@frame.live(frame.LIVE)
def _list() -> None:
    here = frame.here()
    at = frame.now(here)
    alerts = sorted(here.reader.alerts(open_only=_show() != "All"), key=pressing)
    listed = [alert for alert in alerts if _wanted(alert)]
    frame.answer(_answer(alerts, listed))
    if not listed:
        st.caption(_nothing(alerts))
    for alert in listed[:MOST]:
        _entry(alert, here, at)
    if len(listed) > MOST:
        st.caption(f"The first {MOST} of {len(listed)}. Choose a machine or a kind to see fewer.")


def _show() -> str:
    return str(st.session_state.get("show") or SHOWN[0])


def _wanted(alert: Alert) -> bool:
    kinds = [KINDS[word] for word in st.session_state.get("kind") or ()]
    machine = st.session_state.get("machine")
    if kinds and alert.anomaly.kind not in kinds:
        return False
    if machine and alert.anomaly.asset != machine:
        return False
    return _show() != SHOWN[0] or alert.state in _NEW or alert.id in _sent()


def _answer(alerts: Sequence[Alert], listed: Sequence[Alert]) -> str:
    lasting = sum(alert.state is AlertState.UNACKNOWLEDGED_ACTIVE for alert in alerts)
    over = sum(alert.state is AlertState.RETURNED_UNACKNOWLEDGED for alert in alerts)
    hidden = "" if len(listed) or not (lasting or over) else " The filters hide them."
    if lasting and over:
        return f"**{wording.count(lasting, 'new alert')}**, and {over} over but not acknowledged.{hidden}"
    if lasting:
        return f"**{wording.count(lasting, 'new alert')}**.{hidden}"
    if over:
        return f"{wording.count(over, 'alert')} over, not acknowledged yet.{hidden}"
    return "Nothing. No alert waits for an answer."


def _nothing(alerts: Sequence[Alert]) -> str:
    if _show() == SHOWN[0] and alerts:
        return f"{wording.count(len(alerts), 'alert')} open and in somebody's hands: choose Open to see them."
    if _show() == "All":
        return "No alert has been raised yet. They appear here by themselves."
    return "Alerts appear here by themselves. Choose All for those of the past."


def _entry(alert: Alert, here: World, at: Moment) -> None:
    tz = wording.zone(here.plant.timezone)
    level = alert.priority.value if alert.state is AlertState.UNACKNOWLEDGED_ACTIVE else "calm"
    name = wording.machine(frame.asset_of(here.plant, alert.anomaly.asset))
    row = st.container(key=f"card_{level}_{alert.id}", horizontal=True, vertical_alignment="center")
    with row.container(width="stretch", gap=None):
        st.markdown(f"**{wording.escape(name)}** · {wording.escape(_headline(alert))}")
        st.caption(wording.escape(_line(alert, at, tz)))
    with row.container(horizontal=True, width="content", gap="small", vertical_alignment="center"):
        if alert.id == _chosen():
            st.caption("shown in full")
            return
        _answer_button(alert, here, at)
        if st.button("Details", key=f"details_{alert.id}", type="tertiary"):
            st.query_params["alert"] = alert.id
            st.rerun()


def _headline(alert: Alert) -> str:
    return wording.subject(alert)


def _line(alert: Alert, at: Moment, tz: ZoneInfo) -> str:
    """State, priority, since when, how long, how strong."""
    until = alert.anomaly.end if alert.anomaly.end is not None else at.now
    parts = [
        f"{wording.PRIORITIES[alert.priority]} priority",
        wording.ALERT_STATES[alert.state] + (f" by {alert.acknowledged_by}" if alert.acknowledged_by else ""),
        f"since {wording.clock(alert.anomaly.onset, tz, at.now)}, {wording.duration(until - alert.anomaly.onset)}",
    ]
    if alert.anomaly.kind is Kind.PROCESS:
        parts.append(f"at worst {wording.score(alert.anomaly.peak)} × the line")
    if alert.state is AlertState.SHELVED and alert.shelved_until is not None:
        parts.append(f"until {wording.clock(alert.shelved_until, tz, at.now)}")
    return " · ".join(parts)


def _answer_button(alert: Alert, here: World, at: Moment) -> None:
    """Acknowledge, or what became of it."""
    sent = _pending(alert, here)
    if sent is not None:
        st.caption(sent.words(here.wall()))
    elif alert.state in _NEW and st.button(
        "Acknowledge",
        key=f"acknowledge_{alert.id}",
        type="primary",
        help=None if _actor() else "Enter your name first.",
    ):
        _send(CommandKind.ACKNOWLEDGE, alert, here, at)


def _pending(alert: Alert, here: World) -> Sent | None:
    """The command on its way, forgotten once the alert's history shows that it was done."""
    sent = _sent().get(alert.id)
    if sent is not None and sent.settled(here.reader.events(alert.id)):
        del _sent()[alert.id]
        return None
    return sent


def _send(
    kind: CommandKind, alert: Alert, here: World, at: Moment, note: str = "", arguments: Mapping[str, str] | None = None
) -> None:
    """Put the command on the log and remember it; say what is missing otherwise."""
    try:
        seen = frozenset(event.id for event in here.reader.events(alert.id))
        acts.put(here.log, acts.alert_command(kind, alert, _actor(), uuid.uuid4().hex, at.now, note, arguments))
    except PlantwatchError as error:
        st.toast(wording.escape(str(error)))
        return
    _sent()[alert.id] = Sent(kind, here.wall(), seen)
    st.rerun()


def _find(here: World) -> Alert | None:
    return next((alert for alert in here.reader.alerts() if alert.id == _chosen()), None)


@frame.live(frame.LIVE, first=False)
def _detail() -> None:
    """The chosen alert: what was seen and expected, and its history."""
    here = frame.here()
    at = frame.now_quietly(here)
    alert = _find(here)
    if alert is None:
        st.caption("The alert of this link is not stored here (any more).")
        return
    with st.container(key="card_detail"):
        _whole_alert(alert, here, at)


def _whole_alert(alert: Alert, here: World, at: Moment) -> None:
    tz = wording.zone(here.plant.timezone)
    asset = frame.asset_of(here.plant, alert.anomaly.asset)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", wrap=False):
        st.subheader(wording.escape(f"{wording.machine(asset)}, {_headline(alert)}"), anchor=False)
        if st.button("Back to the list", key="back", type="tertiary", icon=":material/close:"):
            st.query_params.pop("alert", None)
            st.rerun()
    st.caption(wording.escape(_line(alert, at, tz)))
    if alert.message:
        st.markdown(wording.escape(alert.message))
    units = {tag.name: tag.unit for tag in asset.tags}
    if alert.expected:
        rows = [
            {
                "Sensor": wording.escape(tag),
                "Read": wording.escape(wording.number(actual, units.get(tag, ""))),
                "Expected": wording.escape(wording.number(expected, units.get(tag, ""))),
            }
            for tag, (actual, expected) in alert.expected.items()
        ]
        st.table(rows, border="horizontal", hide_index=True)
    by = "" if alert.anomaly.cause == instrument(CLOCK) else f"Judged by version {alert.anomaly.version}. "
    st.caption(wording.escape(f"{by}Alert {alert.id}."))
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        _answer_button(alert, here, at)
        st.page_link(frame.linked("machine"), label="Open the machine", query_params=_at_its_time(alert, at))
    st.markdown("**History**")
    for event in reversed(here.reader.events(alert.id)):
        who = f" by {event.actor}" if event.actor else ""
        why = f": {event.note}" if event.note else ""
        word = wording.EVENTS.get(event.event, wording.plain(event.event))
        if event.event == "updated" and event.actor:
            word = "Comment"
        st.caption(wording.escape(f"{wording.clock(event.time, tz, at.now)}   {word}{who}{why}"))


def _at_its_time(alert: Alert, at: Moment) -> dict[str, str]:
    """Query parameters of the machine page: live while it lasts, else a span that ends a little after it."""
    found = {"asset": alert.anomaly.asset}
    if active(alert) or alert.anomaly.end is None:
        return found
    end = min(at.now, alert.anomaly.end + 900 * SECOND) // SECOND
    return found | {"until": f"{datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ}"}


def _forms(here: World) -> None:
    """Shelve, comment and close. Outside the live parts, so that nothing moves while somebody types."""
    alert = _find(here)
    if alert is None or alert.state is AlertState.CLOSED:
        return
    at = frame.now_quietly(here)
    shelve, comment, close = st.tabs(["Shelve", "Comment", "Close"])
    with shelve:
        _shelve_form(alert, here, at)
    with comment, st.form(f"comment_{alert.id}", border=False, clear_on_submit=True):
        note = st.text_area("Comment", max_chars=500, placeholder="What did you see or do?")
        if st.form_submit_button("Add the comment") and _given(note, "Write a comment first."):
            _send(CommandKind.COMMENT, alert, here, at, note)
    with close, st.form(f"close_{alert.id}", border=False):
        code = st.selectbox("It was a", list(wording.CLOSING_CODES), format_func=lambda key: wording.CLOSING_CODES[key])
        note = st.text_input("Remark", max_chars=200)
        if st.form_submit_button("Close the alert"):
            _send(CommandKind.CLOSE, alert, here, at, note, {"reason": str(code)})


def _shelve_form(alert: Alert, here: World, at: Moment) -> None:
    if alert.state is AlertState.SHELVED:
        st.caption(wording.escape(f"Shelved: {alert.reason or 'no reason given'}."))
        if st.button("Take it off the shelf", key=f"unshelve_{alert.id}"):
            _send(CommandKind.UNSHELVE, alert, here, at)
        return
    with st.form(f"shelve_{alert.id}", border=False):
        span = st.segmented_control("For", list(SHELF), default="2 h", required=True)
        note = st.text_input("Reason", max_chars=200, placeholder="why it may wait")
        if st.form_submit_button("Shelve") and _given(note, "Give a reason: a shelved alert is not shown to others."):
            until = at.now + SHELF[span or "2 h"] * SECOND
            _send(CommandKind.SHELVE, alert, here, at, note, {"until": str(until), "reason": note.strip()})


def _given(text: str | None, missing: str) -> bool:
    if text and text.strip():
        return True
    st.toast(missing)
    return False


@frame.live(frame.SLOW, first=False)
def _figures() -> None:
    """How the alerts themselves are doing."""
    here = frame.here()
    at = frame.now_quietly(here)
    alerts = here.reader.alerts()
    if not alerts:
        return
    st.subheader("How the alerts are doing, last 24 h", anchor=False)
    figures = alert_figures(alerts, at.now, DAY, len(here.plant.assets))
    with st.container(horizontal=True, gap="medium", key="figures"):
        _show_figures(figures, here)


def _show_figures(figures: AlertFigures, here: World) -> None:
    budget = here.plant.alert_budget_per_week
    rate = f"{figures.per_machine_week:.1f} per machine and week, false ones allowed: {budget:g}"
    frame.figure("raised", "Raised", f"{figures.raised}", rate)
    frame.figure("busiest", "Busiest 10 minutes", f"{figures.busiest}", "1 is good, over 10 is a flood")
    answer = wording.duration(figures.median_answer) if figures.median_answer is not None else "–"
    frame.figure("answer", "Time to acknowledge", answer, "median")
    oldest = wording.duration(figures.oldest_active) if figures.oldest_active is not None else "–"
    stale = "older than 24 h" if (figures.oldest_active or 0) > DAY else ""
    frame.figure("oldest", "Oldest that lasts", oldest, stale)
    names = [f"{wording.machine(frame.asset_of(here.plant, path))} ({count})" for path, count in figures.worst]
    if names:
        frame.figure("worst", "Most alerts", wording.escape(names[0]), wording.escape(", ".join(names[1:])))
