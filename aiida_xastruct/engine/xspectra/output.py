"""What xspectra.x wrote: the spectrum, the levels that it counts from, whether it is done, and why it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..spectrum import FloatArray
from .parameters import OUTPUT, SPECTRUM

#: xspectra.x prints its log before this; what follows is its version.
_VERSION = re.compile(r"Program XSpectra v\.(\S+)")

_NUMBERS = {
    "zero_ev": r"(?:energy-zero of the spectrum|xe0) \[eV\]:\s*(-?[\d.]+)",
    "highest_occupied_ev": r"ehomo \[eV\]:\s*(-?[\d.]+)",
    "lowest_empty_ev": r"elumo \[eV\]:\s*(-?[\d.]+)",
    "fermi_ev": r"^\s*ef\s+\[eV\]:\s*(-?[\d.]+)",
    "cpu_seconds": r"xanes\s*:\s*([\d.]+)s CPU",
}


@dataclass(frozen=True)
class XspectraOutcome:
    """One run.

    Attributes:
        energy: (n,) eV from `zero_ev`; empty without a spectrum.
        sigma: (n,) cross section.
        facts: what the log says, plain JSON values: version, levels, Lanczos vectors of each k, worst error, CPU seconds.
        label: of the exit code; empty where all is well.
        reason: for it, one sentence.
    """

    energy: FloatArray
    sigma: FloatArray
    facts: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    reason: str = ""


def judge(folder: Path, stopped: tuple[str, str] | None = None) -> XspectraOutcome:
    """What a folder of a finished run holds.

    Args:
        folder: with `OUTPUT` and `SPECTRUM`, as far as they are there.
        stopped: label and reason where the scheduler stopped the job.
    """
    none = np.zeros(0)
    log = _read(folder / OUTPUT)
    facts = _facts(log)
    if "Calculation not finished" in log:
        return XspectraOutcome(none, none, facts, "ERROR_TIME_LIMIT", "it ended by itself in time, and can go on from where it was.")
    if stopped is not None:
        return XspectraOutcome(none, none, facts, *stopped)
    if refused := _error(log):
        return XspectraOutcome(none, none, facts, "ERROR_INPUT_REFUSED", refused)
    if "END JOB" not in log:
        return XspectraOutcome(none, none, facts, "ERROR_NO_OUTPUT", "its log does not end as it should.")
    try:
        table = np.loadtxt(folder / SPECTRUM, comments="#", ndmin=2, dtype=np.float64)
    except (OSError, ValueError) as error:
        return XspectraOutcome(none, none, facts, "ERROR_OUTPUT_DAMAGED", f"{SPECTRUM} cannot be read ({error}).")
    if table.shape[0] < 10 or table.shape[1] != 2 or not np.isfinite(table).all() or (np.diff(table[:, 0]) <= 0).any():
        return XspectraOutcome(none, none, facts, "ERROR_OUTPUT_DAMAGED", f"{SPECTRUM} holds no spectrum of one spin.")
    energy, sigma = table[:, 0], table[:, 1]
    if "zero_ev" not in facts:
        return XspectraOutcome(energy, sigma, facts, "ERROR_OUTPUT_DAMAGED", "the log does not say what its energies count from.")
    if not sigma.max() > 0.0 or sigma.min() < -1e-3 * sigma.max():
        return XspectraOutcome(energy, sigma, facts, "ERROR_IMPLAUSIBLE", "the cross section is negative, or zero throughout.")
    if facts["unconverged"]:
        words = f"{facts['unconverged']} k points did not converge within {max(facts['lanczos_vectors'], default=0)} Lanczos vectors."
        return XspectraOutcome(energy, sigma, facts, "WARNING_LANCZOS_NOT_CONVERGED", words)
    return XspectraOutcome(energy, sigma, facts)


def _read(path: Path) -> str:
    """Text of a log; empty where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _facts(log: str) -> dict[str, Any]:
    """Numbers of a log."""
    facts: dict[str, Any] = {}
    if version := _VERSION.search(log):
        facts["version"] = version[1]
    for name, pattern in _NUMBERS.items():
        if found := re.search(pattern, log, re.MULTILINE):
            facts[name] = float(found[1])
    done = [int(count) for count in re.findall(r"=> CONVERGED at iter\s+(\d+)", log)]
    given_up = [int(count) for count in re.findall(r"XANES not converged after\s+(\d+)", log)]
    facts["lanczos_vectors"] = done + given_up
    facts["unconverged"] = len(given_up)
    return facts


def _error(log: str) -> str:
    """Quantum ESPRESSO's own words where it stopped; empty where it did not."""
    found = re.search(r"Error in routine\s+(.+?)\s*\(.*?\):?\s*\n(.*?)(?:\n\s*%%%|\Z)", log, re.DOTALL)
    if found is None:
        return ""
    return f"{' '.join(found[2].split()) or 'it stopped'} (in {found[1]})."
