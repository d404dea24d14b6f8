"""What FEFF wrote: xmu.dat, chi.dat and the logs, read and checked. Energies in eV, k in 1/angstrom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FeffError, SpectrumError
from ..spectrum import ETOK, Kind, Spectrum, tabulated_edge
from .diagnose import scf_settled
from .offsets import EDGE_OFFSETS
from .path_files import has_paths, sum_paths

#: A spectrum whose edge lies farther than this from table + FEFF's own offset is another element's, edge's or a broken potential's.
EDGE_TOLERANCE = 15.0

#: FEFF 8.5L compares the path length with a distance that it never set: it warns in every run.
_HARMLESS = "rmax > distance to most distant atom"

#: Where an element is not in the offset table, the edge may lie this far from the tabulated one.
UNKNOWN_EDGE_TOLERANCE = 60.0


@dataclass(frozen=True)
class FeffResult:
    """A FEFF run that gave a spectrum.

    Attributes:
        spectrum: method feff.
        facts: what the logs say: version, scf_converged, scf_iterations, fermi_energy, charge_transfer, paths, warnings. Plain JSON.
        problems: what the sanity check found wrong; empty for a spectrum to trust.
    """

    spectrum: Spectrum
    facts: Mapping[str, Any]
    problems: tuple[str, ...] = field(default_factory=tuple)


def read_table(text: str, columns: int) -> NDArray[np.float64]:
    """Numbers of a FEFF table, (n, columns); comment lines start with #, and FEFF 6's end with a line of dashes and one of names.

    Raises:
        FeffError: if the table is empty, cut off, or holds what is no number (FEFF prints stars and NaN where a format overflows).
    """
    lines = text.splitlines()
    rule = next((number for number, line in enumerate(lines) if line.lstrip().startswith("-----")), -2)
    rows = [line.split() for line in lines[rule + 2 :] if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise FeffError("the output table holds no numbers; FEFF stopped before its last module, see its logs.")
    try:
        table = np.array([[float(value.replace("D", "E")) for value in row[:columns]] for row in rows])
    except ValueError as error:
        raise FeffError(f"the output table is damaged ({error}); run FEFF again.") from error
    if table.ndim != 2 or table.shape[1] != columns:
        raise FeffError(f"the output table has rows with fewer than {columns} numbers; FEFF was stopped while writing it.")
    return table


def read_xmu(text: str, absorber: str, edge: str, kind: Kind, settings: Mapping[str, Any] | None = None) -> Spectrum:
    """The spectrum in xmu.dat (omega, e, k, mu, mu0, chi; FEFF 6 to 10 alike).

    mu is FEFF's own, normalised to one 50 eV above the edge (`feff_xsedge50`), mu0 beside it. E0 is the energy of k = 0 for EXAFS; for
    XANES it is left open, since FEFF's Fermi level is not the inflection point that measured spectra are aligned by.

    Raises:
        FeffError: if the table is unreadable or holds values that are not finite.
    """
    return _spectrum(read_table(text, 6), absorber, edge, kind, settings or {})


def _spectrum(table: NDArray[np.float64], absorber: str, edge: str, kind: Kind, settings: Mapping[str, Any]) -> Spectrum:
    """The spectrum in the (n, 6) table of xmu.dat, see `read_xmu`."""
    if not np.isfinite(table).all():
        raise FeffError("xmu.dat holds values that are not finite; the potentials or the phase shifts failed, see the logs.")
    # The energies have three decimals; two points of a fine grid near k = 0 can print alike.
    table = table[np.concatenate([[True], np.diff(table[:, 0]) > 0])]
    energy, k = table[:, 0], table[:, 2]
    e0 = None
    if kind == "EXAFS":
        if k[0] > 0.5:
            raise FeffError(f"k starts at {k[0]:.2f} in xmu.dat; an EXAFS run starts at 0 (was this a XANES run?).")
        e0 = float(energy[0] - k[0] ** 2 / 0.26246842)
    try:
        return Spectrum(
            energy=energy,
            mu=table[:, 3],
            mu0=table[:, 4],
            absorber=absorber,
            edge=edge,
            kind=kind,
            method="feff",
            energy_reference="feff",
            normalisation="feff_xsedge50",
            e0=e0,
            settings=dict(settings),
        )
    except SpectrumError as error:
        raise FeffError(f"xmu.dat is no usable spectrum: {error}") from error


def read_chi(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and chi of chi.dat, both (m,).

    Raises:
        FeffError: if the table is unreadable.
    """
    table = read_table(text, 2)
    return table[:, 0], table[:, 1]


def read_facts(folder: Path) -> dict[str, Any]:
    """What the logs of a finished run say; entries that the engine does not report are left out."""
    pot = _text(folder / "log1.dat")
    header = "\n".join(line for line in _text(folder / "xmu.dat").splitlines()[:60] if line.lstrip().startswith("#"))
    facts: dict[str, Any] = {}
    if match := re.search(r"(FEFF\s*\d+\.\d+\.\d+|Feff8L \(EXAFS\)\s+[\d.]+|Feff\s*6L?\.?[\d.]*)", header, re.IGNORECASE):
        facts["program"] = " ".join(match[1].split())
    iterations = [int(value) for value in re.findall(r"SCF ITERATION NUMBER\s+(\d+)", pot)]
    if iterations:
        facts["scf_iterations"] = iterations[-1]
        facts["scf_converged"] = "Convergence reached" in pot
        facts["scf_settled"] = scf_settled(pot)
        if levels := re.findall(r"mu=\s*(-?[\d.]+)", pot):
            facts["fermi_energy_ev"] = float(levels[-1])
        if block := re.search(r"Charge transfer:\s+type\s+charge\s*\n((?:\s+\d+\s+-?[\d.]+\n)+)", pot):
            facts["charge_transfer"] = [float(line.split()[1]) for line in block[1].strip().splitlines()]
    if match := re.search(r"xsedge\+ ?\d+, used to normalize mu\s+(\S+)", _text(folder / "xmu.dat")):
        facts["edge_cross_section"] = float(match[1])
    if match := re.search(r"(\d+) paths kept", _text(folder / "log5.dat")):
        facts["paths"] = int(match[1])
    logs = "\n".join(_text(path) for path in sorted(folder.glob("log*.dat")))
    warnings = sorted({" ".join(line.split()) for line in logs.splitlines() if "warning" in line.lower()})
    if warnings := [line for line in warnings if _HARMLESS not in line]:
        facts["warnings"] = warnings[:20]
    return facts


