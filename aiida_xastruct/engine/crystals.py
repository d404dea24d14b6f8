"""Sites of crystals that have no spectrum yet: what a forward model simulates spectra of, for inverse models to learn from.

FEFF takes a second a site and its library has thousands; tables of crystals have a hundred thousand, and their first shells are known
without any spectrum. So an inverse model learns which shells there are from many crystals, and what a spectrum is from FEFF.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import MAX_Z, Holdout, SiteTable, group_label, part_of
from .errors import DatasetError, StructureError
from .paths import PATHS_SIZE, path_rows
from .reference.order import Excluded, RoundRobin
from .reference.sources import open_source
from .spectrum import EXAFS_GRID, atomic_number
from .structure import first_shell, prototype, space_group

FORMAT = "xastruct-crystals-1"

#: Sites that a process takes at a time.
_CHUNK = 32


@dataclass(eq=False)
class Crystals:
    """Sites without spectra.

    Attributes:
        materials: as in `Dataset`: source, source_id, formula, space_group, prototype.
        material: (n,) row of `materials`.
        site: (n,) index in the source's structure.
        absorber: (n,) atomic number.
        shell: (n, MAX_Z) number of first-shell neighbours of each atomic number.
        mean_distance: (n,) of the first shell, angstrom.
        nearest_distance: (n,) of the first shell, angstrom.
        paths: (n, PATHS_SIZE) scattering paths; see `engine.paths`.
    """

    materials: list[dict[str, Any]]
    material: NDArray[np.int64]
    site: NDArray[np.int64]
    absorber: NDArray[np.int64]
    shell: NDArray[np.uint8]
    mean_distance: NDArray[np.float32]
    nearest_distance: NDArray[np.float32]
    paths: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.material)

    def of_part(self, name: str, seed: int) -> NDArray[np.bool_]:
        """(n,) rows whose formula and prototype belong to a part of a split, as `Dataset.parts` makes it."""
        part = np.array([part_of(group_label(material), seed) for material in self.materials])
        return np.asarray(part[self.material] == name)

    def sites(self, rows: NDArray[np.bool_]) -> SiteTable:
        """The chosen rows as EXAFS sites without spectra (NaN), with their paths alone as features."""
        n = int(rows.sum())
        empty = np.full((n, len(EXAFS_GRID)), np.nan, dtype=np.float32)
        return SiteTable(
            material=self.material[rows],
            site=self.site[rows],
            absorber=self.absorber[rows],
            curve=empty,
            wide=np.zeros((n, 0), dtype=np.float32),
            thermal=np.zeros((n, 0, len(EXAFS_GRID)), dtype=np.float32),
            edge_shift=np.zeros(n, dtype=np.float32),
            engine=np.zeros(n, dtype=np.int64),
            peer_split=np.full(n, ""),
            shell=self.shell[rows],
            mean_distance=self.mean_distance[rows],
            nearest_distance=self.nearest_distance[rows],
            features=self.paths[rows],
        )

    def save(self, path: Path) -> None:
        """Write one HDF5 file; same content, same bytes."""
        import h5py

        with h5py.File(path, "w", track_order=True) as file:
            file.attrs["format"] = FORMAT
            text = "\n".join(json.dumps(material, sort_keys=True) for material in self.materials)
            file.create_dataset("materials", data=np.frombuffer(text.encode(), dtype=np.uint8), compression="gzip", track_times=False)
            for name in COLUMNS:
                array = getattr(self, name)
                options = {"compression": "gzip", "shuffle": True} if array.size else {}
                file.create_dataset(name, data=array, track_times=False, **options)

    @classmethod
    def load(cls, path: Path) -> Crystals:
        """Read what `save` wrote.

        Raises:
            DatasetError: if the file is not such a file.
        """
        import h5py

        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise DatasetError(f"{path} is not a {FORMAT} file; make one with `xastruct crystals`.")
                materials = [json.loads(line) for line in file["materials"][()].tobytes().decode().splitlines()]
                found = cls(materials, **{name: file[name][()] for name in COLUMNS})
        except (OSError, KeyError) as error:
            raise DatasetError(f"{path} cannot be read as crystals ({error}); make it again with `xastruct crystals`.") from error
        if any(len(getattr(found, name)) != len(found) for name in COLUMNS) or found.paths.shape[1:] != (PATHS_SIZE,):
            raise DatasetError(f"{path} is damaged or of another version; make it again with `xastruct crystals`.")
        return found

    def content_hash(self) -> str:
        """SHA-256 over the materials and every array."""
        digest = hashlib.sha256(json.dumps(self.materials, sort_keys=True).encode())
        for name in COLUMNS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


#: Arrays of a table.
COLUMNS = tuple(item.name for item in fields(Crystals) if item.name != "materials")


def sample_crystals(
    source: str,
    path: str,
    sites: int,
    holdout: Holdout,
    seed: int = 0,
    cores: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Crystals:
    """Sites of a collection of crystals, element by element in turn, so that rare absorbers are as many as there are.

    Args:
        source: `amcsd`, `npz` or `cif`; see `engine.reference.sources`.
        path: the table of npz, the folder of cif.
        sites: how many, where the collection has so many.
        holdout: materials that must be left out, and their twins.
        seed: order of elements and crystals.
        cores: processes that compute first shells and paths.
        progress: called with (sites looked at, sites asked for).

    Raises:
        StructureError: if there is no such collection.
        DatasetError: if none of its sites can be used.
    """
    excluded = Excluded(holdout.ids, holdout.twins)
    order = RoundRobin(source, path, seed, excluded, lambda *_: None, set())
    tasks = ((source, path, source_id, site, element) for element, source_id, site, _ in islice(_one_a_crystal(order), sites))
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(cores) as pool:
        done = 0
        # In blocks: `map` would read the whole collection before the first result.
        while block := list(islice(tasks, 64 * _CHUNK)):
            rows += [row for row in pool.map(_site, block, chunksize=_CHUNK) if row is not None]
            done += len(block)
            if progress:
                progress(done, sites)
    if not rows:
        raise DatasetError("no crystal of this collection has a site that can be used; give another.")
    return _table(rows)


def _one_a_crystal(order: RoundRobin) -> Iterator[tuple[str, str, int, int]]:
    """Of each crystal and element one site in turn: sites of one crystal are alike, and there are crystals enough."""
    seen = set()
    for element, source_id, site, multiplicity in order.sites():
        if (element, source_id) not in seen:
            seen.add((element, source_id))
            yield element, source_id, site, multiplicity


def _site(task: tuple[str, str, str, int, str]) -> dict[str, Any] | None:
    """One row, None for a site without a first shell."""
    source, path, source_id, site, element = task
    structure, _ = open_source(source, path).structure(source_id)
    try:
        shell = first_shell(structure, site)
    except StructureError:
        return None
    counts = np.zeros(MAX_Z, dtype=np.uint8)
    for neighbour in shell.elements:
        counts[atomic_number(neighbour)] += 1
    return {
        "described": {
            "source": source,
            "source_id": source_id,
            "formula": structure.composition.reduced_formula,
            "space_group": space_group(structure),
            "prototype": prototype(structure),
        },
        "site": site,
        "absorber": atomic_number(element),
        "shell": counts,
        "mean_distance": np.float32(shell.mean_distance),
        "nearest_distance": np.float32(shell.nearest_distance),
        "paths": path_rows(structure, [site])[0],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Crystals:
    index: dict[tuple[str, str], int] = {}
    materials: list[dict[str, Any]] = []
    for row in rows:
        key = (row["described"]["source"], row["described"]["source_id"])
        if key not in index:
            index[key] = len(materials)
            materials.append(row["described"])
    material = np.array([index[row["described"]["source"], row["described"]["source_id"]] for row in rows], dtype=np.int64)
    return Crystals(materials, material, **{name: np.array([row[name] for row in rows]) for name in COLUMNS if name != "material"})
