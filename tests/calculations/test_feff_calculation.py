"""What FeffCalculation accepts and writes; FEFF does not run."""

from __future__ import annotations

import hashlib

import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.feff import FeffCalculation
from aiida_xastruct.calculations.feff_batch import FeffBatchCalculation
from aiida_xastruct.engine.feff import FeffParameters
from aiida_xastruct.engine.feff.deck import write_deck


@pytest.fixture
def rock_salt(aiida_profile_clean) -> orm.StructureData:
    """MgO, conventional cell."""
    return orm.StructureData(pymatgen=Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]))


@pytest.fixture
def prepare(aiida_profile_clean, aiida_code_installed):
    """Function (inputs) -> feff.inp and the CalcInfo."""

    def make(**inputs):
        code = aiida_code_installed(default_calc_job_plugin="xastruct.feff", filepath_executable="/bin/true")
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}
        process = instantiate_process(get_manager().get_runner(), FeffCalculation, code=code, metadata={"options": options}, **inputs)
        with SandboxFolder() as folder:
            info = process.prepare_for_submission(folder)
            return folder.get_abs_path("feff.inp") and open(folder.get_abs_path("feff.inp")).read(), info

    return make


def test_deck_and_what_is_fetched(prepare, rock_salt):
    deck, info = prepare(structure=rock_salt, site=4, parameters={"kind": "EXAFS", "path_radius": 5.0})
    assert "RPATH 5" in deck.splitlines()
    assert deck.splitlines()[1] == "TITLE MgO site 4 O K EXAFS"
    assert {"xmu.dat", "xastruct-feff.json", ("log*.dat", ".", 1)} <= set(info.retrieve_list)
    assert info.codes_info[0].cmdline_params in (None, [])


def test_defaults_are_a_fast_xanes(prepare, rock_salt):
    deck, _ = prepare(structure=rock_salt, site=0)
    assert "EDGE K" in deck
    assert "XANES" in deck
    assert "* xastruct engine: feff10" in deck


def test_own_deck_is_passed_on_untouched(prepare):
    text = "TITLE mine\nEXAFS 12\nPOTENTIALS\n0 29 Cu\n"
    deck, _ = prepare(feff_input=orm.SinglefileData.from_string(text, filename="anything.inp"))
    assert deck == text


#: SHA-256 of decks by usual parameters, by the version that jobs are kept in AiiDA's cache under.
DECKS = {1: "5895965ae6c663427137211d1c4455918b4362554d06e282be8e97ec5c834234"}


def test_a_changed_deck_is_another_version_for_the_cache(rock_salt):
    """If this fails, a deck or a default was changed: raise `FeffCalculation.CACHE_VERSION`, and add the new digest."""
    crystal = rock_salt.get_pymatgen_structure()
    asked = ({}, {"kind": "EXAFS"}, {"scf_radius": 5.0, "fms_radius": 6.0})
    decks = [write_deck(crystal, site, FeffParameters.from_dict(given)) for given in asked for site in (0, 4)]
    # Atoms as far away as each other may come in any order.
    lines = [line for deck in decks for line in sorted(deck.replace("-0.00000", " 0.00000").splitlines())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == DECKS[FeffCalculation.CACHE_VERSION]


@pytest.mark.parametrize("cls", [FeffCalculation, FeffBatchCalculation])
def test_a_job_of_another_version_has_another_hash(cls, rock_salt, aiida_code_installed, monkeypatch):
    name = "xastruct.feff_batch" if cls is FeffBatchCalculation else "xastruct.feff"
    code = aiida_code_installed(default_calc_job_plugin=name, filepath_executable="/bin/true")
    sites = {"sites": orm.List([0])} if cls is FeffBatchCalculation else {"site": orm.Int(0)}
    hashes = []
    for version in (cls.CACHE_VERSION, cls.CACHE_VERSION, cls.CACHE_VERSION + 1):
        monkeypatch.setattr(cls, "CACHE_VERSION", version)
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}
        inputs = {"code": code, "structure": rock_salt.store(), "metadata": {"options": options}, **sites}
        hashes.append(instantiate_process(get_manager().get_runner(), cls, **inputs).node.base.caching.compute_hash())
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"site": None}, "`site` is missing"),
        ({"site": 8}, "sites 0 to 7"),
        ({"site": -1}, "sites 0 to 7"),
        ({"structure": None}, "either `structure` and `site`"),
        ({"parameters": {"fms_radus": 3}}, "did you mean 'fms_radius'"),
        ({"parameters": {"kind": "XANES", "engine": "feff8l"}}, "use engine 'feff10'"),
        ({"parameters": {"cards": {"TDLDA": [1]}}}, "TDLDA"),
        ({"feff_input": "deck"}, "either `structure` and `site`"),
    ],
)
def test_bad_inputs_are_refused(prepare, rock_salt, change, words):
    inputs = {"structure": rock_salt, "site": 0, "parameters": {}} | change
    if inputs.get("feff_input"):
        inputs["feff_input"] = orm.SinglefileData.from_string("EXAFS\n", filename="feff.inp")
    with pytest.raises(ValueError, match=words):
        prepare(**{name: value for name, value in inputs.items() if value is not None})


