"""FEFF's edge (k = 0, EXAFS without SCF by FEFF 8.5L; XANES by FEFF10 lies within 3 eV of it) minus the tabulated edge of xraydb, in eV.

Medians over the reference library, half-spread 5 eV or less; `python -m aiida_xastruct.engine.reference offsets` prints them again.
"""

from __future__ import annotations

EDGE_OFFSETS: dict[str, dict[str, float]] = {
    "K": {
        "Li": 4.0, "Be": 4.6, "B": 5.3, "C": -6.1, "N": -11.1, "O": -8.9, "F": -15.2, "Ne": -5.5, "Na": 4.1, "Mg": 1.5, "Al": 3.1,
        "Si": 2.6, "P": -2.0, "S": -3.1, "Cl": -4.6, "Ar": -3.0, "K": 4.3, "Ca": 3.8, "Sc": 2.2, "Ti": 5.3, "V": 3.6, "Cr": 5.0,
        "Mn": 4.1, "Fe": 4.4, "Co": 5.4, "Ni": 5.5, "Cu": 8.1, "Zn": 5.0, "Ga": 9.6, "Ge": 8.6, "As": 7.5, "Se": 5.3, "Br": 5.1,
        "Kr": 7.3, "Rb": 12.7, "Sr": 16.0, "Y": 15.8, "Zr": 15.8, "Nb": 16.3, "Mo": 19.6, "Tc": 20.8, "Ru": 22.0, "Rh": 22.0,
        "Pd": 24.3, "Ag": 27.2, "Cd": 30.8, "In": 32.1, "Sn": 33.2,
    },
    "L3": {
        "Sb": 1.3, "Te": 1.5, "I": -1.5, "Xe": -2.2, "Cs": 3.4, "Ba": 3.9, "La": 3.4, "Ce": -1.2, "Pr": -0.8, "Nd": -0.1,
        "Sm": -2.8, "Eu": -0.5, "Gd": -0.9, "Tb": -1.1, "Dy": -1.6, "Ho": -2.6, "Er": -4.1, "Tm": -4.3, "Yb": -4.3, "Lu": 3.3,
        "Hf": -0.6, "Ta": -0.1, "W": -1.9, "Re": 2.5, "Os": 2.9, "Ir": 1.9, "Pt": -0.4, "Au": -0.1, "Hg": 1.9, "Tl": -1.0,
        "Pb": 0.1, "Bi": 0.0, "Po": -5.0, "Ra": 4.9, "Ac": 2.7, "Th": 0.3, "Pa": -3.6, "U": -0.8, "Np": -1.1, "Pu": -0.7,
        "Am": -0.5, "Cm": -2.4,
    },
}
