"""What XSpectra is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import PseudoError
from ..options import from_plain


@dataclass(frozen=True)
class XspectraParameters:
    """Settings of xspectra.x.

    Attributes:
        energy_range: eV from the Fermi level, or the highest occupied level where there is a gap.
        points: number of energies.
        broadening: width of the Lorentzian, eV, as XSpectra's `xgamma`.
        iterations: Lanczos vectors at most.
        check_every: of so many vectors convergence is checked.
        tolerance: largest change of the spectrum between two checks, relative to its integral.
        paw_radius: of the sphere in which the orbitals are reconstructed, bohr; XSpectra's own (1.5 times the cutoff radius) if 0.
        time_limit: seconds after which it ends and leaves what it takes to go on.

    Raises:
        PseudoError: for a value that XSpectra would misread.
    """

    energy_range: tuple[float, float] = (-10.0, 50.0)
    points: int = 601
    broadening: float = 0.8
    iterations: int = 2000
    check_every: int = 20
    tolerance: float = 0.001
    paw_radius: float = 0.0
    time_limit: float = 1e8

    def __post_init__(self) -> None:
        low, high = self.energy_range
        if not -100.0 <= low < 0.0 < high <= 200.0:
            raise PseudoError(f"energy_range is {low:g} to {high:g} eV; it must hold 0 and lie between -100 and 200.")
        bounds: Sequence[tuple[str, float, float]] = (
            ("points", 50, 10000),
            ("broadening", 0.05, 10.0),
            ("iterations", 10, 100000),
            ("check_every", 1, 1000),
            ("tolerance", 1e-8, 0.5),
            ("paw_radius", 0.0, 20.0),
            ("time_limit", 1.0, 1e8),
        )
        for name, smallest, largest in bounds:
            value = getattr(self, name)
            whole = name in ("points", "iterations", "check_every")
            number = isinstance(value, int) or (isinstance(value, float) and not whole)
            if isinstance(value, bool) or not number or not smallest <= value <= largest:
                raise PseudoError(f"{name} is {value!r}; give a {'whole ' * whole}number from {smallest:g} to {largest:g}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> XspectraParameters:
        """Parameters from plain values.

        Raises:
            PseudoError: for an unknown name, with the nearest known one, or a wrong value.
        """
        if isinstance(values, Mapping) and "energy_range" in values:
            try:
                low, high = values["energy_range"]
                values = {**values, "energy_range": (float(low), float(high))}
            except (TypeError, ValueError) as error:
                raise PseudoError(f"energy_range is {values['energy_range']!r}; give two energies in eV.") from error
        return from_plain(cls, values, "parameter of XSpectra", PseudoError)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return {**asdict(self), "energy_range": list(self.energy_range)}


#: Names of the files of a run.
INPUT, OUTPUT, SPECTRUM, SAVE, CORE = "xspectra.in", "xspectra.out", "xanes.dat", "xanes.sav", "core.wfc"


def write_input(
    parameters: XspectraParameters,
    polarisation: Sequence[float],
    species: int,
    points: Sequence[int],
    prefix: str,
    folder: str,
    restart: bool = False,
    zero: float | None = None,
) -> str:
    """Input of xspectra.x for the dipole spectrum of a 1s level.

    Args:
        parameters: see there.
        polarisation: direction of the electric field, cartesian.
        species: number of the absorbing species in the input of pw.x, from 1.
        points: of the mesh of k, which is shifted by half a step along each vector.
        prefix: of pw.x.
        folder: where pw.x left its results.
        restart: go on from `SAVE`.
        zero: energy below which states are full and from which energies count, eV; what XSpectra takes for it if None.
    """
    low, high = parameters.energy_range
    lines = [
        "&input_xspectra",
        " calculation = 'xanes_dipole'",
        f" prefix = '{prefix}'",
        f" outdir = '{folder}'",
        *(f" xepsilon({axis}) = {value:.10f}" for axis, value in enumerate(polarisation, start=1)),
        " xcoordcrys = .false.",
        f" xiabs = {species}",
        f" xniter = {parameters.iterations}",
        f" xcheck_conv = {parameters.check_every}",
        f" xerror = {parameters.tolerance:.3e}",
        f" x_save_file = '{SAVE}'",
        f" time_limit = {parameters.time_limit:.1f}",
        f" restart_mode = '{'restart' if restart else 'from_scratch'}'",
        *([] if zero is None else [f" xe0 = {zero:.6f}"]),
        "/",
        "&plot",
        f" xnepoint = {parameters.points}",
        f" xgamma = {parameters.broadening:.6f}",
        f" xemin = {low:.6f}",
        f" xemax = {high:.6f}",
        " terminator = .true.",
        " cut_occ_states = .true.",
        "/",
        "&pseudos",
        f" filecore = '{CORE}'",
        *([f" r_paw(1) = {parameters.paw_radius:.6f}"] if parameters.paw_radius else []),
        "/",
        "&cut_occ",
        " cut_desmooth = 0.1",
        "/",
        " ".join(str(value) for value in points) + " 1 1 1",
    ]
    return "\n".join(lines) + "\n"
