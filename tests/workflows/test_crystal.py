"""One contract for all references: `xastruct.feff.crystal` and `xastruct.xspectra.crystal` are asked alike and answer alike."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from pymatgen.core import Lattice, Structure

from aiida_xastruct.workflows.crystal import CrystalWorkChain
from aiida_xastruct.workflows.feff.crystal import FeffCrystalWorkChain
from aiida_xastruct.workflows.predict import PredictWorkChain
from aiida_xastruct.workflows.xspectra.crystal import XspectraCrystalWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

REFERENCES = {"feff": (FeffCrystalWorkChain, 1), "xspectra": (XspectraCrystalWorkChain, 2)}

#: What is asked of any of them, by keyword.
QUESTION = {"absorber": "Mg", "kind": "XANES", "edge": "K", "protocol": "balanced", "overrides": {"max_iterations": 3}}


@pytest.fixture
def code(aiida_code_installed):
    """A program that does nothing: what is refused before a job needs none."""
    return aiida_code_installed(filepath_executable="/bin/true", label="nothing")


@pytest.fixture
def magnesia() -> orm.StructureData:
    """MgO with one oxygen exchanged for sulphur: two kinds of magnesium."""
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.4), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystal.replace(4, "S")
    return orm.StructureData(pymatgen=crystal)


def ask(reference: str, code: Any, structure: orm.StructureData, **inputs: Any) -> Any:
    chain, codes = REFERENCES[reference]
    return chain.get_builder_from_protocol(*[code] * codes, structure, **inputs)


@pytest.mark.parametrize("reference", REFERENCES)
def test_ports_and_exit_codes_agree(reference):
    spec, common = REFERENCES[reference][0].spec(), CrystalWorkChain.spec()
    for name, port in common.inputs.items():
        if name != "metadata":
            own = spec.inputs[name]
            assert (own.valid_type, own.required, own.has_default()) == (port.valid_type, port.required, port.has_default()), name
    for name, port in common.outputs.items():
        assert (type(spec.outputs[name]), spec.outputs[name].valid_type) == (type(port), port.valid_type), name
    # The same number never means two things; what only one program can say has a number of its own.
    meanings: dict[int, set[str]] = {}
    for chain, _ in REFERENCES.values():
        for label, exit_code in chain.spec().exit_codes.items():
            meanings.setdefault(exit_code.status, set()).add(label)
    assert {status: labels for status, labels in meanings.items() if len(labels) > 1} == {}
    assert {301, 302, 303, 304, 410} <= {exit_code.status for exit_code in spec.exit_codes.values()}


@pytest.mark.parametrize("reference", REFERENCES)
def test_one_question_fills_any_builder(reference, code, magnesia):
    builder = ask(reference, code, magnesia, **QUESTION)
    assert {name: builder[name].value for name in ("absorber", "kind", "edge", "protocol")} == {
        name: QUESTION[name] for name in ("absorber", "kind", "edge", "protocol")
    }
    assert builder.overrides.get_dict() == QUESTION["overrides"]
    order = [name for name in inspect.signature(REFERENCES[reference][0].get_builder_from_protocol).parameters if name in QUESTION]
    assert order == ["absorber", "kind", "protocol", "overrides", "edge"]


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "give either absorber"),
        ({"absorber": "Mg", "sites": [0]}, "give either absorber"),
        ({"sites": []}, "sites is empty"),
        ({"sites": [1.7]}, r"site 1\.7 does not exist"),
        ({"sites": [8]}, "site 8 does not exist; the structure has sites 0 to 7"),
        ({"sites": [0, 0]}, "sites names a site twice"),
        ({"sites": [0, 5]}, "the sites are of different elements"),
    ],
)
def test_what_is_no_question_is_refused_alike(reference, code, magnesia, inputs, words):
    with pytest.raises(ValueError, match=words):
        run_get_node(ask(reference, code, magnesia, **inputs))


@pytest.mark.parametrize("reference", REFERENCES)
def test_what_is_no_crystal_is_refused_alike(reference, code):
    with pytest.raises(ValueError, match="not periodic in three dimensions"):
        run_get_node(ask(reference, code, orm.StructureData(cell=np.eye(3) * 5.0, pbc=(True, True, False)), absorber="Mg"))


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("asked", [{"absorber": "Mg"}, {"sites": [0]}])
def test_what_is_disordered_is_refused_alike(reference, code, asked):
    alloy = orm.StructureData(cell=np.eye(3) * 4.2)
    alloy.append_atom(position=(0.0, 0.0, 0.0), symbols=["Mg", "Ca"], weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="the structure is disordered"):
        run_get_node(ask(reference, code, alloy, **asked))
    with pytest.raises(ValueError, match="the structure has no atoms" if "sites" in asked else "not in the structure"):
        run_get_node(PredictWorkChain.get_builder_from_protocol(orm.StructureData(cell=np.eye(3) * 4.2), **asked))
    with pytest.raises(ValueError, match="the structure is disordered"):
        run_get_node(PredictWorkChain.get_builder_from_protocol(alloy, **asked))


def test_an_edge_that_xspectra_has_not_is_no_other_edge(code):
    """FEFF computes the L3 edge of gold if no edge is named; K would be another spectrum under the same question."""
    gold = orm.StructureData(pymatgen=Structure(Lattice.cubic(4.078), ["Au"], [[0.0, 0.0, 0.0]]))
    _, node = run_get_node(ask("xspectra", code, gold, absorber="Au"))
    assert node.exit_status == 304
    assert "spectra of Au are of L3" in node.exit_message
    _, node = run_get_node(ask("xspectra", code, gold, absorber="Au", edge="K"))
    assert node.exit_status == 306


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"absorber": "Cu"}, "Cu is not in the structure"), ({"sites": [1, 2]}, "equivalent by symmetry; give one of them")],
)
def test_what_the_crystal_does_not_hold_ends_alike(reference, code, magnesia, inputs, words):
    _, node = run_get_node(ask(reference, code, magnesia, **inputs))
    assert node.exit_status == 301
    assert words in node.exit_message
