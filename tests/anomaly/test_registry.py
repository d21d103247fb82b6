from __future__ import annotations

import hashlib
import io
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from anomaly.compiled import Compiled, Golden, load_compiled
from anomaly.detector import Detector, fit_rolling_z, fit_window_pca, rules_detector
from anomaly.domain import SECOND, Asset, Role, Samples, Tag
from anomaly.errors import ConfigurationError, ModelRefused, StorageError
from anomaly.model_card import ModelCard
from anomaly.registry import MemoryRegistry, Registry, bundle
from anomaly.registry.bundle import MANIFEST, pack, unpack
from anomaly.registry.canonical import dump, parse
from anomaly.registry.manifest import FileEntry, Manifest, read_manifest, write_manifest
from anomaly.scorers.reconstruction import Reconstruction, fit_reconstruction
from anomaly.training import card_of
from anomaly.training_set import TrainingSet

NOW = 1_795_255_200 * SECOND  # 2026-11-21T10:00:00Z
TAGS = (Tag("flow", "m3/h"), Tag("power", "kW"), Tag("state", role=Role.MODE, running=(1.0,)))
LENGTH = 6


def plant_samples(asset: str, rows: int, seed: int) -> Samples:
    chance = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 20.0) + 0.1 * chance.normal(size=rows)
    values = np.stack([10 + load + 0.1 * chance.normal(size=rows), 3 + 0.5 * load, np.ones(rows)], axis=1)
    mask = np.ones(values.shape, dtype=bool)
    restart = np.arange(rows) == 0
    names = tuple(tag.name for tag in TAGS)
    times = (1 + np.arange(rows)) * 10 * SECOND
    return Samples(asset, names, times, values, mask, (~mask).astype(np.uint8), restart, np.full(rows, 3))


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    samples = tuple(plant_samples(f"s1/pump-{i}", 700, i) for i in range(2))
    return TrainingSet("pumps", ("flow", "power"), samples, tuple(np.ones(700, bool) for _ in samples), TAGS[2])


@pytest.fixture(scope="module")
def linear(training: TrainingSet) -> tuple[Detector, ModelCard]:
    detector = fit_window_pca(training, TAGS, "new")
    return detector, card_of(detector, training, {"seconds": 0.1})


@pytest.fixture(scope="module")
def net(training: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, ModelCard, Path]:
    """A detector of rung lstm_autoencoder over a hand-made graph: testing the registry needs no Keras."""
    files = tmp_path_factory.mktemp("net")
    (files / "model.onnx").write_bytes(graph().SerializeToString())
    (files / "model.keras").write_bytes(keras_file())
    linear_detector = fit_window_pca(training, TAGS, "new")
    predict = load_compiled(files / "model.onnx")
    fit, held_back = training.split()
    windows = held_back.windows(linear_detector.scaler, linear_detector.sensors, LENGTH)
    golden = Golden(windows.values[:16], windows.mask[:16], predict(windows.values[:16], windows.mask[:16]))
    (files / "golden.npz").write_bytes(golden.to_bytes())
    detector = replace(linear_detector, scorer=fit_reconstruction(predict, windows.values, windows.mask))
    return detector, card_of(detector, fit, {"held_out_loss": 0.5}), files


@pytest.fixture(scope="module")
def members(net: tuple[Detector, ModelCard, Path]) -> dict[str, bytes]:
    return pack(*net, NOW)


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models") if request.param == "folder" else MemoryRegistry()


def graph(
    length: int = LENGTH,
    channels: int = 2,
    weights: np.ndarray | None = None,
    operator: str = "MatMul",
    extra: Any = None,
) -> onnx.ModelProto:
    """values · W, all masked cells 0; with W the exchange of both tags."""
    matrix = np.eye(channels, dtype=np.float32)[::-1].copy() if weights is None else weights
    tensors = [onnx.numpy_helper.from_array(matrix, "W"), *([extra] if extra else [])]
    nodes = [
        onnx.helper.make_node("Mul", ["values", "mask"], ["seen"]),
        onnx.helper.make_node(operator, ["seen", "W"], ["expected"]),
    ]
    shape: list[str | int | None] = ["window", length, channels]
    inputs = [onnx.helper.make_tensor_value_info(name, 1, shape) for name in ("values", "mask")]
    outputs = [onnx.helper.make_tensor_value_info("expected", 1, shape)]
    made = onnx.helper.make_graph(nodes, "net", inputs, outputs, tensors)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)


