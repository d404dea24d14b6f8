"""What is slow to compute of a crystal and its sites, computed once: symmetry, first shells, SevenNet features.

One SQLite file, keyed by the structure's content, so that a training set that grows computes only what is new, and a screening
that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from . import FEATURES_VERSION
from .content import content_hash
from .errors import CacheError, StructureError
from .sevennet import FOLDER as SEVENNET
from .structure import Absorber, FirstShell, atomic_numbers, check_structure, first_shell, prototype, space_group

#: Bytes of the features of one element in one structure at most.
_MOST_BYTES = 200_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS structure (hash TEXT PRIMARY KEY, space_group INTEGER, prototype TEXT, refused TEXT);
CREATE TABLE IF NOT EXISTS site (hash TEXT, site INTEGER, shell TEXT, features BLOB, PRIMARY KEY (hash, site));
CREATE TABLE IF NOT EXISTS absorber (
    hash TEXT, element TEXT, version TEXT, sites TEXT, features BLOB, PRIMARY KEY (hash, element, version)
);
"""


@dataclass(frozen=True, eq=False)
class SiteFacts:
    """One absorbing site as models see it: its first shell (None where CrystalNN fails) and (f,) features."""

    shell: FirstShell | None
    features: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StructureFacts:
    """A structure's symmetry and the facts of the sites asked for; `refused` says why there are none."""

    space_group: int
    prototype: str
    refused: str
    sites: dict[int, SiteFacts]


@dataclass(frozen=True, eq=False)
class AbsorberRows:
    """The inequivalent sites of a structure, all or those of one element, and what forward models see of each: (n, SITE_SIZE)."""

    absorbers: list[Absorber]
    features: NDArray[np.float32]


@cache
def features_version() -> str:
    """What facts depend on beside the structure: the algorithm and SevenNet's weights."""
    return f"{FEATURES_VERSION}-{content_hash(SEVENNET)[:16]}"


def _stamp() -> int:
    """`features_version`, as SQLite keeps a version in the head of a file: 1 or more, as 0 is that of a file without one."""
    return 1 + int.from_bytes(hashlib.sha256(features_version().encode()).digest()[:3], "big")


def structure_hash(structure: Structure) -> str:
    """SHA-256 of cell, elements and fractional coordinates to 1e-6, in the order given."""
    digest = hashlib.sha256()
    digest.update(np.round(structure.lattice.matrix, 6).astype("<f8").tobytes())
    digest.update(np.array(atomic_numbers(structure) if structure.is_ordered else [0], dtype="<i8").tobytes())
    digest.update((np.round(structure.frac_coords % 1.0, 6) % 1.0).astype("<f8").tobytes())
    return digest.hexdigest()


def compute_facts(structure: Structure, sites: Sequence[int]) -> StructureFacts:
    """Symmetry, first shells and features of one structure, without a cache."""
    from .sevennet import shared_features

    try:
        check_structure(structure)
        features = shared_features()([structure], [sites])[0]
    except StructureError as error:
        return StructureFacts(1, "", str(error), {})
    facts = {}
    for site, row in zip(sites, features, strict=True):
        try:
            shell: FirstShell | None = first_shell(structure, site)
        except StructureError:
            shell = None
        facts[site] = SiteFacts(shell, row)
    group = space_group(structure)
    return StructureFacts(group, prototype(structure, group), "", facts)


def _work(task: tuple[str, Structure, tuple[int, ...]]) -> tuple[str, StructureFacts]:
    key, structure, sites = task
    return key, compute_facts(structure, sites)


def _one_thread() -> None:
    """In a pool each process has one core; the caller's own threads are its own business."""
    import torch

    torch.set_num_threads(1)


