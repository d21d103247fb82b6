"""The README says what the program does: its settings table is that of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_settings_table_of_the_readme_is_that_of_the_code() -> None:
    done = subprocess.run(  # our own interpreter and script
        [sys.executable, "scripts/settings_table.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
