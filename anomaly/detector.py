"""Detector: windows of many assets of one group in, judged scores out. Fitted, immutable, saved as one version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.blocks import rows as rows_of
from anomaly.cross_fit import MOST, cross_fit_window_pca, enough, raw_by_asset
from anomaly.domain import Asset, Rung, Samples, Scores, State, Tag, Windows
from anomaly.isolating import isolate
from anomaly.rounding import significant
from anomaly.scaling import Scaler, fit_scaler
from anomaly.scorers import Raw, Scorer, rolling_z, rules, score_in_batches, window_pca
from anomaly.scorers.panel import Panel
from anomaly.sensors import SensorLimits, default_limits, fit_limits
from anomaly.thresholds import Threshold
from anomaly.thresholds.budget import fit_threshold
from anomaly.thresholds.control import control_lines
from anomaly.training_set import TrainingSet
from anomaly.windows import sliding

DIGITS = 6
"""Significant digits of a score: what is left after rounding is the same on every machine and in every batch."""
ONE_BY_ONE = frozenset({Rung.RULES, Rung.ROLLING_Z})
"""Rungs that judge every tag by itself: that only one is strange says nothing about its sensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Scaler + scorer + alert line of one group, as one version. Pure: the same windows give the same scores, for ever.

    `tick`, `trained_from`, `trained_until` in ns. `min_coverage`: share (0..1) of a window's cells, and of its last
    row's, that must have been seen for a score.
    """

    group: str
    version: str
    tags: tuple[str, ...]
    mode: Tag | None
    tick: int
    scaler: Scaler
    scorer: Scorer
    sensors: SensorLimits
    threshold: Threshold
    min_coverage: float = 0.5
    trained_from: int = 0
    trained_until: int = 0

    @property
    def length(self) -> int:
        """Rows in a window."""
        return self.scorer.length

    @property
    def rung(self) -> Rung:
        """Step of the cold-start ladder."""
        return self.scorer.rung

    def windows(self, samples: Samples, first: int) -> Windows:
        """The windows ending at each row ≥ `first` of one asset's samples."""
        return sliding(samples, first, self.length, self.tags, self.sensors, self.mode)

    def detect(self, windows: Windows) -> Scores:
        """Score and judge windows of any assets of the group. A score depends on nothing but its own window.

        Windows that cannot be judged (too little seen, or the scorer cannot tell) say so in `state`, never by a number.
        """
        ready = np.array([state is State.OK for state in windows.state], bool) & self._covered(windows)
        values = np.zeros(windows.values.shape, np.float32)
        values[ready] = self.scaler.scale_windows(rows_of(windows, ready))
        raw = _score(self.scorer, values, windows.mask, ready, windows.times)
        lines = np.array([self.threshold.line(asset) for asset in windows.assets], float)
        score = round_digits(raw.raw / lines)
        known = np.isfinite(score)
        isolated, contributions = self._isolated(values, windows, raw, score, lines)
        unknown = (State.INSUFFICIENT_COVERAGE if state is State.OK else state for state in windows.state)
        return Scores(
            tags=self.tags,
            assets=windows.assets,
            times=windows.times,
            score=np.where(known, score, np.nan),
            contributions=np.where(known[:, None], round_digits(contributions), 0.0),
            expected=round_digits(self.scaler.unscale(np.where(known[:, None], raw.expected, np.nan), windows.assets)),
            actual=np.where(windows.mask[:, -1], windows.values[:, -1], np.nan),
            coverage=round_digits(windows.mask.mean(axis=(1, 2))),
            isolated=isolated,
            faults=windows.faults,
            state=tuple(State.OK if k else u for k, u in zip(known, unknown, strict=True)),
            version=self.version,
            rung=self.rung,
        )

    def _covered(self, windows: Windows) -> Bool[np.ndarray, " window"]:
        """Where enough of the window, and of its last row, was seen."""
        seen = windows.mask.sum(axis=(1, 2)), windows.mask[:, -1].sum(axis=1)
        tags = len(self.tags)
        enough_seen = (seen[0] >= self.min_coverage * self.length * tags) & (
            seen[1] >= max(self.min_coverage * tags, 1)
        )
        return np.asarray(enough_seen)

    def _isolated(
        self,
        values: Float32[np.ndarray, "window time tag"],
        windows: Windows,
        raw: Raw,
        score: Float[np.ndarray, " window"],
        lines: Float[np.ndarray, " window"],
    ) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "window tag"]]:
        """Of windows over the line: the score without the suspect, and contributions in its light (see `isolating`).

        Elsewhere NaN and the contributions as they are.
        """
        over = np.isfinite(score) & (score > 1.0)
        if self.rung in ONE_BY_ONE or not over.any():
            return np.full(len(score), np.nan), raw.contributions
        rows = np.flatnonzero(over)

        def without(tags: Int64[np.ndarray, " chosen"]) -> Float[np.ndarray, " chosen"]:
            mask = windows.mask[rows].copy()
            mask[np.arange(len(rows)), :, tags] = False
            left = np.where(mask, values[rows], 0.0).astype(np.float32)
            return np.asarray(score_in_batches(self.scorer, left, mask, windows.times[rows]).raw / lines[rows])

        isolated, contributions = np.full(len(score), np.nan), raw.contributions.copy()
        rest, contributions[rows] = isolate(score[rows], raw.contributions[rows], without)
        isolated[rows] = round_digits(rest)
        return isolated, contributions