def test_hydrogen_and_missing_edges_are_refused(prepare):
    water = orm.StructureData(pymatgen=Structure(Lattice.cubic(3.5), ["H", "H", "O"], [[0.27, 0, 0], [0, 0.27, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="H cannot be the absorber"):
        prepare(structure=water, site=0)
    with pytest.raises(ValueError, match="edge"):
        prepare(structure=water, site=2, parameters={"edge": "L9"})


def test_own_deck_with_two_absorbers_is_refused(prepare):
    # FEFF10 computes one of them, with exit status 0.
    deck = "EXAFS\nPOTENTIALS\n0 29 Cu\n1 29 Cu\nATOMS\n0 0 0 0 Cu\n1.8 1.8 0 0 Cu * second\n0 1.8 1.8 1 Cu\n"
    with pytest.raises(ValueError, match="2 atoms of the deck have potential 0"):
        prepare(feff_input=orm.SinglefileData.from_string(deck, filename="feff.inp"))
    assert prepare(feff_input=orm.SinglefileData.from_string(deck.replace("1.8 1.8 0 0", "1.8 1.8 0 1"), filename="feff.inp"))


def test_disordered_site_is_refused(prepare, aiida_profile_clean):
    alloy = orm.StructureData(pymatgen=Structure(Lattice.cubic(3.0), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))
    with pytest.raises(ValueError, match="disordered"):
        prepare(structure=alloy, site=0)


def test_a_lost_remote_folder_is_made_up_for(aiida_profile_clean, aiida_code_installed, rock_salt):
    # What a daemon worker leaves that is killed after the upload and before it stores the output.
    code = aiida_code_installed(default_calc_job_plugin="xastruct.feff", filepath_executable="/bin/true")
    process = instantiate_process(get_manager().get_runner(), FeffCalculation, code=code, structure=rock_salt, site=0)
    process.node.set_remote_workdir("/scratch/of/the/job")
    assert "remote_folder" not in process.outputs
    process.parse()
    process.update_outputs()
    folder = process.node.outputs.remote_folder
    assert (folder.get_remote_path(), folder.computer.uuid) == ("/scratch/of/the/job", code.computer.uuid)
    again = instantiate_process(get_manager().get_runner(), FeffCalculation, code=code, structure=rock_salt, site=0)
    assert again.parse().status == FeffCalculation.exit_codes.ERROR_NO_RETRIEVED_FOLDER.status
    assert "remote_folder" not in again.outputs


def test_exit_codes_follow_the_house_rule():
    codes = {name: code.status for name, code in FeffCalculation.exit_codes.items() if code.status >= 300}
    assert all(300 <= status < 400 for name, status in codes.items() if name.startswith("ERROR"))
    assert all(400 <= status < 500 for name, status in codes.items() if name.startswith("WARNING"))
    assert len(set(codes.values())) == len(codes)
