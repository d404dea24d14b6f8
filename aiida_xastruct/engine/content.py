"""Hashes that say whether two files or folders hold the same thing, whatever their names, dates and places on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20


def hash_stream(stream: BinaryIO) -> str:
    """SHA-256 of what is left in a binary stream, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def combine(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for a set of files.

    Args:
        hashes: the hash of each file by its path relative to the folder, with forward slashes.
    """
    digest = hashlib.sha256()
    for name, value in sorted(hashes.items()):
        digest.update(f"{name}\0{value}\n".encode())
    return digest.hexdigest()


def content_hash(folder: Path) -> str:
    """SHA-256 over the sorted relative paths of a folder's files and their hashes; empty folders do not count.

    Raises:
        NotADirectoryError: if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder.")
    files = (path for path in folder.rglob("*") if path.is_file())
    return combine({path.relative_to(folder).as_posix(): hash_file(path) for path in files})
