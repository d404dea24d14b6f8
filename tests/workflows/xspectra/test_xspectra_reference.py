"""`xastruct.predict` and `xastruct.compare` with XSpectra as the reference; really run where Quantum ESPRESSO is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.launch import engine_inputs
from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.groups.core_hole import CoreHolePseudoFamily
from aiida_xastruct.tools.codes import quantum_espresso_code
from aiida_xastruct.workflows.compare import CompareWorkChain
from aiida_xastruct.workflows.predict import PredictWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

ARCHIVE = Path(__file__).parents[3] / "examples" / "data" / "core_hole.tar.gz"

#: As small as it can be: two atoms, few waves and points.
TINY = {
    "image_distance": 2.5, "kpoints_spacing": 1.3, "spectrum_spacing": 1.3, "cutoff_wfc": 24.0, "cutoff_rho": 96.0,
    "conv_thr_per_atom": 1e-7, "parameters": {"tolerance": 0.01},
}  # fmt: skip

build = PredictWorkChain.get_builder_from_protocol

needs_programs = pytest.mark.skipif(
    not (shutil.which("pw.x") and shutil.which("xspectra.x")), reason="Quantum ESPRESSO (pw.x, xspectra.x) is not installed"
)


def diamond(element="C", length=3.567):
    cell = Structure.from_spacegroup("Fd-3m", Lattice.cubic(length), [element], [[0.0, 0.0, 0.0]])
    return orm.StructureData(pymatgen=cell.get_primitive_structure())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"absorber": "C", "reference": "vasp"}, "use one of feff, xspectra"),
        ({"absorber": "C", "reference": "xspectra", "kind": "EXAFS"}, "XSpectra computes XANES"),
        ({"absorber": "C", "reference": "xspectra", "overrides": {"distance": 7.0}}, "'distance' is unknown"),
        ({"sites": [0, 9], "reference": "xspectra"}, "does not exist"),
    ],
)
def test_what_xspectra_cannot_do_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        run_get_node(build(diamond(), **inputs))


def test_l_edges_are_refused():
    gold = orm.StructureData(pymatgen=Structure(Lattice.cubic(4.078), ["Au"], [[0.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="spectra of Au are of L3"):
        run_get_node(build(gold, "Au", reference="xspectra"))


def test_engine_and_codes_of_the_command_line_fit():
    assert engine_inputs(None, None, None, None, None, needed=False) == {"reference": None, "code": None}
    with pytest.raises(XastructError, match="are for --engine xspectra"):
        engine_inputs("feff", None, None, None, "pbe", needed=False)
    with pytest.raises(XastructError, match="leave one of the two out"):
        engine_inputs("xspectra", object(), None, None, None, needed=False)
    assert engine_inputs("xspectra", None, None, None, "pbe", needed=False)["core_hole_family"] == "pbe"
    code = object()
    both = {"reference": "both", "code": code, "pw_code": code, "xspectra_code": code, "core_hole_family": None}
    assert engine_inputs("both", code, code, code, None, needed=False) == both


def test_without_codes_the_model_answers_and_is_flagged():
    outputs, node = run_get_node(build(diamond("Si", 5.431), "Si", reference="xspectra", fallback="always"))
    answer = outputs["answer"].get_dict()
    assert (node.exit_status, answer["method"], answer["reference"], answer["flagged"]) == (401, "ml", "xspectra", ["site_0"])
    assert "XSpectra is to answer but no code was given" in node.exit_message


def test_a_site_that_xspectra_lost_takes_no_other_with_it(graphite):
    """Of two sites one has a spectrum and one has none: the workflow ends with 302, and the first is answered by XSpectra."""
    builder = build(graphite, "C", reference="xspectra", fallback="always")
    process = instantiate_process(get_manager().get_runner(), builder)
    energy = np.arange(274.0, 334.0, 0.5)
    found = SpectrumData(energy, 0.5 + np.arctan(energy - 284.2) / np.pi, "C", "K", "XANES", method="xspectra", normalisation="flat")
    node = orm.WorkChainNode()
    node.set_process_state("finished")
    node.set_exit_status(302)
    node.set_exit_message("There is no spectrum of every site, so no mean: site 2: pw.x: exit status 401")
    node.store()
    found.store().base.links.add_incoming(node, LinkType.RETURN, "spectra__site_0")
    process.ctx.wanted, process.ctx.xspectra, process.ctx.spectra, process.ctx.failures = ["site_0", "site_2"], node, {}, {}
    process.inspect_reference()
    assert {name: spectrum.uuid for name, spectrum in process.ctx.spectra.items()} == {"site_0": found.uuid}
    assert list(process.ctx.failures) == ["site_2"]
    assert "site 2: pw.x" in process.ctx.failures["site_2"]


@needs_programs
@pytest.mark.slow
def test_xspectra_answers_and_the_answer_says_so():
    CoreHolePseudoFamily.install(ARCHIVE, "pbe")
    codes = {"pw_code": quantum_espresso_code("pw.x"), "xspectra_code": quantum_espresso_code("xspectra.x")}
    structure = diamond("Si", 5.431)
    outputs, node = run_get_node(build(structure, "Si", reference="xspectra", fallback="always", overrides=TINY, **codes))
    assert node.is_finished_ok, (node.exit_status, node.exit_message)
    answer = outputs["answer"].get_dict()
    assert (answer["method"], answer["reference"], answer["flagged"], answer["protocol"]) == ("xspectra", "xspectra", [], "fast")
    assert outputs["spectra"]["site_0"].method == outputs["spectrum"].method == "xspectra"
    assert outputs["model_spectra"]["site_0"].method == "ml"
    assert answer["sites"]["site_0"]["reason"]
    # Beside it what the model says, against the spectrum of XSpectra: a comparison takes both.
    spectra = {"model": outputs["model_spectra"]["site_0"], "reference": outputs["spectrum"]}
    ranked, node = run_get_node(CompareWorkChain.get_builder_for(outputs["spectrum"], spectra=spectra))
    assert node.is_finished_ok, node.exit_message
    rows = {row["name"]: row for row in ranked["ranking"]["candidates"]}
    assert (rows["reference"]["rank"], rows["reference"]["method"], rows["model"]["method"]) == (1, "xspectra", "ml")
    assert rows["reference"]["distance"] < 0.01
    lost, node = run_get_node(
        build(structure, "Si", reference="xspectra", fallback="always", core_hole_family="other", overrides=TINY, **codes)
    )
    assert (node.exit_status, lost["answer"]["flagged"], lost["answer"]["method"]) == (402, ["site_0"], "ml")
    assert "no core-hole family 'other'" in node.exit_message
