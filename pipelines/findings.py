"""What `plantwatch check` finds: one thing looked at, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a finding stands: a failure stops the program, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `exit_code` is that of its error, for failures."""

    name: str
    status: Status
    found: str
    exit_code: int = 0
