"""The library on disk: HDF5 shards of at most 8 MB, named by the hash of their content and never rewritten.

A shard holds one group a kind and number of points. In a group every dataset has one row a site:

| dataset | shape, type | what |
| --- | --- | --- |
| source, source_id, source_version, fingerprint, absorber, edge, program, uuid | (n,) bytes | crystal, absorber, FEFF |
| site, multiplicity | (n,) int32 | index into the structure that `read_structure` gives; equivalent sites |
| settings | (n,) int32 | index into the group's attribute `settings`, a list of JSON objects |
| notes, structure | (n,) bytes | JSON: SCF convergence, missing hydrogen; the crystal where the source is not `amcsd` |
| e0 | (n,) float64 | EXAFS: energy of k = 0 in eV |
| k | (m,) float32 | EXAFS, one for all rows: wavenumber in 1/angstrom; the energy is e0 + k^2/0.26246842 (FEFF's own to 0.01 eV) |
| energy | (n, m) float64 | XANES: eV |
| mu, mu0 | (n, m) float32 | XANES: FEFF's own normalisation |
| chi, mu0 | (n, m) float32 | EXAFS without disorder: mu = mu0 (1 + chi) |
| draws | (n, d, m) float32 | EXAFS: chi under each of `conditions` |
| conditions | (n, d, 2) float32 | temperature and Debye temperature in K |

Curves keep 14 bits of mantissa (6e-5 relative; FEFF prints six digits), which gzip packs to half of float32.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..arrays import DAMAGED_HDF5, hdf5_array, hdf5_word, open_hdf5
from ..errors import DatasetError, XastructError
from ..feff.output import check
from ..formats import check_format
from ..spectrum import ETOK, FloatArray, Kind, Spectrum
from .crystal import structure_from_dict
from .sources import read_structure
from .state import RECORDS, Key, State, key_of, unpack

FORMAT = "xastruct-reference-1"

CITATION = (
    "Structures: R.T. Downs and M. Hall-Wallace, The American Mineralogist Crystal Structure Database, "
    "American Mineralogist 88, 247-250 (2003)."
)

#: Shards of scattering paths (`scattering`) lie beside those of spectra.
PATHS_PREFIX = "paths-"

#: A shard is closed before it reaches this size; a host of git refuses large files, and a small one is fetched alone.
MAX_BYTES = 8_000_000

#: Sites in a shard: an EXAFS site with four draws packs to about 5 kB, a XANES site to 1.2 kB.
SITES_PER_SHARD = {"EXAFS": 1200, "XANES": 4000}

#: k of stored EXAFS, 1/angstrom, shape (400,).
K_GRID: NDArray[np.float64] = np.round(0.05 * np.arange(1, 401), 2)

#: What a curve may not reach: float32 holds numbers up to 3e38, rounding included.
_TOO_LARGE = 1e30

_TEXT = ("source", "source_id", "source_version", "fingerprint", "absorber", "edge", "program", "uuid")


@dataclass(frozen=True, eq=False)
class ReferenceRecord:
    """One site of the library.

    Attributes:
        source, source_id, source_version, fingerprint: the crystal, see `crystal`.
        site: index of the absorber in the crystal; `multiplicity` equivalent ones.
        absorber, edge, kind: whose spectrum.
        program, settings: the FEFF and its parameters (`FeffParameters.from_dict`).
        notes: `missing_hydrogen`, `scf_converged`, `scf_settled`, `scf_iterations` where known.
        uuid: of this computation.
        e0: energy of k = 0 in eV for EXAFS, None for XANES.
        energy, mu, mu0: (m,) as FEFF gave them (no disorder), eV and FEFF's normalisation.
        draws: (d, m) EXAFS chi = mu/mu0 - 1 under thermal disorder; (0, m) for XANES.
        conditions: (d, 2) temperature and Debye temperature of each draw in K.
        structure: the crystal's coordinates where the source is not `amcsd`, else None.
    """

    source: str
    source_id: str
    source_version: str
    fingerprint: str
    site: int
    multiplicity: int
    absorber: str
    edge: str
    kind: Kind
    program: str
    settings: Mapping[str, Any]
    notes: Mapping[str, Any]
    uuid: str
    e0: float | None
    energy: FloatArray
    mu: FloatArray
    mu0: FloatArray
    draws: NDArray[np.float32]
    conditions: NDArray[np.float32]
    structure: Mapping[str, Any] | None = field(default=None)

    @property
    def key(self) -> Key:
        """What makes a site unique: source, id, site, edge, kind."""
        return (self.source, self.source_id, self.site, self.edge, self.kind)

    def spectrum(self, draw: int | None = None) -> Spectrum:
        """The spectrum without disorder, or under one of the draws (EXAFS only).

        Raises:
            IndexError: if there is no such draw.
        """
        mu, settings = self.mu, {**self.settings, "program": self.program}
        if draw is not None:
            mu = self.mu0 * (1.0 + self.draws[draw].astype(np.float64))
            settings |= {"temperature_k": float(self.conditions[draw, 0]), "debye_temperature_k": float(self.conditions[draw, 1])}
        return Spectrum(
            energy=self.energy, mu=mu, mu0=self.mu0, absorber=self.absorber, edge=self.edge, kind=self.kind, method="feff",
            energy_reference="feff", normalisation="feff_xsedge50", e0=self.e0, settings=settings,
        )  # fmt: skip

    def crystal(self) -> Structure:
        """The crystal; AMCSD's is read from larixite (50 ms; the last 256 are remembered).

        Raises:
            StructureError: if larixite no longer gives the coordinates that the spectrum was computed from.
        """
        if self.structure is not None:
            return structure_from_dict(self.structure)
        return read_structure(self.source, self.source_id, self.fingerprint)


def shards(folder: Path | str) -> list[Path]:
    """The shards in a folder, by name."""
    return [path for path in sorted(Path(folder).glob("*.h5")) if not path.name.startswith(PATHS_PREFIX)]


def read_reference(folder: Path | str, kinds: tuple[str, ...] = ("EXAFS", "XANES"), verify: bool = True) -> Iterator[ReferenceRecord]:
    """Every sound site of the library once, in the order of the shards' names.

    A site that two shards hold counts the first time; one that fails the sanity check of `engine.feff.output` does not count.

    Args:
        folder: the library, `reference/` of the repository.
        kinds: which spectra.
        verify: compare each shard's content with its name first.

    Raises:
        DatasetError: if the folder holds no shard, or one is damaged.
    """
    paths = shards(folder)
    if not paths:
        raise DatasetError(f"there is no reference library in {folder}; make one with `aiida-xastruct reference build` and `export`.")
    seen: set[Key] = set()
    for path in paths:
        if verify:
            check_shard(path)
        try:
            with open_hdf5(path) as file:
                check_format(path, hdf5_word(file, "format"), FORMAT, "`aiida-xastruct reference export`")
                for name in sorted(file):
                    if hdf5_word(file[name], "kind") in kinds:
                        for record in _read_group(file[name]):
                            if record.key not in seen and _sound(record):
                                seen.add(record.key)
                                yield record
        except XastructError:
            raise
        except (*DAMAGED_HDF5, RecursionError) as error:
            raise DatasetError(f"{path} cannot be read ({error}); fetch it again.") from error


def _sound(record: ReferenceRecord) -> bool:
    """Whether an EXAFS passes today's sanity check; shards stay as they were written when the check knew less."""
    return record.e0 is None or not check(record.spectrum(), record.e0)


