"""From files of structures and spectra to a `Dataset`: read, leave out what is held out, compute what models need."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from .dataset import LEAST_SHIFT, MAX_Z, MOST_SHIFT, THERMAL_DRAWS, WIDE_GRID, Dataset, Holdout, SiteTable
from .errors import CacheError, DatasetError, SpectrumError, StructureError
from .features import site_rows
from .paths import PATHS_SIZE, PathTable, loudest_chi
from .reference import read_reference
from .reference.library import K_GRID
from .reference.scattering import SitePaths
from .sitecache import SiteCache, SiteFacts, StructureFacts, structure_hash
from .spectrum import (
    ETOK,
    EXAFS_GRID,
    XANES_GRID,
    FloatArray,
    Kind,
    Spectrum,
    atomic_number,
    edge_of,
    find_e0,
    flatten,
    model_curve,
    multiplets,
    on_grid,
    tabulated_edge,
)
from .structure import make_structure
from .structures_file import whole_lines

#: Grid points that a spectrum must cover to be trained on or measured.
MINIMUM_POINTS = 40


@dataclass(frozen=True, eq=False)
class Record:
    """One computed spectrum of one site of one crystal, as a source gives it; `thermal` (draws, grid) on `EXAFS_GRID` where it has them."""

    source: str
    source_id: str
    structure: Structure
    site: int
    spectrum: Spectrum
    engine: str
    peer_split: str = ""
    thermal: FloatArray | None = None


def unfit(record: Record) -> str:
    """Why a record is no question that the models answer; empty if it is one."""
    absorber = record.spectrum.absorber
    if not record.structure[record.site].is_ordered:
        return "site is disordered"
    if atomic_number(absorber) != record.structure[record.site].specie.Z:
        return "absorber is not at the site"
    if multiplets(absorber, record.spectrum.edge):
        return f"dominated by multiplets ({absorber} {record.spectrum.edge})"
    if record.spectrum.edge != edge_of(absorber):
        return f"not the edge that people measure ({absorber} {record.spectrum.edge})"
    return ""


def spectrum_of(row: dict[str, Any]) -> Spectrum:
    """A `Spectrum` from one line of a `*.spectra.jsonl.gz` (its format: ../shared/data/README.md).

    Raises:
        DatasetError: if a column is missing.
    """
    try:
        energy = np.asarray(row["energy_eV"], dtype=np.float64)
        kind = cast(Kind, row["kind"])
        e0 = None
        if kind == "EXAFS" and "k" in row:
            e0 = float(energy[0] - row["k"][0] ** 2 / ETOK)
        mu0 = np.asarray(row["mu0"]) if "mu0" in row else None
        return Spectrum(
            energy,
            np.asarray(row["mu"]),
            row["absorber"],
            row["edge"],
            kind,
            "feff",
            "feff",
            "feff_xsedge50",
            mu0,
            e0,
            row.get("settings", {}),
        )
    except SpectrumError:
        raise
    except KeyError as error:
        raise DatasetError(f"a spectrum lacks the column {error}; each line needs energy_eV, mu, absorber, edge and kind.") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise DatasetError(
            f"a spectrum holds what is no number ({error}); each line needs energy_eV and mu as lists of numbers."
        ) from error


def _lines(path: Path, refuse: Callable[[str], None] | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects of a `*.jsonl.gz`, one a line; with `refuse`, lines that are none are passed to it as reasons.

    Raises:
        DatasetError: if the file is missing, cut off, no gzip or, without `refuse`, no JSON.
    """
    try:
        with gzip.open(path, "rt") as lines:
            for line in whole_lines(lines):
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("not an object")
                except (ValueError, RecursionError):
                    if refuse is None:
                        raise
                    refuse("a line is no JSON object")
                else:
                    yield row
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise DatasetError(f"{path.name} cannot be read as gzipped JSON lines ({error}); get or make the file again.") from error


