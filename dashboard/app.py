"""Pages, style, navigation. Streamlit runs it through `entry/script.py`; `dashboard.launch` starts that."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import frame, theme
from dashboard.pages import alerts, machine, models, overview, system

ICON = str(Path(__file__).with_name("icon.svg"))
"""Our own file: an icon by name would be fetched from a server elsewhere."""
PAGES = {
    "overview": (overview.page, "Overview", ":material/grid_view:"),
    "machine": (machine.page, "Machine", ":material/monitoring:"),
    "alerts": (alerts.page, "Alerts", ":material/notifications:"),
    "models": (models.page, "Models", ":material/model_training:"),
    "system": (system.page, "System", ":material/health_and_safety:"),
}


def main(first: str = "overview") -> None:
    """Show the page the address names. `first`: the page at the root."""
    st.set_page_config(page_title="plantwatch", page_icon=ICON, layout="wide")
    pages = {
        name: st.Page(page, title=title, icon=icon, url_path=name, default=name == first)
        for name, (page, title, icon) in PAGES.items()
    }
    frame.register(pages)
    chosen = st.navigation(list(pages.values()), position="top")
    st.html(theme.STYLE)
    chosen.run()
