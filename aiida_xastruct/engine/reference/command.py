"""What `reference build|status|export` do on a terminal; the click commands and `python -m` both call these."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from pymatgen.core import Element

from ..errors import XastructError
from ..spectrum import atomic_number, tabulated_edge
from .build import BuildOptions, Progress, build
from .library import count_by_element, export, library_keys, read_reference, shards
from .scattering import count_paths, make_paths
from .state import FAILURES, RECORDS, REJECTED, State, key_of


def build_command(state: Path, options: BuildOptions) -> str:
    """Build into the state folder with a progress bar (lines, where the output is a file); returns a closing sentence.

    Raises:
        XastructError: if the source or the library cannot be read.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console()
    if options.library is not None:
        print(f"what the library {options.library} holds is skipped", flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[last]}"))
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("sites", total=options.limit, last="")

        def report(progress: Progress) -> None:
            done, failed = sum(progress.done.values()), sum(progress.failed.values())
            if console.is_terminal:
                bar.update(row, completed=done + failed, last=progress.last[:100])
            else:
                print(f"{done} done ({progress.done['XANES']} XANES), {failed} failed; {progress.last}", flush=True)

        result = build(State(state), options, report)
    return f"{sum(result.done.values())} sites computed, {sum(result.failed.values())} failed; the state is in {state}."


def status_command(state: Path | None, library: Path | None) -> str:
    """Unique sites by kind and element in the library and the state folder together, failures with their reasons."""
    keys = library_keys(library) if library is not None else {}
    lines = []
    if library is not None:
        lines.append(f"library {library}: {len(shards(library))} shards, {_totals(Counter(key[4] for key in keys))}")
        lines.append("  {} sites have their scattering paths, {} in all".format(*count_paths(library)))
    if state is not None:
        folder = State(state)
        computed = {key_of(record): str(record["absorber"]) for record in folder.lines(RECORDS)}
        fresh = {key: element for key, element in computed.items() if key not in keys}
        failures = list(folder.lines(FAILURES))
        rejected = sum(1 for _ in folder.lines(REJECTED))
        lines.append(
            f"state {state}: {_totals(Counter(key[4] for key in computed))}, "
            f"of which {_totals(Counter(key[4] for key in fresh))} are not exported"
        )
        lines.append(f"  {len(failures)} sites failed, {rejected} structures cannot be used")
        for reason, count in Counter(str(value["reason"])[:100] for value in failures).most_common(5):
            lines.append(f"  {count:5d} x {reason}")
        keys = {**keys, **computed}
    for kind, counts in sorted(count_by_element(keys).items()):
        ordered = sorted(counts.items(), key=lambda item: Element(item[0]).Z)  # xraydb, which knows too, takes half a second to load
        lines.append(f"{kind}: {sum(counts.values())} unique sites of {len(counts)} absorbing elements")
        for start in range(0, len(ordered), 12):
            lines.append("  " + "  ".join(f"{element:>2s} {count:4d}" for element, count in ordered[start : start + 12]))
    return "\n".join(lines)


def export_command(state: Path, library: Path) -> str:
    """Write what the library lacks; returns what was written.

    Raises:
        XastructError: if the state folder holds no records.
    """
    folder = State(state)
    if not (folder.folder / RECORDS).is_file():
        raise XastructError(f"{state} holds no records; run the build first or give its state folder.")
    written = export(folder, library)
    if not written:
        return f"{library} already holds every record of {state}."
    return "\n".join(f"{path} {path.stat().st_size / 1e6:.2f} MB" for path in written)


def paths_command(library: Path, sites: int, cores: int = 1, seed: int = 0) -> str:
    """Compute scattering paths of at most `sites` sites of each absorber, with a progress bar; returns what was written.

    Raises:
        XastructError: if the library is missing or an option makes no sense.
    """
    from rich.progress import track

    if sites < 1 or cores < 1:
        raise XastructError(f"sites is {sites} and cores is {cores}; give at least 1 of each.")
    failures: list[str] = []
    written = make_paths(library, sites, cores, seed, failures, lambda found, total: track(found, "paths", total=total))
    lines = [f"{path} {path.stat().st_size / 1e6:.2f} MB" for path in written] or [f"{library} already holds these paths."]
    return "\n".join([*lines, *(f"failed: {reason}" for reason in failures)])


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


def _totals(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("EXAFS", "XANES"))
