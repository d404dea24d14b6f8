from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import PseudoError, SpectrumError, StructureError
from aiida_xastruct.engine.xspectra.files import read_files
from aiida_xastruct.engine.xspectra.output import judge
from aiida_xastruct.engine.xspectra.parameters import XspectraParameters, write_input
from aiida_xastruct.engine.xspectra.site import fermi_level, lowest_empty, site_spectrum, threshold
from aiida_xastruct.engine.xspectra.supercell import image_distance, mesh, polarisations, site_rotations, supercell
from aiida_xastruct.engine.xspectra.upf import read_upf

#: Runs of xspectra.x 6.7 on diamond with a hole, 8 atoms; lines of the log that are read, every fourth energy.
RUNS = Path(__file__).parents[2] / "fixtures" / "xspectra"

ARCHIVE = Path(__file__).parents[3] / "examples" / "data" / "core_hole.tar.gz"


@pytest.fixture
def diamond():
    return Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0.0, 0.0, 0.0]]).get_primitive_structure()


@pytest.fixture
def rutile():
    return Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])


def test_supercell_keeps_images_apart(diamond, rutile):
    found = supercell(diamond, 1, 7.0)
    assert (found.multiples, len(found.structure)) == ((3, 3, 3), 54)
    assert found.image_distance == pytest.approx(3 * 3.567 / np.sqrt(2))
    assert found.structure.get_distance(found.site, found.site) == 0.0
    near = sorted(found.structure.get_distance(found.site, other) for other in range(54) if other != found.site)
    assert near[0] == pytest.approx(3.567 * np.sqrt(3) / 4)
    found = supercell(rutile, 3, 8.0)
    assert found.multiples == (2, 2, 3)
    assert found.structure[found.site].specie.symbol == "O"
    assert found.image_distance >= 8.0
    with pytest.raises(StructureError, match="more than 1000 atoms"):
        supercell(rutile, 0, 60.0)


def test_distance_of_images_is_that_of_the_reduced_cell():
    """A skewed cell has shorter vectors than its own."""
    assert image_distance(Lattice([[4.0, 0.0, 0.0], [4.0, 3.0, 0.0], [0.0, 0.0, 5.0]])) == pytest.approx(3.0)


def skewed(crystal, vectors):
    """The same crystal by another primitive cell."""
    cell = crystal.copy()
    cell.make_supercell(vectors)
    assert len(cell) == len(crystal)
    return cell


def test_rotations_of_a_site_and_its_images(diamond, rutile):
    assert [len(site_rotations(rutile, site)) for site in (0, 2)] == [8, 4]
    assert len(site_rotations(diamond, 0)) == len(site_rotations(diamond, 0, (3, 3, 3))) == 24
    # Uneven multiples of a skewed cell leave few of them, but for those that make a body-centred lattice.
    crystal = skewed(diamond, [[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert supercell(crystal, 0, 4.0).multiples == (3, 2, 1)
    assert len(site_rotations(crystal, 0)) == 24
    assert len(site_rotations(crystal, 0, (3, 2, 1))) < 4
    crystal = skewed(diamond, [[1, 0, 0], [0, 1, 0], [1, 1, 1]])
    assert supercell(crystal, 0, 5.9).multiples == (4, 4, 1)
    assert len(site_rotations(crystal, 0, (4, 4, 1))) == 24


def moments(lattice, points):
    """Mean of k k over a shifted mesh in all zones, near ones most: isotropic where the mesh has cubic symmetry."""
    axes = [(np.arange(count) + 0.5) / count for count in points]
    fractional = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    around = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    k = (fractional[:, None, :] + around[None, :, :]) @ lattice.reciprocal_lattice.matrix
    weights = np.exp(-24.0 * np.linalg.norm(k, axis=-1) ** 2)
    return np.einsum("ab,abi,abj->ij", weights, k, k) / weights.sum()


@pytest.mark.parametrize("points", [2, 3, 4])
@pytest.mark.parametrize("vectors", [np.eye(3), [[1, 0, 0], [0, 1, 0], [0, 0, -1]], [[1, 0, 0], [0, 1, 0], [1, 1, 1]], None])
def test_one_polarisation_only_where_the_mesh_is_cubic_too(diamond, vectors, points):
    """A shift by half a step along all vectors of a face-centred cell leaves one threefold axis of four; a cube keeps all."""
    cube = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0.0, 0.0, 0.0]])
    crystal = cube if vectors is None else skewed(diamond, vectors)
    found = moments(crystal.lattice, [points] * 3)
    isotropic = np.abs(found - np.eye(3) * np.trace(found) / 3).max() < 1e-9
    assert isotropic == (vectors is None)
    assert len(polarisations(site_rotations(crystal, 0))) == (1 if isotropic else 3)


