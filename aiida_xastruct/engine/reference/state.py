"""The state folder of a build: records and failures, one JSON line each, appended as they come.

A line that a kill cut off is the last one; it is left out on reading and overwritten by nothing, so the folder survives any stop.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

#: Bytes of an array of a record at most: a site's EXAFS takes 30 kB.
_MOST_BYTES = 50_000_000

RECORDS, FAILURES, REJECTED = "records.jsonl", "failures.jsonl", "rejected.jsonl"

#: Identifies a computed site: source, id, site index, edge, kind.
Key = tuple[str, str, int, str, str]


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON: dtype, shape and zlib-compressed bytes in base64. float64 stays so only where asked by the caller."""
    contiguous = np.ascontiguousarray(array)
    data = base64.b64encode(zlib.compress(contiguous.tobytes(), 6)).decode("ascii")
    return {"dtype": str(contiguous.dtype), "shape": list(contiguous.shape), "data": data}


def unpack(value: Mapping[str, Any]) -> NDArray[Any]:
    """The inverse of `pack`.

    Raises:
        DatasetError: if it is no such array, or more than a record of a site holds.
    """
    try:
        dtype, shape = np.dtype(str(value["dtype"])), [int(length) for length in value["shape"]]
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiu" or not 0 <= size <= _MOST_BYTES or min(shape, default=0) < 0:
            raise ValueError(f"an array of type {dtype} and shape {shape}")
        raw = zlib.decompressobj().decompress(base64.b64decode(value["data"]), size + 1)
        return np.frombuffer(raw, dtype=dtype).reshape(shape)
    except (ValueError, TypeError, KeyError, OverflowError, SyntaxError, zlib.error) as error:
        raise DatasetError(f"a record of the state holds an array that cannot be read ({error}); remove its line.") from error


def key_of(record: Mapping[str, Any]) -> Key:
    """The key of a record or a failure.

    Raises:
        DatasetError: if it is none.
    """
    try:
        return (str(record["source"]), str(record["source_id"]), int(record["site"]), str(record["edge"]), str(record["kind"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"a line of the state is no record of a site ({type(error).__name__}: {error}); remove it.") from error


class State:
    """A state folder, open for appending by one process."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def create(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def append(self, name: str, value: Mapping[str, Any]) -> None:
        """Append one line to `RECORDS`, `FAILURES` or `REJECTED`, in one write that ends on the disk."""
        path = self.folder / name
        line = json.dumps(value, separators=(",", ":")) + "\n"
        with path.open("ab+") as stream:
            # A cut-off line of an earlier, killed build must not swallow this one.
            if stream.tell() > 0:
                stream.seek(-1, 2)
                if stream.read(1) != b"\n":
                    line = "\n" + line
            stream.write(line.encode())
            stream.flush()

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """All whole lines of a file; none where it does not exist."""
        path = self.folder / name
        if not path.is_file():
            return
        with path.open("rb") as stream:
            for line in stream:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(value, dict):
                    yield value

    def known(self) -> tuple[set[Key], set[Key]]:
        """Keys of the records and of the failures."""
        return {key_of(value) for value in self.lines(RECORDS)}, {key_of(value) for value in self.lines(FAILURES)}