def _score(
    scorer: Scorer,
    values: Float32[np.ndarray, "window time tag"],
    mask: Bool[np.ndarray, "window time tag"],
    which: Bool[np.ndarray, " window"],
    times: Int64[np.ndarray, " window"],
) -> Raw:
    """Scores of the chosen windows at their places; NaN (contributions 0) at the others."""
    part = score_in_batches(scorer, values[which], mask[which], times[which])
    shape = (len(which), values.shape[2])
    out = Raw(np.full(len(which), np.nan), np.zeros(shape), np.full(shape, np.nan))
    for whole, some in zip(out, part, strict=True):
        whole[which] = some
    return out


def round_digits(numbers: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Numbers rounded to `DIGITS` significant digits; what is not finite becomes NaN.

    >>> round_digits(np.array([1.23456789, 0.000123456789, 0.0, -98765432.1, np.inf])).tolist()
    [1.23457, 0.000123457, 0.0, -98765400.0, nan]
    """
    return np.where(np.isfinite(numbers), significant(numbers, DIGITS), np.nan)


def rules_detector(group: str, assets: Sequence[Asset], version: str = "rules") -> Detector:
    """Rung 0: engineering limits of the plant file, no data needed. A score of 1.0 is a value at its limit.

    An asset without a limit that others of its group have is given the group's widest. Values up to `rules.MARGIN` of
    the range beyond a limit are the machine's; further out the instrument is not believed.
    """
    tags = tuple(dict.fromkeys(name for asset in assets for name in asset.signals))
    widest = {tag.name: tag for tag in rules.widest([tag for asset in assets for tag in asset.tags])}
    scales = {asset.path: rules.scaling_of(tags, asset.tags, widest) for asset in assets}
    default = rules.scaling_of(tags, (), widest)
    return Detector(
        group=group,
        version=version,
        tags=tags,
        mode=assets[0].mode if assets else None,
        tick=assets[0].tick if assets else 1,
        scaler=Scaler(
            tags=tags,
            center={path: pairs[:, 0] for path, pairs in scales.items()},
            scale={path: pairs[:, 1] for path, pairs in scales.items()},
            default_center=default[:, 0],
            default_scale=default[:, 1],
        ),
        scorer=rules.rules_for([widest[name] for name in tags]),
        sensors=default_limits([rules.beyond(tag) for tag in widest.values()]),
        threshold=Threshold({}, 1.0, "engineering limits"),
    )


def fit_rolling_z(
    training: TrainingSet, tags_info: Sequence[Tag], version: str, budget_per_week: float = 1.0
) -> Detector:
    """Rung 1: needs some hundred normal rows. `tags_info`: the plant file's tags (mode and status too).

    Raises TooFewRowsError if too few windows are wholly normal.
    """
    limits, scaler = fit_limits(training.samples, tags_info, training.keep), _fit_scaler(training)
    fit, held_back = training.split()
    windows = enough(fit.windows(scaler, limits, rolling_z.LENGTH), training)
    scorer = rolling_z.fit_rolling_z_scorer(windows.values, windows.mask)
    return _detector(
        training, version, scaler, scorer, limits, calibrate(scorer, scaler, limits, held_back, budget_per_week)
    )


def fit_window_pca(
    training: TrainingSet,
    tags_info: Sequence[Tag],
    version: str,
    budget_per_week: float = 1.0,
    length: int = window_pca.LENGTH,
    explained: float = window_pca.EXPLAINED,
    most: int = MOST,
) -> Detector:
    """Rung 2: the linear model of the group, cross-fitted: errors and alert line come from rows left out of the fit.

    `most`: windows a model is fitted on, at most; fewer are quicker.

    Raises TooFewRowsError if too few windows are wholly normal.
    """
    limits, scaler = fit_limits(training.samples, tags_info, training.keep), _fit_scaler(training)
    scorer, raws = cross_fit_window_pca(training, scaler, limits, length, explained, most)
    return _detector(training, version, scaler, scorer, limits, fit_threshold(raws, budget_per_week, training.tick))


def calibrate(
    scorer: Scorer, scaler: Scaler, sensors: SensorLimits, held_back: TrainingSet, budget_per_week: float = 1.0
) -> Threshold:
    """The alert lines of a fitted scorer, from normal rows it was not fitted on, by the rule of its kind (see
    `thresholds.control` for a panel, `thresholds.budget` for the others).

    Raises TooFewRowsError if no window of them is wholly normal.
    """
    windows = held_back.windows(scaler, sensors, scorer.length)
    raws = raw_by_asset(scorer, windows)
    if isinstance(scorer, Panel):
        return control_lines(raws, budget_per_week, held_back.tick)
    return fit_threshold(raws, budget_per_week, held_back.tick)


def _fit_scaler(training: TrainingSet) -> Scaler:
    return fit_scaler(training.samples, training.tags, training.keep)


def _detector(
    training: TrainingSet, version: str, scaler: Scaler, scorer: Scorer, limits: SensorLimits, threshold: Threshold
) -> Detector:
    since, until = training.span
    return Detector(
        group=training.group,
        version=version,
        tags=training.tags,
        mode=training.mode,
        tick=training.tick,
        scaler=scaler,
        scorer=scorer,
        sensors=limits,
        threshold=threshold,
        trained_from=since,
        trained_until=until,
    )
