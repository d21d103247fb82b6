"""Looks at the dashboard as a person would: in a browser, if there is one on this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.error
import urllib.request

from problem import Problem

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUESTION = "Which machines need me now"
"""The first line of the first page."""
_PATIENCE_S = 150.0


def look(address: str) -> str:
    """What was seen, for people. Raises Problem if the page does not answer, shows an error or not the overview."""
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310  # our own address
            if answer.status != 200:
                raise Problem(f"the page at {address} answers {answer.status}")
    except (urllib.error.URLError, TimeoutError) as error:
        raise Problem(f"the page at {address} does not answer: {error}") from error
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"the page answers at {address} (there is no Chromium here, so nobody looked at it)"
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        text = _text(browser, address)
        if "stException" in text:
            raise Problem(f"the page at {address} shows an error")
        if QUESTION in text:
            return f"the page at {address} shows the overview in a browser"
        time.sleep(2)
    raise Problem(f"the page at {address} does not show the overview within {_PATIENCE_S:g} s")


def _text(browser: str, address: str) -> str:
    """What the browser shows. Time in the page runs as fast as it can, so it may be early: ask again."""
    quick = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=200000")
    words = [browser, *quick, "--dump-dom", address]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=90, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""