def _read_group(group: Any) -> Iterator[ReferenceRecord]:
    kind = cast(Kind, hdf5_word(group, "kind"))
    text = {name: [value.decode() for value in hdf5_array(group, name)] for name in (*_TEXT, "notes", "structure")}
    settings = json.loads(hdf5_word(group, "settings"))
    data = {name: hdf5_array(group, name) for name in group if name not in text}
    rows = len(data["site"])
    if any(len(column) != rows for name, column in (text | data).items() if name != "k"):
        raise ValueError("columns of different lengths")
    for i in range(rows):
        mu0 = data["mu0"][i].astype(np.float64)
        if kind == "EXAFS":
            energy = data["e0"][i] + data["k"].astype(np.float64) ** 2 / ETOK
            mu = mu0 * (1.0 + data["chi"][i].astype(np.float64))
            draws, conditions, e0 = data["draws"][i], data["conditions"][i], float(data["e0"][i])
        else:
            energy, mu, e0 = data["energy"][i], data["mu"][i].astype(np.float64), None
            draws, conditions = np.zeros((0, len(mu)), np.float32), np.zeros((0, 2), np.float32)
        yield ReferenceRecord(
            **{name: text[name][i] for name in _TEXT}, site=int(data["site"][i]), multiplicity=int(data["multiplicity"][i]), kind=kind,
            settings=settings[data["settings"][i]], notes=json.loads(text["notes"][i]), e0=e0, energy=energy, mu=mu, mu0=mu0, draws=draws,
            conditions=conditions, structure=json.loads(text["structure"][i]) if text["structure"][i] else None,
        )  # fmt: skip


