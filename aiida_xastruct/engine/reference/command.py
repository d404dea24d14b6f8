"""What `reference build|status|export` do on a terminal; the click commands and `python -m` both call these."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from pymatgen.core import Element

from ..errors import XastructError
from ..spectrum import atomic_number, tabulated_edge
from .build import BuildOptions, Progress, build
from .library import count_by_element, export, library_keys, read_reference, shards
from .scattering import count_paths, make_paths
from .state import FAILURES, RECORDS, REJECTED, State, key_of

#: Kinds, in the order in which they are counted.
_KINDS = ("EXAFS", "XANES")

#: Reasons of failures that are counted, the most frequent first.
_REASONS = 5


class Said(NamedTuple):
    """What a command found or did: words for people, and the same as plain values for programs."""

    words: str
    facts: dict[str, Any]


def build_command(state: Path, options: BuildOptions, progress: IO[str] | None = None) -> Said:
    """Build into the state folder with a progress bar (lines, where the output is a file).

    Args:
        state: folder of the records.
        options: of the build.
        progress: where progress goes; the standard output if None.

    Raises:
        XastructError: if the source or the library cannot be read.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    stream = progress or sys.stdout
    console = Console(file=stream)
    if options.library is not None:
        print(f"what the library {options.library} holds is skipped", file=stream, flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[last]}"))
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("sites", total=options.limit, last="")

        def report(now: Progress) -> None:
            done, failed = sum(now.done.values()), sum(now.failed.values())
            if console.is_terminal:
                bar.update(row, completed=done + failed, last=now.last[:100])
            else:
                print(f"{done} done ({now.done['XANES']} XANES), {failed} failed; {now.last}", file=stream, flush=True)

        result = build(State(state), options, report)
    words = f"{sum(result.done.values())} sites computed, {sum(result.failed.values())} failed; the state is in {state}."
    library = None if options.library is None else str(options.library)
    return Said(words, {"state": str(state), "library": library, "computed": _counts(result.done), "failed": _counts(result.failed)})


def status_command(state: Path | None, library: Path | None) -> Said:
    """Unique sites by kind and element in the library and the state folder together, failures with their reasons."""
    keys = library_keys(library) if library is not None else {}
    lines = []
    facts: dict[str, Any] = {}
    if library is not None:
        held, (with_paths, paths) = _counts(Counter(key[4] for key in keys)), count_paths(library)
        facts["library"] = {
            "folder": str(library), "shards": len(shards(library)), "sites": held, "sites_with_paths": with_paths, "paths": paths,
        }  # fmt: skip
        lines.append(f"library {library}: {len(shards(library))} shards, {_totals(held)}")
        lines.append(f"  {with_paths} sites have their scattering paths, {paths} in all")
    if state is not None:
        folder = State(state)
        computed = {key_of(record): str(record["absorber"]) for record in folder.lines(RECORDS)}
        done = _counts(Counter(key[4] for key in computed))
        fresh = _counts(Counter(key[4] for key in computed if key not in keys))
        failures = Counter(str(value["reason"])[:100] for value in folder.lines(FAILURES))
        rejected = sum(1 for _ in folder.lines(REJECTED))
        facts["state"] = {
            "folder": str(state), "sites": done, "not_exported": fresh, "failed": failures.total(), "rejected": rejected,
            "reasons": dict(failures.most_common(_REASONS)),
        }  # fmt: skip
        lines.append(f"state {state}: {_totals(done)}, of which {_totals(fresh)} are not exported")
        lines.append(f"  {failures.total()} sites failed, {rejected} structures cannot be used")
        lines += [f"  {count:5d} x {reason}" for reason, count in failures.most_common(_REASONS)]
        keys = {**keys, **computed}
    facts["elements"] = {}
    for kind, counts in sorted(count_by_element(keys).items()):
        ordered = sorted(counts.items(), key=lambda item: Element(item[0]).Z)  # xraydb, which knows too, takes half a second to load
        facts["elements"][kind] = dict(ordered)
        lines.append(f"{kind}: {sum(counts.values())} unique sites of {len(counts)} absorbing elements")
        for start in range(0, len(ordered), 12):
            lines.append("  " + "  ".join(f"{element:>2s} {count:4d}" for element, count in ordered[start : start + 12]))
    return Said("\n".join(lines), facts)


def export_command(state: Path, library: Path) -> Said:
    """Write what the library lacks.

    Raises:
        XastructError: if the state folder holds no records.
    """
    folder = State(state)
    if not (folder.folder / RECORDS).is_file():
        raise XastructError(f"{state} holds no records; run the build first or give its state folder.")
    written = _written(export(folder, library))
    words = _lines(written) or [f"{library} already holds every record of {state}."]
    return Said("\n".join(words), {"state": str(state), "library": str(library), "written": written})


def paths_command(library: Path, sites: int, cores: int = 1, seed: int = 0, progress: IO[str] | None = None) -> Said:
    """Compute scattering paths of at most `sites` sites of each absorber, with a progress bar, on the standard output if not elsewhere.

    Raises:
        XastructError: if the library is missing or an option makes no sense.
    """
    from rich.console import Console
    from rich.progress import track

    if sites < 1 or cores < 1:
        raise XastructError(f"sites is {sites} and cores is {cores}; give at least 1 of each.")
    failures: list[str] = []
    console = Console(file=progress or sys.stdout)
    written = _written(
        make_paths(library, sites, cores, seed, failures, lambda found, total: track(found, "paths", total=total, console=console))
    )
    words = _lines(written) or [f"{library} already holds these paths."]
    facts = {"library": str(library), "written": written, "failed": failures}
    return Said("\n".join([*words, *(f"failed: {reason}" for reason in failures)]), facts)


def offsets_command(library: Path) -> str:
    """FEFF's edge minus the tabulated one by edge and element: median and half-spread in eV over the library's EXAFS, one a line.

    `engine/feff/offsets.py` holds these medians.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in read_reference(library, kinds=("EXAFS",)):
        if record.e0 is not None:
            found[record.edge, record.absorber].append(record.e0 - tabulated_edge(record.absorber, record.edge))
    ordered = sorted(found.items(), key=lambda item: (item[0][0], atomic_number(item[0][1])))
    return "\n".join(
        f"{edge:2s} {element:2s} {np.median(values):7.1f} +- {(max(values) - min(values)) / 2:4.1f} ({len(values)} sites)"
        for (edge, element), values in ordered
    )


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {kind: counts[kind] for kind in _KINDS}


def _totals(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _written(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Files that were written, with their sizes in bytes."""
    return [{"path": str(path), "bytes": path.stat().st_size} for path in paths]


def _lines(written: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{file['path']} {file['bytes'] / 1e6:.2f} MB" for file in written]
