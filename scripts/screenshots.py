"""Pictures of every page for the documentation, taken from a running dashboard (`make demo`, some minutes in).

    python scripts/screenshots.py http://localhost:8501 [--out docs/images]

Overview and Machine are taken in light and dark, the others in light. The machine shown is the one that needs people
most; the alert shown in full is the first of the list. Needs Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

Scheme = Literal["light", "dark"]
WIDTH, HEIGHT, TALLEST = 1440, 900, 1600
NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTLE_MS = 4_000
"""The live parts renew themselves every two seconds; charts need one more."""


def main() -> int:
    """Take all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default="http://localhost:8501")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
    if chromium is None:
        print("Chromium is missing: apt-get install chromium", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            take(browser, given.address.rstrip("/"), scheme, given.out)
        browser.close()
    return 0


def take(browser: Browser, address: str, scheme: Scheme, out: Path) -> None:
    """All pictures of one colour scheme, in one visit."""
    page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme).new_page()
    shoot(page, address, out / f"overview-{scheme}.png")
    first = page.locator('[class*="st-key-tile_"] a').first
    if first.count():
        first.click()
        page.wait_for_timeout(SETTLE_MS)
        shoot(page, None, out / f"machine-{scheme}.png")
    if scheme == "dark":
        return
    shoot(page, f"{address}/alerts", out / f"alerts-{scheme}.png")
    details = page.get_by_role("button", name="Details").first
    if details.count():
        details.click()
        page.wait_for_timeout(SETTLE_MS)
        shoot(page, None, out / f"alert-{scheme}.png")
    for name in ("models", "system"):
        shoot(page, f"{address}/{name}", out / f"{name}-{scheme}.png")


def shoot(page: Page, address: str | None, file: Path) -> None:
    """One picture, as high as the page, up to a limit. `address` None: the page as it is."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    if address is not None:
        page.goto(address)
        page.wait_for_selector("h1")
        page.wait_for_timeout(SETTLE_MS)
    height = int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))
    page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, min(height, TALLEST))})
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)
    page.screenshot(path=file)
    print(file)


if __name__ == "__main__":
    sys.exit(main())
