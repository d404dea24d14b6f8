"""FEFF's xmu.dat and chi.dat of one run say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import FeffError, SpectrumError
from aiida_xastruct.engine.feff import FeffParameters, compute
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import chi_k, tabulated_edge


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an EXAFS of copper."""
    folder = tmp_path_factory.mktemp("copper")
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
    compute(copper, 0, FeffParameters(kind="EXAFS", engine="feff8l"), folder)
    return folder


def test_chi_and_xmu_are_one_spectrum(run: Path) -> None:
    chi, xmu = (read_measurement([(name, (run / name).read_bytes())]) for name in ("chi.dat", "xmu.dat"))
    assert (chi.absorber, chi.edge, chi.kind, chi.method) == (xmu.absorber, xmu.edge, xmu.kind, xmu.method) == ("Cu", "K", "EXAFS", "feff")
    assert (chi.normalisation, chi.e0) == ("flat", tabulated_edge("Cu", "K"))
    (k, values), (other_k, others) = chi_k(chi), chi_k(xmu)
    common = (k > 3.0) & (k < 15.0)
    assert np.abs(values[common]).max() > 0.05
    np.testing.assert_allclose(np.interp(k[common], other_k, others), values[common], atol=5e-3)


def test_what_chi_does_not_say_is_asked_for(run: Path) -> None:
    text = (run / "chi.dat").read_text()
    nameless = "\n".join(line for line in text.splitlines() if "Abs" not in line).encode()
    with pytest.raises(SpectrumError, match="which element absorbs"):
        read_measurement([("chi.dat", nameless)])
    assert read_measurement([("chi.dat", nameless)], ScanParameters(absorber="Ni")).absorber == "Ni"
    with pytest.raises(SpectrumError, match="is of Cu K, not of Fe K"):
        read_measurement([("chi.dat", text.encode())], ScanParameters(absorber="Fe"))
    lines = text.splitlines()
    with pytest.raises(FeffError, match="damaged"):
        read_measurement([("chi.dat", "\n".join([*lines[:-1], "  1.0 ********"]).encode())])
    with pytest.raises(SpectrumError, match="k must increase"):
        read_measurement([("chi.dat", "\n".join([*lines, lines[-5]]).encode())])
