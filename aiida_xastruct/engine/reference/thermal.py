"""Thermal disorder of EXAFS by FEFF's correlated Debye model (Sevillano, Meuth and Rehr, Phys. Rev. B 20, 4908 (1979)).

Disorder enters in FEFF's last module alone, which takes 10 ms: once the paths are there, further temperatures cost nothing.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..errors import FeffError
from ..feff.output import read_table
from ..feff.runner import run

#: Draws a site, beside the one without disorder.
DRAWS = 4

TEMPERATURES = (80.0, 400.0)

#: A Debye temperature times the root of the mean atomic mass in K sqrt(u): 1500 for Pb, 2500 for Cu, 3600 for MgO, 5400 for W.
#: Diamond (7700) is left out.
STIFFNESS = (1600.0, 5500.0)


def draw_conditions(structure: Structure, seed: str) -> list[tuple[float, float]]:
    """`DRAWS` pairs of temperature and Debye temperature in K for a crystal, the same for the same seed.

    Temperatures are uniform, stiffness is log-uniform.
    """
    generator = random.Random(seed)
    mass = float(structure.composition.weight) / len(structure)
    low, high = np.log(STIFFNESS)
    return [
        (round(generator.uniform(*TEMPERATURES), 1), round(float(np.exp(generator.uniform(low, high)) / np.sqrt(mass)), 1))
        for _ in range(DRAWS)
    ]


def thermal_chi(folder: Path, conditions: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Chi = mu/mu0 - 1 under each condition on the points of the finished FEFF 8.5L run in `folder`, (len(conditions), n).

    Raises:
        FeffError: if the run is no FEFF 8.5L run or its last module fails.
    """
    settings = folder / "ff2x.json"
    if not settings.is_file():
        raise FeffError("there is no ff2x.json; thermal draws need a finished FEFF 8.5L run.")
    cold = settings.read_text()
    curves = []
    try:
        for temperature, debye in conditions:
            # idwopt 0 is the correlated Debye model, as the DEBYE card sets it.
            settings.write_text(json.dumps({**json.loads(cold), "idwopt": 0, "tk": temperature, "thetad": debye}, indent=0))
            run(folder, modules=("ff2x",))
            table = read_table((folder / "xmu.dat").read_text(errors="replace"), 6)
            curves.append(table[:, 3] / table[:, 4] - 1.0)
    finally:
        settings.write_text(cold)
    return np.array(curves)
