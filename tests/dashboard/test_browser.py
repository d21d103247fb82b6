"""The real pages in a real browser: the server as `launch` starts it, over a data folder, with Chromium."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from anomaly.domain import SECOND, AlertState
from dashboard import launch
from pipelines import topics
from pipelines.codec import decode_command
from pipelines.plant_file import write_plant
from pipelines.ports import Partition
from pipelines.settings import Settings

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
END = 1_760_000_400 * SECOND
HOST = "127.0.0.1"
PAGES = {
    "": "Which machines",
    "machine": "What is wrong",
    "alerts": "What must I",
    "models": "Which version",
    "system": "Is plant",
}
PROBES = ("/_stcore/health", "/_stcore/host-config")
"""What Streamlit's page asks for below a page's address to find out where it is mounted; a 404 is the answer."""


@dataclass
class Service:
    """Stands in for the alert service and the data source: answers commands, keeps the plant's clock alive."""

    stage: Any
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        offset = 0
        while not self.stopping.wait(0.5):
            self.stage.beat(time.time_ns())
            for record in self.stage.log.read(Partition(topics.COMMANDS, 0), offset, 100):
                offset = record.offset + 1
                command = decode_command(record.value or b"")
                alert = next(a for a in (self.stage.process, self.stage.sensor) if a.id == command.target)
                done = replace(
                    alert, state=AlertState.ACKNOWLEDGED_ACTIVE, acknowledged_by=command.actor, acknowledged_at=END
                )
                self.stage.tell(done, 2, "acknowledged", command.actor)


@pytest.fixture
def served(stage: Any, tmp_path: Path) -> Iterator[str]:
    """Address of a dashboard over the staged folder."""
    write_plant(stage.plant, tmp_path / "plant.toml")
    settings = Settings(data_dir=tmp_path, partitions=1)
    port = launch.free_port(HOST, None)
    process = launch.start(settings, port, tmp_path / "dashboard.log")
    service = Service(stage)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        launch.wait_ready(process, HOST, port)
        yield f"http://{HOST}:{port}"
    finally:
        service.stopping.set()
        thread.join()
        launch.stop(process)
    assert process.poll() is not None
    assert "Traceback" not in (tmp_path / "dashboard.log").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def watched(browser: Browser, scheme: Any = "light", width: int = 1440) -> tuple[Page, list[str]]:
    """A page, and what went wrong on it: console errors, failed requests, anything asked of another host."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    wrong: list[str] = []
    probed = "Failed to load resource: the server responded with a status of 404"
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and not m.text.startswith(probed) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda r: wrong.append(r.url) if r.status >= 400 and not r.url.endswith(PROBES) else None)
    page.on("request", lambda r: wrong.append(r.url) if f"//{HOST}" not in r.url and "://" in r.url else None)
    return page, wrong


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector('[data-testid="stApp"]')
    expect(page.locator("h1")).to_contain_text("?", timeout=60_000)
    page.wait_for_selector('[data-stale="false"]', state="attached")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 820)])
def test_every_page_shows_without_error_in_light_dark_and_on_a_tablet(
    browser: Browser, served: str, scheme: str, width: int
) -> None:
    page, wrong = watched(browser, scheme, width)
    for path, question in PAGES.items():
        opened(page, f"{served}/{path}")
        expect(page.locator("h1")).to_contain_text(question)
        expect(page.get_by_text("North plant ·").first).to_be_visible(timeout=45_000)
        assert page.locator('[data-testid="stException"]').count() == 0
        assert page.locator('[data-testid="stEChartsChartError"]').count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.locator('[data-testid="stApp"]').evaluate("e => getComputedStyle(e).backgroundColor")
    bright = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) / 3
    assert bright > 200 if scheme == "light" else bright < 60
    assert wrong == []


def test_the_raised_alert_is_seen_its_machine_opens_and_acknowledging_works(browser: Browser, served: str) -> None:
    page, wrong = watched(browser)
    opened(page, served)
    expect(page.get_by_text("2 of 8:")).to_be_visible(timeout=45_000)
    page.locator('[class*="st-key-tile_high"] a').click()
    expect(page.locator("h1")).to_contain_text("What is wrong")
    expect(page.get_by_text("Machine: vibration_de, bearing_temp")).to_be_visible(timeout=45_000)
    assert "asset=north" in page.url
    expect(page.locator('[data-testid="stEChartsChart"] canvas').first).to_be_visible()
    page.get_by_role("link", name="Alerts", exact=True).first.click()
    expect(page.get_by_text("2 new alerts")).to_be_visible(timeout=45_000)
    page.get_by_placeholder("who acts").fill("Ada")
    page.keyboard.press("Enter")
    card = page.locator('[class*="st-key-card_high"]')
    card.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("1 new alert", exact=False)).to_be_visible(timeout=60_000)
    page.get_by_text("Open", exact=True).click()
    expect(page.get_by_text("acknowledged by Ada", exact=False).first).to_be_visible(timeout=45_000)
    assert wrong == []


def test_a_link_works_for_the_first_visitor_and_refreshing_keeps_the_very_same_chart(
    browser: Browser, served: str
) -> None:
    page, wrong = watched(browser)
    opened(page, f"{served}/machine?asset=north/hall-1/line-1/m1")
    canvas = page.locator(".st-key-machine_chart canvas").first
    expect(canvas).to_be_visible(timeout=45_000)
    canvas.evaluate("e => { e.dataset.mine = 'yes' }")
    page.wait_for_timeout(5_000)
    assert canvas.evaluate("e => e.dataset.mine") == "yes"
    assert wrong == []