def read_folder(folder: Path | str, absorber: str, edge: str, kind: Kind, settings: Mapping[str, Any] | None = None) -> FeffResult:
    """The spectrum, facts and problems of a finished run in `folder`.

    Raises:
        FeffError: if there is no usable xmu.dat; the text names the module that failed, as far as the logs tell.
    """
    folder = Path(folder)
    path = folder / "xmu.dat"
    if has_paths(folder):
        return _read_paths(folder, absorber, edge, kind, settings)
    if not path.is_file():
        raise FeffError(f"FEFF wrote no xmu.dat; {last_words(folder)}")
    table = read_table(path.read_text(errors="replace"), 6)
    spectrum = _spectrum(table, absorber, edge, kind, settings or {})
    facts = read_facts(folder)
    # FEFF measures k from its Fermi level: where its sign changes is the edge, on any grid.
    edge_energy = float(np.interp(0.0, table[:, 2], table[:, 0]))
    facts["edge_energy_ev"] = round(edge_energy, 3)
    return FeffResult(spectrum, facts, tuple(check(spectrum, edge_energy)))


def _read_paths(folder: Path, absorber: str, edge: str, kind: Kind, settings: Mapping[str, Any] | None) -> FeffResult:
    """The spectrum of FEFF 6L, whose paths know neither mu0 nor the energy of the edge: mu0 is one, the edge where the table has it."""
    if kind != "EXAFS":
        raise FeffError("FEFF left paths and no xmu.dat, and paths make no XANES; ask for EXAFS, or use a FEFF that computes XANES.")
    k, chi, program, count = sum_paths(folder)
    e0 = tabulated_edge(absorber, edge)
    spectrum = Spectrum(
        energy=e0 + k**2 / ETOK,
        mu=1.0 + chi,
        mu0=np.ones_like(chi),
        absorber=absorber,
        edge=edge,
        kind="EXAFS",
        method="feff",
        energy_reference="nominal",
        normalisation="flat",
        e0=e0,
        settings=dict(settings or {}),
    )
    return FeffResult(spectrum, {"program": program, "paths": count}, tuple(check(spectrum, e0)))


def last_words(folder: Path) -> str:
    """The last line of FEFF's logs that says something, as the end of a sentence."""
    for name in ("log6.dat", "log5.dat", "log4.dat", "log3.dat", "log2.dat", "log1.dat", "log.dat", "xastruct-feff.err"):
        lines = [line.strip() for line in _text(folder / name).splitlines() if line.strip()]
        if lines:
            return f"its last log, {name}, ends with: {lines[-1][:200]}"
    return "it left no log either: check that the program starts at all."


def check(spectrum: Spectrum, edge_energy: float) -> list[str]:
    """What is wrong with a spectrum that FEFF gave with exit status 0; one sentence a problem, none for a sound one.

    Args:
        spectrum: as FEFF gave it.
        edge_energy: energy of k = 0 in eV.
    """
    problems = []
    mu0 = spectrum.mu0
    if mu0 is None:
        return ["there is no mu0."]
    above = spectrum.energy >= edge_energy + 5.0
    if above.sum() < 5 or (mu0[above] <= 0).any():
        problems.append("mu0 is not positive above the edge.")
    elif spectrum.kind == "EXAFS":
        tail = spectrum.energy >= spectrum.energy[0] + 0.7 * (spectrum.energy[-1] - spectrum.energy[0])
        mean = float(np.mean(spectrum.mu[tail] / mu0[tail]))
        if abs(mean - 1.0) >= 0.05:
            problems.append(f"mu/mu0 averages {mean:.3f} over the last 30 % of the range, not 1.")
    # The path expansion fails below k = 2 (15 eV), where an EXAFS run may give any mu; nobody reads it there.
    mu = spectrum.mu if spectrum.kind == "XANES" else spectrum.mu[spectrum.energy >= edge_energy + 15.0]
    if len(mu) and (mu.min() < -0.2 or mu.max() > 30.0):
        problems.append(f"mu runs from {mu.min():.2f} to {mu.max():.2f} edge steps.")
    if spectrum.energy_reference == "nominal":
        return problems
    shift = edge_energy - tabulated_edge(spectrum.absorber, spectrum.edge)
    offset, tolerance = edge_offset(spectrum.absorber, spectrum.edge)
    if abs(shift - offset) > tolerance:
        problems.append(
            f"the edge lies {shift:.1f} eV from the tabulated one, where FEFF's own offset is {offset:.1f} +- {tolerance:.0f} eV."
        )
    return problems


def edge_offset(absorber: str, edge: str) -> tuple[float, float]:
    """FEFF's edge minus the tabulated one in eV, and the tolerance of the check; (0, wide) where the table has no such edge."""
    offset = EDGE_OFFSETS.get(edge, {}).get(absorber)
    return (offset, EDGE_TOLERANCE) if offset is not None else (0.0, UNKNOWN_EDGE_TOLERANCE)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
