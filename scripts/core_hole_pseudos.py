"""Generate pairs of pseudopotentials, without and with a 1s hole, by ld1.x of Quantum ESPRESSO from the decks in `scripts/core_hole`.

python scripts/core_hole_pseudos.py FOLDER                      # of all elements that have decks
python scripts/core_hole_pseudos.py FOLDER --archive NAME.tar.gz  # and the folder as an archive
aiida-xastruct core-hole install FOLDER --label NAME            # into the profile

A deck of another element is made alike: norm-conserving, GIPAW reconstruction of two orbitals of each angular momentum, and for the hole
one electron less in 1s, everything else being the same. The cutoffs stand in `scripts/core_hole/cutoffs.json`. An eigenvalue of the
occupied orbitals that the pseudopotential gives must agree with that of all electrons, else the script stops.
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

from aiida_xastruct.engine.xspectra.files import CORE_HOLE, GROUND_STATE, MANIFEST

DECKS = Path(__file__).parent / "core_hole"

#: Rydberg that an eigenvalue of an occupied orbital may be off.
TOLERANCE = 1e-3


def generate(deck: Path, program: str) -> str:
    """The pseudopotential of a deck.

    Raises:
        SystemExit: if ld1.x fails, or its pseudopotential does not have the eigenvalues of all electrons.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program], stdin=deck.open(), cwd=folder, capture_output=True, text=True, timeout=600)
        made = Path(folder) / "pseudo.UPF"
        if not made.is_file():
            raise SystemExit(f"{deck.name}: ld1.x made no pseudopotential; its last words: {done.stdout.strip()[-300:]}")
        text = made.read_text()
    levels = re.findall(r"^\s+\d \d\s+(\d\w)\s+1\(\s*([\d.]+)\)\s+\S+\s+\S+\s+(-?[\d.]+)", done.stdout.rpartition("Testing")[2], re.M)
    for label, electrons, error in levels:
        if float(electrons) > 0.0 and abs(float(error)) > TOLERANCE:
            raise SystemExit(f"{deck.name}: the eigenvalue of {label} is off by {error} Ry; change the radii.")
    if not levels:
        raise SystemExit(f"{deck.name}: ld1.x tested nothing; the deck lacks its card &test.")
    print(f"{deck.stem}: " + ", ".join(f"{label} off by {float(error):+.5f} Ry" for label, _, error in levels))
    return text


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
            (arguments.folder / half / f"{element}{ending}.pbe-tm-gipaw.UPF").write_text(generate(deck, arguments.ld1))
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
