"""What FeffBatchCalculation accepts and writes; and one of many crystals, really run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import InputValidationError
from aiida.common.folders import SandboxFolder
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.feff_batch import FeffBatchCalculation, label_of
from aiida_xastruct.calculations.functions.predict_batch import structures_node


def rock_salt(length: float = 4.212) -> Structure:
    """MgO, conventional cell: sites 0 to 3 magnesium, 4 to 7 oxygen."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def prepare(aiida_profile_clean, aiida_code_installed):
    """Function (options, inputs) -> decks by sub-folder, refusals, CalcInfo."""

    def make(options: dict | None = None, **inputs):
        code = aiida_code_installed(default_calc_job_plugin="xastruct.feff_batch", filepath_executable="/bin/true")
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}} | (options or {})
        process = instantiate_process(get_manager().get_runner(), FeffBatchCalculation, code=code, metadata={"options": options}, **inputs)
        with SandboxFolder() as folder:
            info = process.prepare_for_submission(folder)
            names = [name for name in folder.get_content_list() if folder.isdir(name)]
            decks = {name: Path(folder.get_subfolder(name).get_abs_path("feff.inp")).read_text() for name in names}
            return decks, json.loads(Path(folder.get_abs_path("refused.json")).read_text()), info

    return make


def test_one_sub_folder_a_site(prepare):
    decks, refused, info = prepare(structure=orm.StructureData(pymatgen=rock_salt()), sites=[0, 4], parameters={"kind": "EXAFS"})
    assert {name: deck.splitlines()[1] for name, deck in decks.items()} == {
        "site_0": "TITLE MgO site 0 Mg K EXAFS",
        "site_4": "TITLE MgO site 4 O K EXAFS",
    }
    assert refused == {}
    # Four files of the job, however many its sites are.
    assert len(info.retrieve_list) == 4
    assert info.codes_info[0].cmdline_params == ["batch", "--cores", "1", "--total", "3420"]


def test_many_crystals_in_one_file(prepare):
    file = structures_node({"mp-1": rock_salt(), "mp-2": rock_salt(4.3), "unasked": rock_salt(4.4)})
    options = {"max_wallclock_seconds": 1000, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 8}}
    decks, _, info = prepare(options, structures=file, sites={"mp-1": [0], "mp-2": [0, 4]}, site_seconds=100)
    assert set(decks) == {"mp_1.site_0", "mp_2.site_0", "mp_2.site_4"}
    assert info.codes_info[0].cmdline_params == ["batch", "--cores", "8", "--total", "950", "--timeout", "100"]


def test_names_of_files_have_dots_which_no_key_of_a_dict_has(prepare):
    decks, _, _ = prepare(structures=structures_node({"a.cif:12": rock_salt()}), sites=[["a.cif:12", [0, 4]]])
    assert set(decks) == {"a_cif_12.site_0", "a_cif_12.site_4"}


def test_a_site_without_a_deck_leaves_the_others_alone(prepare):
    lonely = Structure(Lattice.cubic(40), ["Ar"], [[0, 0, 0]])
    decks, refused, _ = prepare(structures=structures_node({"a": rock_salt(), "b": lonely}), sites={"a": [0], "b": [0]})
    assert set(decks) == {"a.site_0"}
    assert "no other atom" in refused["b.site_0"]


def test_a_crystal_that_the_file_lacks_is_named(prepare):
    with pytest.raises(InputValidationError, match="none named 'c'"):
        prepare(structures=structures_node({"a": rock_salt()}), sites={"a": [0], "c": [0]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"structure": None}, "either `structure`"),
        ({"structures": "file"}, "either `structure`"),
        ({"sites": {"a": [0]}}, "is a List"),
        ({"sites": []}, "list of site indices"),
        ({"sites": [0, 0]}, "each index"),
        ({"sites": [-1]}, "each index|sites 0 to 7"),
        ({"sites": [True]}, "each index|sites 0 to 7"),
        ({"sites": [8]}, "sites 0 to 7"),
        ({"structure": None, "structures": "file", "sites": [0]}, "is a Dict"),
        ({"structure": None, "structures": "file", "sites": [["a", [0], 1]]}, "is a Dict"),
        ({"structure": None, "structures": "file", "sites": {"a": 0}}, "list of site indices"),
        ({"structure": None, "structures": "file", "sites": {"a-1": [0], "a_1": [0]}}, "differ in no letter or digit"),
        ({"parameters": {"k_max": 100}}, "3 to 30"),
    ],
)
def test_bad_inputs_are_refused(prepare, change, words):
    inputs = {"structure": orm.StructureData(pymatgen=rock_salt()), "sites": [0]} | change
    if inputs.get("structures"):
        inputs["structures"] = structures_node({"a": rock_salt()})
    with pytest.raises(ValueError, match=words):
        prepare(**{name: value for name, value in inputs.items() if value is not None})


