"""What `import_scans` keeps beside the curve: quality, head and crystal, and where it all came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict, SinglefileData
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.functions.import_scans import import_scans
from aiida_xastruct.engine.sitecache import structure_hash

XMU = Path(__file__).parents[2] / "fixtures" / "feff" / "exafs" / "xmu.dat"


def test_a_document_of_the_materials_project_is_of_a_site_of_its_crystal() -> None:
    wustite = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    x = np.linspace(7110.0, 7170.0, 100)
    inner = {"x": x.tolist(), "y": (0.5 + np.arctan(x - 7125.0) / np.pi).tolist(), "structure": wustite.as_dict(), "absorbing_index": 2}
    document = {"task_id": "mp-1", "absorbing_element": "Fe", "edge": "K", "spectrum_type": "XANES", "spectrum": inner}
    node = import_scans(parameters=Dict({}), scan=SinglefileData.from_string(json.dumps(document), filename="mp-1.json"))
    assert (node.method, node.site, node.origin["neighbours"]) == ("feff", 2, ["O"])
    assert node.origin["structure_hash"] == structure_hash(wustite)
    assert node.origin["mean_distance"] == pytest.approx(2.15)
    assert "crystal" not in node.settings
    inner["absorbing_index"] = 5
    bad = SinglefileData.from_string(json.dumps(document), filename="mp-1.json")
    _, process = import_scans.run_get_node(parameters=Dict({}), scan=bad)
    assert process.exit_status == 310
    assert "Fe absorbs at site 5, where its structure has O" in process.exit_message


def test_an_output_of_feff_is_kept_as_a_computed_spectrum() -> None:
    node = import_scans(parameters=Dict({}), scan=SinglefileData(XMU))
    assert (node.absorber, node.kind, node.method, node.normalisation) == ("Mg", "EXAFS", "feff", "feff_xsedge50")
    assert "quality" not in node.settings
    assert node.creator.inputs.scan.get_content(mode="rb") == XMU.read_bytes()


def test_a_damaged_output_of_feff_ends_with_a_sentence() -> None:
    cut = XMU.read_text()[:-30]
    _, process = import_scans.run_get_node(parameters=Dict({}), scan=SinglefileData.from_string(cut, filename="xmu.dat"))
    assert process.exit_status == 310
    assert "rows with fewer" in process.exit_message or "damaged" in process.exit_message


def test_heads_of_files_can_be_asked_for() -> None:
    from aiida.orm import QueryBuilder

    from aiida_xastruct.data.spectrum import SpectrumData

    energy = np.arange(7000.0, 7400.0, 1.0)
    rows = "\n".join(f"{e:.1f} {0.5 + np.arctan(e - 7112.0) / np.pi:.6f}" for e in energy)
    head = "# XDI/1.0\n# Element.symbol: Fe\n# Element.edge: K\n# Beamline.name: a line of its own\n# ///\n# energy mu\n"
    node = import_scans(parameters=Dict({}), scan=SinglefileData.from_string(head + rows, filename="a.xdi"))
    found = QueryBuilder().append(SpectrumData, filters={"attributes.settings.xdi.beamline.name": "a line of its own"}).all(flat=True)
    assert [item.pk for item in found] == [node.pk]
