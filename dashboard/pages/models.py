"""Models: which version serves, and since when?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import streamlit as st

from anomaly.domain import Rung
from anomaly.model_card import ModelCard
from anomaly.registry import Registry
from dashboard import frame, wording
from dashboard.queries import Moment
from dashboard.versions import GroupView, Training, card, group_views, left_out, trainings
from dashboard.world import World

FIGURES: Final = {
    "calibration_exceed_rate": "Over the line on normal rows",
    "held_out_loss": "Loss on rows it never saw",
}
"""Figures of a card worth a place here, and what they are called."""


@frame.whole
def page() -> None:
    """One card a group: what serves, what its card says, the training that runs."""
    frame.question("Which version serves, and since when?")
    _show()


@frame.live(frame.LIVE)
def _show() -> None:
    here = frame.here()
    at = frame.now(here)
    groups = group_views(here.plant, here.reader.latest(), here.log)
    frame.answer(_answer(groups))
    if not any(group.scoring for group in groups):
        st.caption("Rules serve from the first reading on; learned versions follow once normal data are there.")
    heartbeat = here.reader.heartbeats().get("train")
    training = trainings(heartbeat.status) if heartbeat else {}
    with st.container(key="tiles_of_groups"):
        for number, group in enumerate(groups):
            _group(number, group, training.get(group.group), here, at)


def _answer(groups: Sequence[GroupView]) -> str:
    machines: Counter[str] = Counter()
    for group in groups:
        for _, rung, count in group.scoring:
            machines[rung] += count
    if not machines:
        return "None yet: nothing has been scored."
    ladder = list(Rung)
    ordered = sorted(machines, key=lambda rung: -ladder.index(Rung(rung)) if rung in set(Rung) else 1)
    listed = [f"{wording.rung(rung)} on {wording.count(machines[rung], 'machine')}" for rung in ordered]
    text = wording.escape(", ".join(listed))
    return f"{text[0].upper()}{text[1:]}."


def _training(found: Training | None) -> None:
    """How far the training of the group is, or how it ended."""
    if found is None:
        return
    words = wording.plain(found.stage)
    if found.done < 1.0:
        st.progress(found.done, text=wording.escape(f"Training: {words}"))
    elif found.reason:
        st.caption(wording.escape(f"Last training: {words}. {found.reason}"))


def _group(number: int, group: GroupView, training: Training | None, here: World, at: Moment) -> None:
    tz = wording.zone(here.plant.timezone)
    names = ", ".join(wording.machine(frame.asset_of(here.plant, path)) for path in group.machines)
    with st.container(key=f"card_group_{number}"):
        st.markdown(f"**{wording.escape(wording.plain(group.group)) or 'all machines'}**")
        st.caption(wording.escape(names))
        with st.container(horizontal=True, gap="medium", key=f"figures_{number}"):
            if not group.scoring:
                st.caption("Not scored yet.")
            for place, (version, rung, count) in enumerate(group.scoring):
                since = group.since(version)
                note = f"since {wording.clock(since, tz, at.now)}" if since else f"on {wording.count(count, 'machine')}"
                shown = "" if version == rung else f"{wording.escape(version)}  \n"
                frame.figure(f"{number}_{place}", "Serves", wording.rung(rung), f"{shown}{note}")
            _card_figures(number, group, here)
        _training(training)
        if group.wish and group.scoring and group.wish.version not in {version for version, _, _ in group.scoring}:
            st.caption(wording.escape(f"{group.wish.version} is asked to serve and takes over with the next readings."))
        if len(group.served) > 1:
            with st.expander(f"Served so far ({len(group.served)})"):
                for service in reversed(group.served[-12:]):
                    start = wording.clock(service.since, tz, at.now)
                    line = f"from {start}: {wording.rung(service.rung)} {service.version}"
                    st.caption(wording.escape(line))


def _card_figures(number: int, group: GroupView, here: World) -> None:
    """What the card of the newest learned version that serves says."""
    found = next((c for version, _, _ in group.scoring if (c := _card(here.models, group.group, version))), None)
    if found is None:
        return
    reasons = ", ".join(f"{wording.plain(why)} {rows:,}" for why, rows in left_out(found).items())
    note = wording.escape(f"rows left out: {reasons}") if reasons else "nothing left out"
    frame.figure(f"{number}_hours", "Trained on", f"{found.hours:.1f} h", note)
    for name, label in FIGURES.items():
        value = found.figures.get(name)
        if value is not None:
            shown = f"{value:.2%}" if name.endswith("rate") else wording.number(value)
            frame.figure(f"{number}_{name}", label, shown)


def _card(folder: Path, group: str, version: str) -> ModelCard | None:
    """A card; kept once read, because a stored version never changes."""
    kept: dict[tuple[Path, str, str], ModelCard] = _kept()
    if (folder, group, version) not in kept:
        found = card(Registry(folder), group, version) if folder.is_dir() else None
        if found is None:
            return None
        kept[folder, group, version] = found
    return kept[folder, group, version]


@st.cache_resource(show_spinner=False)
def _kept() -> dict[tuple[Path, str, str], ModelCard]:
    return {}
