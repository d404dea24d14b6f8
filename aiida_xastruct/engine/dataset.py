"""Training sets: spectra of known crystals, with what models need of each, in one HDF5 file.

A file holds the structures, and for each kind of spectrum a table of sites. Everything slow (first shells, SevenNet features, E0) is
computed once, when the file is made (`engine.prepare`), so that training reads arrays only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import DAMAGED_HDF5, hdf5_array, hdf5_text, hdf5_word, open_hdf5
from .edges import STEP, EdgeShifts
from .errors import DatasetError
from .formats import check_format
from .paths import PATH_COLUMNS, PATH_K, PathTable
from .spectrum import EXAFS_GRID, XANES_GRID, FloatArray, element_symbol

FORMAT = "xastruct-dataset-4"

#: Thermal draws of an EXAFS site.
THERMAL_DRAWS = 4

#: Highest atomic number that tables make room for, plus one.
MAX_Z = 104

GRIDS: Mapping[str, FloatArray] = {"XANES": XANES_GRID, "EXAFS": EXAFS_GRID}

#: Offsets from the tabulated edge that a spectrum may have, eV. `reference offsets` prints those of FEFF 8.5L.
LEAST_SHIFT, MOST_SHIFT = -40.0, 90.0

#: eV above the tabulated edge: `XANES_GRID` fits into it above every edge within those offsets.
WIDE_GRID: FloatArray = np.arange(XANES_GRID[0] + LEAST_SHIFT, XANES_GRID[-1] + MOST_SHIFT + STEP / 2, STEP)

PARTS = ("train", "select", "calibrate", "report")

#: Parts that networks learn nothing from.
JUDGING = PARTS[1:]

#: Where each part ends, as a share of the groups.
_BOUNDS = (0.7, 0.8, 0.9, 1.0)


_UNSET = np.zeros((0, 0), dtype=np.float32)


@dataclass(eq=False)
class SiteTable:
    """Spectra of one kind, one row an absorbing site.

    Attributes:
        material: (n,) row of the material in `Dataset.materials`.
        site: (n,) site index in the source's structure.
        absorber: (n,) atomic number of the absorber.
        curve: (n, len(grid)) flat mu on `XANES_GRID` above the spectrum's own E0, or chi on `EXAFS_GRID`; NaN outside the source's
            range. What inverse models see: a measured spectrum has no other zero.
        wide: (n, len(WIDE_GRID)) XANES: flat mu above the tabulated edge, NaN outside the source's range; (n, 0) for EXAFS.
        thermal: (n, draws, len(grid)) EXAFS under thermal disorder where the source has it, NaN elsewhere; no draws for XANES.
        edge_shift: (n,) E0 of the source minus the tabulated edge energy, eV.
        engine: (n,) who computed it, an index into `Dataset.engines`.
        peer_split: (n,) the source's own split: "train", "val" or "".
        shell: (n, MAX_Z) number of first-shell neighbours of each atomic number.
        mean_distance: (n,) of the first shell, angstrom.
        nearest_distance: (n,) of the first shell, angstrom.
        features: (n, SITE_SIZE) of the site; see `engine.features`.
        target: (n, len(grid)) what forward models learn; no part of a file. EXAFS: the same as `curve`. XANES: flat mu on `XANES_GRID`
            above the engine's own edge, one energy for all spectra of an absorber by one engine, so that edges may shift from compound
            to compound. Which energy follows from the training part, so the target is (n, 0) until `Dataset.split` sets it.
    """

    material: NDArray[np.int64]
    site: NDArray[np.int64]
    absorber: NDArray[np.int64]
    curve: NDArray[np.float32]
    wide: NDArray[np.float32]
    thermal: NDArray[np.float32]
    edge_shift: NDArray[np.float32]
    engine: NDArray[np.int64]
    peer_split: NDArray[np.str_]
    shell: NDArray[np.uint8]
    mean_distance: NDArray[np.float32]
    nearest_distance: NDArray[np.float32]
    features: NDArray[np.float32]
    target: NDArray[np.float32] = field(default_factory=lambda: _UNSET)

    def __post_init__(self) -> None:
        if self.target is _UNSET:
            self.target = np.zeros((len(self), 0), dtype=np.float32) if self.wide.shape[1] else self.curve

    def __len__(self) -> int:
        return len(self.material)

    def above(self, edge: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, len(XANES_GRID)) flat mu above energies `edge` (n,), in eV above the tabulated edge, whole steps of the grid."""
        start = np.rint((edge + XANES_GRID[0] - WIDE_GRID[0]) / STEP).astype(np.int64)
        return np.asarray(np.take_along_axis(self.wide, start[:, None] + np.arange(len(XANES_GRID)), axis=1))

    def take(self, rows: NDArray[Any]) -> SiteTable:
        """The chosen rows (index array or mask) as a new table."""
        return SiteTable(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @classmethod
    def join(cls, tables: Sequence[SiteTable]) -> SiteTable:
        """The rows of several tables one after the other."""
        return cls(**{item.name: np.concatenate([getattr(table, item.name) for table in tables]) for item in fields(cls)})

    @property
    def neighbours(self) -> NDArray[np.bool_]:
        """(n, MAX_Z) whether an element is in the first shell."""
        return self.shell > 0

    @property
    def coordination(self) -> NDArray[np.int64]:
        """(n,) number of first-shell neighbours."""
        return np.asarray(self.shell.sum(axis=1), dtype=np.int64)


#: What a file holds of a table.
COLUMNS = tuple(item.name for item in fields(SiteTable) if item.name != "target")

#: Axes of each column beyond rows, and what a material is described by.
_AXES = {"curve": 2, "wide": 2, "thermal": 3, "shell": 2, "features": 2}
MATERIAL = {"source": str, "source_id": str, "formula": str, "space_group": int, "prototype": str}


def check_materials(materials: Any) -> None:
    """Refuse a list of what is no material.

    Raises:
        DatasetError: naming what one lacks.
    """
    for material in materials:
        for name, kind in MATERIAL.items():
            if not isinstance(material, dict) or not isinstance(material.get(name), kind):
                raise DatasetError(f"a material of the file has no proper {name!r}; the file is damaged, make it again.")


def check_columns(kind: str, arrays: Mapping[str, NDArray[Any]], materials: Any, engines: Any) -> None:
    """Refuse columns that are not of one table, or name materials, elements or programs that there are not.

    Raises:
        DatasetError: naming the column.
    """
    check_materials(materials)
    if not isinstance(engines, list) or not all(isinstance(engine, str) for engine in engines):
        raise DatasetError("the file does not name the programs of its spectra; it is damaged, make it again.")
    rows = len(arrays["material"]) if arrays["material"].ndim == 1 else -1
    for name, array in arrays.items():
        if array.ndim != _AXES.get(name, 1) or len(array) != rows or (name != "peer_split" and array.dtype.kind not in "fiu"):
            raise DatasetError(
                f"the column {name} of {kind} has the shape {array.shape}, not {rows} rows of numbers; make the dataset again."
            )
    limits = {"material": len(materials), "engine": len(engines), "absorber": MAX_Z, "site": 2**31}
    for name, limit in limits.items():
        array = arrays[name]
        if array.dtype.kind not in "iu" or (rows and not (name == "absorber") <= array.min() <= array.max() < limit):
            raise DatasetError(f"the column {name} of {kind} holds numbers that are not from 0 to {limit - 1}; make the dataset again.")
    if arrays["shell"].shape[1] != MAX_Z or arrays["thermal"].shape[2] != len(GRIDS[kind]):
        raise DatasetError(f"the shells or the thermal spectra of {kind} are of another version; make the dataset again.")


def check_paths(arrays: Mapping[str, NDArray[Any]] | None) -> None:
    """Refuse scattering paths that are not of one table.

    Raises:
        DatasetError: if they are not.
    """
    if arrays is None:
        return
    n = arrays["site"].size
    shapes = {"site": (n,), "geometry": (n, len(PATH_COLUMNS)), "amplitude": (n, 2, len(PATH_K))}
    if any(arrays[name].shape != shape or arrays[name].dtype.kind not in "fiu" for name, shape in shapes.items()):
        raise DatasetError("the scattering paths of the file are not of one table; the file is damaged, make it again.")
    if n and (arrays["site"].dtype.kind not in "iu" or arrays["site"].min() < 0):
        raise DatasetError("the scattering paths name sites that there are not; the file is damaged, make it again.")


@dataclass(eq=False)
class Dataset:
    """Materials and their spectra.

    Attributes:
        materials: one dictionary a material: source, source_id, formula (reduced), space_group, prototype.
        engines: names of the programs that computed the spectra.
        tables: a `SiteTable` for each kind of spectrum.
        paths: scattering paths of some of the EXAFS sites, where there are any.
    """

    materials: list[dict[str, Any]]
    engines: list[str]
    tables: dict[str, SiteTable] = field(default_factory=dict)
    paths: PathTable | None = None

    def __post_init__(self) -> None:
        for kind, table in self.tables.items():
            if kind not in GRIDS:
                raise DatasetError(f"the dataset holds spectra of kind {kind!r}; use XANES or EXAFS.")
            n, wide = len(table), len(WIDE_GRID) if kind == "XANES" else 0
            if table.curve.shape != (n, len(GRIDS[kind])) or table.wide.shape != (n, wide):
                raise DatasetError(
                    f"the {kind} curves have shapes {table.curve.shape} and {table.wide.shape}, not ({n}, {len(GRIDS[kind])}) and "
                    f"({n}, {wide}); make the dataset again."
                )
            if len(table) and table.material.max() >= len(self.materials):
                raise DatasetError(f"the {kind} table names a material that the dataset lacks; the file is damaged.")
        sites = len(self.tables["EXAFS"]) if "EXAFS" in self.tables else 0
        if self.paths is not None and len(self.paths) and self.paths.site.max() >= sites:
            raise DatasetError("the scattering paths name a site that the dataset lacks; the file is damaged.")

    def edge_shifts(self, kind: str, rows: NDArray[Any]) -> EdgeShifts:
        """Where each engine puts the edge of each absorber, by the given rows (index array or mask) of a kind: those trained on."""
        table = self.tables[kind].take(rows)
        return EdgeShifts.fit(table.edge_shift, table.engine, table.absorber, self.engines)

    def aligned(self, kind: str, train: NDArray[Any]) -> SiteTable:
        """The table of a kind with its targets, XANES above the edges that the rows `train` (index array or mask) give."""
        table = self.tables[kind]
        if kind != "XANES":
            return table
        shifts = self.edge_shifts(kind, train)
        pairs = zip(table.absorber, table.engine, strict=True)
        edge = np.array([shifts.of(element_symbol(int(z)), self.engines[int(engine)]) for z, engine in pairs])
        return replace(table, target=table.above(edge))

    def group_of(self, kind: str) -> NDArray[np.int64]:
        """(n,) group of each row: rows of one (reduced formula, prototype) share it and never part in a split."""
        labels = [group_label(material) for material in self.materials]
        codes = {label: code for code, label in enumerate(sorted(set(labels)))}
        of_material = np.array([codes[label] for label in labels], dtype=np.int64)
        return of_material[self.tables[kind].material]

    def present(self, kind: str) -> NDArray[np.bool_]:
        """(n, MAX_Z) elements of the compound of each row: what a user knows of a sample."""
        from pymatgen.core import Composition

        of_formula = {material["formula"]: np.zeros(MAX_Z, dtype=bool) for material in self.materials}
        for formula, elements in of_formula.items():
            try:
                elements[[element.Z for element in Composition(formula).elements]] = True
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
                raise DatasetError(f"the dataset names a material {formula!r}, which is no formula of elements; make it again.") from error
        rows = [of_formula[self.materials[material]["formula"]] for material in self.tables[kind].material]
        return np.array(rows).reshape(-1, MAX_Z)

    def parts(self, kind: str, seed: int = 0) -> dict[str, NDArray[np.bool_]]:
        """Split the rows of a kind by group into `PARTS`; see `part_of`.

        Returns:
            for each part a mask (n,); the masks cover every row once.
        """
        of_material = np.array([part_of(group_label(material), seed) for material in self.materials])
        part = of_material[self.tables[kind].material]
        return {name: part == name for name in PARTS}

    def split(self, kind: str, seed: int = 0) -> dict[str, SiteTable]:
        """The rows of each part of `parts`, with targets that follow from the training part alone."""
        masks = self.parts(kind, seed)
        table = self.aligned(kind, masks["train"])
        return {name: table.take(mask) for name, mask in masks.items()}

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) rows of the XANES table and (n,) of the EXAFS table that are of one site.

        Raises:
            DatasetError: if no site has both.
        """
        rows: dict[tuple[int, int], int] = {}
        for row, site in enumerate(self._sites("XANES")):
            rows.setdefault(site, row)
        found = [(rows.pop(site), row) for row, site in enumerate(self._sites("EXAFS")) if site in rows]
        if not found:
            raise DatasetError("no site of the dataset has both XANES and EXAFS; make one with `xastruct pairs`.")
        both = np.array(found, dtype=np.int64)
        return both[:, 0], both[:, 1]

    def _sites(self, kind: str) -> list[tuple[int, int]]:
        """Material and site of each row of a kind."""
        table = self.tables.get(kind)
        return [] if table is None else list(zip(table.material.tolist(), table.site.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write one HDF5 file; same content, same bytes."""
        import h5py

        with h5py.File(path, "w", track_order=True) as file:
            file.attrs["format"] = FORMAT
            file.attrs["engines"] = json.dumps(self.engines)
            text = "\n".join(json.dumps(material, sort_keys=True) for material in self.materials)
            file.create_dataset("materials", data=np.frombuffer(text.encode(), dtype=np.uint8), compression="gzip", track_times=False)
            for kind, table in sorted(self.tables.items()):
                group = file.create_group(kind)
                for name in COLUMNS:
                    array = getattr(table, name)
                    if name == "peer_split":
                        array = array.astype("S8")
                    compression = "gzip" if array.ndim > 1 and array.size else None
                    group.create_dataset(name, data=array, compression=compression, shuffle=compression is not None, track_times=False)
            if self.paths is not None:
                group = file.create_group("paths")
                for item in fields(PathTable):
                    array = getattr(self.paths, item.name)
                    group.create_dataset(item.name, data=array, compression="gzip", shuffle=True, track_times=False)

    @classmethod
    def load(cls, path: Path) -> Dataset:
        """Read what `save` wrote.

        Raises:
            DatasetError: if the file is not such a file.
        """
        try:
            with open_hdf5(path) as file:
                check_format(path, hdf5_word(file, "format"), FORMAT, "`xastruct dataset`")
                materials = [json.loads(line) for line in hdf5_text(file, "materials").splitlines()]
                engines = json.loads(hdf5_word(file, "engines"))
                tables = {}
                for kind in GRIDS:
                    if kind in file:
                        arrays = {name: hdf5_array(file[kind], name) for name in COLUMNS}
                        arrays["peer_split"] = arrays["peer_split"].astype(str)
                        check_columns(kind, arrays, materials, engines)
                        tables[kind] = SiteTable(**arrays)
                own = {item.name: hdf5_array(file["paths"], item.name) for item in fields(PathTable)} if "paths" in file else None
                check_paths(own)
                return cls(materials, engines, tables, PathTable(**own) if own else None)
        except DatasetError:
            raise
        except (*DAMAGED_HDF5, RecursionError) as error:
            raise DatasetError(f"{path} cannot be read as a dataset ({error}); make it again with `xastruct dataset`.") from error

    def content_hash(self) -> str:
        """SHA-256 over the materials and every array: what a model's card says it was trained on."""
        digest = hashlib.sha256(json.dumps([self.materials, self.engines], sort_keys=True).encode())
        for kind, table in sorted(self.tables.items()):
            digest.update(kind.encode())
            for name in COLUMNS:
                array = np.ascontiguousarray(getattr(table, name))
                digest.update(f"{name}{array.shape}".encode())
                digest.update(array.astype("S8").tobytes() if name == "peer_split" else array.tobytes())
        if self.paths is not None:
            for item in fields(PathTable):
                digest.update(np.ascontiguousarray(getattr(self.paths, item.name)).tobytes())
        return digest.hexdigest()


