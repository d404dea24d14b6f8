"""EXAFS of Cu, Fe2O3 and CeO2 by FEFF10, FEFF 8.5L and FEFF 6L: k^2-weighted R2 of chi between each pair, k 3 to 12.

    python benchmarks/feff_engines.py

FEFF 6L as xraylarch ships it ends with its paths (feffNNNN.dat), which are summed here. Its deck has a HOLE card and no EDGE card, and
knows neither S02 nor EXAFS. It estimates the Fermi level differently, so its k starts elsewhere: R2 is given as it is and with E0 moved.
"""

from __future__ import annotations

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


def main() -> int:
    """Print the table."""
    for name, structure in crystals().items():
        curves = {"feff10": by_spectrum(structure, "feff10"), "feff8l": by_spectrum(structure, "feff8l"), "feff6l": by_paths(structure)}
        for first, second in itertools.combinations(curves, 2):
            a, b = (K**2 * curves[engine] for engine in (first, second))
            best, shift = max((agreement(a, b, shift), shift) for shift in np.arange(-10.0, 10.1, 0.25))
            print(f"{name:6s} {first} {second}: R2 {agreement(a, b):.4f}; {best:.4f} with E0 of {first} moved by {shift:+.2f} eV")
    return 0


if __name__ == "__main__":
    sys.exit(main())
