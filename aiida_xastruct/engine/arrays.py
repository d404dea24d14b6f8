"""Arrays from files of strangers: what a file claims is compared with its size before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import mmap
import struct
import tokenize
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

#: What numpy and its zip files raise where a file is damaged.
DAMAGED = (
    OSError, EOFError, ValueError, KeyError, IndexError, TypeError, OverflowError, NotImplementedError, RuntimeError, SyntaxError,
    BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip

#: What h5py raises where a file is damaged; errors of encodings are values.
DAMAGED_HDF5 = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)

#: Deflate packs no further than 1032 to 1.
_MOST_PACKED = 1100

#: How a global heap of HDF5 begins: its signature, version 1 and three zeros; and bytes of its head, and of each object's.
_HEAP, _HEAP_HEAD = b"GCOL\x01\0\0\0", 16

#: Bytes of a head of a `.npy` file at most.
_HEAD = 10_000


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file.

    Raises:
        ValueError: if it holds objects, or less than its head says; other errors of `DAMAGED` where it is none.
    """
    with path.open("rb") as stream:
        return _read(stream, path.stat().st_size)


def read_npz(path: Path, names: Iterable[str], most: int) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file by name.

    Args:
        path: of the file.
        names: of the arrays wanted; others are let be.
        most: bytes that they may take together.

    Raises:
        ValueError: if they take more, one holds objects, or less than its head says; other errors of `DAMAGED` where there are none.
    """
    with ZipFile(path) as archive:
        members = {name: archive.getinfo(f"{name}.npy") for name in names}
        total = sum(member.file_size for member in members.values())
        if total > most:
            raise ValueError(f"it unpacks to {total / 1e6:.0f} MB, more than {most / 1e6:.0f}")
        found = {}
        for name, member in members.items():
            with archive.open(member) as stream:
                found[name] = _read(stream, member.file_size)
        return found


def _read(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array of a stream of `size` bytes in the format of `.npy`."""
    version = np.lib.format.read_magic(stream)
    head = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = head(stream, max_header_size=_HEAD)
    if dtype.hasobject or dtype.kind not in "fiubUS":
        raise ValueError(f"an array is of type {dtype}")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"an array of shape {shape} is cut off")
    content = np.frombuffer(stream.read(), dtype=dtype)
    return np.array(content.reshape(shape, order="F" if fortran else "C"))


def open_hdf5(source: Path | bytes) -> Any:
    """An HDF5 file, open for reading, of a path or of its content.

    Raises:
        ValueError: if a heap, where HDF5 keeps texts of any length, is damaged; others of `DAMAGED_HDF5` where it is no such file.
    """
    import h5py

    if isinstance(source, bytes):
        _check_heaps(source)
        return h5py.File(io.BytesIO(source), "r")
    with source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check_heaps(content)
    return h5py.File(source, "r")


def _check_heaps(content: bytes | mmap.mmap) -> None:
    """Walk the objects of every global heap: HDF5 2.0 walks forever where the free space (index 0) says that it is empty.

    Raises:
        ValueError: if an object ends outside of its heap.
    """
    at = -1
    while (at := content.find(_HEAP, at + 1)) >= 0:
        (size,) = struct.unpack("<Q", content[at + 8 : at + 16].ljust(8, b"\0"))
        place, end = at + _HEAP_HEAD, min(at + size, len(content))
        while place + _HEAP_HEAD <= end:
            index, length = struct.unpack("<H6xQ", content[place : place + _HEAP_HEAD])
            step = length if index == 0 else _HEAP_HEAD + -(-length // 8) * 8
            if step < _HEAP_HEAD or place + step > end:
                raise ValueError("a heap of texts is damaged")
            place += step


def hdf5_array(group: Any, name: str) -> NDArray[Any]:
    """A dataset of an open HDF5 file, read whole.

    Raises:
        KeyError: if there is none.
        ValueError: if it lies elsewhere (a link, virtual or external data), holds objects, or claims more than its file can hold.
    """
    import h5py

    if group.get(name, getlink=True) is None:
        raise KeyError(name)
    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
        raise ValueError(f"{name} is no array of this file")
    found = group[name]
    if found.is_virtual or found.external or found.shape is None or found.dtype.kind not in "fiubS":
        raise ValueError(f"{name} is no plain array of this file")
    if found.nbytes > _MOST_PACKED * group.file.id.get_filesize():
        raise ValueError(f"{name} claims the shape {found.shape}, more than its file can hold")
    return np.asarray(found[()])


def hdf5_text(group: Any, name: str) -> str:
    """A text that a file keeps as an array of bytes; errors are those of `hdf5_array`."""
    return hdf5_array(group, name).tobytes().decode()


def hdf5_word(owner: Any, name: str) -> str:
    """An attribute that is a text; empty where it is none."""
    value = owner.attrs.get(name, "")
    return value if isinstance(value, str) else ""