def group_label(material: Mapping[str, Any]) -> str:
    """What materials of one group share: reduced formula and prototype."""
    return f"{material['formula']}|{material['prototype']}"


def part_of(label: str, seed: int) -> str:
    """The part of a split that a group belongs to.

    It follows from a hash of its label and the seed, so that data that grow keep the parts of what they had, and two files agree.
    """
    draw = int.from_bytes(hashlib.sha256(f"{seed}|{label}".encode()).digest()[:8], "big") / 2**64
    return next((name for name, bound in zip(PARTS, _BOUNDS, strict=True) if draw < bound), PARTS[-1])


@dataclass(frozen=True)
class Holdout:
    """Materials that are never trained, selected or calibrated on.

    Attributes:
        ids: Materials Project ids, held out for every absorber.
        twins: (reduced formula, space-group number); a structure of any source but `omnixas_feff` that has both is left out too.
    """

    ids: frozenset[str]
    twins: frozenset[tuple[str, int]]

    @classmethod
    def read(cls, folder: Path) -> Holdout:
        """Read `holdout_ids.txt` and `holdout_formulas.txt`.

        Raises:
            DatasetError: if either is missing: training without them would spoil the exam.
        """
        try:
            ids = frozenset((folder / "holdout_ids.txt").read_text().split())
            lines = (folder / "holdout_formulas.txt").read_text().splitlines()
        except OSError as error:
            raise DatasetError(f"{folder} lacks the list of held-out materials ({error}); nothing is trained without it.") from error
        pairs = (line.rsplit(maxsplit=1) for line in lines if line.strip())
        return cls(ids, frozenset((formula, int(number)) for formula, number in pairs))

    def excludes(self, source: str, source_id: str, formula: str, space_group: int) -> bool:
        """Whether a material must be left out."""
        if source_id in self.ids:
            return True
        return source != "omnixas_feff" and (formula, space_group) in self.twins

    def check(self, dataset: Dataset) -> None:
        """Refuse a dataset that holds what is held out.

        Raises:
            DatasetError: naming the first such material.
        """
        for material in dataset.materials:
            if self.excludes(material["source"], material["source_id"], material["formula"], material["space_group"]):
                raise DatasetError(
                    f"{material['source_id']} ({material['formula']}) is held out for the exam; leave it out of the dataset."
                )
