"""A detector as a bundle of files, and back: `pack` writes what `unpack` will believe.

Members: `manifest.json`, `card.json`, `scorer.npz`; nets add `model.keras`, `model.onnx`, `golden.npz`. Nothing is
pickled, Keras is not needed to load (guarantee G9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from anomaly.compiled import Compiled, Device, Golden, check_golden, load_compiled
from anomaly.detector import Detector
from anomaly.domain import Rung
from anomaly.errors import ConfigurationError, ModelRefused
from anomaly.model_card import ModelCard
from anomaly.registry.arrays import MEMBER_LIMIT, read_npz, write_npz
from anomaly.registry.canonical import dump, parse, plain
from anomaly.registry.manifest import FORMAT, ArrayEntry, FileEntry, Manifest, ModeTag, read_manifest, write_manifest
from anomaly.registry.nets import check_keras, check_onnx
from anomaly.scaling import Scaler
from anomaly.scorers import Scorer, State
from anomaly.scorers.panel import Panel
from anomaly.scorers.reconstruction import Reconstruction
from anomaly.scorers.rolling_z import RollingZ
from anomaly.scorers.window_pca import WindowPca
from anomaly.sensors import SensorLimits
from anomaly.thresholds import Threshold

MANIFEST: Final = "manifest.json"
PLAIN_MEMBERS: Final = frozenset({"card.json", "scorer.npz"})
NET_MEMBERS: Final = frozenset({"model.keras", "model.onnx", "golden.npz"})
SIMPLE_SCORERS: Final[Mapping[Rung, Callable[[State], Scorer]]] = {
    Rung.ROLLING_Z: RollingZ.from_state,
    Rung.WINDOW_PCA: WindowPca.from_state,
}
"""Scorers that are rebuilt from their state alone."""


def members_of(rung: Rung) -> frozenset[str]:
    """Names of all members beside the manifest. Raises ConfigurationError for a rung that is never saved."""
    if rung is Rung.LSTM_AUTOENCODER:
        return PLAIN_MEMBERS | NET_MEMBERS
    if rung in SIMPLE_SCORERS:
        return PLAIN_MEMBERS
    raise ConfigurationError(
        f"a detector of rung {rung.value!r} cannot be stored; expected one that learned from data: "
        f"{', '.join(sorted(r.value for r in (*SIMPLE_SCORERS, Rung.LSTM_AUTOENCODER)))}"
    )


def pack(detector: Detector, card: ModelCard, files: Path | None, created: int) -> dict[str, bytes]:
    """The bundle's members. `files`: folder with the net's files, for a net; `created` ns.

    Raises ConfigurationError if the rung is not stored or a net's file is missing.
    """
    members = {"card.json": dump(card.to_dict()), "scorer.npz": b""}
    for name in members_of(detector.rung) - PLAIN_MEMBERS:
        if files is None or not (files / name).is_file():
            raise ConfigurationError(f"no {name} in {files}; expected the files of the trained net; train it again")
        members[name] = (files / name).read_bytes()
    state = detector.scorer.state()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    members["scorer.npz"] = write_npz(arrays)
    manifest = Manifest(
        format=FORMAT,
        group=detector.group,
        created=created,
        rung=detector.rung,
        tags=detector.tags,
        length=detector.length,
        tick=detector.tick,
        mode=ModeTag.of(detector.mode),
        min_coverage=detector.min_coverage,
        trained_from=detector.trained_from,
        trained_until=detector.trained_until,
        ranges={tag: (low, high) for tag, (low, high) in card.ranges.items()},
        scaler=plain(detector.scaler.to_dict()),
        sensors=plain(detector.sensors.to_dict()),
        threshold=plain(detector.threshold.to_dict()),
        numbers={name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
        arrays={name: ArrayEntry(array.shape, array.dtype.str) for name, array in arrays.items()},
        files={name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in members.items()},
    )
    return members | {MANIFEST: write_manifest(manifest)}


def unpack(members: Mapping[str, bytes], version: str, device: Device = "cpu") -> Detector:
    """The detector of a bundle, named `version`; every check of guarantee G9 passed. Raises ModelRefused.

    `device`: what a net is to be computed on; see `load_compiled`.
    """
    manifest = read_manifest(members.get(MANIFEST, b""))
    check_members(manifest, members)
    read_card(members)
    scorer = _scorer(manifest, members, device)
    try:
        detector = Detector(
            group=manifest.group,
            version=version,
            tags=manifest.tags,
            mode=manifest.mode.tag() if manifest.mode else None,
            tick=manifest.tick,
            scaler=Scaler.from_dict(manifest.scaler),
            scorer=scorer,
            sensors=SensorLimits.from_dict(manifest.sensors),
            threshold=Threshold.from_dict(manifest.threshold),
            min_coverage=manifest.min_coverage,
            trained_from=manifest.trained_from,
            trained_until=manifest.trained_until,
        )
    except Exception as error:  # whatever a wrong mapping makes the values raise
        raise ModelRefused(
            f"manifest.json does not describe a detector ({error!r:.200}); train the model again"
        ) from error
    _check_sizes(detector)
    return detector


def check_members(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Raise ModelRefused unless exactly the declared members are there, each with its size and sha256."""
    try:
        wanted = members_of(manifest.rung)
    except ConfigurationError as error:
        raise ModelRefused(f"manifest.json: {error}") from error
    found = set(members) - {MANIFEST}
    if found != wanted or set(manifest.files) != wanted:
        raise ModelRefused(
            f"the bundle holds {sorted(found)} and declares {sorted(manifest.files)}; expected exactly "
            f"{sorted(wanted)}; train or copy it again"
        )
    for name in sorted(wanted):
        entry, data = manifest.files[name], members[name]
        if not 0 < entry.size <= MEMBER_LIMIT or entry.size != len(data):
            raise ModelRefused(
                f"{name} has {len(data):,} bytes, declared are {entry.size:,}; expected equal and at most "
                f"{MEMBER_LIMIT:,}; copy the model again"
            )
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ModelRefused(f"{name} does not fit its sha256; it was changed or damaged: train or copy it again")


