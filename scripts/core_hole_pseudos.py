"""Generate pairs of pseudopotentials, without and with a 1s hole, by ld1.x of Quantum ESPRESSO from the decks in `scripts/core_hole`.

python scripts/core_hole_pseudos.py FOLDER                      # of all elements that have decks
python scripts/core_hole_pseudos.py FOLDER --archive NAME.tar.gz  # and the folder as an archive
aiida-xastruct core-hole install FOLDER --label NAME            # into the profile

A deck of another element is made alike: norm-conserving, GIPAW reconstruction of two orbitals of each angular momentum, and for the hole
one electron less in 1s. The cutoffs stand in `scripts/core_hole/cutoffs.json`.

The script stops where a pseudopotential is unfit:

- An eigenvalue of the occupied orbitals must agree with that of all electrons.
- With the hole, heights of peaks must come out right. XSpectra takes the dipole matrix element of a wave from two reconstructed p orbitals,
  so they must span the p waves of all energies that a spectrum has. For waves of the atom the element is known without them, and theirs is
  held against it. What fails here, most often, is a radius at which the second orbital has a node: ld1.x scales all-electron and pseudo
  orbital to one another at that very radius. A smaller radius, or another energy of that orbital (fifth column of &test), mends it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from aiida_xastruct.engine.xspectra.files import CORE_HOLE, GROUND_STATE, MANIFEST
from aiida_xastruct.engine.xspectra.upf import core_wavefunction, read_mesh, read_orbitals

DECKS = Path(__file__).parent / "core_hole"

#: Rydberg that an eigenvalue of an occupied orbital may be off.
TOLERANCE = 1e-3

#: Rydberg above the valence p level up to which heights are checked; a crystal's valence bands lie around that level, the edge above them.
RANGE = 3.0

#: Share of a height that may be missing or too much within it.
HEIGHTS = 0.1


def run(deck: str, name: str, program: str) -> tuple[str, str]:
    """The pseudopotential of a deck, and what ld1.x says.

    Raises:
        SystemExit: if ld1.x fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program], input=deck, cwd=folder, capture_output=True, text=True, timeout=600)
        made = Path(folder) / "pseudo.UPF"
        if not made.is_file():
            raise SystemExit(f"{name}: ld1.x made no pseudopotential; its last words: {done.stdout.strip()[-300:]}")
        return made.read_text(), done.stdout


def generate(deck: Path, program: str) -> str:
    """The pseudopotential of a deck.

    Raises:
        SystemExit: if ld1.x fails, or its pseudopotential does not have the eigenvalues of all electrons.
    """
    text, said = run(deck.read_text(), deck.name, program)
    levels = re.findall(r"^\s+\d \d\s+(\d\w)\s+1\(\s*([\d.]+)\)\s+\S+\s+\S+\s+(-?[\d.]+)", said.rpartition("Testing")[2], re.M)
    for label, electrons, error in levels:
        if float(electrons) > 0.0 and abs(float(error)) > TOLERANCE:
            raise SystemExit(f"{deck.name}: the eigenvalue of {label} is off by {error} Ry; change the radii.")
    if not levels:
        raise SystemExit(f"{deck.name}: ld1.x tested nothing; the deck lacks its card &test.")
    print(f"{deck.stem}: " + ", ".join(f"{label} off by {float(error):+.5f} Ry" for label, _, error in levels))
    return text


