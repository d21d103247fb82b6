"""What a net's files may hold: known Keras classes, known ONNX operators, finite weights, the declared shape."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from anomaly.errors import ModelRefused
from anomaly.registry.arrays import unzip

KERAS_MEMBERS: Final = frozenset({"metadata.json", "config.json", "model.weights.h5"})
KERAS_CLASSES: Final = frozenset(
    {
        ("keras.src.models.functional", "Functional"),
        ("keras", "DTypePolicy"),
        ("keras", "Functional"),
        *(("keras.layers", name) for name in ("InputLayer", "Multiply", "Concatenate", "LSTM", "Dense", "Dropout")),
        *(("keras.layers", name) for name in ("RepeatVector", "Add", "Flatten", "Reshape", "LSTMCell")),
        *(
            ("keras.initializers", name)
            for name in ("GlorotUniform", "Orthogonal", "Zeros", "Ones", "OrthogonalInitializer")
        ),
    }
)
"""Module and class of everything that may stand in a `config.json`. No Lambda, no custom object, no function."""
ONNX_OPERATORS: Final = frozenset(
    (
        *("Add", "Cast", "Concat", "Constant", "Expand", "Gather", "Gemm", "Identity", "LSTM", "MatMul", "Mul"),
        *("Reshape", "Shape", "Sigmoid", "Slice", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze"),
    )
)
"""Operators tf2onnx writes for our architectures; none of them reads files or holds a graph of its own."""
LARGEST_INTEGER: Final = 65_536
"""Largest integer a graph may hold outside `Slice`: integers become sizes, and sizes become memory."""
MEND: Final = "train or copy the model again"


def check_keras(data: bytes) -> None:
    """Raise ModelRefused unless `model.keras` is a sound zip of known classes. Keras itself is not loaded."""
    members = unzip(data, "model.keras")
    if set(members) != KERAS_MEMBERS:
        raise ModelRefused(f"model.keras holds {sorted(members)}; expected exactly {sorted(KERAS_MEMBERS)}; {MEND}")
    try:
        config = json.loads(members["config.json"])
        _check_classes(config)
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"the config.json in model.keras is no JSON ({error}); {MEND}") from error


def _check_classes(node: Any) -> None:
    """Walk a Keras config; every class it names must be allowed."""
    if isinstance(node, list):
        for item in node:
            _check_classes(item)
    if not isinstance(node, dict):
        return
    if "class_name" in node and node["class_name"] != "__keras_tensor__":
        named = (str(node.get("module")), str(node["class_name"]))
        if named not in KERAS_CLASSES or node.get("registered_name") not in (None, node["class_name"]):
            raise ModelRefused(
                f"model.keras names the class {named[0]}.{named[1]}; expected only layers of plantwatch's own "
                f"architectures; do not load this file, {MEND}"
            )
    elif "class_name" not in node and ("module" in node or "registered_name" in node):
        raise ModelRefused(f"model.keras names the module {node.get('module')} without a class; {MEND}")
    for item in node.values():
        _check_classes(item)


def check_onnx(data: bytes, length: int, channels: int) -> None:
    """Raise ModelRefused unless `model.onnx` is a plain graph of known operators, finite weights, the given shape."""
    import onnx  # noqa: PLC0415  (only who loads a net pays)

    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx raise their own unrelated classes
        raise ModelRefused(f"model.onnx is no sound ONNX file ({type(error).__name__}); {MEND}") from error
    graph = model.graph
    if len(model.functions) or len(graph.sparse_initializer) or len(model.training_info):
        raise ModelRefused(f"model.onnx holds functions, sparse weights or training graphs; expected none; {MEND}")
    for node in graph.node:
        _check_node(node)
    sliced = {name for node in graph.node if node.op_type == "Slice" for name in node.input[1:]}
    for tensor in graph.initializer:
        _check_tensor(onnx, tensor, tensor.name in sliced)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _check_tensor(onnx, attribute.t, all(output in sliced for output in node.output))
    _check_shape(graph, length, channels)


def _check_node(node: Any) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in ONNX_OPERATORS:
        raise ModelRefused(
            f"model.onnx uses the operator {node.domain or 'ai.onnx'}:{node.op_type}; expected only those of our "
            f"architectures ({', '.join(sorted(ONNX_OPERATORS))}); {MEND}"
        )
    if any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute):
        raise ModelRefused(f"model.onnx holds a graph inside the operator {node.op_type}; expected none; {MEND}")


def _check_tensor(onnx: Any, tensor: Any, slices: bool) -> None:
    """Weights are inside the file, of their declared size and finite; integers cannot ask for much memory."""
    if tensor.data_location != onnx.TensorProto.DEFAULT or len(tensor.external_data):
        raise ModelRefused(f"model.onnx keeps {tensor.name} in another file; expected all weights inside; {MEND}")
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # size and data disagree, or an unknown type
        raise ModelRefused(
            f"model.onnx: weights {tensor.name} do not fit their shape {list(tensor.dims)}; {MEND}"
        ) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelRefused(f"model.onnx: weights {tensor.name} are not finite; expected finite numbers; train again")
    if array.dtype.kind not in "fi":
        raise ModelRefused(f"model.onnx: {tensor.name} is of type {array.dtype}; expected numbers; {MEND}")
    if array.dtype.kind == "i" and not slices and array.size and np.abs(array.astype(float)).max() > LARGEST_INTEGER:
        raise ModelRefused(f"model.onnx: {tensor.name} asks for sizes over {LARGEST_INTEGER:,}; {MEND}")


def _check_shape(graph: Any, length: int, channels: int) -> None:
    """Inputs `values` and `mask` (any, length, channels); one output of rank 3 ending in `channels`."""
    found = {node.name: [dim.dim_value for dim in node.type.tensor_type.shape.dim] for node in graph.input}
    wanted = {name: [0, length, channels] for name in ("values", "mask")}
    if found != wanted:
        raise ModelRefused(f"model.onnx takes {found}; the manifest says {wanted} (0 = any); {MEND}")
    outputs = [[dim.dim_value for dim in node.type.tensor_type.shape.dim] for node in graph.output]
    if len(outputs) != 1 or len(outputs[0]) != 3 or outputs[0][2] != channels or outputs[0][1] not in (0, length):
        raise ModelRefused(f"model.onnx gives {outputs}; expected one output (any, {length}, {channels}); {MEND}")