def keras_file(config: Any = None, drop: str = "", add: tuple[str, bytes] | None = None) -> bytes:
    layer = {"module": "keras.layers", "class_name": "LSTM", "config": {"units": 4}, "registered_name": None}
    whole = {"module": "keras.src.models.functional", "class_name": "Functional", "config": {"layers": [layer]}}
    entries = {
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "config.json": json.dumps(config or whole).encode(),
        "model.weights.h5": b"\x89HDF weights",
    }
    entries.pop(drop, None)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [*entries.items(), *([add] if add else [])]:
            archive.writestr(name, data)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def signed(members: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """The same members under a manifest that fits them: what an attacker, or a wrong trainer, would write."""
    manifest = read_manifest(members[MANIFEST])
    files = {
        name: FileEntry(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in members.items()
        if name != MANIFEST
    }
    return members | {MANIFEST: write_manifest(msgspec.structs.replace(manifest, files=files, **changes))}


def test_a_gpu_that_fails_the_golden_windows_is_not_used_and_the_cpu_serves(
    members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: bytes, device: str = "cpu") -> Compiled:
        """On the GPU the other tag's weights, as a driver that miscounts would answer."""
        wrong = graph(weights=np.eye(2, dtype=np.float32)).SerializeToString()
        found = load_compiled(wrong if device == "gpu" else source)
        found.engine = "onnx_gpu" if device == "gpu" else "onnx_cpu"
        return found

    monkeypatch.setattr(bundle, "load_compiled", load)
    scorer = unpack(members, "v", "gpu").scorer
    assert isinstance(scorer, Reconstruction)
    assert isinstance(scorer.predict, Compiled)
    assert (scorer.predict.engine, scorer.predict.fell_back) == ("onnx_cpu", True)
    scorer = unpack(members, "v").scorer
    assert isinstance(scorer, Reconstruction)
    assert isinstance(scorer.predict, Compiled)
    assert not scorer.predict.fell_back, "nobody asked for a GPU"


def refused(members: dict[str, bytes]) -> str:
    with pytest.raises(ModelRefused) as error:
        unpack(members, "v")
    message = str(error.value)
    assert len(message) > 30
    assert ";" in message or ":" in message, "says what came and how to mend it"
    return message


def same_scores(one: Detector, other: Detector) -> None:
    samples = plant_samples("s1/pump-1", 300, 99)
    a, b = one.detect(one.windows(samples, 0)), other.detect(other.windows(samples, 0))
    np.testing.assert_array_equal(a.score, b.score)
    np.testing.assert_array_equal(a.contributions, b.contributions)
    np.testing.assert_array_equal(a.expected, b.expected)
    assert np.isfinite(a.score).sum() > 200


def test_what_was_added_is_loaded_and_scores_the_same(
    registry: Registry, linear: tuple[Detector, ModelCard], training: TrainingSet
) -> None:
    version = registry.add(*linear, now=NOW)
    loaded = registry.load("pumps", version)
    assert version.startswith("20261121T100000-")
    assert len(version.split("-")[1]) == 8
    assert loaded.version == version
    assert (loaded.mode, loaded.tick) == (linear[0].mode, linear[0].tick)
    same_scores(linear[0], loaded)
    rolling = fit_rolling_z(training, TAGS, "new")
    same_scores(rolling, registry.load("pumps", registry.add(rolling, card_of(rolling, training, {}), now=NOW)))


def test_a_net_is_loaded_with_its_files_and_scores_the_same(
    registry: Registry, net: tuple[Detector, ModelCard, Path]
) -> None:
    detector, card, files = net
    version = registry.add(detector, card, files=files, now=NOW)
    same_scores(detector, registry.load("pumps", version))
    assert registry.card("pumps", version) == card


def test_adding_the_same_twice_gives_one_version(registry: Registry, linear: tuple[Detector, ModelCard]) -> None:
    assert registry.add(*linear, now=NOW) == registry.add(*linear, now=NOW)
    assert len(registry.versions("pumps")) == 1


def test_versions_come_oldest_first_and_groups_by_name(registry: Registry, linear: tuple[Detector, ModelCard]) -> None:
    names = [registry.add(*linear, now=NOW + hours * 3600 * SECOND) for hours in (5, 1, 30)]
    assert registry.versions("pumps") == (names[1], names[0], names[2])
    odd = replace(linear[0], group="../mills & co/ü")
    registry.add(odd, linear[1], now=NOW)
    assert registry.groups() == ("../mills & co/ü", "pumps")
    assert registry.versions("nobody") == ()
    assert [entry.version for entry in registry.entries("pumps")] == list(registry.versions("pumps"))


def test_aliases_move_and_a_roll_back_finds_the_champion_before(
    registry: Registry, linear: tuple[Detector, ModelCard]
) -> None:
    one, two, three = (registry.add(*linear, now=NOW + n * SECOND) for n in range(3))
    assert registry.aliases("pumps") == {}
    registry.set_alias("pumps", "champion", one)
    registry.set_alias("pumps", "challenger", two)
    assert registry.aliases("pumps") == {"champion": one, "challenger": two}
    registry.set_alias("pumps", "champion", two)
    assert registry.aliases("pumps") == {"champion": two}
    registry.set_alias("pumps", "champion", three)
    assert registry.previous("pumps") == two
    assert [registry.roll_back("pumps"), registry.roll_back("pumps")] == [two, one]
    with pytest.raises(ConfigurationError, match="no earlier champion"):
        registry.roll_back("pumps")
    assert registry.aliases("pumps") == {"champion": one}
    registry.set_alias("pumps", "challenger", three)
    registry.set_alias("pumps", "challenger", None)
    assert registry.aliases("pumps") == {"champion": one}


def test_unknown_versions_are_refused_by_name(registry: Registry, linear: tuple[Detector, ModelCard]) -> None:
    version = registry.add(*linear, now=NOW)
    for wrong in ("20200101T000000-00000000", "..", f"../versions/{version}", ""):
        with pytest.raises(ModelRefused, match=version):
            registry.load("pumps", wrong)
        with pytest.raises(ModelRefused):
            registry.set_alias("pumps", "champion", wrong)
    assert registry.aliases("pumps") == {}


def test_rules_and_nets_without_files_are_not_stored(
    registry: Registry, linear: tuple[Detector, ModelCard], net: tuple[Detector, ModelCard, Path], tmp_path: Path
) -> None:
    rules = rules_detector("pumps", [Asset("s1/pump-0", "pumps", TAGS)])
    with pytest.raises(ConfigurationError, match="rules"):
        registry.add(rules, linear[1], now=NOW)
    with pytest.raises(ConfigurationError, match=r"model\.|golden"):
        registry.add(net[0], net[1], files=tmp_path, now=NOW)
    assert registry.versions("pumps") == ()


def test_what_could_not_be_loaded_again_is_not_stored(
    registry: Registry, net: tuple[Detector, ModelCard, Path], tmp_path: Path
) -> None:
    for name in ("model.keras", "golden.npz"):
        (tmp_path / name).write_bytes((net[2] / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(graph(weights=np.full((2, 2), np.nan, np.float32)).SerializeToString())
    with pytest.raises(ModelRefused, match="not finite"):
        registry.add(net[0], net[1], files=tmp_path, now=NOW)
    assert registry.versions("pumps") == ()


def test_a_card_survives_json_with_unknown_figures(linear: tuple[Detector, ModelCard]) -> None:
    card = replace(linear[1], figures={"line": 2.0, "held_out_loss": math.nan}, left_out={"alert": 360, "off": 0})
    again = ModelCard.from_dict(json.loads(json.dumps(card.to_dict())))
    assert math.isnan(again.figures["held_out_loss"])
    assert replace(again, figures={}) == replace(card, figures={})
    assert card.summary(10 * SECOND) == "trained on 3.9 h, left out 1.0 h (alert 1.0 h)"


# ------------------------------------------------------------------------------------------------ damage (guarantee G9)


def test_no_bundle_with_a_flipped_bit_or_a_lost_tail_loads(members: dict[str, bytes]) -> None:
    chance = np.random.default_rng(1)
    unpack(members, "v")
    for _ in range(400):
        name = str(chance.choice(sorted(members)))
        data = bytearray(members[name])
        data[chance.integers(len(data))] ^= 1 << int(chance.integers(8))
        refused(members | {name: bytes(data)})
    for name in sorted(members):
        for share in np.linspace(0.0, 0.999, 25):
            refused(members | {name: members[name][: int(len(members[name]) * share)]})
        refused(members | {name: members[name] + b"\0"})


def test_a_bundle_with_a_missing_or_foreign_member_does_not_load(members: dict[str, bytes]) -> None:
    for name in members:
        refused({key: data for key, data in members.items() if key != name})
    for name in ("extra.py", "../escape", "model.h5", "scorer.pkl"):
        refused(members | {name: b"x"})
        assert "holds" in refused(signed(members | {name: b"x"}))


def wrong_nets() -> Iterator[tuple[str, str, bytes]]:
    nan = np.array([[np.nan, 0], [0, 1]], np.float32)
    infinite = np.array([[np.inf, 0], [0, 1]], np.float32)
    outside = onnx.TensorProto(name="far", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="/etc/passwd")
    giant = onnx.TensorProto(name="giant", data_type=1, dims=[2**31, 2**31])
    sizes = onnx.numpy_helper.from_array(np.array([2**40]), "sizes")
    yield "finite", "model.onnx", graph(weights=nan).SerializeToString()
    yield "finite", "model.onnx", graph(weights=infinite).SerializeToString()
    yield "takes", "model.onnx", graph(length=LENGTH + 1).SerializeToString()
    yield "takes", "model.onnx", graph(channels=3).SerializeToString()
    yield "operator", "model.onnx", graph(operator="Pow").SerializeToString()
    yield "another file|no sound", "model.onnx", graph(extra=outside).SerializeToString()
    yield "shape|no sound", "model.onnx", graph(extra=giant).SerializeToString()
    yield "sizes", "model.onnx", graph(extra=sizes).SerializeToString()
    yield "golden", "model.onnx", graph(weights=np.eye(2, dtype=np.float32)).SerializeToString()
    yield "no sound", "model.onnx", b"not a graph"
    for cls in ("Lambda", "TorchModuleWrapper", "TFSMLayer"):
        layer: dict[str, Any] = {"module": "keras.layers", "class_name": cls, "config": {}, "registered_name": None}
        yield "class", "model.keras", keras_file({"module": "keras", "class_name": "Functional", "config": [layer]})
    foreign: dict[str, Any] = {"module": "evil.layers", "class_name": "LSTM", "config": {}, "registered_name": None}
    yield "class", "model.keras", keras_file({"config": {"deep": [[foreign]]}})
    custom = {"module": "keras.layers", "class_name": "LSTM", "config": {}, "registered_name": "mine>LSTM"}
    yield "class", "model.keras", keras_file({"config": [custom]})
    yield "class", "model.keras", keras_file({"class_name": "function", "module": "builtins", "config": "system"})
    yield "class", "model.keras", keras_file({"module": "os"})
    yield "class", "model.keras", keras_file({"class_name": ["LSTM"], "module": {"a": 1}})
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        yield "holds", "model.keras", keras_file(drop=name)
    for name in ("../../etc/cron.d/x", "/abs", "assets/vocab.txt"):
        yield "holds", "model.keras", keras_file(add=(name, b"x"))
    yield "JSON", "model.keras", keras_file(drop="config.json", add=("config.json", b"{"))
    yield "JSON", "model.keras", keras_file(drop="config.json", add=("config.json", b"[" * 100_000))
    yield "zip", "model.keras", b"PK no zip"


def wrong_arrays(members: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    with np.load(io.BytesIO(members["scorer.npz"])) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    with np.load(io.BytesIO(members["golden.npz"])) as loaded:
        golden = {name: loaded[name] for name in loaded.files}
    for name, array in arrays.items():
        yield "finite", "scorer.npz", npz(**arrays | {name: np.full(array.shape, np.nan)})
        yield "declares", "scorer.npz", npz(**arrays | {name: np.zeros((*array.shape, 1))})
        yield "declares", "scorer.npz", npz(**{key: value for key, value in arrays.items() if key != name})
        yield "numbers", "scorer.npz", npz(**arrays | {name: array.astype(complex)})
    yield "declares", "scorer.npz", npz(**arrays, extra=np.zeros(1))
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    yield "array|numbers", "scorer.npz", buffer.getvalue()
    yield "golden|off", "golden.npz", npz(**golden | {"outputs": golden["outputs"] + 0.01})
    yield "golden", "golden.npz", npz(**golden | {"outputs": golden["outputs"][:3]})
    yield "golden", "golden.npz", npz(**golden | {"values": golden["values"][:, 1:]})
    yield "golden", "golden.npz", npz(**{name: array[:0] for name, array in golden.items()})
    yield "golden", "golden.npz", npz(values=golden["values"])
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(
        117
    )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("weights.npy", header + b"\n" + b"\0" * 8)
    yield "declares", "scorer.npz", bomb.getvalue()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", b"\0" * (65 * 2**20))
    yield "unpacked", "scorer.npz", bomb.getvalue()


def test_well_signed_bundles_with_a_wrong_net_or_wrong_arrays_do_not_load(members: dict[str, bytes]) -> None:
    unpack(signed(members), "v")
    for words, name, data in [*wrong_nets(), *wrong_arrays(members)]:
        message = refused(signed(members | {name: data}))
        assert any(word in message for word in words.split("|")), (words, name, message)


def test_well_signed_bundles_with_senseless_numbers_do_not_load(members: dict[str, bytes]) -> None:
    manifest = read_manifest(members[MANIFEST])
    scaler, threshold, sensors = manifest.scaler, manifest.threshold, manifest.sensors
    wrong: list[dict[str, Any]] = [
        {"format": 2},
        {"length": LENGTH + 1},
        {"length": 0},
        {"length": 10**9},
        {"tags": ("flow",)},
        {"tags": ("flow", "flow")},
        {"tags": ("power", "flow")},
        {"tags": ()},
        {"tick": 0},
        {"min_coverage": 1.5},
        {"trained_from": manifest.trained_until + 1},
        {"ranges": {"other": (0.0, 1.0)}},
        {"numbers": {}},
        {"numbers": {"length": LENGTH + 1}},
        {"rung": "window_pca"},
        {"rung": "rules"},
        {"threshold": threshold | {"default": -1.0}},
        {"threshold": threshold | {"default": None}},
        {"threshold": threshold | {"lines": {"s1/pump-1": 0.0}}},
        {"threshold": {}},
        {"scaler": {}},
        {"scaler": scaler | {"default_scale": [0.0, 1.0]}},
        {"scaler": scaler | {"default_scale": [None, 1.0]}},
        {"scaler": scaler | {"default_center": [1.0]}},
        {"scaler": scaler | {"tags": ["power", "flow"]}},
        {"scaler": scaler | {"scale": {asset: [1.0, -1.0] for asset in scaler["scale"]}}},
        {"sensors": {}},
        {"sensors": sensors | {"tags": ["other", "names", "here"]}},
    ]
    for change in wrong:
        refused(signed(members, **change))


def test_a_manifest_is_believed_only_in_its_one_spelling(members: dict[str, bytes]) -> None:
    data = members[MANIFEST]
    for spelling in (
        data + b" ",
        json.dumps(json.loads(data), indent=1).encode(),
        data.replace(b'"format":1', b'"format":1,"format":1'),
        b"[]",
        b"1" * 5000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
        b" " * (5 * 2**20),
    ):
        refused(members | {MANIFEST: spelling})
    content = parse(data, "m")
    content["extra"] = 1
    del content["digest"]
    refused(members | {MANIFEST: dump(content | {"digest": hashlib.sha256(dump(content)).hexdigest()})})


def test_links_giants_and_strange_files_in_a_version_folder_are_refused(
    linear: tuple[Detector, ModelCard], tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    version = registry.add(*linear, now=NOW)
    home = tmp_path / "g-pumps" / "versions" / version
    original = (home / "scorer.npz").read_bytes()

    def link() -> None:
        (tmp_path / "elsewhere").write_bytes(original)
        (home / "scorer.npz").symlink_to(tmp_path / "elsewhere")

    def giant() -> None:
        with (home / "scorer.npz").open("wb") as stream:
            stream.truncate(2**40)

    strange: list[Callable[[], object]] = [
        link,
        giant,
        lambda: os.mkfifo(home / "scorer.npz"),
        (home / "scorer.npz").mkdir,
    ]
    for make in strange:
        (home / "scorer.npz").unlink()
        make()
        with pytest.raises((ModelRefused, StorageError)):
            registry.load("pumps", version)
        assert registry.entries("pumps")[0].version == version
        if (home / "scorer.npz").is_dir() and not (home / "scorer.npz").is_symlink():
            (home / "scorer.npz").rmdir()
        else:
            (home / "scorer.npz").unlink()
        (home / "scorer.npz").write_bytes(original)
    registry.load("pumps", version)


def test_a_bundle_under_another_name_or_group_is_refused(linear: tuple[Detector, ModelCard], tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    version = registry.add(*linear, now=NOW)
    versions = tmp_path / "g-pumps" / "versions"
    (versions / version).rename(versions / "20300101T000000-0badc0de")
    with pytest.raises(ModelRefused, match=version):
        registry.load("pumps", "20300101T000000-0badc0de")
    (tmp_path / "g-fans").mkdir()
    (versions / "20300101T000000-0badc0de").rename(versions / version)
    versions.rename(tmp_path / "g-fans" / "versions")
    with pytest.raises(ModelRefused, match="pumps"):
        registry.load("fans", version)


# ------------------------------------------------------------------------------------------------- folder: concurrency


def test_what_a_killed_writer_left_is_never_listed_and_is_swept(
    linear: tuple[Detector, ModelCard], tmp_path: Path
) -> None:
    registry = Registry(tmp_path)
    left = tmp_path / "g-pumps" / "versions" / ".work-killed"
    left.mkdir(parents=True)
    (left / "manifest.json").write_bytes(b"{")
    assert (registry.versions("pumps"), registry.groups()) == ((), ())
    version = registry.add(*linear, now=NOW)
    assert registry.versions("pumps") == (version,)
    assert not left.exists()


@pytest.mark.slow
def test_readers_never_see_half_a_version(linear: tuple[Detector, ModelCard], tmp_path: Path) -> None:
    registry, stop, seen, wrong = Registry(tmp_path), threading.Event(), set(), list[Exception]()

    def read() -> None:
        while not stop.is_set():
            for version in registry.versions("pumps"):
                try:
                    registry.load("pumps", version)
                    champion = registry.aliases("pumps").get("champion")
                    assert champion is None or champion in registry.versions("pumps")
                except Exception as error:
                    wrong.append(error)
                seen.add(version)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for second in range(20):
        registry.set_alias("pumps", "champion", registry.add(*linear, now=NOW + second * SECOND))
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen
    assert len(registry.versions("pumps")) == 20


def _crown(folder: Path, versions: list[str]) -> None:
    registry = Registry(folder)
    for version in versions:
        registry.set_alias("pumps", "champion", version)


@pytest.mark.slow
def test_no_promotion_is_lost_between_processes(linear: tuple[Detector, ModelCard], tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    versions = [registry.add(*linear, now=NOW + second * SECOND) for second in range(20)]
    fork = multiprocessing.get_context("forkserver")
    workers = [fork.Process(target=_crown, args=(tmp_path, versions[half::2])) for half in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    crowned = {registry.aliases("pumps")["champion"]}
    while registry.previous("pumps"):
        crowned.add(registry.roll_back("pumps"))
    assert crowned == set(versions)


def test_a_folder_that_cannot_be_used_is_said_plainly(linear: tuple[Detector, ModelCard], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="check its owner"):
        Registry(tmp_path / "file").add(*linear, now=NOW)
    registry = Registry(tmp_path / "models")
    registry.add(*linear, now=NOW)
    (tmp_path / "models" / "g-pumps" / "aliases.json").write_text("{")
    with pytest.raises(StorageError, match="promote a version again"):
        registry.aliases("pumps")


@pytest.mark.slow
def test_loading_a_net_imports_neither_keras_nor_tensorflow(
    net: tuple[Detector, ModelCard, Path], tmp_path: Path
) -> None:
    version = Registry(tmp_path).add(net[0], net[1], files=net[2], now=NOW)
    code = (
        "import sys; from pathlib import Path; import anomaly.training, anomaly.models;"
        "from anomaly.registry import Registry;"
        f"d = Registry(Path({str(tmp_path)!r})).load('pumps', {version!r});"
        "bad = sorted({'keras', 'tensorflow', 'tf2onnx'} & set(sys.modules)); print(d.rung.value, bad)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["lstm_autoencoder", "[]\n"]


def test_the_manifest_struct_names_every_number_a_detector_needs(members: dict[str, bytes]) -> None:
    manifest: Manifest = read_manifest(members[MANIFEST])
    assert (manifest.tags, manifest.length, manifest.tick) == (("flow", "power"), LENGTH, 10 * SECOND)
    assert set(manifest.files) == set(members) - {MANIFEST}
    assert manifest.ranges["flow"][0] is not None
    assert manifest.scaler["center"].keys() == {"s1/pump-0", "s1/pump-1"}