def read_jsonl_structures(path: Path, refuse: Callable[[str], None] | None = None) -> dict[str, Structure]:
    """Structures by material id, from a `*.structures.jsonl.gz`; with `refuse`, lines that are none are left out, with a reason each.

    Raises:
        DatasetError: if the file is damaged, or without `refuse` a line is no structure.
    """
    found = {}
    for row in _lines(path, refuse):
        try:
            found[str(row["material_id"])] = make_structure(row["lattice"], row["species"], row["frac"])
        except (KeyError, StructureError) as error:
            if refuse is None:
                raise DatasetError(
                    f"a line of {path.name} is no structure ({error}); each needs material_id, lattice, species and frac."
                ) from error
            refuse("a structure cannot be read")
    return found


def read_jsonl(spectra: Path, structures: Path, refuse: Callable[[str], None] | None = None) -> Iterator[Record]:
    """Records of a pair of files; the source is the file's name up to the first dot.

    Args:
        spectra: `*.spectra.jsonl.gz`.
        structures: `*.structures.jsonl.gz`.
        refuse: called with the reason for each line that cannot be read, which is then left out; without it, the first one ends the
            reading.

    Raises:
        DatasetError: if a file is damaged, or without `refuse` a spectrum names a structure or a site that is not there.
        SpectrumError: if, without `refuse`, a spectrum cannot be used.
    """
    source = spectra.name.split(".")[0]
    crystals = read_jsonl_structures(structures, refuse)
    for row in _lines(spectra, refuse):
        try:
            yield _record(row, source, crystals, spectra.name, structures.name)
        except (SpectrumError, DatasetError) as error:
            if refuse is None:
                raise
            refuse(str(error))


def _record(row: dict[str, Any], source: str, crystals: dict[str, Structure], spectra: str, structures: str) -> Record:
    """The record of one line; the names of the two files are for messages."""
    try:
        material, site, engine = str(row["material_id"]), row["site"], str(row["engine"])
        crystal = crystals.get(material)
    except (KeyError, TypeError) as error:
        raise DatasetError(f"a line of {spectra} lacks {error}; each needs material_id, site and engine.") from error
    if crystal is None:
        raise DatasetError(f"{spectra} names {material}, which {structures} lacks; give the matching pair.")
    if not isinstance(site, int) or site not in range(len(crystal)):
        raise DatasetError(f"{spectra} names site {site} of {material}, which has {len(crystal)} sites; give the matching pair.")
    return Record(source, material, crystal, site, spectrum_of(row), engine, row.get("split") or "")


def prepare(
    records: Iterable[Record],
    holdout: Holdout,
    cache: Path,
    cores: int = 1,
    progress: Callable[[int, int], None] | None = None,
    paths: Iterable[SitePaths] = (),
) -> tuple[Dataset, dict[str, int]]:
    """Make a dataset.

    Args:
        records: spectra of any sources.
        holdout: what must be left out.
        cache: SQLite file of `SiteCache`; made if missing.
        cores: processes that compute first shells and features.
        progress: called with (structures done, structures in all).
        paths: scattering paths of sites among the EXAFS records; those of other sites are left out.

    Returns:
        the dataset, and how many records were left out for which reason.
    """
    kept, left_out = _not_held_out_by_id(list(records), holdout)
    tasks = _sites_by_structure(kept)
    facts: dict[str, StructureFacts] = {}
    with SiteCache(cache) as store:
        for done in store.fill(list(tasks.values()), cores):
            if progress:
                progress(done, len(tasks))
        for key, (_, sites) in tasks.items():
            found = store.get(key, sites)
            if found is None:
                raise CacheError(f"another version of this package works on {cache} too; give each a file of its own.")
            facts[key] = found
    builder = _Builder(holdout, left_out)
    for record in kept:
        builder.add(record, facts[structure_hash(record.structure)])
    dataset = builder.dataset()
    dataset.paths = _path_table(paths, dataset)
    holdout.check(dataset)
    return dataset, left_out


