"""Citations follow the provenance: what stands behind a node is named, what does not is not."""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import Any

from aiida.orm import StructureData

from aiida_xastruct.cli.root import cli
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.engine.batch import write_table
from aiida_xastruct.engine.citation import Work, bibtex, references
from aiida_xastruct.tools.citation import papers_of, training_works


def cited(run: Any, node: Any) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in json.loads(run(cli, "cite", node.pk, "--json").output)["references"]}


def test_a_prediction_names_its_model_and_training_data(run: Any, provenance: Any) -> None:
    found = cited(run, provenance.predicted)
    model = provenance.model
    named = found[f"model-{model.content_hash[:8]}"]
    for text in (provenance.family.label, model.content_hash, model.base.attributes.get("training_data_hash"), "FEFF 8.5L"):
        assert text in named["notes"]
    assert {"aiida", "xastruct", "sevennet", "omnixas", "amcsd", "materials_project", "feff8", "feff9", "feff10"} <= set(found)
    assert "xdi" not in found


def test_a_run_of_feff_names_feff_and_no_model(run: Any, provenance: Any) -> None:
    found = cited(run, provenance.run.outputs.spectrum)
    assert "feff8" in found
    assert re.search(r"FEFF ?8.*spectra in the provenance", found["feff8"]["notes"])
    assert not [key for key in found if key.startswith("model-")]
    assert not {"sevennet", "omnixas", "feff10"} & set(found)
    # A process is cited as what it gave.
    assert set(cited(run, provenance.run)) == set(found)


def test_an_inference_names_both_models_and_the_spectrum(run: Any, provenance: Any) -> None:
    found = cited(run, provenance.answer)
    assert len([key for key in found if key.startswith("model-")]) == 2
    assert "FEFF" in found["feff8"]["notes"]


def test_a_crystal_names_its_source(run: Any, provenance: Any) -> None:
    node = StructureData(pymatgen=provenance.crystal)
    node.source = {"db_name": "AMCSD", "id": "1234"}
    assert cited(run, node.store())["amcsd"]["notes"] == "crystal 1234"
    assert "amcsd" not in cited(run, provenance.structure)
    other = StructureData(pymatgen=provenance.crystal)
    other.source = {"db_name": "OPTIMADE", "id": "1000041", "db_uri": "https://www.crystallography.net"}
    assert cited(run, other.store())["optimade"]["notes"] == "crystal 1000041 of https://www.crystallography.net"


def test_a_table_of_crystals_is_the_materials_project_s_only_by_its_ids() -> None:
    assert papers_of("npz", "mp-13") == ("materials_project",)
    assert papers_of("npz", "my-13") == papers_of("npz", "13") == papers_of("cif", "mp-13") == ()
    assert papers_of("omnixas_feff", "mp-1") == ("omnixas", "materials_project")


def test_rows_of_a_screening_name_the_source_of_their_crystals(run: Any, provenance: Any) -> None:
    """By the ids of an npz table, and by the nodes of a group; not by files that begin like an id."""
    from aiida_xastruct.data.table import TableData

    def keys(*names: str) -> dict[str, dict[str, Any]]:
        """What a table with crystals of these names rests on."""
        rows = provenance.table.read().slice(0, len(names))
        stream = BytesIO()
        write_table(rows.set_column(rows.column_names.index("id"), "id", [names]), stream)
        stream.seek(0)
        return cited(run, TableData.from_file(stream, "EXAFS").store())

    mineral = StructureData(pymatgen=provenance.crystal)
    mineral.source = {"db_name": "AMCSD", "id": "1234"}
    mineral.store()
    assert not {"materials_project", "amcsd"} & keys("mgo", "mp-13.cif:0123456789ab", provenance.twin.uuid).keys()
    assert "2 crystals" in keys("mp-13", "mp-14", "mine")["materials_project"]["notes"]
    assert "1 crystal of" in keys(mineral.uuid)["amcsd"]["notes"]


def test_a_training_set_of_ones_own_is_nobody_else_s(make_dataset: Any, aiida_profile: Any, tmp_path: Any) -> None:
    def works(*names: tuple[str, str]) -> tuple[str, ...]:
        dataset = make_dataset(n=4)
        for material, (source, source_id) in zip(dataset.materials, names, strict=True):
            material.update(source=source, source_id=source_id)
        dataset.save(tmp_path / "own.h5")
        return training_works(DatasetData.from_file(tmp_path / "own.h5").store().content_hash)

    assert works(("npz", "mine-1"), ("cif", "mp-1")) == ()
    assert works(("npz", "mp-1"), ("amcsd", "1")) == ("amcsd", "materials_project")


def test_a_measurement_names_its_files(run: Any, provenance: Any, spectrum: Any) -> None:
    from dataclasses import replace

    from aiida_xastruct.data.spectrum import SpectrumData

    settings = {"files": ["goethite_1.xdi"], "xdi": {"beamline": {"name": "P65"}, "sample": {"name": "goethite"}}}
    found = cited(run, SpectrumData.from_engine(replace(spectrum, settings=settings)).store())
    assert "beamline.name: P65" in found["measured-goethite-1-xdi"]["notes"]
    assert {"larch", "xdi"} <= set(found)


def test_bibtex_is_well_formed(run: Any, provenance: Any, tmp_path: Any) -> None:
    run(cli, "cite", provenance.predicted.pk, "-o", tmp_path / "a.bib")
    text = (tmp_path / "a.bib").read_text()
    assert text.count("{") == text.count("}")
    assert "10.1107/S1600577521008614" in text
    assert "exists already" in run(cli, "cite", provenance.predicted.pk, "-o", tmp_path / "a.bib", status=1).output
    assert r"a\_b \& c" in bibtex([Work("key", {"type": "misc", "title": "a_b & c"})])


def test_every_reference_can_be_found() -> None:
    for key, fields in references().items():
        assert {"type", "title", "year"} <= set(fields), key
        assert {"doi", "url", "volume"} & set(fields), key