def test_sites_that_are_not_cubic_need_three_polarisations(rutile):
    assert len(polarisations(site_rotations(rutile, 0))) == len(polarisations(site_rotations(rutile, 2))) == 3
    assert polarisations(np.eye(3, dtype=int)[None]) == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]


def test_mesh():
    assert mesh(Lattice.orthorhombic(2.0 * np.pi, 4.0 * np.pi, 20.0 * np.pi), 0.5) == [2, 1, 1]


@pytest.mark.parametrize(
    ("said", "functional"),
    [
        ("PBE", "PBE"),
        ("sla  pw   pbx  pbc", "PBE"),
        ("SLA PW PBX PBC PBE", "PBE"),
        ("SLA PW PBE PBE", "PBE"),
        ("SLA PW PBE PBE PBE", "PBE"),
        ("SLA PZ NOGX NOGC", "PZ"),
        ("SLA PW PSX PSC", "PBESOL"),
        ("REVPBE", "REVPBE"),
    ],
)
def test_a_functional_has_one_name(said, functional):
    """Debian's pseudopotentials name PBE in four ways."""
    (text,) = (content.decode() for name, content in read_files(ARCHIVE).ground_state.items() if name.startswith("C."))
    assert 'functional="PBE"' in text
    assert read_upf(text.replace('functional="PBE"', f'functional="{said}"'), "C.UPF").functional == functional


def test_input():
    text = write_input(XspectraParameters(paw_radius=3.2, time_limit=60.0), (0.0, 0.0, 1.0), 2, [2, 2, 1], "aiida", "./out/", restart=True)
    for line in ("xiabs = 2", "xepsilon(3) = 1.0", "restart_mode = 'restart'", "r_paw(1) = 3.2", "time_limit = 60.0", "2 2 1 1 1 1"):
        assert line in text
    plain = write_input(XspectraParameters(), (1, 0, 0), 1, [1, 1, 1], "aiida", "./out/")
    assert "r_paw" not in plain
    assert "xe0" not in plain
    assert " xe0 = 7.5" in write_input(XspectraParameters(), (1, 0, 0), 1, [1, 1, 1], "aiida", "./out/", zero=7.5)
    assert XspectraParameters.from_dict(XspectraParameters().to_dict()) == XspectraParameters()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"broadning": 1.0}, "did you mean 'broadening'"),
        ({"broadening": 0.0}, "broadening is 0.0"),
        ({"energy_range": [5.0, 50.0]}, "must hold 0"),
        ({"energy_range": [5.0]}, "two energies"),
        ({"iterations": "many"}, "iterations is 'many'"),
        ({"points": 600.5}, "points is 600.5; give a whole number"),
        ([1.0], "no mapping"),
    ],
)
def test_parameters_are_checked(values, message):
    with pytest.raises(PseudoError, match=message):
        XspectraParameters.from_dict(values)


def test_a_good_run():
    found = judge(RUNS / "well")
    assert (found.label, found.facts["version"], found.facts["unconverged"]) == ("", "6.7MaX", 0)
    assert found.facts["zero_ev"] == pytest.approx(12.84, abs=0.01)
    assert lowest_empty(found.facts) == pytest.approx(16.9934)
    assert threshold(-100.0, found.facts) == pytest.approx(-83.0066)
    assert found.energy[0] == -10.0
    assert found.energy[-1] == pytest.approx(50.0, abs=0.5)


