"""`.npz` read with suspicion: declared sizes are believed only where the bytes are there, nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from anomaly.errors import ModelRefused

MEMBER_LIMIT: Final = 64 * 2**20
"""Largest member of a bundle, bytes, packed or unpacked. Nets and scorers here are far below 10 MiB."""
DTYPES: Final = frozenset({"<f4", "<f8", "<i8", "<i4", "|b1", "|u1"})


def write_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an uncompressed `.npz`, equal bytes for equal arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())  # ZipInfo: no clock in the bytes
    return buffer.getvalue()


def read_npz(data: bytes, what: str) -> dict[str, np.ndarray]:
    """Arrays of an `.npz`, read-only. Raises ModelRefused on anything but finite numbers of the declared shape."""
    arrays = {}
    for name, member in unzip(data, what).items():
        if not name.endswith(".npy"):
            raise ModelRefused(f"{what} holds {name!r}; expected arrays (.npy) only; train or copy the model again")
        arrays[name.removesuffix(".npy")] = _array(member, f"{what}:{name}")
    return arrays


def unzip(data: bytes, what: str) -> dict[str, bytes]:
    """Members of a zip, with their checksums checked. Raises ModelRefused if it is unsound or unpacks too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) != len(members):
                raise ModelRefused(f"{what} names a member twice; expected each once; train or copy the model again")
            declared = sum(member.file_size for member in members)
            if declared > MEMBER_LIMIT:
                raise ModelRefused(
                    f"{what} declares {declared:,} bytes unpacked; expected at most {MEMBER_LIMIT:,}; "
                    "this is no model of plantwatch"
                )
            return {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelRefused(f"{what} is no sound zip ({error}); train or copy the model again") from error


def _array(member: bytes, what: str) -> np.ndarray:
    """One array from its `.npy` bytes, without allocating what the header merely claims."""
    stream = io.BytesIO(member)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelRefused(f"{what} is no plain array ({error}); train or copy the model again") from error
    body = member[stream.tell() :]
    count = 1
    for size in shape:
        count *= size
    if dtype.str not in DTYPES or count * dtype.itemsize != len(body) or min(shape, default=0) < 0:
        raise ModelRefused(
            f"{what} declares {shape} of {dtype}, but holds {len(body)} bytes; expected plain numbers of just that "
            "size; train or copy the model again"
        )
    array = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelRefused(f"{what} holds NaN or infinite numbers; expected finite ones; train the model again")
    return array
