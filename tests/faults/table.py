"""The table of the fault bench, and its last line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Line:
    """What one row of the bench found."""

    number: int
    fault: str
    injected: int = 0
    readings: int = 0
    missing: int = 0
    spurious: int = 0
    corrupted: int = 0
    replays: int = 0
    recovery_s: float | None = None
    """Worst time from the end of a fault until all that lay there then was done."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing fell short."""
        return not (self.missing or self.spurious or self.corrupted or self.wrong)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"sound": self.sound}


_HEAD = ("", "fault", "injected", "readings", "missing", "spurious", "corrupted", "replays", "worst recovery")


def table(lines: Sequence[Line]) -> str:
    """All rows as a table for people, then what fell short in words."""
    cells = [_HEAD, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    texts = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
    texts.insert(1, "  ".join("─" * width for width in widths))
    for line in lines:
        texts += [f"row {line.number} fell short: {text}" for text in line.wrong]
        texts += [f"row {line.number}: {text}" for text in line.notes]
    return "\n".join(texts)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column == 1 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cells(line: Line) -> tuple[str, ...]:
    if line.skipped:
        return (str(line.number), f"{line.fault} — skipped: {line.skipped}", *[""] * 7)
    recovery = "—" if line.recovery_s is None else f"{line.recovery_s:.1f} s"
    counts = (line.injected, line.readings, line.missing, line.spurious, line.corrupted, line.replays)
    return (str(line.number), line.fault, *map(str, counts), recovery)


def last_line(lines: Sequence[Line]) -> str:
    """The sum of all rows.

    >>> last_line([Line(1, "kill", injected=3, readings=70, replays=4), Line(2, "hang", injected=1, readings=30)])
    'faults 4, readings 100, missing 0, spurious 0, corrupted 0, replays 4'
    """
    sums = {
        name: sum(getattr(line, name) for line in lines)
        for name in ("injected", "readings", "missing", "spurious", "corrupted", "replays")
    }
    return ", ".join(f"{name.replace('injected', 'faults')} {count}" for name, count in sums.items())
