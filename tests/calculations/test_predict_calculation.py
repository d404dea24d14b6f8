"""PredictCalculation, really run on this machine, beside the calcfunction; and what its parser refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.functions.predict_batch import predict_batch, structures_node
from aiida_xastruct.calculations.predict import PredictCalculation
from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.parsers.predict import PredictParser

ROCK_SALT = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]]


def rock_salt(length: float, first: str, second: str) -> Structure:
    return Structure(Lattice.cubic(length), [first] * 4 + [second] * 4, ROCK_SALT)


@pytest.fixture
def builder(aiida_profile_clean: Any) -> Any:
    """A job on two crystals and a sentence, with the family that ships."""
    from aiida_xastruct.groups.family import load_default_family
    from aiida_xastruct.tools.codes import bundled_xastruct_code

    made = PredictCalculation.get_builder()
    made.code = bundled_xastruct_code()
    made.structures = structures_node({"NiO": rock_salt(4.177, "Ni", "O"), "LiF": rock_salt(4.026, "Li", "F"), "lost": "not there."})
    made.kind, made.model = "EXAFS", load_default_family().get_model("forward", "EXAFS")
    return made


def test_a_job_gives_what_the_calcfunction_gives(builder: Any) -> None:
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, (node.exit_message, node.outputs.retrieved.base.repository.get_object_content("xastruct.stderr"))
    local = predict_batch(structures=node.inputs.structures, absorber="", kind="EXAFS", model=node.inputs.model)
    found, expected = (table.read().to_pylist() for table in (outputs["table"], local["table"]))
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        assert {key: value for key, value in one.items() if not isinstance(value, float)} == {
            key: value for key, value in other.items() if not isinstance(value, float)
        }
        for key in ("uncertainty", "threshold", "domain_score", "e0"):
            assert one[key] == (None if other[key] is None else pytest.approx(other[key], rel=1e-3))
    for name in ("grid", "mu", "half_band"):
        np.testing.assert_allclose(outputs["spectra"].get_array(name), local["spectra"].get_array(name), atol=2e-4)
    assert outputs["table"].base.attributes.all == local["table"].base.attributes.all
    # Model and arrays are nodes; the job keeps no copy of them.
    assert [name for name in node.base.repository.list_object_names() if name == "family"] == []
    assert sorted(node.outputs.retrieved.base.repository.list_object_names()) == [
        "_scheduler-stderr.txt", "_scheduler-stdout.txt", "batch.json", "xastruct.log", "xastruct.stderr",
    ]  # fmt: skip


def test_another_version_is_refused(builder: Any) -> None:
    builder.algorithm_version = "0"
    _, node = run_get_node(builder)
    assert node.exit_status == 303
    assert f"ran version {ALGORITHM_VERSION['forward']} of the algorithm, and 0 was asked for" in node.exit_message


def test_a_file_that_is_none_is_refused_in_a_sentence(builder: Any) -> None:
    builder.structures = orm.SinglefileData.from_string("nothing", filename="structures.jsonl.gz")
    _, node = run_get_node(builder)
    assert node.exit_status == 301
    assert "structures_node" in node.exit_message


def test_bad_inputs_are_refused(builder: Any) -> None:
    with pytest.raises(ValueError, match="use one of XANES, EXAFS"):
        builder.kind = "XES"
    from aiida_xastruct.groups.family import load_default_family

    with pytest.raises(ValueError, match="give a forward model"):
        builder.model = load_default_family().get_model("distance", "EXAFS")


def finished(folder: Path, retrieved: dict[str, str]) -> orm.CalcJobNode:
    """A finished job with these retrieved files."""
    node = orm.CalcJobNode(process_type="aiida.calculations:xastruct.predict")
    node.base.links.add_incoming(orm.Str("3").store(), link_type=LinkType.INPUT_CALC, link_label="algorithm_version")
    node.store()
    files = orm.FolderData()
    for name, text in retrieved.items():
        files.base.repository.put_object_from_bytes(text.encode(), name)
    files.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="retrieved")
    files.store()
    return node


FACTS = json.dumps({"algorithm_version": "3", "kind": "EXAFS", "rows": 1, "spectra": 1})


@pytest.mark.parametrize(
    ("retrieved", "status", "words"),
    [
        ({}, 302, "it says nothing"),
        ({"xastruct.stderr": "Traceback\nMemoryError\n"}, 302, "MemoryError"),
        ({"xastruct.stderr": "a warning\nxastruct: the family is none.\n"}, 301, "the family is none."),
        ({"batch.json": "{}"}, 304, "algorithm_version"),
        ({"batch.json": FACTS}, 304, "grid.npy"),
    ],
)
def test_jobs_without_a_batch_say_why(aiida_profile_clean: Any, tmp_path: Path, retrieved: dict[str, str], status: int, words: str) -> None:
    node = finished(tmp_path, retrieved)
    _, parsed = PredictParser.parse_from_node(node, store_provenance=False, retrieved_temporary_folder=str(tmp_path))
    assert parsed.exit_status == status
    assert words in parsed.exit_message
