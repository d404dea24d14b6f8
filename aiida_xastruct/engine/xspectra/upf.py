"""What a pseudopotential in UPF format says that a core hole needs: functional, reconstruction, core orbitals."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..errors import PseudoError
from ..spectrum import FloatArray

#: Larger than any pseudopotential; a file beyond it is not read.
MAX_BYTES = 32 * 2**20

#: Functionals that have a short name and a long one of four parts.
_NAMES = {"SLA PW PBX PBC": "PBE", "SLA PW PBE PBE": "PBE", "SLA PW PSX PSC": "PBESOL", "SLA PZ NOGX NOGC": "PZ", "SLA PW NOGX NOGC": "PW"}

#: Electrons in a full shell, by the letter of its angular momentum.
_FULL = {"S": 2.0, "P": 6.0, "D": 10.0, "F": 14.0}


@dataclass(frozen=True)
class Upf:
    """Facts of a pseudopotential.

    Attributes:
        element: symbol.
        z_valence: number of valence electrons.
        functional: short name where there is one, such as PBE.
        has_gipaw: whether it can reconstruct all-electron orbitals.
        core_levels: labels of the core orbitals that it holds, lower case, such as `1s`.
        projectors: angular momenta of the orbitals of its reconstruction, one each.
        holes: core levels with less than all of their electrons, by the deck that ld1.x leaves in the file; empty where it left none.
    """

    element: str
    z_valence: float
    functional: str
    has_gipaw: bool
    core_levels: tuple[str, ...]
    projectors: tuple[int, ...]
    holes: tuple[str, ...]


@dataclass(frozen=True)
class Orbital:
    """An orbital of the reconstruction, times the radius.

    Attributes:
        cutoff: radius beyond which both are to be alike, bohr.
        full: (n,) of all electrons.
        pseudo: (n,) of the pseudopotential.
    """

    cutoff: float
    full: FloatArray
    pseudo: FloatArray

    def amplitude(self, radius: FloatArray) -> float:
        """Amplitude of `full` over that of `pseudo` beyond the cutoff, which is to be 1: intensities go with its square.

        ld1.x makes both equal at the cutoff itself. Where an orbital has a node there, they are not beyond it.
        """
        beyond = (radius > self.cutoff) & (radius < 3.5 * self.cutoff)
        weight = np.gradient(radius) * beyond
        return float(np.sum(weight * self.full * self.pseudo) / np.sum(weight * self.pseudo**2))


def read_upf(text: str, name: str) -> Upf:
    """Facts of a pseudopotential, from version 1 or 2 of the format. Nothing in it is parsed as XML, which many are not.

    Args:
        text: content of the file.
        name: of the file, for messages.

    Raises:
        PseudoError: if it is no such file.
    """
    header = re.search(r"<PP_HEADER(.*?)(?:/>|</PP_HEADER>)", text, re.DOTALL)
    if header is None:
        raise PseudoError(f"{name} has no <PP_HEADER>; give pseudopotentials in UPF format.")
    said = dict(re.findall(r"""(\w+)\s*=\s*["']([^"']*)["']""", header[1]))
    try:
        if "element" in said:
            element, valence, functional = said["element"].strip(), float(said["z_valence"]), said["functional"]
            has_gipaw = said.get("has_gipaw", "").strip().lower() in ("true", ".true.", "t")
        else:
            lines = {words: line for line in header[1].splitlines() for words in ("Element", "Z valence", "functional") if words in line}
            element, valence = lines["Element"].split()[0], float(lines["Z valence"].split()[0])
            functional, has_gipaw = lines["functional"].partition("Exchange")[0], "<PP_GIPAW_RECONSTRUCTION_DATA>" in text
    except (KeyError, ValueError, IndexError) as error:
        raise PseudoError(f"the header of {name} lacks element, valence or functional; get the file again.") from error
    return Upf(
        element=element,
        z_valence=valence,
        functional=_functional(functional),
        has_gipaw=has_gipaw,
        core_levels=tuple(level for level, _ in _core_orbitals(text)),
        projectors=tuple(_projectors(text)),
        holes=tuple(_holes(text)),
    )


def core_wavefunction(text: str, level: str, name: str) -> str:
    """The file that xspectra.x reads an initial state from: radius (bohr) and r times the radial orbital, a line for each point.

    Args:
        text: content of the pseudopotential, that without the hole.
        level: core level, such as `1s`.
        name: of the pseudopotential, for messages.

    Raises:
        PseudoError: if it holds no such orbital.
    """
    found = dict(_core_orbitals(text)).get(level)
    if found is None:
        raise PseudoError(f"{name} holds no core orbital {level}; generate it with GIPAW reconstruction.")
    radius, orbital = read_mesh(text, name), _numbers(found, name)
    if radius.shape != orbital.shape or len(radius) < 10:
        raise PseudoError(f"the core orbital {level} of {name} has {len(orbital)} points and its mesh {len(radius)}; get the file again.")
    number, momentum = int(level[0]), "spdf".index(level[1])
    lines = [f"# number of core states 1 =  {number} {momentum};"]
    lines += [f"{r:.12E} {value:.12E}" for r, value in zip(radius, orbital, strict=True)]
    return "\n".join(lines) + "\n"


def read_mesh(text: str, name: str) -> FloatArray:
    """Radii of a pseudopotential's points, bohr.

    Raises:
        PseudoError: if it has none.
    """
    found = re.search(r"<PP_R\b[^>]*>(.*?)</PP_R>", text, re.DOTALL)
    if found is None:
        raise PseudoError(f"{name} has no mesh <PP_R>; get the file again.")
    return _numbers(found[1], name)


def read_orbitals(text: str, momentum: int, name: str) -> list[Orbital]:
    """Orbitals of the reconstruction of one angular momentum, in the order of the file.

    Raises:
        PseudoError: if one is no list of numbers, as many as the mesh has.
    """
    second = re.findall(
        rf'<PP_GIPAW_ORBITAL\.\d+\b[^>]*?\bl="\s*{momentum}\s*"[^>]*?\bcutoff_radius="\s*([^"]+)"[^>]*>\s*<PP_GIPAW_WFS_AE\b[^>]*>([^<]*)<'
        r"/PP_GIPAW_WFS_AE>\s*<PP_GIPAW_WFS_PS\b[^>]*>([^<]*)<",
        text,
    )
    first = re.findall(
        rf"<PP_GIPAW_AE_ORBITAL>\s*\n\s*\w+\s+{momentum}\s*\n([^<]*)</PP_GIPAW_AE_ORBITAL>\s*"
        r"<PP_GIPAW_PS_ORBITAL>\s*\n\s*(\S+)[^\n]*\n([^<]*)<",
        text,
    )
    found = [*second, *((cutoff, full, pseudo) for full, cutoff, pseudo in first)]
    made = [Orbital(float(_numbers(cutoff, name)[0]), _numbers(full, name), _numbers(pseudo, name)) for cutoff, full, pseudo in found]
    points = len(read_mesh(text, name))
    if any(len(one.full) != points or len(one.pseudo) != points for one in made):
        raise PseudoError(f"the orbitals of {name} have other than the {points} points of its mesh; get the file again.")
    return made


def amplitudes(text: str, momentum: int, name: str) -> list[float]:
    """`Orbital.amplitude` of each of `read_orbitals`.

    Raises:
        PseudoError: as `read_orbitals`.
    """
    radius = read_mesh(text, name)
    return [one.amplitude(radius) for one in read_orbitals(text, momentum, name)]


def _numbers(text: str, name: str) -> FloatArray:
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise PseudoError(f"{name} holds what is no number in a mesh or an orbital; get the file again.") from error
    if not np.isfinite(values).all():
        raise PseudoError(f"{name} holds numbers that are not finite; get the file again.")
    return values


def _functional(text: str) -> str:
    """Short name of a functional, or what is said of it in capitals."""
    words = " ".join(text.upper().split())
    long, short = " ".join(words.split()[:4]), words.split()[4:]
    return short[0] if long in _NAMES and short else _NAMES.get(words, words)


def _core_orbitals(text: str) -> list[tuple[str, str]]:
    """Label and numbers of each core orbital."""
    second = re.findall(r'<PP_GIPAW_CORE_ORBITAL\.\d+\b[^>]*?\blabel="\s*(\w+)\s*"[^>]*>(.*?)</PP_GIPAW_CORE_ORBITAL', text, re.DOTALL)
    first = re.findall(r"<PP_GIPAW_CORE_ORBITAL>\s*\n[^\n]*?\b(\d[SPDF])\b[^\n]*\n(.*?)</PP_GIPAW_CORE_ORBITAL>", text, re.DOTALL)
    return [(label.lower(), numbers) for label, numbers in [*second, *first] if re.fullmatch(r"[1-7][SPDFspdf]", label)]


def _projectors(text: str) -> list[int]:
    """Angular momenta of the orbitals of the reconstruction."""
    second = re.findall(r'<PP_GIPAW_ORBITAL\.\d+\b[^>]*?\bl="\s*(\d)\s*"', text)
    first = re.findall(r"<PP_GIPAW_AE_ORBITAL>\s*\n\s*\w+\s+(\d)\s*\n", text)
    return [int(value) for value in [*second, *first]]


def _holes(text: str) -> list[str]:
    """Core levels that are not full in the configuration of ld1.x's own deck."""
    deck = re.search(r"<PP_INPUTFILE>(.*?)</PP_INPUTFILE>", text, re.DOTALL)
    config = re.search(r"config\s*=\s*'([^']*)'", deck[1]) if deck else None
    if config is None:
        return []
    core = {level for level, _ in _core_orbitals(text)}
    shells = re.findall(r"(\d)([spdfSPDF])\s*(-?\d*\.?\d+)", config[1])
    return [
        f"{n}{letter}".lower()
        for n, letter, electrons in shells
        if f"{n}{letter}".lower() in core and 0.0 <= float(electrons) < _FULL[letter.upper()]
    ]
