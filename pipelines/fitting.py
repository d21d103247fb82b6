"""A cleaned training set → a new version in the registry, the challenger. Shared by `train` and the train service."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from anomaly.cross_fit import MOST
from anomaly.detector import Detector, fit_rolling_z, fit_window_pca
from anomaly.domain import Rung, Tag
from anomaly.errors import ConfigurationError, StorageError, StorageFull, StorageLocked
from anomaly.model_card import ModelCard
from anomaly.registry import Registry
from anomaly.training import OnProgress, Progress, TrainingSpec, card_of, fit_lstm_autoencoder
from anomaly.training_size import spec_for
from pipelines.training_service import CleanedSet

UNNAMED = "unnamed"
"""Version of a detector that the registry has not named yet."""


class Fitted(NamedTuple):
    """A new version, its detector and its card."""

    version: str
    detector: Detector
    card: ModelCard


def fit_version(
    cleaned: CleanedSet,
    tags: Sequence[Tag],
    rung: Rung,
    registry: Registry,
    *,
    now: int,
    workdir: Path,
    spec: TrainingSpec | None = None,
    most: int = MOST,
    budget_per_week: float = 1.0,
    source: str = "",
    actor: str = "",
    on_progress: OnProgress = lambda _: None,
) -> Fitted:
    """Fit a detector of that rung, store it and make it the challenger of its group.

    `spec`: of a net, else what suits the number of rows; `most`: windows a window-PCA is fitted on. `now` (ns) goes
    into the version's name; `source` and `actor` into its card. Killed at any moment it leaves nothing that could
    serve; the same call again goes on from the net's checkpoint in `workdir`, which is emptied at the end.
    Raises TooFewRowsError, ModelRefused, StorageError, ConfigurationError for rung `rules`.
    """
    with _only_one(workdir, cleaned.training.group) as work:
        fitted = _fit(cleaned, tags, rung, work, spec, most, budget_per_week, on_progress)
        card = replace(fitted.card, labels={"source": source, "actor": actor})
        version = registry.add(fitted.detector, card, now=now, files=fitted.files)
        registry.set_alias(cleaned.training.group, "challenger", version)
        shutil.rmtree(work)
    return Fitted(version, replace(fitted.detector, version=version), card)


class _Made(NamedTuple):
    """A detector without a name, its card, and the folder of its net's files."""

    detector: Detector
    card: ModelCard
    files: Path | None


def _fit(
    cleaned: CleanedSet,
    tags: Sequence[Tag],
    rung: Rung,
    work: Path,
    spec: TrainingSpec | None,
    most: int,
    budget_per_week: float,
    on_progress: OnProgress,
) -> _Made:
    if rung is Rung.LSTM_AUTOENCODER:
        _quiet_tensorflow()
        trained = fit_lstm_autoencoder(
            cleaned.training,
            tags,
            spec or spec_for(cleaned.training.rows),
            version=UNNAMED,
            on_progress=on_progress,
            workdir=work,
            budget_per_week=budget_per_week,
            left_out=cleaned.left_out,
        )
        return _Made(trained.detector, trained.card, trained.files)
    detector, card = _fit_plain(cleaned, tags, rung, most, budget_per_week)
    on_progress(Progress("done", 1.0))
    return _Made(detector, card, None)


@contextmanager
def _only_one(workdir: Path, group: str) -> Iterator[Path]:
    """The group's work folder, for one training at a time; a lock the system drops when the process is killed."""
    work = workdir / quote(group, safe="")
    try:
        work.mkdir(parents=True, exist_ok=True)
        with (workdir / f"{work.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield work
    except BlockingIOError as error:
        raise StorageLocked(
            f"another training of group {group!r} is at work in {work}; expected one at a time; wait for it, or stop it"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left for training in {work}; free some and train again") from error
        raise StorageError(
            f"training cannot write to {work} ({error.strerror}); expected a folder we may write; check its rights"
        ) from error


def _fit_plain(
    cleaned: CleanedSet, tags: Sequence[Tag], rung: Rung, most: int, budget_per_week: float
) -> tuple[Detector, ModelCard]:
    """A detector that needs no net, and its card."""
    training = cleaned.training
    if rung is Rung.WINDOW_PCA:
        detector = fit_window_pca(training, tags, UNNAMED, budget_per_week, most=most)
    elif rung is Rung.ROLLING_Z:
        detector = fit_rolling_z(training, tags, UNNAMED, budget_per_week)
    else:
        raise ConfigurationError(
            f"rung {rung.value!r} learns nothing; expected {Rung.ROLLING_Z.value}, {Rung.WINDOW_PCA.value} or "
            f"{Rung.LSTM_AUTOENCODER.value}"
        )
    return detector, card_of(detector, training, {}, left_out=cleaned.left_out)


def _quiet_tensorflow() -> None:
    """No TensorFlow notes on the terminal, and sums in one order on every CPU, unless somebody chose otherwise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
