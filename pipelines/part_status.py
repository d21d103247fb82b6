"""Figures of a service's worker for its heartbeat, as the System page shows them."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.scoring import ScoreWorker

Status = Mapping[str, str | int | float]


def of_score(worker: ScoreWorker) -> Status:
    """Where readings ended, windows by rung, what serves and what was refused."""
    return {
        **{_figure(name): count for name, count in sorted(worker.counts().items())},
        "computed on": worker.device(),
        **{f"serving:{group}": version for group, version in worker.serving().items()},
        **{f"refused:{version}": why for version, why in worker.refusals().items()},
    }


def _figure(name: str) -> str:
    """The name of a counter for people.

    >>> _figure("w:window_pca"), _figure("late")
    ('windows by window_pca', 'late')
    """
    return f"windows by {name[2:]}" if name.startswith("w:") else name
