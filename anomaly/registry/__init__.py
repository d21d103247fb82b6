"""The registry: versions of detectors by group, with the aliases champion and challenger (MLflow's words).

What it loads has passed every check (guarantee G9); what it stores appears whole or not at all. It loads neither Keras
nor TensorFlow.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from anomaly.compiled import Device
from anomaly.detector import Detector
from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError, ModelRefused
from anomaly.model_card import ModelCard
from anomaly.registry.bundle import MANIFEST, pack, read_card, unpack
from anomaly.registry.manifest import digest_of, read_manifest
from anomaly.registry.stores import Aliases, FolderStore, MemoryStore, Store

Alias = Literal["champion", "challenger"]


class Entry(NamedTuple):
    """One version as listed. `refused` says why it could not serve; then `card` is None."""

    version: str
    card: ModelCard | None
    refused: str = ""


class Registry:
    """Versions in a folder. Thread-safe and safe between processes; readers never wait for writers.

    `device`: what the nets that `load` returns are to be computed on. Every verb raises StorageError (or StorageFull)
    if the folder cannot be used.
    """

    def __init__(self, folder: Path, device: Device = "cpu") -> None:
        self._store: Store = FolderStore(folder)
        self._device: Device = device

    def add(self, detector: Detector, card: ModelCard, *, now: int, files: Path | None = None) -> str:
        """Store a version and return its name: UTC time `now` (ns) and 8 hex digits of its content.

        `files`: the folder with `model.keras`, `model.onnx`, `golden.npz`, for a net. What could not be loaded again is
        not stored: raises ModelRefused. Raises ConfigurationError for rules, which are never stored. Idempotent.
        """
        members = pack(detector, card, files, now)
        version = version_name(now, members[MANIFEST])
        unpack(members, version)
        self._store.write(detector.group, version, members)
        return version

    def load(self, group: str, version: str) -> Detector:
        """The detector of a version, every check passed. Raises ModelRefused; then nothing of it may serve."""
        members = self._store.read(group, version)
        _check_name(members, group, version)
        return unpack(members, version, self._device)

    def card(self, group: str, version: str) -> ModelCard:
        """The model card of a version. Raises ModelRefused if it is damaged."""
        members = self._store.read(group, version)
        _check_name(members, group, version)
        return read_card(members)

    def entries(self, group: str) -> tuple[Entry, ...]:
        """Every version with its card, oldest first; those that fail a check of `load` with the reason instead."""
        found = []
        for version in self.versions(group):
            try:
                found.append(Entry(version, self._checked(group, version)))
            except ModelRefused as error:
                found.append(Entry(version, None, str(error)))
        return tuple(found)

    def _checked(self, group: str, version: str) -> ModelCard:
        members = self._store.read(group, version)
        _check_name(members, group, version)
        unpack(members, version)
        return read_card(members)

    def groups(self) -> tuple[str, ...]:
        """Groups that have a version, sorted."""
        return self._store.groups()

    def versions(self, group: str) -> tuple[str, ...]:
        """Versions of a group, oldest first; empty for an unknown group."""
        return self._store.versions(group)

    def aliases(self, group: str) -> dict[str, str]:
        """Version by alias, of the aliases that are set."""
        aliases = self._store.aliases(group)
        named = {"champion": aliases.champion, "challenger": aliases.challenger}
        return {alias: version for alias, version in named.items() if version is not None}

    def previous(self, group: str) -> str | None:
        """The champion before the present one: what `roll_back` returns to."""
        earlier = self._store.aliases(group).earlier
        return earlier[-1] if earlier else None

    def set_alias(self, group: str, alias: Alias, version: str | None) -> None:
        """Let `alias` name `version`, in one step; None takes it away. Raises ModelRefused for an unknown version.

        A new champion that was the challenger stops being it; the old one is remembered for `roll_back`.
        """
        if version is not None:
            self._known(group, version)
        with self._store.changing(group) as box:
            box[0] = _challenged(box[0], version) if alias == "challenger" else _crowned(box[0], version)

    def roll_back(self, group: str) -> str:
        """Make the previous champion the champion again and return it. Raises ConfigurationError if there is none."""
        with self._store.changing(group) as box:
            if not box[0].earlier:
                raise ConfigurationError(f"group {group!r} has no earlier champion; expected one promotion before; "
                                         "promote a version by name instead")  # fmt: skip
            version = box[0].earlier[-1]
            self._known(group, version)
            box[0] = replace(box[0], champion=version, earlier=box[0].earlier[:-1])
        return version

    def _known(self, group: str, version: str) -> None:
        if version not in self.versions(group):
            self._store.read(group, version)  # raises, naming what there is


class MemoryRegistry(Registry):
    """The in-memory twin: the same bytes and checks, no folder."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._device = "cpu"


def version_name(now: int, manifest: bytes) -> str:
    """Name of a version: UTC time in seconds of `now` (ns) and the first 8 hex digits of the manifest's digest."""
    return f"{datetime.fromtimestamp(now // SECOND, UTC):%Y%m%dT%H%M%S}-{digest_of(manifest)[:8]}"


def _check_name(members: dict[str, bytes], group: str, version: str) -> None:
    """Refuse a bundle that lies under another name than its own: content, time and group must be as named."""
    data = members.get(MANIFEST, b"")
    manifest = read_manifest(data)
    own = version_name(manifest.created, data)
    if (manifest.group, own) != (group, version):
        raise ModelRefused(
            f"the bundle of {group!r} {version} says it is {manifest.group!r} {own}; it was moved or changed: "
            "copy or train it again"
        )


def _challenged(aliases: Aliases, version: str | None) -> Aliases:
    return replace(aliases, challenger=version)


def _crowned(aliases: Aliases, version: str | None) -> Aliases:
    if version == aliases.champion:
        return aliases
    earlier = (*aliases.earlier, aliases.champion) if aliases.champion is not None else aliases.earlier
    challenger = None if aliases.challenger == version else aliases.challenger
    return Aliases(version, challenger, earlier)
