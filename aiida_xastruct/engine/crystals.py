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

from .arrays import DAMAGED_HDF5, hdf5_array, hdf5_text, hdf5_word, open_hdf5
from .dataset import MAX_Z, Holdout, SiteTable, check_materials, group_label, part_of
from .errors import DatasetError, StructureError
from .feff.deck import has_edge
from .formats import check_format
from .paths import PATHS_SIZE, path_rows
from .reference.sources import open_source
from .spectrum import EXAFS_GRID, atomic_number
from .structure import first_shell, inequivalent_absorbers, prototype, space_group

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
        return SiteTable(  # nosec B604
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
        try:
            with open_hdf5(path) as file:
                check_format(path, hdf5_word(file, "format"), FORMAT, "`xastruct crystals`")
                materials = [json.loads(line) for line in hdf5_text(file, "materials").splitlines()]
                found = cls(materials, **{name: hdf5_array(file, name) for name in COLUMNS})
        except DatasetError:
            raise
        except (*DAMAGED_HDF5, RecursionError) as error:
            raise DatasetError(f"{path} cannot be read as crystals ({error}); make it again with `xastruct crystals`.") from error
        check_materials(materials)
        n = found.material.size
        shapes = {"shell": (n, MAX_Z), "paths": (n, PATHS_SIZE)}
        columns = {name: getattr(found, name) for name in COLUMNS}
        limits = {"material": len(materials), "site": 2**31, "absorber": MAX_Z}
        if any(array.shape != shapes.get(name, (n,)) or array.dtype.kind not in "fiu" for name, array in columns.items()) or any(
            columns[name].dtype.kind not in "iu" or (n and not 0 <= columns[name].min() <= columns[name].max() < most)
            for name, most in limits.items()
        ):
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
    per_element: int,
    holdout: Holdout,
    seed: int = 0,
    cores: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Crystals:
    """Sites of a collection of crystals, of each absorbing element as many.

    Args:
        source: `amcsd`, `npz` or `cif`; see `engine.reference.sources`.
        path: the table of npz, the folder of cif.
        per_element: sites of each absorber, where the collection has so many crystals of it; of fewer crystals up to three sites each.
        holdout: materials that must be left out, and their twins.
        seed: which crystals, and which of their sites.
        cores: processes that compute first shells and paths.
        progress: called with (sites done, sites chosen).

    Raises:
        StructureError: if there is no such collection.
        DatasetError: if none of its sites can be used.
    """
    tasks = [
        (source, path, holdout, *choice) for choice in _choices(open_source(source, path).ids_by_element(), holdout, per_element, seed)
    ]
    rows: list[dict[str, Any]] = []
    seen = set()
    with ProcessPoolExecutor(cores) as pool:
        for done, row in enumerate(pool.map(_site, tasks, chunksize=_CHUNK), start=1):
            if row is not None and (key := (row["described"]["source_id"], row["site"])) not in seen:
                seen.add(key)
                rows.append(row)
            if progress and (done % _CHUNK == 0 or done == len(tasks)):
                progress(done, len(tasks))
    if not rows:
        raise DatasetError("no crystal of this collection has a site that can be used; give another.")
    return _table(rows)


def _choices(by_element: dict[str, list[str]], holdout: Holdout, per_element: int, seed: int) -> Iterator[tuple[str, str, int]]:
    """(element, source id, turn): the site is the one whose turn it is among the inequivalent ones of the element."""
    generator = np.random.default_rng(seed)
    by_element = {element: [name for name in ids if name not in holdout.ids] for element, ids in by_element.items()}
    for element in sorted((name for name in by_element if by_element[name] and has_edge(name)), key=atomic_number):
        ids = generator.permutation(by_element[element]).tolist()
        if len(ids) >= per_element:
            for source_id in ids[:per_element]:
                yield element, source_id, int(generator.integers(0, 7))
        else:
            yield from islice(((element, source_id, turn) for turn in range(3) for source_id in ids), per_element)


def _site(task: tuple[str, str, Holdout, str, str, int]) -> dict[str, Any] | None:
    """One row, None for a crystal that is held out or damaged, or a site without a first shell."""
    source, path, holdout, element, source_id, turn = task
    try:
        structure, _ = open_source(source, path).structure(source_id)
        formula, group = structure.composition.reduced_formula, space_group(structure)
        if holdout.excludes(source, source_id, formula, group):
            return None
        absorbers = inequivalent_absorbers(structure, element)
        site = absorbers[turn % len(absorbers)].site
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
            "formula": formula,
            "space_group": group,
            "prototype": prototype(structure, group),
        },
        "site": site,
        "absorber": atomic_number(element),
        "shell": counts,
        "mean_distance": np.float32(shell.mean_distance),
        "nearest_distance": np.float32(shell.nearest_distance),
        "paths": path_rows(structure, [site])[0],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Crystals:
    rows = sorted(rows, key=lambda row: (row["absorber"], row["described"]["source_id"], row["site"]))
    index: dict[tuple[str, str], int] = {}
    materials: list[dict[str, Any]] = []
    for row in rows:
        key = (row["described"]["source"], row["described"]["source_id"])
        if key not in index:
            index[key] = len(materials)
            materials.append(row["described"])
    material = np.array([index[row["described"]["source"], row["described"]["source_id"]] for row in rows], dtype=np.int64)
    return Crystals(materials, material, **{name: np.array([row[name] for row in rows]) for name in COLUMNS if name != "material"})
