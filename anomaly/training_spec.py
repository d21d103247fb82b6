"""What to train and how long, and how far it got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from anomaly.errors import ConfigurationError
from anomaly.models.fitting import FitPolicy


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train and how long. The defaults take about 20 s on 2 cores, whatever the amount of data.

    `windows_per_epoch`: windows drawn anew each epoch, at most. `channel_dropout`: chance of each tag to be missing
    from a window, 0..1. `latent`, `linear`: sizes of both bottlenecks; `linear` 0 leaves that path out. `focus`: share
    of the loss on the window's last row, which is what is scored. `panel`: the linear views are fitted beside the net
    and judge with it; without them the net is judged alone.
    """

    length: int = 32
    units: int = 48
    depth: int = 1
    latent: int = 16
    linear: int = 16
    dropout: float = 0.0
    epochs: int = 6
    patience: int = 3
    batch: int = 256
    windows_per_epoch: int = 14_336
    held_out_windows: int = 4_096
    learning_rate: float = 4e-3
    channel_dropout: float = 0.1
    focus: float = 0.3
    seed: int = 0
    panel: bool = True
    architecture: str = "lstm_autoencoder"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, by a ConfigurationError."""
        whole = (self.units, self.depth, self.latent, self.epochs, self.patience, self.batch, self.windows_per_epoch)
        if self.length < 2 or min(whole) < 1 or self.held_out_windows < 1 or self.learning_rate <= 0 or self.seed < 0:
            raise ConfigurationError(f"{self}: expected length ≥ 2, seed ≥ 0 and every other count at least 1")
        if self.linear < 0 or not (0 <= self.dropout < 1 and 0 <= self.channel_dropout < 1 and 0 <= self.focus < 1):
            raise ConfigurationError(
                f"{self}: expected dropout, channel_dropout and focus from 0 to below 1, linear ≥ 0"
            )

    def policy(self) -> FitPolicy:
        """How the training loop descends."""
        return FitPolicy(
            epochs=self.epochs,
            patience=self.patience,
            batch=self.batch,
            limit=self.windows_per_epoch,
            held_limit=self.held_out_windows,
            learning_rate=self.learning_rate,
            channel_dropout=self.channel_dropout,
            focus=self.focus,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training got. `share` 0..1 over all stages; losses are NaN until known.

    Stages, in order: `prepare`, `fit`, `export`, `calibrate`, `done`.
    """

    stage: str
    share: float
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    held_out_loss: float = float("nan")


OnProgress: TypeAlias = Callable[[Progress], None]
