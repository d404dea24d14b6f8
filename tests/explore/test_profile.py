"""What the pages read from the profile: tables, rankings and lineages of real, small results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Int, QueryBuilder, StructureData
from pymatgen.core import Lattice, Structure

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.explore import lineage, rankings, screenings
from aiida_xastruct.explore.keeping import keep_structure, spectrum_curve
from aiida_xastruct.explore.processes import running
from aiida_xastruct.explore.screenings import Filter
from aiida_xastruct.tools.structures import structure_chunks
from aiida_xastruct.workflows.screen import ScreenWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


@pytest.fixture
def screening() -> Any:
    """A finished screening of MgO, MgS and MgSe by their EXAFS of Mg, in two chunks."""
    salts = {
        f"salt-{name}": Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), ["Mg", name], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for name, length in (("O", 4.212), ("S", 5.2), ("Se", 5.46))
    }
    node = run_get_node(ScreenWorkChain.get_builder_from_chunks(list(structure_chunks(salts.items(), 2)), absorber="Mg", kind="EXAFS"))[1]
    assert node.is_finished_ok, node.exit_message
    return node


def test_rows_are_filtered_sorted_and_drawn(screening: Any) -> None:
    pk = screening.outputs.table.pk
    assert f"<{pk}>: EXAFS, 3 crystals, 3 rows" in screenings.offered()[pk]
    assert screenings.choices(pk).absorbers == ("Mg",)
    everything = screenings.select(pk, Filter())
    assert [row["number"] for row in everything.rows] == [0, 1, 2]
    errors = [row["uncertainty"] for row in screenings.select(pk, Filter(sort="uncertainty", descending=True)).rows]
    assert errors == sorted(errors, reverse=True)
    found = screenings.select(pk, Filter(text="mgse"))
    assert [(row["id"], found.total) for row in found.rows] == [("salt-Se", 1)]
    assert screenings.select(pk, Filter(most_error=min(errors))).total == 1
    assert screenings.select(pk, Filter(absorber="Fe")).total == 0
    assert screenings.select(pk, Filter(), page=2).rows == ()
    assert screenings.select(pk, Filter(most_rank=3)).total == 0, "nothing was ranked"
    assert list(screenings.offered()) == [pk], "its parts are not offered beside it"
    curves = screenings.curves(pk, [0, 2])
    assert [curve.spectrum.absorber for curve in curves] == ["Mg", "Mg"]
    assert np.abs(np.interp(1400.0, curves[0].spectrum.energy, curves[0].spectrum.mu) - 1.0) < 0.5
    with pytest.raises(XastructError, match="is no table of spectra"):
        screenings.select(Int(1).store().pk, Filter())


def test_a_crystal_is_the_first_beside_its_own_spectrum(screening: Any) -> None:
    pk = screening.outputs.table.pk
    assert list(rankings.offered("Mg", "EXAFS")) == [pk]
    assert rankings.offered("Mg", "XANES") == {}
    for number, name in ((0, "salt-O"), (2, "salt-Se")):
        target = screenings.curves(pk, [number])[0].spectrum
        ranked = rankings.rank(pk, target, "EXAFS", 2)
        assert (ranked[0].id, ranked[0].row, len(ranked)) == (name, number, 2)
        assert ranked[0].distance < 0.02 < ranked[1].distance
        beside = rankings.row_curve(pk, number, "beside", target)
        np.testing.assert_allclose(beside.spectrum.energy, target.energy)


def test_a_node_tells_where_it_came_from_and_where_it_went(screening: Any) -> None:
    found = lineage.lineage(screening.pk)
    assert found.title == f"ScreenWorkChain <{screening.pk}>"
    assert found.facts["state"] == "finished, exit status 0"
    assert found.figures
    assert any("batch" in line or "chunk" in line for line in found.report), found.report
    table = lineage.lineage(screening.outputs.table.pk)
    assert any(box.title == "merge_batches" for box in table.graph.boxes)
    assert f"/provenance?node={screening.outputs.table.pk}" in lineage.drawing(table.graph)
    assert any(link.pk == screening.outputs.table.pk for link in lineage.latest().links)
    model = QueryBuilder().append(ModelData, filters={"attributes.task": "forward", "attributes.kind": "EXAFS"}).first(flat=True)
    groups = {group.heading: group for group in lineage.lineage(model.pk).groups}
    assert "FEFF runs that trained it" in groups
    near, far = groups["Made from it, the next step"], groups["Everything downstream of it"]
    assert {link.pk for link in near.links} < {link.pk for link in far.links}
    assert screening.outputs.table.pk in {link.pk for link in far.links}


def test_labels_are_found_and_never_markup() -> None:
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    pk = keep_structure(crystal, "<script>alert(1)</script>")
    assert lineage.find("<script>alert(1)</script>") == pk == lineage.find(str(pk))
    found = lineage.lineage(pk)
    assert "<script>" not in lineage.drawing(found.graph)
    assert "Everything downstream of this crystal, wherever it stands" in [group.heading for group in found.groups]
    for label in ("twin", "twin"):
        StructureData(pymatgen=crystal, label=label).store()
    with pytest.raises(XastructError, match="several nodes bear"):
        lineage.find("twin")
    with pytest.raises(XastructError, match="there is no node of"):
        lineage.find("nothing of the kind")
    with pytest.raises(XastructError, match="is no spectrum"):
        spectrum_curve(pk)


def test_nothing_runs_where_nothing_was_begun() -> None:
    assert running() == []
