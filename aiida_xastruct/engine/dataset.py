"""Training sets: spectra of known crystals, with what models need of each, in one HDF5 file.

A file holds the structures, and for each kind of spectrum a table of sites. Everything slow (first shells, SevenNet features, E0) is
computed once, when the file is made (`engine.prepare`), so that training reads arrays only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError
from .paths import PathTable
from .spectrum import EXAFS_GRID, XANES_GRID, FloatArray

FORMAT = "xastruct-dataset-2"

#: Thermal draws of an EXAFS site.
THERMAL_DRAWS = 4

#: Highest atomic number that tables make room for, plus one.
MAX_Z = 104

GRIDS: Mapping[str, FloatArray] = {"XANES": XANES_GRID, "EXAFS": EXAFS_GRID}

PARTS = ("train", "select", "calibrate", "report")


@dataclass(eq=False)
class SiteTable:
    """Spectra of one kind, one row an absorbing site.

    Attributes:
        material: (n,) row of the material in `Dataset.materials`.
        site: (n,) site index in the source's structure.
        absorber: (n,) atomic number of the absorber.
        curve: (n, len(grid)) flat mu on `XANES_GRID` above the spectrum's own E0, or chi on `EXAFS_GRID`; NaN outside the source's
            range. What inverse models see: a measured spectrum has no other zero.
        target: (n, len(grid)) what forward models learn. XANES: flat mu on `XANES_GRID` above the engine's own edge
            (`Dataset.edge_shifts`), one energy for all spectra of an absorber by one engine, so that edges may shift from compound
            to compound. EXAFS: the same as `curve`.
        thermal: (n, draws, len(grid)) EXAFS under thermal disorder where the source has it, NaN elsewhere; no draws for XANES.
        edge_shift: (n,) E0 of the source minus the tabulated edge energy, eV.
        engine: (n,) who computed it, an index into `Dataset.engines`.
        peer_split: (n,) the source's own split: "train", "val" or "".
        shell: (n, MAX_Z) number of first-shell neighbours of each atomic number.
        mean_distance: (n,) of the first shell, angstrom.
        nearest_distance: (n,) of the first shell, angstrom.
        features: (n, SITE_SIZE) of the site; see `engine.features`.
    """

    material: NDArray[np.int64]
    site: NDArray[np.int64]
    absorber: NDArray[np.int64]
    curve: NDArray[np.float32]
    target: NDArray[np.float32]
    thermal: NDArray[np.float32]
    edge_shift: NDArray[np.float32]
    engine: NDArray[np.int64]
    peer_split: NDArray[np.str_]
    shell: NDArray[np.uint8]
    mean_distance: NDArray[np.float32]
    nearest_distance: NDArray[np.float32]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.material)

    def take(self, rows: NDArray[Any]) -> SiteTable:
        """The chosen rows (index array or mask) as a new table."""
        return SiteTable(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @property
    def neighbours(self) -> NDArray[np.bool_]:
        """(n, MAX_Z) whether an element is in the first shell."""
        return self.shell > 0

    @property
    def coordination(self) -> NDArray[np.int64]:
        """(n,) number of first-shell neighbours."""
        return np.asarray(self.shell.sum(axis=1), dtype=np.int64)


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
            if not table.curve.shape == table.target.shape == (len(table), len(GRIDS[kind])):
                raise DatasetError(
                    f"the {kind} curves have shape {table.curve.shape}, not ({len(table)}, {len(GRIDS[kind])}); make the dataset again."
                )
            if len(table) and table.material.max() >= len(self.materials):
                raise DatasetError(f"the {kind} table names a material that the dataset lacks; the file is damaged.")
        sites = len(self.tables["EXAFS"]) if "EXAFS" in self.tables else 0
        if self.paths is not None and len(self.paths) and self.paths.site.max() >= sites:
            raise DatasetError("the scattering paths name a site that the dataset lacks; the file is damaged.")

    def edge_shifts(self, kind: str) -> dict[str, dict[int, float]]:
        """Median over the spectra of an engine and absorber of E0 minus the tabulated edge, eV: the engine's own edge."""
        table = self.tables[kind]
        found: dict[str, dict[int, float]] = {}
        for index, engine in enumerate(self.engines):
            for z in np.unique(table.absorber[table.engine == index]):
                mask = (table.engine == index) & (table.absorber == z)
                found.setdefault(engine, {})[int(z)] = float(np.median(table.edge_shift[mask]))
        return found

    def _group_labels(self) -> list[str]:
        """What materials of one group share, one label a material."""
        return [f"{material['formula']}|{material['prototype']}" for material in self.materials]

    def group_of(self, kind: str) -> NDArray[np.int64]:
        """(n,) group of each row: rows of one (reduced formula, prototype) share it and never part in a split."""
        labels = self._group_labels()
        codes = {label: code for code, label in enumerate(sorted(set(labels)))}
        of_material = np.array([codes[label] for label in labels], dtype=np.int64)
        return of_material[self.tables[kind].material]

    def parts(
        self, kind: str, seed: int = 0, fractions: tuple[float, float, float, float] = (0.7, 0.1, 0.1, 0.1)
    ) -> dict[str, NDArray[np.bool_]]:
        """Split the rows of a kind by group into `PARTS`.

        A group's part follows from a hash of its name and the seed, so that a dataset that grows keeps the parts of what it had.

        Returns:
            for each part a mask (n,); the masks cover every row once.
        """
        labels = self._group_labels()
        draw = np.array([_unit_hash(f"{seed}|{label}") for label in labels])[self.tables[kind].material]
        bounds = np.cumsum(fractions)
        bounds[-1] = 1.0
        part = np.searchsorted(bounds, draw, side="right")
        return {name: part == index for index, name in enumerate(PARTS)}

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
                for item in fields(table):
                    array = getattr(table, item.name)
                    if item.name == "peer_split":
                        array = array.astype("S8")
                    compression = "gzip" if array.ndim > 1 and array.size else None
                    group.create_dataset(item.name, data=array, compression=compression, shuffle=compression is not None, track_times=False)
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
        import h5py

        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise DatasetError(f"{path} is not a {FORMAT} file; make one with `xastruct dataset`.")
                text = file["materials"][()].tobytes().decode()
                materials = [json.loads(line) for line in text.splitlines()]
                tables = {}
                for kind in GRIDS:
                    if kind in file:
                        arrays = {item.name: file[kind][item.name][()] for item in fields(SiteTable)}
                        arrays["peer_split"] = arrays["peer_split"].astype(str)
                        tables[kind] = SiteTable(**arrays)
                own = {item.name: file["paths"][item.name][()] for item in fields(PathTable)} if "paths" in file else None
                return cls(materials, json.loads(file.attrs["engines"]), tables, PathTable(**own) if own else None)
        except (OSError, KeyError) as error:
            raise DatasetError(f"{path} cannot be read as a dataset ({error}); make it again with `xastruct dataset`.") from error

    def content_hash(self) -> str:
        """SHA-256 over the materials and every array: what a model's card says it was trained on."""
        digest = hashlib.sha256(json.dumps([self.materials, self.engines], sort_keys=True).encode())
        for kind, table in sorted(self.tables.items()):
            digest.update(kind.encode())
            for item in fields(table):
                array = np.ascontiguousarray(getattr(table, item.name))
                digest.update(f"{item.name}{array.shape}".encode())
                digest.update(array.astype("S8").tobytes() if item.name == "peer_split" else array.tobytes())
        if self.paths is not None:
            for item in fields(PathTable):
                digest.update(np.ascontiguousarray(getattr(self.paths, item.name)).tobytes())
        return digest.hexdigest()


def _unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


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
