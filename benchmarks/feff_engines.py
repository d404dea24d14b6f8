"""EXAFS of Cu, Fe2O3 and CeO2 by FEFF10, FEFF 8.5L and FEFF 6L: k^2-weighted R2 of chi between each pair, k 3 to 12.

    python benchmarks/feff_engines.py --docs docs/reference/feff_engines.md

FEFF 6L as xraylarch ships it ends with its paths (feffNNNN.dat), which are summed here. Its deck has a HOLE card and no EDGE card, and
knows neither S02 nor EXAFS. It estimates the Fermi level differently, so its k starts elsewhere: R2 is given as it is and with E0 moved.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.feff import FeffParameters, compute, write_deck
from aiida_xastruct.engine.feff.path_files import sum_paths
from aiida_xastruct.engine.feff.programs import environment, executable
from aiida_xastruct.engine.spectrum import ETOK, chi_k

K = np.arange(3.0, 12.01, 0.05)


def crystals() -> dict[str, Structure]:
    """The three, conventional cells; the absorber is site 0."""
    return {
        "Cu": Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]]),
        "Fe2O3": Structure.from_spacegroup("R-3c", Lattice.hexagonal(5.035, 13.747), ["Fe", "O"], [[0, 0, 0.3553], [0.3059, 0, 0.25]]),
        "CeO2": Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.411), ["Ce", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    }


def by_spectrum(structure: Structure, engine: str) -> NDArray[np.float64]:
    """The chi on `K` by FEFF10 or FEFF 8.5L."""
    k, chi = chi_k(compute(structure, 0, FeffParameters(kind="EXAFS", engine=engine)).spectrum)
    return np.asarray(np.interp(K, k, chi))


def by_paths(structure: Structure) -> NDArray[np.float64]:
    """The chi on `K` by FEFF 6L."""
    deck = write_deck(structure, 0, FeffParameters(kind="EXAFS", engine="feff8l"))
    edge = {"K": 1, "L3": 4}[re.search(r"EDGE (\S+)", deck)[1]]
    deck = re.sub(r"EDGE \S+", f"HOLE {edge} 1.0", deck)
    deck = re.sub(r"(?m)^(S02|EXAFS) .*\n", "", deck).replace("RPATH", "RMAX")
    deck = re.sub(r"(?m)^(CONTROL|PRINT) .*", lambda match: f"{match[1]} " + ("1 1 1 1" if match[1] == "CONTROL" else "0 0 0 3"), deck)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "feff.inp").write_text(deck)
        subprocess.run([executable("feff6l")], cwd=folder, env=environment(), check=True, capture_output=True)
        k, chi, _, _ = sum_paths(Path(folder))
    return np.asarray(np.interp(K, k, chi))


def agreement(curve: NDArray[np.float64], other: NDArray[np.float64], shift: float = 0.0) -> float:
    """R2 of two curves on `K`, the first one's E0 moved by `shift` eV."""
    moved = np.interp(np.sqrt(np.maximum(K**2 + ETOK * shift, 0.0)), K, curve, left=np.nan, right=np.nan)
    both = np.isfinite(moved)
    return float(1 - np.sum((moved[both] - other[both]) ** 2) / np.sum((other[both] - other[both].mean()) ** 2))


def compare_engines(structure: Structure) -> list[tuple[str, str, float, float, float]]:
    """For each pair of engines: their names, R2, the best R2 with E0 of the first moved, and by how many eV."""
    curves = {"feff10": by_spectrum(structure, "feff10"), "feff8l": by_spectrum(structure, "feff8l"), "feff6l": by_paths(structure)}
    rows = []
    for first, second in itertools.combinations(curves, 2):
        a, b = (K**2 * curves[engine] for engine in (first, second))
        best, shift = max((agreement(a, b, shift), shift) for shift in np.arange(-10.0, 10.1, 0.25))
        rows.append((first, second, agreement(a, b), best, float(shift)))
    return rows


def page(table: str) -> str:
    """The page of the documentation."""
    return f"""# FEFF: the engines among each other

EXAFS of one site by FEFF10, FEFF 8.5L and FEFF 6L (paths to 6 angstrom, four legs, no self-consistency): R2 of chi weighted with k^2, k
from 3 to 12 1/angstrom, as computed, and with E0 of the first moved by what fits best.

{table}

The project's bar is 0.95 between each pair. FEFF 6L estimates the Fermi level differently from the others, so that its k starts
elsewhere: that is why it falls below as computed. It is a shift that every fit of EXAFS leaves free.

Made by `python benchmarks/feff_engines.py --docs docs/reference/feff_engines.md`.
"""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="write the page of the documentation")
    options = parser.parse_args()
    lines = ["| crystal | engines | R2 | R2, E0 moved | by (eV) |", "|---|---|---|---|---|"]
    for name, structure in crystals().items():
        for first, second, plain, best, shift in compare_engines(structure):
            lines.append(f"| {name} | {first}, {second} | {plain:.4f} | {best:.4f} | {shift:+.2f} |")
            print(lines[-1], flush=True)
    if options.docs:
        options.docs.write_text(page("\n".join(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
