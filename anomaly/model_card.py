"""The model card: what a version was made of, what was left out and why, and how well it did on unseen normal rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np
from jaxtyping import Bool

from anomaly.domain import Samples

LIBRARIES: Final = ("numpy", "scipy", "keras", "tensorflow-cpu", "tensorflow", "tf2onnx", "onnxruntime", "plantwatch")
"""Distributions whose versions a card names, where installed."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything that is needed to make the same version again, and to judge it. Times in ns, NaN where unknown.

    `left_out`: rows not used, by reason; `hours` by row count and tick. `figures`: numbers by name, among them
    `held_out_loss`, `line` (the default alert line), `calibration_exceed_rate`, `seconds`. `ranges`: lowest and highest
    value of each tag in the rows used, in the tag's unit. `labels`: words that are no numbers (actor, reason, source).
    """

    group: str
    rung: str
    assets: tuple[str, ...]
    tags: tuple[str, ...]
    rows: int
    hours: float
    since: int
    until: int
    data_sha256: str
    seed: int
    spec: Mapping[str, int | float | str]
    libraries: Mapping[str, str]
    figures: Mapping[str, float]
    left_out: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and words for JSON; NaN and infinities as None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelCard:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        known = dict(plain)
        return cls(
            assets=tuple(str(asset) for asset in known.pop("assets")),
            tags=tuple(str(tag) for tag in known.pop("tags")),
            hours=_number(known.pop("hours")),
            figures={str(name): _number(value) for name, value in known.pop("figures").items()},
            ranges={str(tag): (_number(low), _number(high)) for tag, (low, high) in known.pop("ranges").items()},
            left_out={str(reason): int(rows) for reason, rows in known.pop("left_out").items()},
            **known,
        )

    def summary(self, tick: int) -> str:
        """One sentence for people: `trained on 412 h, left out 31 h (alert 20 h, off 11 h)`; `tick` in ns."""
        hour = 3600 * 1_000_000_000
        parts = [f"{reason} {rows * tick / hour:.1f} h" for reason, rows in self.left_out.items() if rows]
        without = sum(self.left_out.values()) * tick / hour
        return f"trained on {self.hours:.1f} h, left out {without:.1f} h" + (f" ({', '.join(parts)})" if parts else "")


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries a model depends on."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def data_sha256(samples: Sequence[Samples], normal: Sequence[Bool[np.ndarray, " _row"]]) -> str:
    """Hash of training rows: assets, tags, times, values, masks and which rows were used. Chunking matters not."""
    digest = hashlib.sha256()
    for block, kept in zip(samples, normal, strict=True):
        digest.update(f"{block.asset}\n{chr(10).join(block.tags)}\n{len(block)}\n".encode())
        for array in (block.times, np.where(block.mask, block.values, 0.0), block.mask, block.restart, kept):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    """Copies of mappings and sequences made of what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
