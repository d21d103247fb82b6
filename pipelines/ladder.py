"""The cold-start ladder: which rung a group should climb to next, and why. Pure rules; the train service acts on them.

Rules serve from the first sample. A window-PCA is fitted once a few windows are stored, the LSTM autoencoder once there
is enough to learn from. Until `settled_rows` are stored, a rung is fitted anew each time its data have grown fourfold:
what was learned in the first hour does not know the night shift.
"""

from __future__ import annotations

from dataclasses import dataclass

from anomaly.domain import Rung


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """Rows (ticks over all assets of a group) at which a rung is worth fitting."""

    window_pca_rows: int = 600
    lstm_rows: int = 4_000
    growth: float = 4.0
    settled_rows: int = 200_000


@dataclass(frozen=True, slots=True)
class Step:
    """Fit `rung` now, for this `reason`."""

    rung: Rung
    reason: str


def next_step(policy: LadderPolicy, rows: int, fitted: dict[Rung, int]) -> Step | None:
    """The next fit for a group with `rows` stored, where `fitted[rung]` rows went into the newest version of a rung.

    >>> next_step(LadderPolicy(), 700, {})
    Step(rung=<Rung.WINDOW_PCA: 'window_pca'>, reason='700 rows are stored')
    >>> next_step(LadderPolicy(), 5000, {Rung.WINDOW_PCA: 700})
    Step(rung=<Rung.LSTM_AUTOENCODER: 'lstm_autoencoder'>, reason='5000 rows are stored')
    >>> next_step(LadderPolicy(), 9000, {Rung.WINDOW_PCA: 700, Rung.LSTM_AUTOENCODER: 5000}) is None
    True
    """
    net = fitted.get(Rung.LSTM_AUTOENCODER)
    if net is None:
        linear = fitted.get(Rung.WINDOW_PCA)
        if linear is None:
            wanted = rows >= policy.window_pca_rows
            return Step(Rung.WINDOW_PCA, f"{rows} rows are stored") if wanted else None
        if rows >= policy.lstm_rows:
            return Step(Rung.LSTM_AUTOENCODER, f"{rows} rows are stored")
        return _refit(policy, Rung.WINDOW_PCA, rows, linear)
    return _refit(policy, Rung.LSTM_AUTOENCODER, rows, net)


def _refit(policy: LadderPolicy, rung: Rung, rows: int, before: int) -> Step | None:
    if before >= policy.settled_rows or rows < before * policy.growth:
        return None
    return Step(rung, f"data have grown from {before} to {rows} rows")
