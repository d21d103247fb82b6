"""Values in the units of their tag ⇄ plain numbers a net can learn from: robust centre and scale per asset and tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from anomaly.domain import Samples, Windows
from anomaly.errors import DataError

CLIP = 10.0
"""Where the soft clip begins, in scales. A hard clip here lowers average precision on SKAB from .91 to .88."""
FLOOR = 0.01
"""Smallest scale, as a share of the training range: a tag that hardly ever moves must not blow up."""
FEWEST = 30
"""Seen rows of a tag an asset needs for its own centre and scale; with fewer it takes those of its group."""
LARGEST = 1e30
"""Scaled values are cut here before the logarithm, so that nothing overflows."""


def soft_clip(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Leave |z| ≤ 10 as it is, let it grow as 10·(1 + ln(|z|/10)) beyond: far is far, but never deafening.

    >>> soft_clip(np.array([-2.0, 10.0, 100.0])).round(3).tolist()
    [-2.0, 10.0, 33.026]
    """
    if not (np.abs(z) > CLIP).any():
        return z
    size = np.minimum(np.abs(z), LARGEST)
    return np.where(size > CLIP, np.sign(z) * CLIP * (1 + np.log(np.maximum(size, CLIP) / CLIP)), z)


def undo_soft_clip(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Inverse of `soft_clip`, up to the largest scaled value.

    >>> undo_soft_clip(np.array([-2.0, 10.0, 33.026])).round(1).tolist()
    [-2.0, 10.0, 100.0]
    """
    size = np.minimum(np.abs(z), CLIP * (1 + np.log(LARGEST / CLIP)))
    return np.where(size > CLIP, np.sign(z) * CLIP * np.exp(np.maximum(size, CLIP) / CLIP - 1), z)


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Centre and scale (> 0) of each tag, in its unit: per asset, and for assets never seen."""

    tags: tuple[str, ...]
    center: Mapping[str, Float[np.ndarray, " tag"]]
    scale: Mapping[str, Float[np.ndarray, " tag"]]
    default_center: Float[np.ndarray, " tag"]
    default_scale: Float[np.ndarray, " tag"]

    def scale_windows(self, windows: Windows) -> Float32[np.ndarray, "window time tag"]:
        """Scaled and softly clipped values, exactly 0 where the mask is False.

        Fails with DataError if the windows' tags are not the scaler's, in order.
        """
        if windows.tags != self.tags:
            raise DataError(f"windows have tags {windows.tags}, the scaler was fitted on {self.tags}: fit it again")
        center, scale = self._rows(windows.assets)
        values = np.where(windows.mask, windows.values, center[:, None, :])  # scaled: exactly 0
        with np.errstate(over="ignore"):
            z = (values - center[:, None, :]) / scale[:, None, :]
        return soft_clip(z).astype(np.float32)

    def scale_rows(
        self,
        values: Float[np.ndarray, "row tag"],
        mask: Bool[np.ndarray, "row tag"],
        assets: tuple[str, ...],
        owner: Int64[np.ndarray, " row"],
    ) -> Float32[np.ndarray, "row tag"]:
        """The same for rows, row i being of asset `assets[owner[i]]`; tags in the scaler's order."""
        center, scale = (rows[owner] for rows in self._rows(assets))
        with np.errstate(over="ignore"):
            z = (np.where(mask, values, center) - center) / scale
        return soft_clip(z).astype(np.float32)

    def unscale(self, z: Float[np.ndarray, "window tag"], assets: tuple[str, ...]) -> Float[np.ndarray, "window tag"]:
        """Scaled values of the named assets back in the tags' units; NaN stays NaN."""
        center, scale = self._rows(assets)
        values: np.ndarray = undo_soft_clip(z.astype(np.float64)) * scale + center
        return values

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, fit for JSON."""
        return {
            "tags": list(self.tags),
            "center": {asset: row.tolist() for asset, row in self.center.items()},
            "scale": {asset: row.tolist() for asset, row in self.scale.items()},
            "default_center": self.default_center.tolist(),
            "default_scale": self.default_scale.tolist(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Scaler:
        """What `to_dict` gave."""
        return cls(
            tags=tuple(plain["tags"]),
            center={asset: np.asarray(row, dtype=np.float64) for asset, row in plain["center"].items()},
            scale={asset: np.asarray(row, dtype=np.float64) for asset, row in plain["scale"].items()},
            default_center=np.asarray(plain["default_center"], dtype=np.float64),
            default_scale=np.asarray(plain["default_scale"], dtype=np.float64),
        )

    def _rows(self, assets: tuple[str, ...]) -> tuple[Float[np.ndarray, "window tag"], Float[np.ndarray, "window tag"]]:
        names = {asset: row for row, asset in enumerate(dict.fromkeys(assets))}
        index = np.array([names[asset] for asset in assets], dtype=np.intp)
        shape = (len(names), len(self.tags))
        center = np.array([self.center.get(asset, self.default_center) for asset in names], dtype=np.float64)
        scale = np.array([self.scale.get(asset, self.default_scale) for asset in names], dtype=np.float64)
        return center.reshape(shape)[index], scale.reshape(shape)[index]


def fit_scaler(samples: Sequence[Samples], tags: tuple[str, ...], keep: Sequence[Bool[np.ndarray, " row"]]) -> Scaler:
    """Learn centre (median) and scale from the rows to keep; several Samples may be of one asset.

    The scale is the widest of two robust spreads that equal the sd of a normal distribution, (q75 - q25)/1.349 and
    (q95 - q5)/3.29, and 1 % of the training range (between the 0.1 % and 99.9 % quantiles, so that one glitch cannot
    silence a tag). A tag an asset saw fewer than 30 times, or never moving, takes its group's scale; one that never
    moved anywhere takes 1 % of its value, or 1 if that is zero.

    >>> times = np.arange(100)
    >>> seen = np.ones((100, 1), dtype=bool)
    >>> rows = Samples("a", ("t",), times, times[:, None] * 1.0, seen, seen.astype(np.uint8) * 0, times == 0, times)
    >>> scaler = fit_scaler([rows], ("t",), [times >= 0])
    >>> scaler.center["a"].tolist(), scaler.scale["a"].round(2).tolist()
    ([49.5], [36.69])
    """
    rows: dict[str, list[Float[np.ndarray, "row tag"]]] = {}
    for block, kept in zip(samples, keep, strict=True):
        rows.setdefault(block.asset, []).append(_columns(block, tags)[kept])
    joined = {asset: np.concatenate(blocks) for asset, blocks in rows.items()}
    everything = np.concatenate([*joined.values(), np.empty((0, len(tags)))])
    pooled = [_fit_tag(everything[:, tag], (0.0, 1.0), fewest=1) for tag in range(len(tags))]
    fitted = {
        asset: [_fit_tag(values[:, tag], pooled[tag], FEWEST) for tag in range(len(tags))]
        for asset, values in joined.items()
    }
    return Scaler(
        tags=tags,
        center={asset: np.array([center for center, _ in pairs], dtype=np.float64) for asset, pairs in fitted.items()},
        scale={asset: np.array([scale for _, scale in pairs], dtype=np.float64) for asset, pairs in fitted.items()},
        default_center=np.array([center for center, _ in pooled], dtype=np.float64),
        default_scale=np.array([scale for _, scale in pooled], dtype=np.float64),
    )


def _columns(samples: Samples, tags: tuple[str, ...]) -> Float[np.ndarray, "row tag"]:
    """Values of `tags` in order, NaN where not seen (a tag the samples do not have is never seen)."""
    out = np.full((len(samples), len(tags)), np.nan)
    for column, tag in enumerate(tags):
        if tag in samples.tags:
            source = samples.tags.index(tag)
            out[:, column] = np.where(samples.mask[:, source], samples.values[:, source], np.nan)
    return out


def _fit_tag(values: Float[np.ndarray, " row"], fallback: tuple[float, float], fewest: int) -> tuple[float, float]:
    """Centre and scale of one tag, with those of the group to fall back on."""
    seen = values[np.isfinite(values)]
    if len(seen) < fewest:
        return fallback
    low, q5, q25, center, q75, q95, high = np.quantile(seen, [0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999])
    whole = high - low if high > low else seen.max() - seen.min()
    scale = float(max((q75 - q25) / 1.349, (q95 - q5) / 3.29, FLOOR * whole))
    if scale > 0 and np.isfinite(scale):
        return float(center), scale
    if fewest > 1:
        return float(center), fallback[1]
    return float(center), FLOOR * abs(float(center)) or 1.0
