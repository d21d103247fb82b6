"""Checks every relative link and image of the Markdown files: the target must exist, and so must the heading."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)


def slug(heading: str) -> str:
    """The anchor a forge gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Anchors of all headings of a page."""
    return {slug(m.group(1)) for m in re.finditer(r"^#+\s+(.*)$", page.read_text("utf-8"), re.MULTILINE)}


def dead_links(page: Path) -> list[str]:
    """One line per link of `page` that leads nowhere."""
    dead = []
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists():
            dead.append(f"{page}: {target}: no such file")
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            dead.append(f"{page}: {target}: no such heading")
    return dead


def main() -> int:
    """Check all Markdown files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=True,
    )
    pages = [Path(name) for name in listed.stdout.splitlines() if Path(name).exists()]
    dead = [line for page in pages for line in dead_links(page)]
    print("\n".join(dead) if dead else f"{len(pages)} pages, no dead link")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
