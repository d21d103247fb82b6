"""A trained Keras net as the fastest exact callable here: ONNX Runtime on one thread.

Exact means: on golden windows its answers agree with those Keras gave when the net was trained. They travel with the
model and are asked again each time it is loaded.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32

from anomaly.errors import ModelRefused

GOLDEN_TOLERANCE: Final = 1e-4
"""Largest accepted difference between ONNX Runtime and Keras, in scaled units. Measured: 3e-7 with float32 LSTMs."""


Device: TypeAlias = Literal["cpu", "gpu"]
"""What nets are to be computed on."""
Engine: TypeAlias = Literal["onnx_cpu", "onnx_gpu"]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Windows with the answers Keras gave, in scaled units."""

    values: Float32[np.ndarray, "window time tag"]
    mask: Bool[np.ndarray, "window time tag"]
    outputs: Float32[np.ndarray, "window time tag"]

    def to_bytes(self) -> bytes:
        """As an uncompressed `.npz`."""
        buffer = io.BytesIO()
        np.savez(buffer, values=self.values, mask=self.mask, outputs=self.outputs)
        return buffer.getvalue()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Golden:
        """The golden windows of those arrays. Raises ModelRefused unless they are of the one shape and type written."""
        found = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        shapes = {array.shape for array in arrays.values()}
        wanted = {"values": "<f4", "mask": "|b1", "outputs": "<f4"}
        if {name: dtype for name, (dtype, _) in found.items()} != wanted or len(shapes) != 1 or 0 in (*shapes,)[0]:
            raise ModelRefused(
                f"golden windows are {found}; expected values, mask and outputs of one shape (window, time, tag); "
                "train the model again"
            )
        if arrays["values"].ndim != 3:
            raise ModelRefused(f"golden windows are of shape {shapes}; expected (window, time, tag); train again")
        return cls(arrays["values"], arrays["mask"], arrays["outputs"])


class Compiled:
    """A net behind ONNX Runtime: call it with windows, get what it expects of every cell. Thread-safe."""

    def __init__(self, session: Any, length: int, channels: int, device: Device = "cpu") -> None:
        self._session = session
        self.length = length
        self.channels = channels
        on_gpu = "CUDAExecutionProvider" in session.get_providers()
        self.engine: Engine = "onnx_gpu" if on_gpu else "onnx_cpu"
        """What computes."""
        self.fell_back = device == "gpu" and not on_gpu
        """Whether a GPU was asked for and the CPU computes."""

    def __call__(
        self, values: Float32[np.ndarray, "window time tag"], mask: Bool[np.ndarray, "window time tag"]
    ) -> Float32[np.ndarray, "window time tag"]:
        """Expected cells in scaled units. `values` scaled, 0 where masked. Raises ValueError on a wrong shape."""
        if values.shape[1:] != (self.length, self.channels) or values.shape != mask.shape:
            raise ValueError(
                f"windows of shape {values.shape} with mask {mask.shape}; this net takes "
                f"(any, {self.length}, {self.channels}) for both"
            )
        feed = {"values": np.ascontiguousarray(values), "mask": mask.astype(np.float32)}
        answer: np.ndarray = self._session.run(None, feed)[0]
        return answer


def load_compiled(source: Path | bytes, device: Device = "cpu") -> Compiled:
    """Load an exported net from a file or its bytes. Imports ONNX Runtime, never Keras.

    `gpu` is a wish: without a usable CUDA device the CPU computes, and `fell_back` says so.

    Raises ModelRefused if ONNX Runtime cannot load it or its inputs are not `values` and `mask` of one shape.
    """
    import onnxruntime  # noqa: PLC0415  (half a second that only a scorer with a net pays)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        session = onnxruntime.InferenceSession(data, options, providers=_providers(device))
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        raise ModelRefused(
            f"ONNX Runtime cannot load the net ({_first_line(error)}); expected a graph exported by plantwatch; "
            "train the model again"
        ) from error
    shapes = {node.name: tuple(node.shape[1:]) for node in session.get_inputs()}
    if set(shapes) != {"values", "mask"} or shapes["values"] != shapes["mask"] or len(shapes["values"]) != 2:
        raise ModelRefused(
            f"the net takes {shapes}; expected inputs values and mask of one shape (time, tag); train the model again"
        )
    length, channels = shapes["values"]
    if not (isinstance(length, int) and isinstance(channels, int)):
        raise ModelRefused(f"the net takes windows of open shape {shapes['values']}; expected fixed sizes; train again")
    return Compiled(session, length, channels, device)


def _providers(device: Device) -> list[Any]:
    """What ONNX Runtime may compute with, best first. TF32 is off: with its 10 bits the golden windows would fail."""
    import onnxruntime  # noqa: PLC0415

    cpu: list[Any] = ["CPUExecutionProvider"]
    if device == "cpu" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return cpu
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; `fell_back` says it
        onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them
    return [("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}), *cpu]


def save_keras(model: Any, path: Path) -> None:
    """Write a Keras model to `path` (.keras), all or nothing."""
    part = path.with_name(f"part-{path.name}")
    with warnings.catch_warnings():
        # Keras 3.15 asks NumPy 2 for arrays in the old way; harmless, and not ours to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(part)
    part.replace(path)


def export_onnx(model: Any, path: Path) -> None:
    """Write a Keras model as ONNX to `path`, all or nothing. Needs tf2onnx (the `cpu` or `gpu` extra)."""
    part = path.with_name(path.name + ".part")
    with warnings.catch_warnings():
        # tf2onnx 1.17 still asks NumPy for names it has renamed; harmless, and not ours to mend.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        model.export(str(part), format="onnx", verbose=False)
    part.replace(path)


def check_golden(predict: Compiled, golden: Golden, tolerance: float = GOLDEN_TOLERANCE) -> float:
    """Largest difference between `predict` and the golden answers, in scaled units.

    Raises ModelRefused if it is more than `tolerance`, not a number, or the windows have another shape.
    """
    try:
        difference = float(np.max(np.abs(predict(golden.values, golden.mask) - golden.outputs)))
    except Exception as error:  # a graph that fails while running
        raise ModelRefused(f"the net fails on its golden windows ({_first_line(error)}); train it again") from error
    if not difference <= tolerance:
        raise ModelRefused(
            f"the net's answers on its golden windows are off by {difference:.3g}; expected at most {tolerance:g} "
            "(scaled units); the file or ONNX Runtime changed: train the model again"
        )
    return difference


def _first_line(error: Exception) -> str:
    """First line of a foreign message, shortened."""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
