"""Spectra of all sites of many crystals: one table with a row for each site, and two arrays of curves.

This is the one contract of batches, whether they run in AiiDA's process or on a compute node. Columns of the table:

| column | what |
| --- | --- |
| row | row of `mu` and `half_band`; null where there is no spectrum |
| structure, id, hash, formula | position in the file of structures, its name there, SHA-256 of its content, reduced formula |
| site, absorber, edge, multiplicity | index from 0; sites of the cell that it stands for; null where the structure is refused as a whole |
| e0 | energy of the edge, eV: the spectrum is at `e0 + grid` |
| method | `ml` or `feff`; null where there is no spectrum |
| uncertainty, error_bound, threshold | as in `ForwardAnswer`; null of a spectrum by FEFF |
| domain_score, in_domain, needs_reference | the same |
| reason | why FEFF should answer or not, or why there is no spectrum |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from . import ALGORITHM_VERSION
from .arrays import DAMAGED, read_npy
from .bundle import FamilyBundle, ModelBundle
from .dataset import GRIDS
from .errors import ModelError, XastructError
from .formats import BATCH, check_stated
from .sitecache import AbsorberRows, SiteCache, structure_hash
from .spectrum import k_to_energy
from .structures_file import Entry

if TYPE_CHECKING:
    import pyarrow as pa

#: Structures that are in memory at a time. Networks are asked about all sites of a slice at once, so the slices of a file are
#: always the same, and so are the numbers, whatever is known already and however often a run was stopped.
SLICE = 128

#: Files that `Batch.save` writes.
TABLE, GRID, MU, HALF_BAND, FACTS = "table.parquet", "grid.npy", "mu.npy", "half_band.npy", "batch.json"

#: Structures done and inequivalent sites done, since the last call.
Progress = Callable[[int, int], None]


def schema() -> pa.Schema:
    """Columns of the table, see the module."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    columns: dict[str, Any] = {
        "row": pa.int32(), "structure": pa.int32(), "id": pa.string(), "hash": pa.string(), "formula": word,
        "site": pa.int32(), "absorber": word, "edge": word, "multiplicity": pa.int32(), "e0": pa.float64(), "method": word,
        "uncertainty": pa.float64(), "error_bound": pa.float64(), "threshold": pa.float64(), "domain_score": pa.float64(),
        "in_domain": pa.bool_(), "needs_reference": pa.bool_(), "reason": pa.string(),
    }  # fmt: skip
    return pa.schema(columns)


def energy_grid(kind: str) -> NDArray[np.float64]:
    """(m,) energies of all curves of a kind, eV above E0."""
    return k_to_energy(GRIDS[kind]) if kind == "EXAFS" else GRIDS[kind]


@dataclass(eq=False)
class Batch:
    """What a batch answers.

    Attributes:
        kind: XANES or EXAFS.
        rows: records of the table; see the module for the keys. What is null may be left out.
        mu: (n, m) flat mu on `energy_grid`, single precision.
        half_band: (n, m) half the width of the simultaneous band around it.
    """

    kind: str
    rows: list[dict[str, Any]]
    mu: NDArray[np.float32]
    half_band: NDArray[np.float32]

    def table(self) -> pa.Table:
        """The rows, as a table."""
        import pyarrow as pa

        columns = schema()
        return pa.table({field.name: pa.array([row.get(field.name) for row in self.rows], field.type) for field in columns}, schema=columns)

    def save(self, folder: Path) -> None:
        """Write everything, and the version of the algorithm, into a folder, which is made if missing; `batch.json` comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        write_table(self.table(), folder / TABLE)
        for name, array in ((GRID, energy_grid(self.kind)), (MU, self.mu), (HALF_BAND, self.half_band)):
            np.save(folder / name, array, allow_pickle=False)
        facts = {
            "format": BATCH,
            "algorithm_version": ALGORITHM_VERSION["forward"],
            "kind": self.kind,
            "rows": len(self.rows),
            "spectra": len(self.mu),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


@dataclass(frozen=True, eq=False)
class Arrays:
    """What `Batch.save` wrote beside the table.

    Attributes:
        kind: XANES or EXAFS.
        algorithm_version: of the engine that made it.
        grid: (m,) eV above E0.
        mu, half_band: (n, m), see `Batch`.
    """

    kind: str
    algorithm_version: str
    grid: NDArray[np.float64]
    mu: NDArray[np.float32]
    half_band: NDArray[np.float32]


def read_batch(folder: Path, said: str) -> Arrays:
    """The arrays of a batch that was saved, checked against its table.

    Args:
        folder: of the table and the arrays.
        said: text of `batch.json`, which a job keeps elsewhere.

    Raises:
        ModelError: if a file is missing, damaged, or does not fit the others.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts = json.loads(said)
        check_stated(folder / FACTS, facts, BATCH, "`xastruct predict`")
        kind, version = str(facts["kind"]), str(facts["algorithm_version"])
        grid, mu, half = (read_npy(folder / name) for name in (GRID, MU, HALF_BAND))
        rows = pq.read_table(folder / TABLE, columns=["row"])["row"].drop_null().to_pylist()
    except ModelError:
        raise
    except (*DAMAGED, AttributeError, RecursionError, pa.ArrowException) as error:
        raise ModelError(f"the batch cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}).") from error
    if kind not in GRIDS or grid.shape != GRIDS[kind].shape or mu.shape != (len(rows), *grid.shape) or half.shape != mu.shape:
        raise ModelError(f"the table names {len(rows)} spectra of {kind} and the arrays have shapes {mu.shape} and {half.shape}.")
    if any(array.dtype.kind != "f" or not np.isfinite(array).all() for array in (grid, mu, half)) or sorted(rows) != list(range(len(rows))):
        raise ModelError("an array of the batch holds what is no number, or the table does not name each curve once.")
    return Arrays(kind, version, grid, mu, half)


