"""What every page shares: the question, the clock, the stale banner, live parts, and errors said calmly."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from anomaly.domain import Asset, Plant
from anomaly.errors import PlantwatchError
from dashboard import wording, world
from dashboard.queries import Moment, moment
from dashboard.world import World

LIVE: Final = 2.0
"""Seconds between refreshes of what must be current."""
SLOW: Final = 10.0
"""Seconds between refreshes of what changes slowly."""

_PAGES: dict[str, StreamlitPage] = {}


def register(pages: dict[str, StreamlitPage]) -> None:
    """Remember the pages by name, for links between them."""
    _PAGES.clear()
    _PAGES.update(pages)


def linked(name: str) -> StreamlitPage:
    """The page of that name."""
    return _PAGES[name]


def live(every: float, *, first: bool = True) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A part of a page that renews itself every so many seconds, and says calmly when it cannot be read.

    After an error it keeps renewing, so it comes back by itself. Only the `first` live part of a page says it.
    """

    def decorate(part: Callable[[], None]) -> Callable[[], None]:
        @wraps(part)
        def guarded() -> None:
            try:
                part()
            except PlantwatchError as error:
                if first:
                    trouble(error, "part")

        return st.fragment(guarded, run_every=every)

    return decorate


def trouble(error: PlantwatchError, where: str) -> None:
    """Say what cannot be read, and that nothing is lost. `where`: unique on the page."""
    with st.container(key=f"stale_{where}"):
        st.markdown(
            "**Cannot read what plantwatch has stored.** This page tries again by itself; scoring does not need it."
        )
        st.caption(wording.escape(str(error)))


def question(text: str) -> None:
    """The page's first line."""
    st.title(text, anchor=False)


def answer(text: str) -> None:
    """The page's answer, in one sentence (markdown; escape what comes from data)."""
    with st.container(key="answer"):
        st.markdown(text)


def now(here: World) -> Moment:
    """The plant's present, with the line that shows it and the banner when data are stale."""
    at = moment(here.reader, here.plant, here.wall())
    tz = wording.zone(here.plant.timezone)
    speed = f" · ×{at.speed:g}" if at.live and at.speed != 1.0 else ""
    zone = str(tz).rsplit("/", 1)[-1].replace("_", " ")
    with st.container(key="clock"):
        st.caption(f"{wording.escape(here.plant.name)} · {wording.clock(at.now, tz)} {zone}{speed}")
        if at.note and at.newest:
            newest = wording.clock(at.newest, tz, here.wall())
            st.caption(f"{at.note.capitalize()}; newest reading {wording.escape(newest)}")
    if at.stale:
        with st.container(key="stale"):
            age = f" The newest reading is from {wording.clock(at.newest, tz, at.now)}." if at.newest else ""
            st.markdown(f"**These data are stale:** {at.stale}.{age}")
            st.caption("Everything below is as it was then. The System page says which part is silent.")
    return at


def now_quietly(here: World) -> Moment:
    """The plant's present without showing it, for the second live part of a page."""
    return moment(here.reader, here.plant, here.wall())


def here() -> World:
    """The opened world. Raises PlantwatchError (the live parts and `whole` say so)."""
    return world.current()


def whole(page: Callable[[], None]) -> Callable[[], None]:
    """A page whose fixed parts say calmly when nothing can be read."""

    @wraps(page)
    def guarded() -> None:
        try:
            page()
        except PlantwatchError as error:
            trouble(error, "page")

    return guarded


def asset_of(plant: Plant, path: str) -> Asset:
    """The asset, or one made of its path when the plant file does not describe it."""
    return plant.asset(path) or Asset(path, "", ())


def pick_machine(plant: Plant, key: str, placeholder: str | None = None, width: int = 320) -> str | None:
    """A choice of machine that the address carries as `?key=path`. With `placeholder`, none may be chosen (None).

    The address is the truth: a link sets it, and so does a choice.
    """
    paths = [asset.path for asset in plant.assets]
    named = st.query_params.get(key)
    if named in paths:
        st.session_state[key] = named
    elif placeholder is not None:
        st.session_state[key] = None

    def keep() -> None:
        chosen = st.session_state.get(key)
        if chosen:
            st.query_params[key] = chosen
        else:
            st.query_params.pop(key, None)

    def label(path: str) -> str:
        asset = asset_of(plant, path)
        where = wording.place(asset)
        return f"{wording.machine(asset)}  ({where})" if where else wording.machine(asset)

    return st.selectbox(
        "Machine",
        paths,
        index=None if placeholder is not None else 0,
        placeholder=placeholder,
        format_func=label,
        key=key,
        on_change=keep,
        width=width,
    )


def figure(key: str, label: str, value: str, note: str = "", width: int = 190) -> None:
    """One number with its name above and a remark below (all already escaped)."""
    with st.container(key=f"figure_{key}", width=width):
        st.caption(label)
        st.markdown(f"**{value}**")
        if note:
            st.caption(note)
