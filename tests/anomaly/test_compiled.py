from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from anomaly.compiled import Golden, check_golden, export_onnx, load_compiled, save_keras
from anomaly.errors import ModelRefused
from anomaly.models.lstm_autoencoder import build_lstm_autoencoder
from anomaly.registry.nets import check_keras, check_onnx
from anomaly.scorers import BATCH


def graph(names: tuple[str, str] = ("values", "mask"), shapes: tuple[Any, Any] = ([1, 4, 2], [1, 4, 2])) -> bytes:
    """values · mask, with batches of any size."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, 1, ["window", *shape[1:]])
        for name, shape in zip(names, shapes, strict=True)
    ]
    outputs = [onnx.helper.make_tensor_value_info("expected", 1, ["window", *shapes[0][1:]])]
    node = onnx.helper.make_node("Mul", list(names), ["expected"])
    made = onnx.helper.make_graph([node], "net", inputs, outputs)
    opset = [onnx.helper.make_opsetid("", 15)]
    return bytes(onnx.helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())


def windows(count: int, length: int = 4, tags: int = 2) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(count)
    mask = chance.random((count, length, tags)) < 0.8
    return np.where(mask, chance.normal(size=mask.shape), 0.0).astype(np.float32), mask


def test_a_compiled_net_takes_windows_of_its_own_shape_only(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(graph())
    predict = load_compiled(tmp_path / "net.onnx")
    values, mask = windows(5)
    np.testing.assert_array_equal(predict(values, mask), values)
    with pytest.raises(ValueError, match=r"\(any, 4, 2\)"):
        predict(values[:, 1:], mask[:, 1:])
    with pytest.raises(ValueError, match="this net takes"):
        predict(*windows(5, 4, 3))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no graph",
        graph(names=("values", "other")),
        graph(shapes=([1, 4, 2], [1, 4, 1])),
        graph(shapes=([1, "time", 2], [1, "time", 2])),
    ],
    ids=["empty", "text", "name", "shape", "open"],
)
def test_what_is_no_net_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused, match="train"):
        load_compiled(data)


def test_a_gpu_that_is_not_there_is_told_and_the_cpu_computes_the_same() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    usual, wished = load_compiled(graph()), load_compiled(graph(), "gpu")
    assert (usual.engine, usual.fell_back) == ("onnx_cpu", False)
    assert (wished.engine, wished.fell_back) == ("onnx_cpu", True)
    values, mask = windows(5)
    np.testing.assert_array_equal(usual(values, mask), wished(values, mask))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="FileNotFoundError"):
        load_compiled(tmp_path / "none.onnx")


def test_golden_windows_tell_a_net_that_answers_otherwise() -> None:
    predict = load_compiled(graph())
    values, mask = windows(16)
    golden = Golden(values, mask, values)
    assert check_golden(predict, golden) == 0.0
    assert check_golden(predict, replace(golden, outputs=values + np.float32(5e-5))) < 1e-4
    for wrong in (values + np.float32(1e-3), np.full_like(values, np.nan)):
        with pytest.raises(ModelRefused):
            check_golden(predict, replace(golden, outputs=wrong))
    for arrays in (
        {"values": values, "mask": mask},
        {"values": values, "mask": mask, "outputs": values[:3]},
        {"values": values, "mask": mask, "outputs": values.astype(float)},
        {"values": values[:0], "mask": mask[:0], "outputs": values[:0]},
        {"values": values[0], "mask": mask[0], "outputs": values[0]},
    ):
        with pytest.raises(ModelRefused, match="golden windows"):
            Golden.from_arrays(arrays)
    with pytest.raises(ModelRefused, match="golden"):
        check_golden(predict, Golden(*(a[:, 1:] for a in (values, mask, values))))


@pytest.mark.slow
def test_an_exported_net_agrees_with_keras_in_every_batch_and_passes_the_registry_s_checks(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TensorFlow's own import says is not ours to mend
        import keras
    for depth, dropout, linear in ((1, 0.0, 0), (2, 0.2, 5)):
        net = build_lstm_autoencoder(8, 3, units=6, depth=depth, latent=4, linear=linear, dropout=dropout, seed=2)
        values, mask = windows(BATCH, 8, 3)
        drawn = np.asarray(net.predict_on_batch([values, mask.astype(np.float32)]))
        export_onnx(net, tmp_path / "net.onnx")
        predict = load_compiled(tmp_path / "net.onnx")
        assert check_golden(predict, Golden(values, mask, drawn)) < 1e-5
        for count in (1, 7):
            np.testing.assert_allclose(predict(values[:count], mask[:count]), drawn[:count], atol=1e-5)
        save_keras(net, tmp_path / "net.keras")
        check_keras((tmp_path / "net.keras").read_bytes())
        check_onnx((tmp_path / "net.onnx").read_bytes(), 8, 3)
        assert not list(tmp_path.glob("*part*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras asks h5py and NumPy in an old way
        again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.count_params() == net.count_params()
