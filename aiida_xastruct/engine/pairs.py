"""Sites that have both XANES and EXAFS, on which it is learned and measured what the two tell together.

Sources of spectra hold mostly one kind. EXAFS costs FEFF a second, so it is computed for sites whose XANES is there.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from .dataset import JUDGING, Dataset, Holdout, group_label, part_of
from .errors import DatasetError, StructureError, XastructError
from .prepare import Record, prepare, read_library, unfit
from .reference.compute import record_of
from .reference.library import export
from .reference.order import Task
from .reference.state import FAILURES, RECORDS, State
from .structure import check_structure, prototype, space_group

Site = tuple[str, str, int]


def make_pairs(
    records: Iterable[Record],
    holdout: Holdout,
    state: State,
    cache: Path,
    sites: int = 300,
    split_seed: int = 0,
    cores: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """A dataset of sites with both kinds of spectra, of the parts `JUDGING`.

    Args:
        records: of any sources, of both kinds; EXAFS that is among them is not computed again.
        holdout: what must be left out.
        state: folder that keeps the EXAFS computed here, as `reference build` keeps its own; a run that was stopped goes on from it.
        cache: SQLite file of `SiteCache`; made if missing.
        sites: of each source and part at most so many, drawn at random.
        split_seed: of the split that the parts belong to.
        cores: processes that compute.
        progress: called with (EXAFS done, EXAFS in all).

    Raises:
        DatasetError: if no site has both.
    """
    by_kind: dict[str, dict[Site, Record]] = {"XANES": {}, "EXAFS": {}}
    for record in records:
        if record.source_id not in holdout.ids and not unfit(record):
            by_kind[record.spectrum.kind].setdefault((record.source, record.source_id, record.site), record)
    chosen = {site: by_kind["XANES"][site] for site in _choose(by_kind["XANES"], holdout, split_seed, sites)}
    exafs = {site: record for site, record in by_kind["EXAFS"].items() if site in chosen}
    _compute([record for site, record in chosen.items() if site not in exafs], state, cores, progress)
    library = state.folder / "library"
    export(state, library)
    for record in read_library(library) if any(library.glob("*.h5")) else ():
        site = (record.source, record.source_id, record.site)
        if site in chosen:  # the structure of the other spectrum, so that what is slow to compute of it is computed once
            exafs.setdefault(site, replace(record, structure=chosen[site].structure))
    both = [record for site, record in chosen.items() if site in exafs] + list(exafs.values())
    if not both:
        raise DatasetError("no site has both XANES and EXAFS; give sources of XANES of materials that are not held out.")
    return prepare(both, holdout, cache, cores)[0]


def _choose(records: dict[Site, Record], holdout: Holdout, split_seed: int, sites: int) -> list[Site]:
    """At most `sites` of each source and judging part, in an order that more sites only lengthen."""
    parts: dict[tuple[str, str], str] = {}
    found: dict[tuple[str, str], list[Site]] = defaultdict(list)
    order = sorted(records)
    random.Random(split_seed).shuffle(order)
    for site in order:
        material = site[:2]
        if material not in parts:
            parts[material] = _part(records[site], holdout, split_seed)
        if parts[material] in JUDGING:
            found[site[0], parts[material]].append(site)
    return [site for own in found.values() for site in own[:sites]]


def _part(record: Record, holdout: Holdout, split_seed: int) -> str:
    """The part that a record's material belongs to; none if it cannot be used."""
    try:
        check_structure(record.structure)
    except StructureError:
        return ""
    formula, group = record.structure.composition.reduced_formula, space_group(record.structure)
    if holdout.excludes(record.source, record.source_id, formula, group):
        return ""
    return part_of(group_label({"formula": formula, "prototype": prototype(record.structure, group)}), split_seed)


def _compute(records: Sequence[Record], state: State, cores: int, progress: Callable[[int, int], None] | None) -> None:
    """The EXAFS of the sites of these records, but those that the state folder holds or that failed before."""
    state.create()
    done, failed = state.known()
    tasks = {}
    for record in records:
        spectrum = record.spectrum
        task = Task(record.source, "", record.source_id, record.site, 1, spectrum.absorber, spectrum.edge, "EXAFS")
        if task.key not in done | failed:
            tasks[task] = record
    with ProcessPoolExecutor(cores) as pool:
        futures = [pool.submit(_exafs, task, record) for task, record in tasks.items()]
        for count, future in enumerate(as_completed(futures), start=1):
            name, line = future.result()
            state.append(name, line)
            if progress:
                progress(count, len(futures))


def _exafs(task: Task, record: Record) -> tuple[str, dict[str, Any]]:
    """Where in the state folder a site's line belongs, and the line."""
    try:
        return RECORDS, record_of(task, record.structure, {}, "")
    except XastructError as error:
        return FAILURES, {**vars(task), "reason": str(error)}
