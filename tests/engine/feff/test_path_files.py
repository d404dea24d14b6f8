"""The sum of FEFF 6L's paths, which it leaves to its readers; FEFF 6L is really run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import FeffError
from aiida_xastruct.engine.feff import read_folder
from aiida_xastruct.engine.feff.path_files import has_paths, path_chi, read_path, sum_paths
from aiida_xastruct.engine.feff.programs import executable

DECK = """TITLE copper
HOLE 1 1.0
CONTROL 1 1 1 1
PRINT 0 0 0 0
RMAX 4
{card}
POTENTIALS
0 29 Cu
1 29 Cu
ATOMS
{atoms}
END
"""


def run_feff6(folder: Path, card: str = "") -> Path:
    """Copper to 4 angstrom by FEFF 6L."""
    shell = range(-2, 3)
    places = [(i, j, k) for i in shell for j in shell for k in shell if (i + j + k) % 2 == 0]
    places.sort(key=lambda place: sum(x * x for x in place))
    atoms = "\n".join(" ".join(f"{1.8075 * x:.4f}" for x in place) + f" {0 if place == (0, 0, 0) else 1}" for place in places)
    folder.mkdir()
    (folder / "feff.inp").write_text(DECK.format(card=card, atoms=atoms))
    with (folder / "xastruct-feff.log").open("w") as log:
        subprocess.run([executable("feff6l")], cwd=folder, stdout=log, check=True, env={**os.environ, "LC_ALL": "C"})
    return folder


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    """Folder of a finished run."""
    return run_feff6(tmp_path / "copper")


@pytest.mark.parametrize("sigma2", [0.0, 0.008])
def test_the_sum_is_larchs(tmp_path, sigma2):
    from larch.xafs import feffpath, path2chi

    folder = run_feff6(tmp_path / "run", f"SIG2 {sigma2}" if sigma2 else "")
    assert has_paths(folder)
    k, chi, program, count = sum_paths(folder)
    assert program == "Feff 6L.02"
    assert count == len(list(folder.glob("feff0*.dat"))) > 2
    expected = np.zeros_like(k)
    for path in folder.glob("feff0*.dat"):
        single = feffpath(str(path))
        path2chi(single, k=k)
        # Disorder as FEFF's last module adds it; larch's own also corrects the mean distance.
        expected += np.imag((-single.chi_imag + 1j * single.chi) * np.exp(-2 * sigma2 * single.p**2))
    # larch overwrites its first point by an extrapolation.
    np.testing.assert_allclose(chi[1:], expected[1:], atol=1e-6 * np.abs(expected).max())
    assert np.abs(chi[(k > 3) & (k < 4)]).max() > 0.02


def test_the_spectrum(copper):
    result = read_folder(copper, "Cu", "K", "EXAFS", {"deck": "own"})
    spectrum = result.spectrum
    assert (spectrum.energy_reference, spectrum.normalisation, spectrum.e0) == ("nominal", "flat", 8979.0)
    assert result.problems == ()
    assert result.facts["program"] == "Feff 6L.02"
    k, chi, _, _ = sum_paths(copper)
    np.testing.assert_allclose(spectrum.mu / spectrum.mu0 - 1, chi)
    np.testing.assert_allclose(np.sqrt(0.26246842 * (spectrum.energy - spectrum.e0)), k)
    with pytest.raises(FeffError, match="paths make no XANES"):
        read_folder(copper, "Cu", "K", "XANES")


def test_paths_of_a_run_that_did_not_end_are_no_spectrum(copper):
    log = (copper / "xastruct-feff.log").read_text()
    (copper / "xastruct-feff.log").write_text(log.split("path  cw ratio")[0])
    run_log = (copper / "feff.run").read_text()
    (copper / "feff.run").write_text(run_log.split("path  cw ratio")[0])
    assert not has_paths(copper)
    with pytest.raises(FeffError, match=r"no xmu\.dat"):
        read_folder(copper, "Cu", "K", "EXAFS")
    (copper / "xastruct-feff.log").write_text(log)
    assert has_paths(copper)
    (copper / "feff0001.dat").unlink()
    assert not has_paths(copper)


@pytest.mark.parametrize("damage", ["cut", "nan", "head"])
def test_a_damaged_path_is_refused(copper, damage):
    text = (copper / "feff0001.dat").read_text()
    changed = {"cut": text[:-30], "nan": text.replace(text.split()[-1], "NaN"), "head": text.replace("nleg, deg", "")}[damage]
    with pytest.raises(FeffError, match=r"damaged|not finite"):
        read_path(changed)


def test_a_path_falls_with_disorder(copper):
    path = read_path((copper / "feff0001.dat").read_text())
    assert path.degeneracy == 12
    assert path.half_length == pytest.approx(1.8075 * 2**0.5, abs=1e-3)
    k = np.arange(3.0, 12.0, 0.05)
    still, moving = np.abs(path_chi(path, k)), np.abs(path_chi(path, k, 0.01))
    high = k > 10
    assert moving[high].max() < 0.2 * still[high].max()