def _path_table(paths: Iterable[SitePaths], dataset: Dataset) -> PathTable | None:
    """The paths of the dataset's own EXAFS sites; None where there are none."""
    table = dataset.tables.get("EXAFS")
    if table is None:
        return None
    rows = {}
    for row, (material, site) in enumerate(zip(table.material, table.site, strict=True)):
        described = dataset.materials[material]
        rows[described["source"], described["source_id"], int(site)] = row
    known = [(rows[key], own) for own in paths if (key := (own.source, own.source_id, own.site)) in rows]
    if not known:
        return None
    return PathTable(
        np.repeat([row for row, _ in known], [len(own.geometry) for _, own in known]),
        np.concatenate([own.geometry for _, own in known]),
        np.concatenate([own.amplitude for _, own in known]),
    )


def _not_held_out_by_id(records: list[Record], holdout: Holdout) -> tuple[list[Record], dict[str, int]]:
    kept = [record for record in records if record.source_id not in holdout.ids]
    return kept, {"held out": len(records) - len(kept)}


def _sites_by_structure(records: list[Record]) -> dict[str, tuple[Structure, list[int]]]:
    tasks: dict[str, tuple[Structure, list[int]]] = {}
    for record in records:
        _, sites = tasks.setdefault(structure_hash(record.structure), (record.structure, []))
        if record.site not in sites:
            sites.append(record.site)
    return tasks


def read_library(folder: Path, refuse: Callable[[str], None] | None = None) -> Iterator[Record]:
    """Records of the reference library that `aiida-xastruct reference export` writes.

    Args:
        folder: the library.
        refuse: called with the reason for each spectrum whose crystal reads differently today than when it was computed (another
            version of larixite or pymatgen), which is then left out; without it, the first one ends the reading.

    Raises:
        StructureError: if, without `refuse`, there is such a spectrum.
    """
    for item in read_reference(folder):
        try:
            crystal = item.crystal()
        except StructureError as error:
            if refuse is None:
                raise
            refuse(str(error))
            continue
        thermal = None
        if item.kind == "EXAFS" and len(item.draws):
            thermal = np.array([on_grid(K_GRID, chi, EXAFS_GRID) for chi in item.draws[:THERMAL_DRAWS].astype(np.float64)])
        yield Record(item.source, item.source_id, crystal, item.site, item.spectrum(), item.program, "", thermal)


