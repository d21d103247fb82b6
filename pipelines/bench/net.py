"""The model of the bench: an LSTM autoencoder 64 × 8 of the usual size, with seeded weights that nobody trained.

What a call costs does not depend on the weights, and so neither TensorFlow nor minutes of training are needed. Its
error on normal rows calibrates the score, and faults of the workload do go over the line.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from anomaly.alignment import AlignmentPolicy, align
from anomaly.compiled import load_compiled
from anomaly.detector import Detector
from anomaly.domain import Samples
from anomaly.scaling import fit_scaler
from anomaly.scorers import Scorer
from anomaly.scorers.reconstruction import fit_reconstruction
from anomaly.sensors import fit_limits
from anomaly.thresholds import Threshold
from anomaly.windows import sliding
from pipelines.bench.workload import GROUP, TAGS, Workload

LENGTH: Final = 64
UNITS: Final = 64
VERSION: Final = "bench-lstm"
_LEARNED: Final = 600
"""Rows an asset that scaling, sensor limits and the alert line are learned from."""
_LINE: Final = 1.4
"""Alert line in times of the largest normal error."""


def onnx_autoencoder(seed: int = 1) -> bytes:
    """The net as an ONNX graph: inputs `values` and `mask` (window, 64, 8), output the window as it is drawn."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  # only the bench builds graphs

    tags, rng = len(TAGS), np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> TensorProto:
        scale = 1.0 / np.sqrt(shape[-1])
        return numpy_helper.from_array(rng.normal(0.0, scale, shape).astype(np.float32), name)

    whole = numpy_helper.from_array
    constants = [
        weights("w1", 1, 4 * UNITS, 2 * tags),
        weights("r1", 1, 4 * UNITS, UNITS),
        weights("w2", 1, 4 * UNITS, UNITS),
        weights("r2", 1, 4 * UNITS, UNITS),
        weights("out", UNITS, tags),
        whole(np.array([LENGTH, 1, 1], np.int64), "repeat"),
        whole(np.array([1], np.int64), "direction"),
    ]
    nodes = [
        helper.make_node("Mul", ["values", "mask"], ["seen"]),
        helper.make_node("Concat", ["seen", "mask"], ["cells"], axis=2),
        helper.make_node("Transpose", ["cells"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w1", "r1"], ["", "code"], hidden_size=UNITS),
        helper.make_node("Tile", ["code", "repeat"], ["codes"]),
        helper.make_node("LSTM", ["codes", "w2", "r2"], ["drawn"], hidden_size=UNITS),
        helper.make_node("Squeeze", ["drawn", "direction"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["windows"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["windows", "out"], ["expected"]),
    ]
    shape: list[str | int | None] = ["window", LENGTH, tags]
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("values", "mask")],
        [helper.make_tensor_value_info("expected", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def bench_detector(workload: Workload, seed: int = 1) -> Detector:
    """The detector of the bench plant, calibrated on normal rows of its first machines."""
    names = tuple(tag.name for tag in TAGS)
    tick = workload.plant.assets[0].tick
    samples = [_normal(workload, number, names, tick) for number in range(min(4, len(workload.plant.assets)))]
    keep = [np.ones(len(block), dtype=bool) for block in samples]
    limits, scaler = fit_limits(samples, TAGS, keep), fit_scaler(samples, names, keep)
    net = load_compiled(onnx_autoencoder(seed))
    windows = [sliding(block, LENGTH, LENGTH, names, limits, None) for block in samples]
    scaled = np.concatenate([scaler.scale_windows(part) for part in windows])
    mask = np.concatenate([part.mask for part in windows])
    scorer = fit_reconstruction(net, scaled, mask)
    line = _LINE * _largest(scorer, scaled, mask)
    return Detector(GROUP, VERSION, names, None, tick, scaler, scorer, limits, Threshold({}, line, "bench"))


def _normal(workload: Workload, number: int, names: tuple[str, ...], tick: int) -> Samples:
    healthy = Workload(workload.plant, workload.start)
    return align(healthy.block(number, 0, _LEARNED), names, AlignmentPolicy.of(tick)).samples


def _largest(scorer: Scorer, values: np.ndarray, mask: np.ndarray) -> float:
    raw = [
        scorer.score(values[start : start + 64], mask[start : start + 64]).raw for start in range(0, len(values), 64)
    ]
    return float(np.nanmax(np.concatenate(raw)))
