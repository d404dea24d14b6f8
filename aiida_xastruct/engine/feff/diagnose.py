"""Why a FEFF run gave no spectrum: FEFF's own words, recognised. FEFF mostly ends with status 0 whatever happened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Cause, what FEFF says, and what to do; the first that matches any log counts.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        "input_refused",
        r"Keyword unrecognized|unrecognized keyword|Unknown keyword|Error reading input, bad line|RDINP fatal error",
        "correct the card that the log names",
    ),
    # The absorber is potential 0; without its atom it is the absorber that is missing.
    (
        "missing_absorber",
        r"No absorbing atom|More than one absorbing atom|No atoms or overlap cards for unique pot\s+0\b",
        "give exactly one atom potential 0",
    ),
    (
        "missing_potential",
        r"No atoms or overlap cards for unique pot|Inconsistency in POTENTIAL card",
        "give each potential an atom, or leave it out",
    ),
    (
        "cluster_too_large",
        r"Too many atoms, max is|Too many atoms in ATOMS list|increase parameter natx|array bounds .* natx",
        "leave out the outer atoms",
    ),
    ("atoms_too_close", r"TWO ATOMS VERY CLOSE TOGETHER", "check the structure for overlapping atoms"),
    (
        "potentials_failed",
        r"INCREASE NOVP|feff8l_\w+ hangs|subroutine corval|Reduce overlap using FOLP",
        "check the shortest distances, or give EXAFS the engine feff10",
    ),
    (
        "negative_occupation",
        r"Bad counts found repeatedly|Nonsense request in F_Iocc|Cannot remove an electron|error in getorb\.f",
        "lower the charge on the ION card, or mix less density",
    ),
    (
        "out_of_time",
        r"ran out of time|DUE TO TIME LIMIT|status -24\b|SIGXCPU|CPU time limit exceeded",
        "allow more time or use a faster protocol",
    ),
    # Our own words, FEFF10's for its workers, and the shell's for a program in a script: `line 3: 27648 Killed`.
    (
        "killed",
        r"failed with status -(?:9|15)\b|signal: ?(?:9|15)\b|SIGKILL|SIGTERM|SIGHUP|SIGINT"
        r"|(?m:^(?:.*line \d+: *\d+ )?(?:Killed|Terminated)\b)",
        "run it again; if it recurs, give the job more memory",
    ),
    (
        "not_installed",
        r"which is not installed|reinstall xraylarch|No module named|error while loading shared libraries|bad interpreter"
        r"|line \d+: .*: (?:No such file or directory|command not found|Permission denied|cannot execute)",
        "install what the message names, or correct the code's executable",
    ),
)


@dataclass(frozen=True)
class Diagnosis:
    """A recognised cause.

    Attributes:
        cause: one of the names in this module, or `unknown`.
        message: FEFF's own line.
        advice: what to do, as the end of a sentence.
    """

    cause: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"FEFF says {self.message!r}; {self.advice}."


def diagnose(logs: Mapping[str, str]) -> Diagnosis:
    """The cause that the logs of a failed run name.

    Args:
        logs: text of each log by file name: FEFF's `log*.dat`, the standard error of `xastruct-feff`.
    """
    for cause, pattern, advice in _CAUSES:
        for text in logs.values():
            if match := re.search(pattern, text):
                return Diagnosis(cause, _line(text, match), advice)
    last = next((line.strip() for text in reversed(list(logs.values())) for line in reversed(text.splitlines()) if line.strip()), "nothing")
    return Diagnosis("unknown", last[:200], "see the retrieved logs")


def _line(text: str, match: re.Match[str]) -> str:
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return " ".join(text[start : end if end >= 0 else len(text)].split())[:200]


def scf_settled(pot_log: str, tolerance: float = 0.3) -> bool | None:
    """Whether the last SCF iteration moved the Fermi level by less than `tolerance` eV, FEFF's own stricter criterion met or not.

    The Fermi level shifts the spectrum as a whole; 0.3 eV are less than any core hole's width of the edges in use.

    None where the log tells of no SCF, or of one iteration only.
    """
    levels = [float(value) for value in re.findall(r"New Fermi level:\s+mu=\s*(-?[\d.]+)", pot_log)]
    if "Convergence reached" in pot_log:
        return True
    if len(levels) < 2:
        return None if not levels else False
    return abs(levels[-1] - levels[-2]) < tolerance
