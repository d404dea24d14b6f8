"""The paths that FEFF leaves as feffNNNN.dat, and their sum: what FEFF 6L, which ends with them, has in the place of xmu.dat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FeffError

#: Names of the files of paths, and FEFF 6's list of them with the Debye-Waller factor of each.
PATH_FILES, PATH_LIST = "feff[0-9][0-9][0-9][0-9].dat", "files.dat"

#: What FEFF 6L says last, on its standard output.
_DONE = "Feff done."

#: k of the sum in 1/angstrom; the table of a path is coarser at high k.
_STEP = 0.05


@dataclass(frozen=True)
class PathFile:
    """One feffNNNN.dat.

    Attributes:
        degeneracy: number of such paths.
        half_length: angstrom.
        positions: (legs, 3) of the atoms on the way, the absorber among them at the origin, angstrom.
        numbers: their atomic numbers.
        k: (n,) 1/angstrom, from FEFF's Fermi level.
        amplitude: (n,) mag[feff] times the reduction factor, angstrom.
        phase: (n,) real[2*phc] + phase[feff], radian.
        momentum: (n,) real[p], the photoelectron's momentum, 1/angstrom.
        mean_free_path: (n,) lambda, angstrom.
    """

    degeneracy: float
    half_length: float
    positions: NDArray[np.float64]
    numbers: tuple[int, ...]
    k: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    momentum: NDArray[np.float64]
    mean_free_path: NDArray[np.float64]


def read_path(text: str) -> PathFile:
    """Read a feffNNNN.dat of FEFF 6 to 10.

    Raises:
        FeffError: if it is damaged.
    """
    lines = text.splitlines()
    try:
        head = next(number for number, line in enumerate(lines) if "nleg, deg, reff" in line)
        start = next(number for number, line in enumerate(lines) if "real[2*phc]" in line) + 1
        legs, degeneracy, half_length = (float(word) for word in lines[head].replace("#", " ").split()[:3])
        # A line of headings, then x, y, z, potential and atomic number of each atom.
        atoms = [line.replace("#", " ").split() for line in lines[head + 2 : head + 2 + int(legs)]]
        positions = np.array([[float(word) for word in atom[:3]] for atom in atoms])
        numbers = tuple(int(atom[4]) for atom in atoms)
        table = np.array([[float(word) for word in line.split()[:7]] for line in lines[start:] if line.strip()])
        k, central, size, phase, reduction, mean_free_path, momentum = table.T
    except (StopIteration, IndexError, ValueError, OverflowError) as error:
        raise FeffError(f"a file of one of FEFF's paths is damaged ({error}); run FEFF again.") from error
    if not np.isfinite(table).all() or not (np.diff(k) > 0).all() or len(k) < 4:
        raise FeffError("a file of one of FEFF's paths holds values that are not finite or not in order; run FEFF again.")
    return PathFile(degeneracy, half_length, positions, numbers, k, size * reduction, central + phase, momentum, mean_free_path)


def path_chi(path: PathFile, k: NDArray[np.float64], sigma2: float = 0.0) -> NDArray[np.float64]:
    """The EXAFS equation for one path on `k`, shape (m,); `sigma2` in angstrom^2.

    Its tables are interpolated by cubic splines (J.J. Rehr and R.C. Albers, Rev. Mod. Phys. 72, 621 (2000), equation 33).
    """
    from scipy.interpolate import CubicSpline

    amplitude, phase = (CubicSpline(path.k, values)(k) for values in (path.amplitude, path.phase))
    momentum = CubicSpline(path.k, path.momentum)(k) + 1j / CubicSpline(path.k, path.mean_free_path)(k)
    loss = np.exp(-2.0 * path.half_length * momentum.imag - 2.0 * sigma2 * momentum**2)
    wave = path.degeneracy * amplitude * loss * np.exp(1j * (2.0 * k * path.half_length + phase)) / (k * path.half_length**2)
    return np.asarray(wave.imag)


def has_paths(folder: Path) -> bool:
    """Whether a run in `folder` ended well with files of paths and no sum of them."""
    listed = _listed(folder)
    done = _DONE in _text(folder / "feff.run") + _text(folder / "xastruct-feff.log")
    return bool(listed) and done and not (folder / "xmu.dat").is_file() and all((folder / name).is_file() for name in listed)


def sum_paths(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], str, int]:
    """The sum of the paths in `folder`, which `has_paths`.

    Returns:
        k in 1/angstrom and chi, both (m,); the program that made them; how many they are.

    Raises:
        FeffError: if one is damaged.
    """
    listed = _listed(folder)
    paths = {name: read_path(_text(folder / name)) for name in listed}
    k = np.arange(_STEP, min(path.k[-1] for path in paths.values()) + _STEP / 2, _STEP)
    chi = np.sum([path_chi(path, k, listed[name]) for name, path in paths.items()], axis=0)
    program = re.search(r"feff\s*\d\w*\.\d+", _text(folder / PATH_LIST).splitlines()[0], re.IGNORECASE)
    return k, chi, " ".join(program[0].split()) if program else "FEFF", len(paths)


def _listed(folder: Path) -> dict[str, float]:
    """Names of the files of paths in FEFF 6's list, and the Debye-Waller factor in angstrom^2 of each."""
    return {name: float(sigma2) for name, sigma2 in re.findall(r"(?m)^\s*(feff\d{4}\.dat)\s+([\d.]+)", _text(folder / PATH_LIST))}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
