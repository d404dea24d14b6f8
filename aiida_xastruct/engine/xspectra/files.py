"""A set of core-hole pseudopotentials on disk: a folder or an archive of it, `ground_state/*.UPF`, `core_hole/*.UPF` and `family.json`."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import PseudoError
from .upf import MAX_BYTES

#: Folders of the two halves of each pair.
GROUND_STATE, CORE_HOLE = "ground_state", "core_hole"

MANIFEST = "family.json"

#: More files than there are elements and hole levels; an archive beyond it is not read.
MAX_FILES = 400

_KEYS = ("core_level", "cutoffs", "cutoffs_unit", "description")


@dataclass(frozen=True)
class PseudoFiles:
    """Content of such a folder.

    Attributes:
        ground_state: content by file name.
        core_hole: alike.
        manifest: content of `family.json`, empty where there is none: `core_level` (1s), `cutoffs` (by element, `cutoff_wfc` and
            `cutoff_rho` each), `cutoffs_unit` (Ry), `description`.
    """

    ground_state: Mapping[str, bytes]
    core_hole: Mapping[str, bytes]
    manifest: Mapping[str, Any] = field(default_factory=dict)


def read_files(path: Path) -> PseudoFiles:
    """What a folder, a tar archive (compressed or not) or a zip archive holds. Nothing is unpacked to disk, and no more is read than fits.

    Raises:
        PseudoError: if it is none of these, or lacks either half.
    """
    halves: dict[str, dict[str, bytes]] = {GROUND_STATE: {}, CORE_HOLE: {}}
    manifest: dict[str, Any] = {}
    for number, (name, content) in enumerate(_members(path)):
        if number == MAX_FILES:
            raise PseudoError(f"{path} holds more than {MAX_FILES} files; give pseudopotentials only.")
        place = PurePosixPath(name)
        if place.name == MANIFEST:
            manifest = _manifest(content, path)
        elif place.suffix.lower() == ".upf" and place.parent.name in halves:
            if place.name in halves[place.parent.name]:
                raise PseudoError(f"{path} holds {place.parent.name}/{place.name} twice; remove one.")
            halves[place.parent.name][place.name] = content
    for half, files in halves.items():
        if not files:
            raise PseudoError(f"{path} has no {half}/*.UPF; give a folder or archive with {GROUND_STATE} and {CORE_HOLE}.")
    return PseudoFiles(halves[GROUND_STATE], halves[CORE_HOLE], manifest)


def _manifest(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise PseudoError(f"{MANIFEST} in {path} is not JSON ({error}); get the family again.") from error
    if not isinstance(found, dict):
        raise PseudoError(f"{MANIFEST} in {path} holds no JSON object; get the family again.")
    if unknown := sorted(set(found) - set(_KEYS)):
        raise PseudoError(f"{MANIFEST} in {path} says {unknown[0]!r}, which is unknown; it may say {', '.join(_KEYS)}.")
    return found


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Relative name and content of each file of interest."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and _wanted(file.name):
                yield file.relative_to(path).as_posix(), _sized(file.stat().st_size, file.name) or file.read_bytes()
        return
    if not path.is_file():
        raise PseudoError(f"{path} is neither a folder nor a file; check the name.")
    try:
        if zipfile.is_zipfile(path):
            yield from _from_zip(path)
        else:
            yield from _from_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise PseudoError(f"{path} is no readable tar or zip archive ({error}); get it again.") from error


def _from_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and _wanted(member.name):
                _sized(member.size, member.name)
                stream = archive.extractfile(member)
                if stream is not None:
                    yield member.name, stream.read()


def _from_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir() and _wanted(entry.filename):
                _sized(entry.file_size, entry.filename)
                with archive.open(entry) as stream:
                    content = stream.read(MAX_BYTES + 1)
                _sized(len(content), entry.filename)
                yield entry.filename, content


def _wanted(name: str) -> bool:
    return name.lower().endswith((".upf", MANIFEST))


def _sized(size: int, name: str) -> bytes:
    """Nothing, where a file may be read.

    Raises:
        PseudoError: for one that is too large.
    """
    if size > MAX_BYTES:
        raise PseudoError(f"{name} has {size / 2**20:.0f} MiB, too much for a pseudopotential; check what it is.")
    return b""
