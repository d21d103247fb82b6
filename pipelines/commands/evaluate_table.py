"""Figures as a table of text: fixed columns, so that it reads the same in a terminal, a file and a document."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipelines.figures import Figures
from pipelines.instruments import Instruments

_COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("series", lambda row: row.series),
    ("model", lambda row: row.model),
    ("seed", lambda row: str(row.seed)),
    ("F1", lambda row: share(row.f1)),
    ("precision", lambda row: share(row.precision)),
    ("recall", lambda row: share(row.recall)),
    ("FAR", lambda row: share(row.far)),
    ("MAR", lambda row: share(row.mar)),
    ("events", lambda row: f"{row.events_hit}/{row.events}"),
    ("false/day", lambda row: number(row.false_onsets_per_day)),
    ("in alarm", lambda row: share(row.alarm_share)),
    ("delay s", lambda row: number(row.median_delay_s)),
    ("VUS-PR", lambda row: share(row.vus_pr)),
    ("oracle F1", lambda row: share(row.f1_oracle)),
    ("thr. ratio", lambda row: share(row.threshold_ratio)),
    ("hit rate", lambda row: f"{share(row.hit_rate)}/{share(row.hit_rate_150)}" if row.hit_rate >= 0 else "–"),
    ("s", lambda row: f"{row.seconds:.1f}"),
)
_INSTRUMENTS: tuple[tuple[str, Callable[[Instruments], str]], ...] = (
    ("series", lambda row: row.series),
    ("model", lambda row: row.model),
    ("seed", lambda row: str(row.seed)),
    ("broken", lambda row: row.how),
    ("coverage", lambda row: share(row.coverage)),
    ("too little", lambda row: share(row.insufficient)),
    ("cells flagged", lambda row: share(row.flagged)),
    ("healthy flagged", lambda row: share(row.healthy_flagged)),
    ("tags accused", lambda row: f"{row.found}/{row.broken}"),
    ("wrongly", lambda row: str(row.wrongly_accused)),
    ("process rows", lambda row: share(row.process_rows)),
    ("process alerts", lambda row: str(row.process_alerts)),
)
_LEFT = 2


def table(rows: Sequence[Figures]) -> str:
    """One line a row under a header; a figure that does not apply is a dash."""
    return _aligned([[name for name, _ in _COLUMNS], *([cell(row) for _, cell in _COLUMNS] for row in rows)])


def instruments_table(rows: Sequence[Instruments]) -> str:
    """The same of sensors broken on purpose."""
    return _aligned([[name for name, _ in _INSTRUMENTS], *([cell(row) for _, cell in _INSTRUMENTS] for row in rows)])


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if column < _LEFT else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def share(value: float) -> str:
    """A share with three digits.

    >>> share(0.12345), share(float("nan"))
    ('0.123', '–')
    """
    return f"{value:.3f}" if math.isfinite(value) else "–"


def number(value: float) -> str:
    """A number with three significant digits, never in exponents.

    >>> number(1234.5), number(0.01234), number(0.0)
    ('1234', '0.0123', '0')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
