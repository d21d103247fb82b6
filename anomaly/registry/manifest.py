"""The manifest of a bundle: everything of a detector but its arrays, as plain numbers, and a hash of every file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from anomaly.domain import Role, Rung, Tag
from anomaly.errors import ModelRefused
from anomaly.registry.canonical import dump, parse, plain

FORMAT: Final = 1
"""Raised when older programs can no longer read a bundle."""
MANIFEST_LIMIT: Final = 4 * 2**20
"""Largest manifest, bytes."""
LONGEST_WINDOW: Final = 4096
"""Largest believable window, rows; and most tags."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: its sha256 (hex) and size in bytes."""

    sha256: str
    size: int


class ArrayEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array of the scorer: its shape and NumPy type."""

    shape: tuple[int, ...]
    dtype: str


class ModeTag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tag that says whether the machine runs."""

    name: str
    unit: str
    low: float | None
    high: float | None
    running: tuple[float, ...]
    description: str
    regimes: bool = False

    def tag(self) -> Tag:
        """As a domain value."""
        return Tag(self.name, self.unit, self.low, self.high, Role.MODE, self.running, self.description, self.regimes)

    @classmethod
    def of(cls, tag: Tag | None) -> ModeTag | None:
        """The manifest's form of a domain value."""
        if tag is None:
            return None
        return cls(tag.name, tag.unit, tag.low, tag.high, tag.running, tag.description, tag.regimes)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` holds, beside `digest`. Times in ns; `ranges` in each tag's unit, from the training rows."""

    format: int
    group: str
    created: int
    rung: Rung
    tags: tuple[str, ...]
    length: int
    tick: int
    mode: ModeTag | None
    min_coverage: float
    trained_from: int
    trained_until: int
    ranges: dict[str, tuple[float | None, float | None]]
    scaler: dict[str, Any]
    sensors: dict[str, Any]
    threshold: dict[str, Any]
    numbers: dict[str, float | int | str]
    """Those of the scorer's state that are no arrays."""
    arrays: dict[str, ArrayEntry]
    files: dict[str, FileEntry]


def write_manifest(manifest: Manifest) -> bytes:
    """Canonical JSON, with the digest of all the rest in it."""
    content = plain(msgspec.to_builtins(manifest))
    return dump(content | {"digest": hashlib.sha256(dump(content)).hexdigest()})


def digest_of(manifest: bytes) -> str:
    """The digest a manifest carries. Raises ModelRefused if it does not fit its content."""
    content = parse(manifest, "manifest.json")
    digest = content.pop("digest", None)
    if digest != hashlib.sha256(dump(content)).hexdigest():
        raise ModelRefused(
            "manifest.json does not fit its own digest; it was changed or damaged: train or copy it again"
        )
    return str(digest)


def read_manifest(data: bytes) -> Manifest:
    """The manifest, believed only if its digest fits and every number makes sense. Raises ModelRefused."""
    if len(data) > MANIFEST_LIMIT:
        raise ModelRefused(f"manifest.json has {len(data):,} bytes; expected at most {MANIFEST_LIMIT:,}; copy it again")
    digest_of(data)
    content = parse(data, "manifest.json")
    del content["digest"]
    try:
        manifest = msgspec.convert(content, Manifest)
    except msgspec.ValidationError as error:
        raise ModelRefused(f"manifest.json is not of format {FORMAT} ({error}); train the model again") from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise ModelRefused for numbers no detector can have."""
    tags = manifest.tags
    wrong = {
        f"format {manifest.format}; expected {FORMAT}": manifest.format != FORMAT,
        f"tags {tags}; expected 1 to {LONGEST_WINDOW} different names": not 1 <= len(tags) <= LONGEST_WINDOW
        or len(set(tags)) != len(tags)
        or not all(tags),
        f"window length {manifest.length}; expected 1 to {LONGEST_WINDOW} rows": not 1
        <= manifest.length
        <= LONGEST_WINDOW,
        f"tick {manifest.tick} ns; expected more than 0": manifest.tick <= 0,
        f"minimum coverage {manifest.min_coverage}; expected 0 to 1": not 0.0 <= manifest.min_coverage <= 1.0,
        f"span {manifest.trained_from} to {manifest.trained_until}; expected start before end": manifest.trained_from
        > manifest.trained_until,
        f"data ranges of {sorted(manifest.ranges)}; expected those of {sorted(tags)}": not set(manifest.ranges)
        <= set(tags),
        "scorer numbers that are not finite": not _finite(manifest.numbers),
    }
    for what, found in wrong.items():
        if found:
            raise ModelRefused(f"manifest.json says {what}; train the model again")


def _finite(numbers: Mapping[str, float | int | str]) -> bool:
    return all(isinstance(number, str) or math.isfinite(number) for number in numbers.values())
