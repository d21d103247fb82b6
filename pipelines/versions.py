"""Detectors by version, each loaded once, each refused for ever once it failed a check (guarantee G9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from anomaly.detector import Detector, rules_detector
from anomaly.domain import Asset
from anomaly.errors import ModelRefused
from pipelines.serving import RULES_VERSION

_log = structlog.get_logger(__name__)


class ModelSource(Protocol):
    """Where fitted versions come from; the registry is one."""

    def load(self, group: str, version: str) -> Detector:
        """A version that passed every check. Raises ModelRefused, StorageError."""


class Versions:
    """Loaded detectors of all groups. `longest`: rows of the longest window that may serve."""

    def __init__(self, source: ModelSource, groups: Mapping[str, Sequence[Asset]], longest: int) -> None:
        self._source = source
        self._groups = groups
        self._longest = longest
        self._loaded: dict[tuple[str, str], Detector] = {}
        self.refused: dict[tuple[str, str], str] = {}
        """Why a (group, version) must not serve."""

    def get(self, group: str, version: str) -> Detector | None:
        """The detector, or None if it is refused (then `refused` says why). Raises StorageError."""
        key = (group, version)
        if key in self.refused:
            return None
        if key not in self._loaded:
            try:
                self._loaded[key] = self._load(group, version)
            except ModelRefused as error:
                self.refused[key] = str(error)
                _log.error("model_refused", group=group, version=version, reason=str(error))
                return None
        return self._loaded[key]

    def first_usable(self, group: str, versions: Sequence[str]) -> Detector:
        """The first of `versions` that is not refused; the rules if none is."""
        usable = (self.get(group, version) for version in (*versions, RULES_VERSION))
        return next(detector for detector in usable if detector is not None)

    def _load(self, group: str, version: str) -> Detector:
        if version == RULES_VERSION:
            return rules_detector(group, self._groups[group])
        detector = self._source.load(group, version)
        if detector.length > self._longest:
            message = (
                f"{group}/{version}: its window has {detector.length} rows, at most {self._longest} can be kept; "
                "train one with a shorter window"
            )
            raise ModelRefused(message)
        return detector
