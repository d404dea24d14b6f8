"""`xastruct.screen`: every crystal has its rows, FEFF answers the neediest, a target finds its crystal, and kills change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.orm import Dict, Group, SinglefileData, StructureData

from aiida_xastruct.calculations.functions.merge_batches import merge_batches
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.tools.rows import curve, materialise
from aiida_xastruct.tools.structures import entries_of_group, entries_of_nodes, entries_of_path, structure_chunks
from aiida_xastruct.workflows.screen import ScreenWorkChain

from .conftest import CASES

build = ScreenWorkChain.get_builder_from_chunks
DRIVER = Path(__file__).with_name("screen_driver.py")


@pytest.fixture
def chunks(aiida_profile_clean: Any) -> list[SinglefileData]:
    """Oxides and others in three chunks, and one sentence."""
    names = ("NiO", "FeO", "Cu", "MgO", "LiF")
    return list(structure_chunks([*((name, CASES[name][0]) for name in names), ("lost.cif", "lost.cif cannot be read.")], 2))


def test_rows_rank_and_row_become_what_they_say(chunks: list[SinglefileData], tmp_path: Path) -> None:
    plain, node = run_get_node(build(chunks, absorber="O", kind="EXAFS", cache=str(tmp_path / "cache.sqlite")))
    assert node.is_finished_ok, node.exit_message
    rows = plain["table"].read().to_pylist()
    assert [(row["id"], row["chunk"], row["method"]) for row in rows] == [
        ("NiO", "chunk_00000", "ml"), ("FeO", "chunk_00000", "ml"), ("Cu", "chunk_00001", None), ("MgO", "chunk_00001", "ml"),
        ("LiF", "chunk_00002", None), ("lost.cif", "chunk_00002", None),
    ]  # fmt: skip
    summary = plain["summary"].get_dict()
    assert (summary["n_structures"], summary["n_spectra"], summary["n_refused"], summary["methods"]) == (6, 3, 3, {"ml": 3})
    assert set(summary["defaults"]) == {"protocol", "max_reference_runs", "max_concurrent"}
    assert sorted(plain["spectra"]) == ["chunk_00000", "chunk_00001", "chunk_00002"]
    assert len(plain["spectra"]["chunk_00000"].get_array("mu")) == 2

    # A row becomes nodes whose provenance leads to the batch and its file.
    made = materialise(plain["table"], 3)
    assert made["structure"].get_formula() == "Mg4O4"
    spectrum = made["spectrum"]
    assert (spectrum.absorber, spectrum.site, spectrum.multiplicity, spectrum.method) == ("O", rows[3]["site"], 4, "ml")
    np.testing.assert_allclose(spectrum.mu, plain["spectra"]["chunk_00001"].get_array("mu")[0])
    for found, true in zip(curve(plain["table"], 3), (spectrum.energy, spectrum.mu), strict=True):
        np.testing.assert_allclose(found, true)
    with pytest.raises(XastructError, match="row 5 has no spectrum"):
        curve(plain["table"], 5)
    assert spectrum.creator.inputs.structures.uuid == chunks[1].uuid

    # As a target it finds its own crystal; what was predicted once is not predicted again.
    ranked, again = run_get_node(build(chunks, target=spectrum, kind="EXAFS"))
    assert again.is_finished_ok, again.exit_message
    best = ranked["summary"]["best"]
    assert best[0]["id"] == "MgO"
    assert (best[0]["rank"], best[0]["row"], best[0]["shift"]) == (1, 3, 0.0)
    assert best[0]["distance"] < 1e-3 < best[1]["distance"]
    assert {row["rank"] for row in ranked["table"].read().to_pylist()} == {1, 2, 3, None}
    assert all(one.base.caching.is_created_from_cache for one in again.called if one.process_label == "predict_batch")


def test_feff_answers_the_neediest_within_its_budget(verdicts: dict[str, bool], doubted: Any, feff: Any) -> None:
    names = [name for name, verdict in verdicts.items() if verdict]
    crystal = CASES[names[0]]
    others = [(name, CASES[name][0]) for name in ("NiO", "MgO") if name != names[0]]
    chunks = list(structure_chunks([*others, (f"{names[0]}.cif", crystal[0])], 2))  # as files are named
    outputs, node = run_get_node(build(chunks, kind="EXAFS", code=feff, max_reference_runs=1))
    assert node.is_finished_ok, node.exit_message
    rows = outputs["table"].read().to_pylist()
    (answered,) = [row for row in rows if row["method"] == "feff"]
    kept = [row for row in rows if row["method"] == "ml" and row["needs_reference"]]
    batches = [batch.outputs.table for batch in node.called if batch.process_label == "predict_batch"]
    key = (answered["id"], answered["site"])
    said = [row for batch in batches for row in batch.read().to_pylist() if (row["id"], row["site"]) == key]
    need, *less = (max(row["uncertainty"] / row["threshold"], row["domain_score"]) for row in [said[0], *kept])
    assert need >= max(less, default=0.0)
    assert answered["uncertainty"] is None
    assert answered["reason"] == said[0]["reason"]
    (job,) = [one for one in node.called if one.process_label == "FeffBatchCalculation"]
    (computed,) = job.outputs.collection
    assert (computed.structure, computed.site) == (answered["id"], answered["site"])
    made = materialise(outputs["table"], rows.index(answered))
    assert made["spectrum"].method == "feff"
    assert made["spectrum"].band is None
    np.testing.assert_allclose(np.interp(answered["e0"] + 100.0, made["spectrum"].energy, made["spectrum"].mu), 1.0, atol=0.3)

    # What FEFF warns of is its answer, and not a clean one.
    (merge,) = [one for one in node.called if one.process_label == "merge_batches"]
    inputs = {link.link_label: link.node for link in merge.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all()}
    (label,) = [name for name in inputs if name.startswith("statuses_")]
    words = {"label": "WARNING_SCF_NOT_CONVERGED", "reason": "SCF ended before it settled."}
    inputs[label] = Dict({"sites": [row | words for row in inputs[label]["sites"]]})
    warned = merge_batches(**inputs)
    (answered,) = [row for row in warned["table"].read().to_pylist() if row["method"] == "feff"]
    assert answered["reason"].endswith("FEFF warns: SCF ended before it settled.")
    assert (warned["summary"]["feff_failed"], warned["summary"]["feff_warned"]) == (0, 1)


@pytest.mark.slow
def test_a_job_elsewhere_gives_the_same_rows(chunks: list[SinglefileData]) -> None:
    from aiida_xastruct.tools.codes import bundled_xastruct_code

    here, _ = run_get_node(build(chunks[:2], absorber="O", kind="EXAFS"))
    there, node = run_get_node(build(chunks[:2], absorber="O", kind="EXAFS", predict_code=bundled_xastruct_code()))
    assert node.is_finished_ok, node.exit_message
    assert [one.process_label for one in node.called].count("PredictCalculation") == 2
    for one, other in zip(here["table"].read().to_pylist(), there["table"].read().to_pylist(), strict=True):
        assert (one["id"], one["site"], one["method"], one["reason"]) == (other["id"], other["site"], other["method"], other["reason"])


def test_bad_inputs_are_refused(chunks: list[SinglefileData], spectrum: Any) -> None:
    from aiida_xastruct.data.spectrum import SpectrumData

    target = SpectrumData.from_engine(spectrum)
    short = SpectrumData.from_engine(replace(spectrum, energy=spectrum.energy[:130], mu=spectrum.mu[:130]))
    for inputs, words in (
        ({"max_reference_runs": 5}, "no code for it"),
        ({"max_concurrent": 0}, "give 1 or more"),
        ({"protocol": "slow"}, "use one of fast"),
        ({"absorber": "fe"}, "give 'Fe'"),
        ({"absorber": "Qq"}, "'Qq' is not the symbol"),
        ({"feff": {"parameter": {}}}, "feff holds 'parameter'"),
        ({"feff": {"parameters": {"kind": "EXAFS"}}}, "ask for EXAFS, and XANES is wanted"),
        ({"feff": {"sites_per_job": 0}}, "sites_per_job is 0"),
        ({"feff": {"options": {"resources": {"num_machines": 2}}}}, "on one machine, not 2"),
        ({"target": target, "absorber": "O"}, "spectrum of Fe, and O is asked for"),
        ({"target": short, "kind": "EXAFS"}, "covers 36% of the range of EXAFS"),
    ):
        with pytest.raises(ValueError, match=words):
            run_get_node(build(chunks, **inputs))
    with pytest.raises(ValueError, match="no chunks"):
        run_get_node(build([]))


def test_sources_lose_nothing(aiida_profile_clean: Any, table: Path, tmp_path: Path) -> None:
    found = dict(entries_of_path(table))
    assert found["mgo"].composition.reduced_formula == "MgO"
    assert "apart" in found["broken"]
    assert set(found) == {"mgo", "nacl", "broken"}
    assert set(dict(entries_of_path(table, "Na"))) == {"nacl"}
    CASES["Cu"][0].to(filename=str(tmp_path / "copper.cif"))
    (tmp_path / "bad.cif").write_text("no crystal")
    read = {name.partition(":")[0]: entry for name, entry in entries_of_path(tmp_path, "Cu")}
    assert isinstance(read["bad.cif"], str)
    assert read["copper.cif"].composition.reduced_formula == "Cu"

    nodes = [StructureData(pymatgen=CASES[name][0]).store() for name in ("Cu", "MgO")]
    slab = StructureData(pymatgen=CASES["Cu"][0])
    slab.set_pbc((True, True, False))
    slab.store()
    group = Group(label="crystals").store()
    group.add_nodes([*nodes, slab])
    entries = dict(entries_of_group(group))
    assert "not periodic" in entries[slab.uuid]
    assert entries[nodes[1].uuid].matches(CASES["MgO"][0])
    assert [name for name, _ in entries_of_nodes(nodes, "Mg")] == [nodes[1].uuid]
    first, again = (list(structure_chunks(entries_of_group(group), 2)) for _ in range(2))
    assert [node.base.attributes.get("n_structures") for node in first] == [2, 1]
    assert [node.uuid for node in first] == [node.uuid for node in again]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(2400)  # five processes, each of which loads every library anew
def test_killed_wherever_it_ends_with_the_rows_of_an_undisturbed_one(tmp_path: Path, new_store: Any) -> None:
    """Each process is killed by SIGKILL; the next resumes. The other screening runs in a profile of its own, so that no cache helps."""
    script = """