def test_a_batch_runs_on_one_machine(prepare):
    with pytest.raises(ValueError, match="runs on one machine"):
        prepare(
            {"resources": {"num_machines": 2, "num_mpiprocs_per_machine": 1}}, structure=orm.StructureData(pymatgen=rock_salt()), sites=[0]
        )


@pytest.mark.parametrize(("name", "label"), [("mp-149", "mp_149"), ("0001234", "s0001234"), ("__a..b ", "a_b"), ("é", "")])
def test_names_become_labels(name, label):
    assert label_of(name) == label


def test_each_site_becomes_a_spectrum_or_a_reason(aiida_profile_clean):
    """A good site, one that FEFF 8.5L's arrays are too small for, one that has no deck."""
    from aiida_xastruct.engine.reference import read_structure
    from aiida_xastruct.tools.codes import bundled_feff_code

    crystals = {"mp-1": rock_salt(), "uh3": read_structure("amcsd", "16520"), "gas": Structure(Lattice.cubic(40), ["Ar"], [[0, 0, 0]])}
    builder = FeffBatchCalculation.get_builder()
    builder.code = bundled_feff_code()
    builder.structures = structures_node(crystals)
    builder.sites = {"mp-1": [0, 4], "uh3": [1], "gas": [0]}
    builder.parameters = {"kind": "EXAFS"}
    results, node = run_get_node(builder)
    assert (node.exit_status, node.exit_message.split(";")[0]) == (410, "FEFF gave no spectrum, or no settled one, of 2 sites")
    rows = {(row["structure"], row["site"]): row for row in results["statuses"]["sites"]}
    assert {key: (row["exit_status"], row["output"]) for key, row in rows.items()} == {
        ("mp-1", 0): (0, "collection"),
        ("mp-1", 4): (0, "collection"),
        ("uh3", 1): (308, ""),
        ("gas", 0): (303, ""),
    }
    assert "no other atom" in rows["gas", 0]["reason"]
    assert "INCREASE NOVP" in rows["uh3", 1]["reason"]
    assert rows["mp-1", 0]["facts"]["paths"] > 10
    collection = results["collection"]
    assert [(item.structure, item.site, item.multiplicity) for item in collection] == [("mp-1", 0, 4), ("mp-1", 4, 4)]
    oxygen = collection.get_spectrum("mp-1", 4)
    assert (oxygen.absorber, oxygen.kind) == ("O", "EXAFS")
    assert np.isfinite(oxygen.mu).all()
    assert collection.creator.uuid == node.uuid
    assert "spectra" not in results
    assert sorted(node.outputs.retrieved.base.repository.list_object_names()) == sorted(
        ["_scheduler-stderr.txt", "_scheduler-stdout.txt", "xastruct-feff-batch.json", "xastruct-feff-batch.tar", "xastruct-feff.log",
         "xastruct-feff.stderr"]
    )  # fmt: skip


def test_exit_codes_follow_the_house_rule():
    codes = {name: code for name, code in FeffBatchCalculation.exit_codes.items() if code.status >= 300}
    assert all((300 <= code.status < 400) == name.startswith("ERROR") for name, code in codes.items())
    assert {name for name, code in codes.items() if code.invalidates_cache} == {"ERROR_NO_SITE_ENDED", "WARNING_SITES_STOPPED"}