def read_card(members: Mapping[str, bytes]) -> ModelCard:
    """The model card of a bundle. Raises ModelRefused."""
    try:
        return ModelCard.from_dict(parse(members["card.json"], "card.json"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelRefused(f"card.json is no model card ({error!r:.200}); train the model again") from error


def _scorer(manifest: Manifest, members: Mapping[str, bytes], device: Device) -> Scorer:
    """The scorer, from checked arrays and, for a net, checked files."""
    arrays = read_npz(members["scorer.npz"], "scorer.npz")
    found = {name: ArrayEntry(array.shape, array.dtype.str) for name, array in arrays.items()}
    if found != manifest.arrays:
        raise ModelRefused(f"scorer.npz holds {found}; the manifest declares {manifest.arrays}; train the model again")
    state: State = {**manifest.numbers, **arrays}
    try:
        if manifest.rung is Rung.LSTM_AUTOENCODER:
            return _with_net(state, manifest, members, device)
        return SIMPLE_SCORERS[manifest.rung](state)
    except ModelRefused:
        raise
    except Exception as error:  # whatever a wrong state makes a scorer raise
        raise ModelRefused(f"scorer.npz does not rebuild the scorer ({error!r:.200}); train the model again") from error


def _with_net(state: State, manifest: Manifest, members: Mapping[str, bytes], device: Device) -> Scorer:
    """A panel of views with a net among them, or the net alone."""
    rows = state.get("net.length")
    if rows is None:
        return Reconstruction.from_state(state, _net(manifest, members, device, manifest.length))
    return Panel.from_state(state, _net(manifest, members, device, int(np.asarray(rows))))


def _net(manifest: Manifest, members: Mapping[str, bytes], device: Device, length: int) -> Compiled:
    """The net behind ONNX Runtime, checked inside and asked its golden windows. A GPU that fails them is not used."""
    check_keras(members["model.keras"])
    check_onnx(members["model.onnx"], length, len(manifest.tags))
    golden = Golden.from_arrays(read_npz(members["golden.npz"], "golden.npz"))
    predict = load_compiled(members["model.onnx"], device)
    try:
        check_golden(predict, golden)
    except ModelRefused:
        if predict.engine == "onnx_cpu":
            raise
        predict = load_compiled(members["model.onnx"])
        check_golden(predict, golden)
        predict.fell_back = True
    return predict


def _check_sizes(detector: Detector) -> None:
    """Raise ModelRefused unless the parts are of one size and able to score: all zeros, and a tag missing."""
    tags = len(detector.tags)
    arrays = [detector.scaler.default_center, detector.scaler.default_scale]
    arrays += [*detector.scaler.center.values(), *detector.scaler.scale.values()]
    lines = [detector.threshold.default, *detector.threshold.lines.values()]
    scales = [detector.scaler.default_scale, *detector.scaler.scale.values()]
    if (
        any(array.shape != (tags,) or not np.isfinite(array).all() for array in arrays)
        or any((scale <= 0).any() for scale in scales)
        or detector.scaler.tags != detector.tags
        or not set(detector.tags) <= set(detector.sensors.tags)
        or not all(np.isfinite(line) and line > 0 for line in lines)
    ):
        raise ModelRefused(
            f"scaler, sensor limits or alert lines do not fit the {tags} tags, or are not finite and positive; "
            "train the model again"
        )
    try:
        values = np.zeros((2, detector.length, tags), np.float32)
        mask = np.ones(values.shape, bool)
        mask[1, :, 0] = tags == 1
        raw = detector.scorer.score(values, mask, np.zeros(2, np.int64))
    except Exception as error:
        raise ModelRefused(f"the scorer fails on an empty window ({error!r:.200}); train the model again") from error
    if raw.raw.shape != (2,) or raw.contributions.shape != (2, tags) or not np.isfinite(raw.raw).all():
        raise ModelRefused("the scorer gives no numbers for an empty window; train the model again")
