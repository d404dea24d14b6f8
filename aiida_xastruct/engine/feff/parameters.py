"""What a FEFF run is asked for: validated when it is made, plain JSON when it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..errors import FeffError
from ..options import from_plain, hint
from ..spectrum import Kind

Engine = Literal["feff10", "feff8l"]
CoreHole = Literal["RPA", "FSR", "None"]

#: Edges that a deck may ask for. L2,3 of 3d and M4,5 of 4f and 5f elements come with a warning: see `spectrum.multiplets`.
FEFF_EDGES = ("K", "L1", "L2", "L3", "M4", "M5")

#: eV above the Fermi level that a XANES may reach.
MAX_ENERGY = 300.0

#: Cards that `cards` may add to a deck, and how many values each takes (minimum, maximum). Everything else is either
#: written by the deck itself or changes what the output files are, which the parser could not read.
EXTRA_CARDS: dict[str, tuple[int, int]] = {
    "AFOLP": (0, 1),
    "CORRECTIONS": (2, 2),
    "CRITERIA": (1, 2),
    "DEBYE": (2, 3),
    "ELLIPTICITY": (4, 4),
    "FOLP": (2, 2),
    "INTERSTITIAL": (1, 2),
    "ION": (2, 2),
    "MULTIPOLE": (1, 2),
    "PLASMON": (0, 1),
    "POLARIZATION": (3, 3),
    "RGRID": (1, 1),
    "RSIGMA": (0, 0),
    "SIG2": (1, 1),
    "UNFREEZEF": (0, 0),
}

#: Cards that the deck writes by itself, with the parameter that sets each.
OWN_CARDS: dict[str, str] = {
    "ATOMS": "structure",
    "POTENTIALS": "structure",
    "CONTROL": "engine",
    "PRINT": "engine",
    "EDGE": "edge",
    "HOLE": "edge",
    "S02": "s02",
    "XANES": "kind",
    "EXAFS": "kind and k_max",
    "EGRID": "energy_step",
    "SCF": "scf_radius and scf_iterations",
    "FMS": "fms_radius",
    "RPATH": "path_radius",
    "RMAX": "path_radius",
    "NLEG": "path_legs",
    "NLEGS": "path_legs",
    "COREHOLE": "core_hole",
    "NOHOLE": "core_hole",
    "EXCHANGE": "exchange",
}


@dataclass(frozen=True)
class Sphere:
    """A radius that follows the number of atoms, so that a loose structure gets the wider sphere that it needs.

    Attributes:
        floor: smallest radius in angstrom.
        atoms: smallest number of atoms inside, the central one included.
        limit: largest number of atoms inside; the sphere shrinks to its last whole shell below it, for the time grows with its cube.
    """

    floor: float
    atoms: int
    limit: int


#: SCF and FMS spheres of each protocol. Costs and errors against FEFF 9.9.1: benchmarks/feff_fidelity.py.
PROTOCOLS: dict[str, dict[str, Sphere]] = {
    "fast": {"scf": Sphere(3.5, 9, 25), "fms": Sphere(4.5, 33, 80)},
    "balanced": {"scf": Sphere(4.0, 13, 40), "fms": Sphere(5.5, 50, 120)},
    "stringent": {"scf": Sphere(5.0, 20, 80), "fms": Sphere(7.0, 100, 250)},
}


@dataclass(frozen=True)
class FeffParameters:
    """One FEFF calculation on one absorber. Lengths in angstrom, energies in eV, k in 1/angstrom.

    Attributes:
        kind: XANES (SCF and full multiple scattering) or EXAFS (paths).
        edge: one of `FEFF_EDGES`; the one people measure for the absorber if empty.
        engine: feff10 or feff8l; the bundled FEFF10 for XANES and FEFF 8.5L for EXAFS if empty.
        protocol: fast, balanced or stringent: how far the SCF and FMS spheres reach (XANES only).
        scf_radius, fms_radius: fixed radii in the place of the protocol's.
        scf_iterations: at most so many; 6 give the spectrum of 30 to 4e-7 where SCF converges at all.
        scf_mixing: share of the new density in the first iterations; halving it mends oscillating SCF.
        core_hole: RPA screened, FSR (final-state rule) or None.
        exchange: FEFF's EXCHANGE index (0 Hedin-Lundqvist, 2 and 5 partly non-local, 1 Dirac-Hara).
        s02: amplitude reduction factor.
        energy_range: XANES grid below and above the Fermi level.
        energy_step: XANES step from the start to 20 eV above the Fermi level; wider in k beyond.
        path_radius, path_legs, k_max: EXAFS path length (half), number of legs, end of chi(k).
        max_atoms: largest cluster handed to FEFF.
        cards: further cards of `EXTRA_CARDS` by name, their values as a list.

    Raises:
        FeffError: for a value that FEFF would refuse or silently misread.
    """

    kind: Kind = "XANES"
    edge: str = ""
    engine: str = ""
    protocol: str = "fast"
    scf_radius: float | None = None
    fms_radius: float | None = None
    scf_iterations: int = 10
    scf_mixing: float = 0.2
    core_hole: CoreHole = "RPA"
    exchange: int = 0
    s02: float = 1.0
    energy_range: tuple[float, float] = (-12.0, 65.0)
    energy_step: float = 0.4
    path_radius: float = 6.0
    path_legs: int = 4
    k_max: float = 20.0
    max_atoms: int = 900
    cards: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, get_args(Kind))
        if self.edge:
            _check_choice("edge", self.edge, FEFF_EDGES)
        if self.engine:
            _check_choice("engine", self.engine, get_args(Engine))
        _check_choice("protocol", self.protocol, tuple(PROTOCOLS))
        _check_choice("core_hole", self.core_hole, get_args(CoreHole))
        if self.kind == "XANES" and self.engine == "feff8l":
            raise FeffError("feff8l has neither SCF nor full multiple scattering, so no XANES; use engine 'feff10'.")
        for name, low, high in (
            ("scf_radius", 1.5, 12.0),
            ("fms_radius", 1.5, 15.0),
            ("scf_iterations", 1, 100),
            ("scf_mixing", 0.01, 0.9),
            ("exchange", 0, 5),
            ("s02", 0.1, 1.5),
            ("energy_step", 0.05, 5.0),
            ("path_radius", 1.5, 15.0),
            ("path_legs", 2, 8),
            ("k_max", 3.0, 30.0),
            ("max_atoms", 10, 3000),
        ):
            _check_range(name, getattr(self, name), low, high)
        for name in ("scf_iterations", "exchange", "path_legs", "max_atoms"):
            if getattr(self, name) != int(getattr(self, name)):
                raise FeffError(f"{name} is {getattr(self, name)!r}; give a whole number.")
            object.__setattr__(self, name, int(getattr(self, name)))  # FEFF reads no 4.0 for 4
        try:
            object.__setattr__(self, "energy_range", tuple(float(value) for value in self.energy_range))
        except (TypeError, ValueError) as error:
            raise FeffError(f"energy_range is {self.energy_range!r}; give two numbers, eV around the Fermi level.") from error
        if len(self.energy_range) != 2 or not -50 <= self.energy_range[0] < 0 < 25 <= self.energy_range[1] <= MAX_ENERGY:
            raise FeffError(f"energy_range is {self.energy_range}; give (-50 to 0, 25 to {MAX_ENERGY:g}) eV around the Fermi level.")
        _check_cards(self.cards)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeffParameters:
        """Parameters from plain values.

        Raises:
            FeffError: for an unknown name (with the nearest known one) or a value out of range.
        """
        return from_plain(cls, values, "FEFF parameter", FeffError)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_dict` makes the same parameters."""
        return {**asdict(self), "energy_range": list(self.energy_range), "cards": dict(self.cards)}

    @property
    def resolved_engine(self) -> str:
        """The engine, its default filled in."""
        return self.engine or ("feff10" if self.kind == "XANES" else "feff8l")

    def sphere(self, name: str) -> Sphere:
        """The protocol's `scf` or `fms` sphere."""
        return PROTOCOLS[self.protocol][name]


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise FeffError(f"{name} is {value!r}; use one of {', '.join(choices)}.")


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if value is None and name in ("scf_radius", "fms_radius"):  # the protocol's
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise FeffError(f"{name} is {value!r}; give a number from {low:g} to {high:g}.")


def _check_cards(cards: Mapping[str, Any]) -> None:
    if not isinstance(cards, Mapping) or not all(isinstance(name, str) for name in cards):
        raise FeffError(f"cards is {cards!r}; give lists of numbers by the names of cards.")
    for name, value in cards.items():
        if name.upper() in OWN_CARDS:
            raise FeffError(f"the card {name} is written by the deck; set it through {OWN_CARDS[name.upper()]}.")
        if name not in EXTRA_CARDS:
            raise FeffError(f"the card {name!r} is unknown{hint(name.upper(), EXTRA_CARDS)}; allowed are {', '.join(EXTRA_CARDS)}.")
        values = value if isinstance(value, (list, tuple)) else [value]
        low, high = EXTRA_CARDS[name]
        if not low <= len(values) <= high or not all(isinstance(item, (int, float)) for item in values):
            raise FeffError(f"the card {name} takes {low} to {high} numbers in a list, not {value!r}.")
