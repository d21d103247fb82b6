"""A strip of many machines' newest rows in, judged scores out: `Detector.detect` for live use, equal to the bit.

What a window's score is, the detector says; here each row is scaled once instead of once a window, and windows exist
only while the scorer looks at them (a batch of 64), so that memory does not grow with what there is to catch up on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.detector import ONE_BY_ONE, Detector, round_digits
from anomaly.domain import Scores, State
from anomaly.isolating import isolate
from anomaly.scorers import Raw, score_cut
from anomaly.strips import OK, STATES, Strip

_FINAL: Final = (*STATES, State.INSUFFICIENT_COVERAGE)
_UNKNOWN: Final = len(STATES)


def judge(detector: Detector, strip: Strip) -> Scores:
    """Score and judge the windows of a strip, laid with the detector's length, tags and mode."""
    total, last = strip.seen()
    tags, least = len(detector.tags), detector.min_coverage
    ready = (total >= least * detector.length * tags) & (last >= max(least * tags, 1)) & (strip.state == OK)
    scaled = detector.scaler.scale_rows(strip.values, strip.mask, strip.assets, strip.owner)
    raw = _score(detector, strip, scaled, ready, None)
    lines = np.array([detector.threshold.line(asset) for asset in strip.assets], float)[strip.piece]
    score = round_digits(raw.raw / lines)
    known = np.isfinite(score)
    isolated, contributions = _isolated(detector, strip, scaled, raw, score, lines)
    codes = np.where(known, OK, np.where(strip.state == OK, _UNKNOWN, strip.state))
    assets = tuple([strip.assets[piece] for piece in strip.piece.tolist()])
    expected = np.where(known[:, None], raw.expected, np.nan)
    return Scores(
        tags=detector.tags,
        assets=assets,
        times=strip.times,
        score=np.where(known, score, np.nan),
        contributions=np.where(known[:, None], round_digits(contributions), 0.0),
        expected=round_digits(detector.scaler.unscale(expected, assets)),
        actual=np.where(strip.mask[strip.ends], strip.values[strip.ends], np.nan),
        coverage=round_digits(total / (detector.length * tags)),
        isolated=isolated,
        faults=strip.faults,
        state=tuple([_FINAL[code] for code in codes.tolist()]),
        version=detector.version,
        rung=detector.rung,
    )


def _isolated(
    detector: Detector,
    strip: Strip,
    scaled: Float32[np.ndarray, "row tag"],
    raw: Raw,
    score: Float[np.ndarray, " window"],
    lines: Float[np.ndarray, " window"],
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, "window tag"]]:
    """Of windows over the line: the score without the suspect, and contributions in its light (see `isolating`)."""
    over = np.isfinite(score) & (score > 1.0)
    if detector.rung in ONE_BY_ONE or not over.any():
        return np.full(len(score), np.nan), raw.contributions

    def without(tags: Int64[np.ndarray, " chosen"]) -> Float[np.ndarray, " chosen"]:
        return np.asarray(_score(detector, strip, scaled, over, tags).raw[over] / lines[over])

    isolated, contributions = np.full(len(score), np.nan), raw.contributions.copy()
    rest, contributions[over] = isolate(score[over], raw.contributions[over], without)
    isolated[over] = round_digits(rest)
    return isolated, contributions


def _score(
    detector: Detector,
    strip: Strip,
    scaled: Float32[np.ndarray, "row tag"],
    which: Bool[np.ndarray, " window"],
    without: Int64[np.ndarray, " chosen"] | None,
) -> Raw:
    """Scores of the chosen windows at their places (NaN, contributions 0, at the others), `without` a tag of each."""
    first = strip.ends[which] - (detector.length - 1)
    size = (detector.length, len(detector.tags))
    shape = (len(strip), size[1])
    out = Raw(np.full(len(strip), np.nan), np.zeros(shape), np.full(shape, np.nan))
    if not len(first):
        return out
    views = [np.lib.stride_tricks.sliding_window_view(rows, size)[:, 0] for rows in (scaled, strip.mask)]

    def cut(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        values, mask = views[0][first[start:stop]], views[1][first[start:stop]]
        if without is not None:
            rows = np.arange(stop - start)
            mask[rows, :, without[start:stop]] = False
            values[rows, :, without[start:stop]] = 0.0
        return values, mask

    part = score_cut(detector.scorer, (len(first), *size), cut, strip.times[which])
    for whole, some in zip(out, part, strict=True):
        whole[which] = some
    return out