def default_library() -> Path | None:
    """`reference` in the working folder, else that of the clone that this package runs from; None where neither holds a shard."""
    beside = Path(__file__).resolve().parents[3] / "reference"
    return next((folder for folder in (Path("reference"), beside) if shards(folder)), None)


def library_keys(folder: Path | str) -> dict[Key, str]:
    """Keys of all sites in the library and the absorber of each, read without the curves; empty where there is no library.

    Raises:
        DatasetError: if a shard is damaged.
    """
    found: dict[Key, str] = {}
    for path in shards(folder):
        try:
            with open_hdf5(path) as file:
                for group in file.values():
                    kind = hdf5_word(group, "kind")
                    # h5py's own decoding takes five times as long.
                    names = ("source", "source_id", "edge", "absorber")
                    columns = [np.char.decode(hdf5_array(group, name), "utf-8").tolist() for name in names]
                    for source, source_id, edge, absorber, site in zip(*columns, hdf5_array(group, "site").tolist(), strict=True):
                        found[(source, source_id, site, edge, kind)] = absorber
        except DAMAGED_HDF5 as error:
            raise DatasetError(f"{path} cannot be read ({error}); fetch it again.") from error
    return found


def export(state: State, folder: Path | str) -> list[Path]:
    """Write the records of a build that the library lacks into new shards; shards that exist stay as they are.

    Returns:
        The new shards, each written under another name first, so that a kill leaves no half of one.

    Raises:
        DatasetError: if a record is damaged; shards that were full before it stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    present = set(library_keys(folder))
    waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
    written = []
    for record in state.lines(RECORDS):
        key = key_of(record)
        if key in present:
            continue
        present.add(key)
        kind = key[-1]
        waiting[kind].append(_row(record, key))
        if len(waiting[kind]) >= SITES_PER_SHARD[kind]:
            written += _write(waiting.pop(kind), kind, folder)
    for kind in sorted(waiting):
        written += _write(waiting[kind], kind, folder)
    return written


def _row(record: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """What a shard holds of one record, by column; `settings` as JSON.

    Raises:
        DatasetError: if it is damaged, naming the site, so that its line is found.
    """
    site = f"site {key[2]} of {key[0]} {key[1]}, {key[3]} {key[4]}"[:200]
    try:
        return _columns(record, key[-1])
    except XastructError as error:
        raise DatasetError(f"{site}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DatasetError(f"the record of {site} is damaged ({type(error).__name__}: {error}); remove its line.") from error


def _columns(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if kind not in SITES_PER_SHARD or not isinstance(record["settings"], dict) or not isinstance(record["notes"], dict):
        raise ValueError("its kind is neither EXAFS nor XANES, or its settings or notes are no objects")
    row: dict[str, Any] = {name: str(record[name]).encode() for name in _TEXT}
    row |= {name: np.array(int(record[name]), dtype=np.int32) for name in ("site", "multiplicity")}
    row |= {name: json.dumps(record[name], sort_keys=True) for name in ("settings", "notes")}
    row["structure"] = json.dumps(record["structure"]).encode() if "structure" in record else b""
    energy, mu, mu0 = (unpack(record[name]).astype(np.float64) for name in ("energy", "mu", "mu0"))
    if energy.ndim != 1 or not len(energy) == len(mu) == len(mu0) > 0:
        raise ValueError("its curves are of different lengths")
    if kind == "EXAFS":
        e0, chi = float(record["e0"]), unpack(record["chi"])
        # The points are FEFF's own: k to two decimals, with or without k = 0, where mu/mu0 says nothing.
        k = np.round(np.sqrt(ETOK * np.maximum(energy - e0, 0.0)), 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            row |= {"e0": e0, "chi": np.interp(K_GRID, k, mu / mu0 - 1.0), "mu0": np.interp(K_GRID, k, mu0)}
        row["draws"] = np.array([np.interp(K_GRID, k, draw) for draw in chi]).reshape(len(chi), len(K_GRID))
        row["conditions"] = np.array(record["conditions"], dtype=np.float32).reshape(len(chi), 2)
    else:
        row |= {"energy": energy, "mu": mu, "mu0": mu0}
    numbers = row.keys() & {"e0", "energy", "mu", "mu0", "chi", "draws", "conditions"}
    if not all((np.abs(row[name]) < _TOO_LARGE).all() for name in numbers):
        raise ValueError("its curves are not finite")
    return row


def _write(rows: list[dict[str, Any]], kind: str, folder: Path) -> list[Path]:
    """One shard of these rows, or two where one would be too large.

    Raises:
        DatasetError: if they are no table.
    """
    import io

    import h5py

    buffer = io.BytesIO()
    try:
        with h5py.File(buffer, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["citation"] = CITATION
            by_length: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for row in rows:
                by_length[len(row["mu0"])].append(row)
            for length, members in sorted(by_length.items()):
                _write_group(file.create_group(f"{kind}-{length}"), members, kind)
    except DAMAGED_HDF5 as error:
        raise DatasetError(f"the {kind} records of the state are no table ({error}); remove those of other builds.") from error
    content = buffer.getvalue()
    if len(content) > MAX_BYTES:
        half = len(rows) // 2
        return _write(rows[:half], kind, folder) + _write(rows[half:], kind, folder)
    return [store_shard(content, folder, f"{kind.lower()}-")]


def _write_group(group: Any, rows: list[dict[str, Any]], kind: str) -> None:
    packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    unique = sorted({row["settings"] for row in rows})
    group.attrs["kind"] = kind
    group.attrs["settings"] = json.dumps([json.loads(text) for text in unique])
    columns: dict[str, NDArray[Any]] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns["settings"] = np.array([unique.index(row["settings"]) for row in rows], dtype=np.int32)
    columns["notes"] = np.char.encode(columns["notes"], "utf-8")
    if kind == "EXAFS":
        group.create_dataset("k", data=K_GRID.astype(np.float32))
    for name, values in columns.items():
        stored = _rounded(values) if name in ("chi", "draws", "mu", "mu0") else values
        group.create_dataset(name, data=stored, **packed)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 with the mantissa rounded to 14 bits."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = ((bits + (1 << 8)) & np.uint64(0xFFFFFE00)).astype(np.uint32)
    return kept.view(np.float32)


def store_shard(content: bytes, folder: Path, prefix: str) -> Path:
    """Write a shard whose name begins with `prefix` and ends with the hash of its content, at once or not at all."""
    path = folder / f"{prefix}{_digest(content)}.h5"
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path


def check_shard(path: Path) -> None:
    """Compare a shard's content with its name.

    Raises:
        DatasetError: if they do not match.
    """
    if _digest(path.read_bytes()) not in path.name:
        raise DatasetError(f"{path} is damaged: its content does not match its name; fetch it again.")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def count_by_element(keys: Mapping[Key, str]) -> dict[str, Counter[str]]:
    """Unique sites of each kind by element."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for key, absorber in keys.items():
        counts[key[4]][absorber] += 1
    return dict(counts)