import sys; sys.path.insert(0, {folder!r})
from pathlib import Path
from screen_driver import load
load(Path({path!r}))
import json
from aiida.orm import QueryBuilder, WorkChainNode
(node,) = QueryBuilder().append(WorkChainNode).all(flat=True)
ended = [one for one in node.called if one.process_label == "predict_batch"]
print(json.dumps([node.exit_status, node.outputs.table.content.hex(),
    {{name: node.outputs.spectra[name].get_array("mu").tobytes().hex() for name in node.outputs.spectra}},
    [one.is_finished_ok for one in ended].count(True), [one.is_killed and one.is_sealed for one in ended].count(True),
    [one.is_finished_ok for one in node.called if one.process_label == "merge_batches"]]))
"""

    def drive(folder: Path, pk: int, where: str, expected: int) -> None:
        done = subprocess.run([sys.executable, str(DRIVER), str(folder), str(pk), where], capture_output=True, text=True, timeout=900)
        assert done.returncode == expected, done.stderr[-3000:]

    def look(folder: Path) -> Any:
        code = script.format(folder=str(DRIVER.parent), path=str(folder))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def pk_in(folder: Path) -> int:
        code = (
            f"import sys; sys.path.insert(0, {str(DRIVER.parent)!r})\nfrom pathlib import Path\nfrom screen_driver import load\n"
            f"load(Path({str(folder)!r}))\nfrom aiida.orm import QueryBuilder, WorkChainNode\n"
            "print(QueryBuilder().append(WorkChainNode, project='id').first(flat=True))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        return int(done.stdout.splitlines()[-1])

    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    for folder in (quiet, killed):
        folder.mkdir()
        (folder / "store.json").write_text(json.dumps(new_store()))
    drive(quiet, 0, "nowhere", 0)
    drive(killed, 0, "inside", -9)
    pk = pk_in(killed)
    for where in ("after", "merge"):
        drive(killed, pk, where, -9)
    drive(killed, pk, "nowhere", 0)
    status, content, spectra, finished, _, merged = look(quiet)
    assert (status, finished, merged) == (0, 4, [True])
    status, found, found_spectra, finished, closed, merged = look(killed)
    assert (status, found, found_spectra) == (0, content, spectra)
    # No chunk was done twice; the calcfunctions that died are closed: one of a chunk, one of the merge.
    assert (finished, closed, sorted(merged)) == (4, 1, [False, True])