class _Builder:
    """Collects rows. A second spectrum of the same site of the same material, kind and engine is dropped."""

    def __init__(self, holdout: Holdout, left_out: dict[str, int]) -> None:
        self._holdout, self._left_out = holdout, left_out
        self._materials: dict[tuple[str, str], int] = {}
        self._described: list[dict[str, Any]] = []
        self._engines: list[str] = []
        self._rows: dict[str, list[dict[str, Any]]] = {"XANES": [], "EXAFS": []}
        self._seen: set[tuple[Any, ...]] = set()

    def _drop(self, reason: str) -> None:
        self._left_out[reason] = self._left_out.get(reason, 0) + 1

    def add(self, record: Record, facts: StructureFacts) -> None:
        formula = record.structure.composition.reduced_formula
        if facts.refused:
            return self._drop("structure refused")
        if self._holdout.excludes(record.source, record.source_id, formula, facts.space_group):
            return self._drop("held out")
        site = facts.sites[record.site]
        if site.shell is None:
            return self._drop("no first shell")
        if reason := unfit(record):
            return self._drop(reason)
        identity = (record.source, record.source_id, record.site, record.spectrum.kind, record.engine)
        if identity in self._seen:
            return self._drop("duplicate")
        try:
            curve, e0 = model_curve(record.spectrum), find_e0(record.spectrum)
        except SpectrumError:
            return self._drop("spectrum refused")
        if np.isfinite(curve).sum() < MINIMUM_POINTS or np.nanmax(np.abs(curve)) > 20.0:
            return self._drop("spectrum refused")
        shift = e0 - tabulated_edge(record.spectrum.absorber, record.spectrum.edge)
        if record.spectrum.kind == "XANES" and not LEAST_SHIFT <= shift <= MOST_SHIFT:
            return self._drop("edge far from the tabulated energy")
        row = self._row(record, facts, site, curve, e0, formula)
        if record.spectrum.kind == "EXAFS" and _too_loud(curve, row["features"]):
            return self._drop("louder than its neighbours can scatter")
        self._seen.add(identity)
        self._rows[record.spectrum.kind].append(row)
        return None

    def _row(self, record: Record, facts: StructureFacts, site: SiteFacts, curve: Any, e0: float, formula: str) -> dict[str, Any]:
        assert site.shell is not None  # `add` dropped the others
        key = (record.source, record.source_id)
        if key not in self._materials:
            self._materials[key] = len(self._described)
            self._described.append(
                {"source": key[0], "source_id": key[1], "formula": formula, "space_group": facts.space_group, "prototype": facts.prototype}
            )
        if record.engine not in self._engines:
            self._engines.append(record.engine)
        shell = np.zeros(MAX_Z, dtype=np.uint8)
        for element in site.shell.elements:
            shell[atomic_number(element)] += 1
        return {
            "material": self._materials[key],
            "site": record.site,
            "absorber": atomic_number(record.spectrum.absorber),
            "curve": curve.astype(np.float32),
            "wide": _wide(record.spectrum, e0),
            "thermal": _thermal(record),
            "edge_shift": e0 - tabulated_edge(record.spectrum.absorber, record.spectrum.edge),
            "engine": self._engines.index(record.engine),
            "peer_split": record.peer_split,
            "shell": shell,
            "mean_distance": site.shell.mean_distance,
            "nearest_distance": site.shell.nearest_distance,
            "features": site_rows(record.structure, [record.site], site.features[None])[0],
        }

    def dataset(self) -> Dataset:
        tables = {}
        for kind, rows in self._rows.items():
            if not rows:
                continue
            columns: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
            for name in ("edge_shift", "mean_distance", "nearest_distance"):
                columns[name] = columns[name].astype(np.float32)
            tables[kind] = SiteTable(**columns)
        return Dataset(self._described, self._engines, tables)


def _too_loud(chi: FloatArray, features: NDArray[np.float32]) -> bool:
    """Whether FEFF's chi on `EXAFS_GRID` is more than all paths of the site in phase could make."""
    used = (EXAFS_GRID >= 8.0) & np.isfinite(chi)
    return bool((np.abs(chi[used]) > loudest_chi(features[-PATHS_SIZE:], EXAFS_GRID[used])).any())


def _thermal(record: Record) -> NDArray[np.float32]:
    """(draws, grid) of a record, NaN where it has fewer draws than `THERMAL_DRAWS`; no draws for XANES."""
    if record.spectrum.kind == "XANES":
        return np.zeros((0, len(XANES_GRID)), dtype=np.float32)
    curves = np.full((THERMAL_DRAWS, len(EXAFS_GRID)), np.nan, dtype=np.float32)
    if record.thermal is not None:
        curves[: len(record.thermal)] = record.thermal
    return curves


def _wide(spectrum: Spectrum, e0: float) -> NDArray[np.float32]:
    """(len(WIDE_GRID),) flat mu above the tabulated edge; nothing for EXAFS. See `SiteTable.wide`."""
    if spectrum.kind == "EXAFS":
        return np.zeros(0, dtype=np.float32)
    flat = flatten(replace(spectrum, e0=e0))
    return on_grid(flat.energy - tabulated_edge(flat.absorber, flat.edge), flat.mu, WIDE_GRID).astype(np.float32)
