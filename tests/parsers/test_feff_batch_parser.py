"""The parser of batches on recorded output, and on what a job leaves that is stopped."""

from __future__ import annotations

import json
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.plugins import ParserFactory
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.feff.batch import ARCHIVE_FILE, REPORT_FILE, Ran

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"


@pytest.fixture
def batch(aiida_profile_clean, aiida_localhost, tmp_path):
    """Function (recorded folder or None by site, exit status) -> outputs and the parser's node. None: the batch never came to this site."""

    def make(sites: dict[int, str | None], status: int | None = None, report: bool = True):
        crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.212), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        node = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:xastruct.feff_batch")
        inputs = {
            "structure": orm.StructureData(pymatgen=crystal),
            "sites": orm.List(list(sites)),
            "parameters": orm.Dict({"kind": "EXAFS"}),
        }
        for name, value in inputs.items():
            node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=name)
        node.set_option("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
        node.base.repository.put_object_from_bytes(b"{}", "refused.json")
        node.store()
        if status is not None:
            node.set_exit_status(status)
        with tarfile.open(tmp_path / ARCHIVE_FILE, "w") as tar:
            for site, folder in sites.items():
                for path in sorted((RECORDED / folder).iterdir()) if folder else ():
                    tar.add(path, f"site_{site}/{path.name}")
        retrieved = orm.FolderData()
        if report:
            retrieved.base.repository.put_object_from_file(str(tmp_path / ARCHIVE_FILE), ARCHIVE_FILE)
            ended = {f"site_{site}": asdict(Ran(0, 1.0, 1.0)) for site, folder in sites.items() if folder}
            retrieved.base.repository.put_object_from_bytes(json.dumps({"sites": ended}).encode(), REPORT_FILE)
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="retrieved")
        retrieved.store()
        return ParserFactory("xastruct.feff_batch").parse_from_node(node, store_provenance=False)

    return make


def labels(outputs) -> dict[int, str]:
    return {row["site"]: row["label"] for row in outputs["statuses"]["sites"]}


def test_a_site_is_judged_as_a_job_of_its_own_is(batch, finished):
    outputs, function = batch({0: "exafs", 1: "potentials-failed", 2: "killed"})
    alone, _ = ParserFactory("xastruct.feff").parse_from_node(finished("exafs", kind="EXAFS"), store_provenance=False)
    assert labels(outputs) == {0: "", 1: "ERROR_POTENTIALS_FAILED", 2: "ERROR_KILLED"}
    assert outputs["spectra"]["site_0"].base.attributes.all == alone["spectrum"].base.attributes.all
    assert outputs["statuses"]["sites"][0]["facts"] == alone["output_parameters"].get_dict()
    # One of them was stopped, so that a new run may give more: not to be taken from a cache.
    assert (function.exit_status, function.exit_message.split(",")[0]) == (411, "2 sites have no spectrum or no settled one")


def test_all_failed(batch):
    outputs, function = batch({0: "potentials-failed", 4: "input-refused-feff8l"})
    assert function.exit_status == 301
    assert "INCREASE NOVP" in function.exit_message
    assert set(outputs) == {"statuses"}


@pytest.mark.parametrize(
    ("status", "label", "words"), [(120, "ERROR_OUT_OF_WALLTIME", "scheduler stopped"), (None, "ERROR_KILLED", "before this site did")]
)
def test_what_a_stopped_job_did_not_come_to(batch, status, label, words):
    outputs, function = batch({0: "exafs", 1: None}, status)
    assert labels(outputs) == {0: "", 1: label}
    assert function.exit_status == 411
    assert words in function.exit_message
    outputs, function = batch({0: None, 1: None}, status)
    assert labels(outputs) == {0: label, 1: label}
    assert function.exit_status == 302


def test_a_code_that_runs_no_batches(batch):
    outputs, function = batch({0: None}, report=False)
    assert labels(outputs) == {0: "ERROR_NO_OUTPUT"}
    assert function.exit_status == 302
    assert "only xastruct-feff" in function.exit_message


def test_an_implausible_spectrum_is_not_handed_on(batch):
    # Site 4 is oxygen, and this is magnesium's spectrum.
    outputs, function = batch({0: "exafs", 4: "exafs"})
    assert labels(outputs) == {0: "", 4: "ERROR_IMPLAUSIBLE"}
    assert set(outputs["spectra"]) == {"site_0"}
    assert function.exit_status == 410
