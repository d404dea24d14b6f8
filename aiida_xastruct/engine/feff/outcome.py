"""What came of one FEFF run: its spectrum, or the reason why there is none. The same for a job of one site and for a site of a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import XastructError
from ..spectrum import Kind, Spectrum, multiplets
from .diagnose import diagnose
from .output import read_folder
from .path_files import has_paths
from .runner import RUN_FILE, cut_short

#: Logs beside FEFF's own that may name a cause.
_LOGS = ("xastruct-feff.err", "xastruct-feff.log", "xastruct-feff.stderr")

#: Label of the exit code of each cause that `diagnose` recognises.
LABELS = {
    "input_refused": "ERROR_INPUT_REFUSED",
    "missing_potential": "ERROR_MISSING_POTENTIAL",
    "missing_absorber": "ERROR_MISSING_ABSORBER",
    "cluster_too_large": "ERROR_CLUSTER_TOO_LARGE",
    "atoms_too_close": "ERROR_ATOMS_TOO_CLOSE",
    "potentials_failed": "ERROR_POTENTIALS_FAILED",
    "negative_occupation": "ERROR_NEGATIVE_OCCUPATION",
    "out_of_time": "ERROR_OUT_OF_WALLTIME",
    "killed": "ERROR_KILLED",
    "not_installed": "ERROR_NOT_INSTALLED",
}

#: Causes that say nothing about the input: the same run may end well another time, so that its result must not be taken from a cache.
TRANSIENT = ("ERROR_NO_OUTPUT", "ERROR_OUTPUT_DAMAGED", "ERROR_OUT_OF_WALLTIME", "ERROR_KILLED", "ERROR_NOT_INSTALLED")


@dataclass(frozen=True)
class Request:
    """What a run was asked for: absorber, edge, kind, and the settings that its spectrum keeps."""

    absorber: str
    edge: str
    kind: Kind
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        label: of an exit code of `xastruct.feff`; empty where all is well.
        reason: of that exit code, as one sentence.
        spectrum: None if there is none to use.
        facts: what the logs say: version, SCF, charges, CPU seconds, warnings, problems. Plain JSON.
    """

    label: str = ""
    reason: str = ""
    spectrum: Spectrum | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def judge(folder: Path, ask: Callable[[], Request], scheduler: str = "", stopped: tuple[str, str] | None = None) -> Outcome:
    """Read what a run left in `folder`.

    Args:
        folder: with xmu.dat, the logs and `RUN_FILE`, as far as there are any.
        ask: gives what was asked for; may raise XastructError where a deck of a user's own does not tell.
        scheduler: standard error of the scheduler.
        stopped: label and reason where the run is known to have been stopped; it counts where the logs name no cause but a signal.
    """
    facts = _run_facts(folder)
    killed = cut_short(folder)  # then a table may lack its end, however whole it looks
    if killed or not ((folder / "xmu.dat").is_file() or has_paths(folder)):
        label, reason = _cause(folder, scheduler)
        if stopped is not None and label in ("ERROR_NO_OUTPUT", "ERROR_KILLED"):
            label, reason = stopped
        elif killed and label == "ERROR_NO_OUTPUT":
            label, reason = "ERROR_KILLED", "xastruct-feff had no time to say how it ended; run it again."
        return Outcome(label, reason, None, facts)
    try:
        asked = ask()
        settings = {**asked.settings, "program": facts.get("version", "own executable")}
        result = read_folder(folder, asked.absorber, asked.edge, asked.kind, settings)
    except XastructError as error:
        # A table that is cut off is what a job that was stopped leaves behind; then that is the reason.
        label, reason = stopped or ("ERROR_OUTPUT_DAMAGED", str(error))
        return Outcome(label, reason, None, facts)
    facts = {**result.facts, **facts}
    if result.problems:
        facts["problems"] = list(result.problems)
    if physics := multiplets(asked.absorber, asked.edge):
        facts["warnings"] = [*facts.get("warnings", []), physics]
    if result.problems:
        return Outcome("ERROR_IMPLAUSIBLE", " ".join(result.problems), None, facts)
    spectrum = replace(result.spectrum, settings=_settings(result.spectrum, facts, physics))
    if facts.get("scf_settled") is False:
        reason = f"the Fermi level still moved after {facts.get('scf_iterations')} iterations."
        return Outcome("WARNING_SCF_NOT_CONVERGED", reason, spectrum, facts)
    return Outcome("", "", spectrum, facts)


def _settings(spectrum: Spectrum, facts: Mapping[str, Any], physics: str) -> dict[str, Any]:
    """Settings that go with the spectrum: FEFF's own edge and cross section, which sums over edges need, and what it leaves out."""
    kept = {name: facts[name] for name in ("edge_energy_ev", "edge_cross_section") if name in facts}
    if "version" not in facts and "program" in facts:
        kept["program"] = f"{facts['program']} (own executable)"
    return {**spectrum.settings, **kept, **({"warnings": [physics]} if physics else {})}


def _cause(folder: Path, scheduler: str) -> tuple[str, str]:
    """Label and reason that the logs name."""
    logs = {path.name: path.read_text(errors="replace") for path in sorted(folder.glob("log*.dat"))}
    logs |= {name: (folder / name).read_text(errors="replace") for name in _LOGS if (folder / name).is_file()}
    logs["scheduler"] = scheduler
    found = diagnose(logs)
    return LABELS.get(found.cause, "ERROR_NO_OUTPUT"), str(found)


def _run_facts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RUN_FILE).read_text()))
    except (OSError, ValueError):  # a killed job leaves none, or half of one
        return {}