class SiteCache:
    """Facts on disk; a context manager. Raises CacheError where the file cannot be made or is none."""

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path, timeout=60)
            self._database.executescript(_SCHEMA)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes what it found in a damaged file
            raise CacheError(f"{path} cannot keep features ({error}); name a file of its own in a folder that exists.") from error

    def __enter__(self) -> SiteCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Raises CacheError where what the file holds is damaged."""
        try:
            yield
        except (sqlite3.Error, zlib.error, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CacheError(f"the file that keeps features is damaged ({error}); remove it, it is filled again.") from error

    def get(self, key: str, sites: Sequence[int]) -> StructureFacts | None:
        """Facts of a structure if all of `sites` are known; raises CacheError where the file is damaged."""
        with self._sound():
            return self._get(key, sites)

    def _is_stale(self) -> bool:
        """Whether another version wrote the facts."""
        return bool(self._database.execute("PRAGMA user_version").fetchone()[0] != _stamp())

    def _get(self, key: str, sites: Sequence[int]) -> StructureFacts | None:
        if self._is_stale():
            return None
        found = self._database.execute("SELECT space_group, prototype, refused FROM structure WHERE hash = ?", (key,)).fetchone()
        if found is None:
            return None
        if found[2]:
            return StructureFacts(found[0], found[1], found[2], {})
        rows = {
            site: SiteFacts(_shell_from(shell), np.frombuffer(features, dtype="<f4"))
            for site, shell, features in self._database.execute("SELECT site, shell, features FROM site WHERE hash = ?", (key,))
        }
        if not set(sites) <= rows.keys():
            return None
        return StructureFacts(found[0], found[1], found[2], {site: rows[site] for site in sites})

    def put(self, key: str, facts: StructureFacts) -> None:
        """Keep the facts of one structure, and none of another version; raises CacheError where the file is damaged."""
        with self._sound(), self._database:
            if self._is_stale():
                self._database.execute("DELETE FROM structure")
                self._database.execute("DELETE FROM site")
            self._database.execute(
                "INSERT OR REPLACE INTO structure VALUES (?, ?, ?, ?)", (key, facts.space_group, facts.prototype, facts.refused)
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO site VALUES (?, ?, ?, ?)",
                [(key, site, _shell_text(fact.shell), fact.features.astype("<f4").tobytes()) for site, fact in facts.sites.items()],
            )
            self._database.execute(f"PRAGMA user_version = {_stamp()}")

    def get_absorbers(self, key: str, element: str) -> AbsorberRows | None:
        """What forward models see of an element in a structure, if it is known; raises CacheError where the file is damaged."""
        with self._sound():
            return self._get_absorbers(key, element)

    def _get_absorbers(self, key: str, element: str) -> AbsorberRows | None:
        found = self._database.execute(
            "SELECT sites, features FROM absorber WHERE hash = ? AND element = ? AND version = ?", (key, element, features_version())
        ).fetchone()
        if found is None:
            return None
        absorbers = [Absorber(int(site), element, int(multiplicity)) for site, multiplicity in json.loads(found[0])]
        # The features of a site take 10 kB; a blob that unpacks to more was not written here.
        features = np.frombuffer(zlib.decompressobj().decompress(found[1], _MOST_BYTES), dtype="<f4").reshape(len(absorbers), -1)
        return AbsorberRows(absorbers, features)

    def put_absorbers(self, key: str, rows: AbsorberRows) -> None:
        """Keep what forward models see of a structure, each element by itself."""
        elements = [absorber.element for absorber in rows.absorbers]
        records = []
        for element in dict.fromkeys(elements):
            chosen = [i for i, other in enumerate(elements) if other == element]
            sites = json.dumps([[rows.absorbers[i].site, rows.absorbers[i].multiplicity] for i in chosen])
            blob = zlib.compress(np.ascontiguousarray(rows.features[chosen], dtype="<f4").tobytes(), 1)
            records.append((key, element, features_version(), sites, blob))
        with self._sound(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO absorber VALUES (?, ?, ?, ?, ?)", records)

    def fill(self, tasks: Sequence[tuple[Structure, Sequence[int]]], cores: int = 1) -> Iterator[int]:
        """Compute what is missing; yields the number of structures done so far, known ones included."""
        missing: dict[str, tuple[str, Structure, tuple[int, ...]]] = {}
        for structure, sites in tasks:
            key = structure_hash(structure)
            if self.get(key, sites) is None:
                wanted = {*sites, *(missing[key][2] if key in missing else ())}
                missing[key] = (key, structure, tuple(sorted(wanted)))
        done = len(tasks) - len(missing)
        yield done
        if cores == 1:
            results: Iterator[tuple[str, StructureFacts]] = map(_work, missing.values())
            for key, facts in results:
                self.put(key, facts)
                done += 1
                yield done
            return
        with ProcessPoolExecutor(cores, initializer=_one_thread) as pool:
            for key, facts in pool.map(_work, missing.values(), chunksize=4):
                self.put(key, facts)
                done += 1
                yield done


def _shell_text(shell: FirstShell | None) -> str:
    return "" if shell is None else json.dumps([shell.elements, shell.distances])


def _shell_from(text: str) -> FirstShell | None:
    if not text:
        return None
    elements, distances = json.loads(text)
    return FirstShell(tuple(elements), tuple(distances))