def heights(deck: str, name: str, ground_state: str, program: str) -> list[tuple[float, float]]:
    """Height that two p orbitals give over the true one, for p waves of the atom with the hole.

    A wave is one of all electrons, and one of the pseudopotential at the same energy that has its amplitude beyond the radius. Of the
    second the orbitals make a matrix element as XSpectra does: their duals within 1.5 radii, cut off softly over the outer third.

    Args:
        deck: of the pseudopotential with the hole.
        name: of the deck, for messages.
        ground_state: pseudopotential without the hole, whose 1s is the initial state.
        program: ld1.x.

    Returns:
        Energies, Rydberg above the first orbital, and heights over the true ones.
    """
    text, said = run(deck, name, program)
    basis = read_orbitals(text, 1, name)
    core = np.loadtxt(core_wavefunction(ground_state, "1s", name).splitlines())[:, 1]
    label = re.findall(r"^(\d[Pp]) ", deck, re.M)[-1]
    level = float(re.findall(r"^\s+\d 1\s+\d[Pp] +1\( *[\d.]+\)\s+(-?[\d.]+)", said.rpartition("Testing")[2], re.M)[0])
    r, radius = read_mesh(text, name), basis[0].cutoff
    weight = np.gradient(r)
    inside = r <= 1.5 * radius
    x = np.clip((r / radius - 1.0) / 0.5, 0.0, 1.0)
    soft = (1.0 - 3.0 * x**2 + 2.0 * x**3) * weight
    dipoles = [np.sum((r * one.full * core * weight)[inside]) for one in basis]
    overlaps = [[np.sum(soft * one.pseudo * other.pseudo) for other in basis] for one in basis]
    dual = sum(share * one.pseudo for share, one in zip(np.linalg.solve(overlaps, dipoles), basis, strict=True))
    ratios = []
    for above in np.arange(0.25, 4.6, 0.25):
        moved = re.sub(rf"^({label} \d 1 \S+) \S+", rf"\g<1> {level + above + 1e-6:.6f}", deck, flags=re.M)
        wave = read_orbitals(run(moved, name, program)[0], 1, name)[-1]
        true = np.sum((r * wave.full * core * weight)[inside]) / wave.amplitude(r)
        ratios.append((float(above), float(np.sum(soft * dual * wave.pseudo) / true) ** 2))
    return ratios


def check_heights(deck: Path, ground_state: str, program: str) -> None:
    """Print how right the heights of spectra will be.

    Raises:
        SystemExit: if they are too wrong.
    """
    ratios = heights(deck.read_text(), deck.name, ground_state, program)
    near = [(above, ratio) for above, ratio in ratios if above <= RANGE]
    above, worst = max(near, key=lambda pair: abs(pair[1] - 1.0))
    far = f"{ratios[-1][1] - 1.0:+.0%} at {ratios[-1][0]:.2f} Ry"
    print(f"{deck.stem}: heights {worst - 1.0:+.1%} at worst ({above:.2f} Ry above the p level) up to {RANGE:g} Ry, {far}")
    if abs(worst - 1.0) > HEIGHTS:
        raise SystemExit(f"{deck.name}: heights are off by {worst - 1.0:+.0%} {above:.2f} Ry above the p level; see the script's head.")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--ld1", default="ld1.x")
    arguments = parser.parse_args()
    if shutil.which(arguments.ld1) is None:
        raise SystemExit(f"{arguments.ld1} is not there; install Quantum ESPRESSO (Debian: quantum-espresso) or give --ld1.")
    cutoffs = json.loads((DECKS / "cutoffs.json").read_text())
    for half, ending in ((GROUND_STATE, ""), (CORE_HOLE, ".star1s")):
        (arguments.folder / half).mkdir(parents=True, exist_ok=True)
        for deck in sorted(DECKS.glob(f"*.{half}.in")):
            element = deck.name.partition(".")[0]
            text = generate(deck, arguments.ld1)
            if half == CORE_HOLE:
                ground_state = arguments.folder / GROUND_STATE / f"{element}.pbe-tm-gipaw.UPF"
                check_heights(deck, ground_state.read_text(), arguments.ld1)
            (arguments.folder / half / f"{element}{ending}.pbe-tm-gipaw.UPF").write_text(text)
    manifest = {"core_level": "1s", "description": "Troullier-Martins, PBE, by scripts/core_hole_pseudos.py", **cutoffs}
    (arguments.folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    if arguments.archive:
        with tarfile.open(arguments.archive, "w:gz", compresslevel=9) as archive:
            archive.add(arguments.folder, arguments.archive.name.partition(".")[0], filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    sys.exit(main())