@pytest.mark.parametrize(
    ("bands", "electrons", "zero"),
    [
        ([[1.0, 5.0, 9.0], [2.0, 6.0, 9.0]], 2.0, None),
        ([[1.0, 5.0, 9.0], [2.0, 6.0, 9.0]], 4.0, None),
        ([[1.0, 5.0, 9.0], [5.5, 6.0, 9.0]], 2.0, 5.2),
        ([[1.0, 5.0, 9.0], [2.0, 6.0, 9.0]], 3.0, 5.2),
        ([[1.0, 5.0, 9.0], [2.0, 6.0, 9.0]], 6.0, 5.2),
    ],
    ids=["gap", "second gap", "bands overlap", "odd", "no empty band"],
)
def test_a_metal_is_told_its_fermi_level(bands, electrons, zero):
    assert fermi_level(np.array(bands), electrons, 5.2) == zero


def test_energies_of_a_metal_count_from_its_fermi_level(tmp_path):
    """The last full band reaches above the first empty one, and XSpectra was told where to count from."""
    shutil.copytree(RUNS / "well", tmp_path / "run")
    log = tmp_path / "run" / "xspectra.out"
    text = log.read_text()
    assert "energy-zero of the spectrum [eV]:" in text
    log.write_text(text.replace("energy-zero of the spectrum [eV]:", "xe0 [eV]:").replace("12.8403", "18.0000"))
    facts = judge(tmp_path / "run").facts
    assert (facts["zero_ev"], facts["lowest_empty_ev"], lowest_empty(facts)) == (18.0, 16.9934, 18.0)


@pytest.mark.parametrize(
    ("run", "label", "words"),
    [
        ("time_limit", "ERROR_TIME_LIMIT", "can go on"),
        ("unconverged", "WARNING_LANCZOS_NOT_CONVERGED", "20 Lanczos vectors"),
        ("refused", "ERROR_INPUT_REFUSED", "Wrong xiabs"),
        ("none", "ERROR_NO_OUTPUT", "does not end"),
    ],
)
def test_a_run_that_is_not_well(run, label, words):
    found = judge(RUNS / run)
    assert found.label == label
    assert words in found.reason


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "ERROR_OUTPUT_DAMAGED"),
        ("1 2\n2 x\n", "ERROR_OUTPUT_DAMAGED"),
        ("\n".join(f"{i} nan" for i in range(20)), "ERROR_OUTPUT_DAMAGED"),
        ("\n".join(f"{i} 1 2 3" for i in range(20)), "ERROR_OUTPUT_DAMAGED"),
        ("\n".join(f"{20 - i} 1" for i in range(20)), "ERROR_OUTPUT_DAMAGED"),
        ("\n".join(f"{i} {-i}" for i in range(20)), "ERROR_IMPLAUSIBLE"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_damaged_spectra_are_seen(tmp_path, text, label):
    shutil.copytree(RUNS / "well", tmp_path / "run")
    (tmp_path / "run" / "xanes.dat").write_text(text)
    assert judge(tmp_path / "run").label == label
    assert judge(tmp_path / "run", ("ERROR_KILLED", "it was killed.")).label == "ERROR_KILLED"


def test_spectrum_of_a_site():
    found = judge(RUNS / "well")
    curve = (found.energy, found.sigma)
    spectrum = site_spectrum([curve, (found.energy, 3.0 * found.sigma)], found.facts, "C", 0.5, {"protocol": "fast"})
    assert (spectrum.method, spectrum.edge, spectrum.kind, spectrum.normalisation) == ("xspectra", "K", "XANES", "flat")
    # The lowest empty level, 4.15 eV above the highest occupied one, lies at the tabulated edge plus the shift.
    assert spectrum.energy[0] == pytest.approx(284.2 + 0.5 - 10.0 - (16.9934 - found.facts["zero_ev"]))
    assert spectrum.mu[spectrum.energy >= spectrum.energy[-1] - 10.0].mean() == pytest.approx(1.0)
    assert (spectrum.settings["polarisations"], spectrum.settings["protocol"]) == (2, "fast")
    with pytest.raises(SpectrumError, match="different energies"):
        site_spectrum([curve, (found.energy + 1.0, found.sigma)], found.facts, "C", 0.0, {})