def write_table(table: pa.Table, target: Any) -> None:
    """Write a table as parquet to a path or an open binary file; the same table makes the same bytes."""
    import pyarrow.parquet as pq

    pq.write_table(table, target, compression="zstd")


def predict_batch(
    family: FamilyBundle,
    entries: Iterable[Entry],
    absorber: str,
    kind: str,
    *,
    cache: Path | None = None,
    cores: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Batch:
    """Spectra of all inequivalent sites of many crystals by a forward model, without FEFF.

    Args:
        family: with a forward model of this kind.
        entries: crystals, or why there is none, as `read_structures` gives them.
        absorber: element whose sites are asked for; empty for all elements.
        kind: XANES or EXAFS.
        cache: SQLite file of a `SiteCache` that features are read from and kept in.
        cores: processes that compute features. With more than one, a script that calls this needs `if __name__ == "__main__":`.
        device: `cpu` or `cuda`, where SevenNet runs.
        progress: called after each structure, and after each slice's spectra.

    Raises:
        ModelError: if the family has no such model.
        StructureError: if the file of structures is damaged.
    """
    if kind not in GRIDS:
        raise ModelError(f"kind is {kind!r}; use one of {', '.join(GRIDS)}.")
    model = family.model("forward", kind)
    rows: list[dict[str, Any]] = []
    mu: list[NDArray[np.float32]] = []
    half: list[NDArray[np.float32]] = []
    source, position, count = iter(entries), 0, 0
    with _features(cache, cores, device) as features:
        while chunk := list(islice(source, SLICE)):
            found = features(chunk, absorber, progress)
            own, curves, halves = _answers(model, chunk, found, position, count)
            rows += own
            position, count = position + len(chunk), count + len(curves)
            mu.append(curves)
            half.append(halves)
            if progress is not None:
                progress(0, len(curves))
    empty = np.zeros((0, len(GRIDS[kind])), dtype=np.float32)
    return Batch(kind, rows, np.concatenate([empty, *mu]), np.concatenate([empty, *half]))


def _answers(
    model: ModelBundle, chunk: list[Entry], found: list[AbsorberRows | str], position: int, count: int
) -> tuple[list[dict[str, Any]], NDArray[np.float32], NDArray[np.float32]]:
    """Table rows and curves of a slice whose first structure is at `position` and whose first spectrum is row `count`."""
    rows: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    features: list[NDArray[np.float32]] = []
    for offset, ((name, structure), known) in enumerate(zip(chunk, found, strict=True)):
        common: dict[str, Any] = {"structure": position + offset, "id": name}
        if not isinstance(structure, str):
            common |= {"hash": structure_hash(structure), "formula": structure.composition.reduced_formula}
        if isinstance(known, str):
            rows.append({**common, "reason": known})
            continue
        for absorber, feature in zip(known.absorbers, known.features, strict=True):
            row = {**common, "site": absorber.site, "absorber": absorber.element, "multiplicity": absorber.multiplicity}
            rows.append(row)
            if refused := model.refused(absorber.element):
                row["reason"] = refused
            else:
                asked.append(row)
                features.append(feature)
    empty = np.zeros((0, len(GRIDS[model.task.kind])), dtype=np.float32)
    if not asked:
        return rows, empty, empty
    answers = model.predict_from_features(np.stack(features), [row["absorber"] for row in asked])
    for index, (row, answer) in enumerate(zip(asked, answers, strict=True)):
        row |= {"row": count + index, "edge": answer.spectrum.edge, "e0": answer.spectrum.e0, "method": "ml"}
        row |= {name: getattr(answer, name) for name in _SAID}
    curves = np.array([answer.spectrum.mu for answer in answers], dtype=np.float32)
    return rows, curves, np.array([np.diff(answer.band)[:, 0] / 2.0 for answer in answers], dtype=np.float32)


_SAID = ("uncertainty", "error_bound", "threshold", "domain_score", "in_domain", "needs_reference", "reason")

_Features = Callable[[list[Entry], str, Progress | None], list[AbsorberRows | str]]


@contextmanager
def _features(path: Path | None, cores: int, device: str) -> Iterator[_Features]:
    """Function that gives features of the entries of a slice, or why there are none."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        cache = stack.enter_context(SiteCache(path)) if path is not None else None
        compute: Callable[[list[tuple[Structure, str]]], Iterable[AbsorberRows | str]]
        if device != "cpu":
            compute = lambda tasks: _compute_together(tasks, device)  # noqa: E731
        elif cores > 1:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            # Not forked: torch has threads by now, which a forked child waits for in vain.
            pool = stack.enter_context(ProcessPoolExecutor(cores, mp_context=get_context("spawn")))
            compute = lambda tasks: pool.map(_compute, tasks, chunksize=4)  # noqa: E731
        else:
            compute = lambda tasks: map(_compute, tasks)  # noqa: E731

        def features(chunk: list[Entry], absorber: str, progress: Progress | None) -> list[AbsorberRows | str]:
            found: dict[int, AbsorberRows | str] = {}
            missing: list[tuple[int, str, Structure]] = []
            for index, (_, structure) in enumerate(chunk):
                if isinstance(structure, str):
                    found[index] = structure
                    continue
                key = structure_hash(structure)
                known = _known(cache, key, structure, absorber) if cache is not None else None
                if known is not None:
                    found[index] = known
                else:
                    missing.append((index, key, structure))
            if progress is not None:
                progress(len(found), 0)
            for (index, key, _), rows in zip(missing, compute([(structure, absorber) for _, _, structure in missing]), strict=True):
                found[index] = rows
                if cache is not None and not isinstance(rows, str):
                    cache.put_absorbers(key, rows)
                if progress is not None:
                    progress(1, 0)
            return [found[index] for index in range(len(chunk))]

        yield features


def _known(cache: SiteCache, key: str, structure: Structure, absorber: str) -> AbsorberRows | None:
    """Kept features of an element of a structure, or of all of them in order of site; None unless all are there."""
    elements = sorted({str(element.symbol) for element in structure.composition.element_composition}) if not absorber else [absorber]
    parts = [cache.get_absorbers(key, element) for element in elements]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    absorbers = [one for part in known for one in part.absorbers]
    order = sorted(range(len(absorbers)), key=lambda index: absorbers[index].site)
    return AbsorberRows([absorbers[index] for index in order], np.concatenate([part.features for part in known])[order])


def _compute(task: tuple[Structure, str]) -> AbsorberRows | str:
    """Features of one structure, by one thread: the same numbers whatever else is computed beside them."""
    import torch

    from .features import site_rows
    from .structure import check_structure, inequivalent_absorbers

    structure, absorber = task
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        check_structure(structure)
        absorbers = inequivalent_absorbers(structure, absorber or None)
        return AbsorberRows(absorbers, site_rows(structure, [one.site for one in absorbers]))
    except XastructError as error:
        return str(error)
    finally:
        torch.set_num_threads(threads)


def _compute_together(tasks: list[tuple[Structure, str]], device: str) -> list[AbsorberRows | str]:
    """Features of many structures, SevenNet on a device that likes many atoms at once."""
    from .features import site_rows
    from .sevennet import shared_features
    from .structure import check_structure, inequivalent_absorbers

    found: list[AbsorberRows | str] = []
    try:
        for structure, absorber in tasks:
            check_structure(structure)
            found.append(AbsorberRows(inequivalent_absorbers(structure, absorber or None), np.zeros((0, 0), dtype=np.float32)))
        sites = [[one.site for one in rows.absorbers] for rows in found if isinstance(rows, AbsorberRows)]
        learned = shared_features(device)([structure for structure, _ in tasks], sites)
    except XastructError as error:
        # One of them has no answer: halves until it is alone.
        middle = len(tasks) // 2
        return [str(error)] if middle == 0 else _compute_together(tasks[:middle], device) + _compute_together(tasks[middle:], device)
    return [
        AbsorberRows(rows.absorbers, site_rows(structure, own, features))
        for (structure, _), rows, own, features in zip(tasks, found, sites, learned, strict=True)
        if isinstance(rows, AbsorberRows)
    ]
