"""`xastruct.improve`: crystals in, FEFF on the sites that the model needs, and a new family where the model got better."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.engine.runners import Runner
from aiida.orm import Dict, Float, InstalledCode, QueryBuilder

from aiida_xastruct.calculations.functions.compare_models import compare_models
from aiida_xastruct.calculations.functions.extend_dataset import extend_dataset
from aiida_xastruct.calculations.functions.pick_sites import _name
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.data.spectra import SpectraData
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.dataset import COLUMNS, PARTS, THERMAL_DRAWS, Dataset, part_of
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.spectrum import EXAFS_GRID
from aiida_xastruct.groups.family import ModelFamily
from aiida_xastruct.tools.structures import structure_chunks
from aiida_xastruct.workflows.improve import ImproveWorkChain
from aiida_xastruct.workflows.improvement import install_next, numbered, training_config

from .conftest import cubic

build = ImproveWorkChain.get_builder_from_chunks
DRIVER = Path(__file__).with_name("improve_driver.py")

#: Rock salts, lengths in angstrom; in split 0 of *train*, but for the last two.
CRYSTALS = {
    "MgO": cubic(4.21, ("Mg", "O"), 0.5), "NiO": cubic(4.18, ("Ni", "O"), 0.5), "CdO": cubic(4.69, ("Cd", "O"), 0.5),
    "MgS": cubic(5.20, ("Mg", "S"), 0.5), "SrO": cubic(5.16, ("Sr", "O"), 0.5), "CoO": cubic(4.26, ("Co", "O"), 0.5),
}  # fmt: skip
HELD, SELECT, REPORT = "NiO", "SrO", "CoO"

#: Held out by its name, which is its source's id.
HOLDOUT = {"ids": [HELD], "twins": []}


def test_the_crystals_are_of_the_parts_that_this_file_says() -> None:
    parts = {name: part_of(f"{name}|AB-225", 0) for name in CRYSTALS}
    assert parts == {name: {SELECT: "select", REPORT: "report"}.get(name, "train") for name in CRYSTALS}


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Any]) -> tuple[Path, Path]:
    """A training set and a family of it that has hardly been trained."""
    folder = tmp_path_factory.mktemp("beginning")
    made = make_dataset(kinds=("EXAFS",), n=260)
    draws = np.full((260, THERMAL_DRAWS, len(EXAFS_GRID)), np.nan, dtype=np.float32)
    dataset = Dataset(made.materials, made.engines, {"EXAFS": replace(made.tables["EXAFS"], thermal=draws)})
    dataset.save(folder / "set.h5")
    training = {"members": 1, "epochs": 1, "batch_size": 32, "learning_rate": 1e-5, "accelerator": "cpu", "devices": 1, "progress": False}
    config = {"name": "tiny", "tasks": ["forward-EXAFS"], "architecture": {"width": 16, "depth": 1}, "training": training}
    make_family(dataset, FamilyConfig.from_dict(config), folder / "tiny")
    return folder / "set.h5", folder / "tiny"


@pytest.fixture
def start(aiida_profile_clean: Any, beginning: tuple[Path, Path], feff: Any, tmp_path: Path) -> Callable[..., Any]:
    """Function (inputs) -> outputs and node of a run on all crystals, in two chunks, one of them with a sentence."""
    file, folder = beginning
    ModelFamily.install(folder, "tiny")
    dataset = DatasetData.from_file(file).store()
    chunks = list(structure_chunks([*CRYSTALS.items(), ("lost", "it cannot be read.")], 4))

    def run(**inputs: Any) -> Any:
        usual = {"dataset": dataset, "family": "tiny", "kind": "EXAFS", "code": feff, "holdout": HOLDOUT, "sites_per_round": 2}
        return run_get_node(build(chunks, **usual | {"cache": str(tmp_path / "cache.sqlite")} | inputs))

    return run


@pytest.mark.slow
def test_rounds_end_with_a_better_model_and_every_link(start: Callable[..., Any]) -> None:
    better = {"config": {"training": {"epochs": 8, "learning_rate": 3e-3}}}
    outputs, node = start(rounds=2, training=better)
    assert node.is_finished_ok, node.exit_message
    summary, rounds = outputs["summary"].get_dict(), outputs["rounds"]
    first, second = (rounds[f"round_{number}"] for number in (1, 2))

    # Chosen: only what may be learned from, no two of one group, and in no round what an earlier one has added.
    chosen = [(row["id"], row["absorber"]) for one in (first, second) for row in one["picks"]["sites"]]
    assert len(set(chosen)) == 4
    assert {name for name, _ in chosen} <= set(CRYSTALS) - {HELD, SELECT, REPORT}
    for one in (first, second):
        assert len({row["id"] for row in one["picks"]["sites"]}) == 2
    assert first["picks"]["left_out"] == {"held out": 2, "of the part select": 2, "of the part report": 2}
    assert second["picks"]["left_out"]["of an absorber, formula and prototype of the dataset"] == 2

    # The dataset grew by FEFF's spectra, in train alone.
    sets = [node.inputs.dataset.load(), *(one["dataset"].load() for one in (first, second))]
    tables = [one.tables["EXAFS"] for one in sets]
    assert np.diff([len(table) for table in tables]).tolist() == [2, 2]
    masks = [one.parts("EXAFS") for one in sets]
    for name in PARTS[1:]:
        for column in COLUMNS:
            before, after = (getattr(table, column)[mask[name]] for table, mask in ((tables[0], masks[0]), (tables[2], masks[2])))
            np.testing.assert_array_equal(before, after)
    added = {
        (sets[2].materials[row]["source_id"], int(site)) for row, site in zip(tables[2].material[-4:], tables[2].site[-4:], strict=True)
    }
    assert added == {(row["id"], row["site"]) for one in (first, second) for row in one["picks"]["sites"]}
    assert sets[2].engines[tables[2].engine[-1]].startswith("FEFF 8.5L")

    # The model that was hardly trained gives way, and what stands is what the verdicts say.
    rows = summary["rounds"]
    assert rows[0]["better"]
    assert (rows[0]["family"], summary["improved"], summary["first_family"]) == ("tiny/2", True, "tiny")
    for row in rows:
        assert row["better"] is (row["decrease"] > row["margin"])
        assert row["decrease"] == pytest.approx(1.0 - row["new_error"] / row["old_error"])
        assert (row["family"] is not None) is row["better"]
        assert (row["asked"], row["added"], row["failed"], row["part"]) == (2, 2, 0, "select")
    stands = second if rows[1]["better"] else first
    assert outputs["model"].uuid == stands["model"].uuid
    (model,) = ModelFamily.collection.get(label=summary["family"]).nodes
    assert model.uuid == outputs["model"].uuid
    assert [one.name for one in ModelFamily.collection.get(label="tiny").nodes] == ["forward-EXAFS"]
    assert summary["defaults"] == {"sites_per_group": 1, "margin": 0.0, "protocol": "fast", "max_concurrent": 2}

    # Provenance: a model leads back through its dataset to FEFF's job and the choice, and through these to the model before.
    grown = outputs["model"].creator.inputs.dataset
    jobs = [
        link.node.creator
        for link in grown.creator.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all()
        if "collection" in link.link_label
    ]
    assert {job.process_label for job in jobs} == {"FeffBatchCalculation"}
    assert first["picks"].creator.inputs.model.uuid == ModelFamily.collection.get(label="tiny").nodes[0].uuid
    assert first["picks"].creator.inputs.table_chunk_00000.creator.process_label == "predict_batch"
    for output in ("dataset", "model", "summary"):
        assert type(outputs[output].creator).__name__ == "CalcFunctionNode"

    # What FEFF warns of is added, what it has no spectrum of is skipped; both are said.
    extension = first["dataset"].creator
    inputs = {link.link_label: link.node for link in extension.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all()}
    statuses, collection = (next(name for name in inputs if name.startswith(word)) for word in ("statuses", "collection"))
    kept, lost = first["picks"]["sites"]
    words = {"label": "ERROR_KILLED", "reason": "it was killed."}
    inputs[statuses] = Dict({"sites": [row | words for row in inputs[statuses]["sites"]]})
    inputs[collection] = SpectraData.from_engine([item for item in inputs[collection] if item.structure == kept["name"]])
    growth = extend_dataset(**inputs)["growth"].get_dict()
    assert (growth["asked"], growth["added"]) == (2, 1)
    assert [(row["id"], row["reason"]) for row in growth["warned"]] == [(kept["id"], "it was killed.")]
    assert [(row["id"], row["reason"]) for row in growth["failed"]] == [(lost["id"], "it was killed.")]
    del inputs[collection]
    _, none = extend_dataset.run_get_node(**inputs)
    assert none.exit_status == 311
    assert "FEFF gave no spectrum of 2 sites" in none.exit_message


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_model_that_is_no_better_does_not_stand(start: Callable[..., Any], feff: Any) -> None:
    outputs, node = start(absorber="Mg", sites_per_round=3, margin=0.99, rounds=2)
    # MgO and MgS have one magnesium each: the second round has none left.
    assert node.exit_status == ImproveWorkChain.exit_codes.WARNING_ENDED_EARLY.status
    assert "1 of 2 rounds were done: no site of these crystals can be added" in node.exit_message
    summary = outputs["summary"].get_dict()
    (row,) = summary["rounds"]
    assert (row["better"], row["family"], row["margin"], row["asked"], row["added"]) == (False, None, 0.99, 2, 2)
    assert (summary["family"], summary["improved"]) == ("tiny", False)
    assert outputs["model"].uuid == ModelFamily.collection.get(label="tiny").nodes[0].uuid
    assert QueryBuilder().append(ModelFamily).count() == 1
    assert len(outputs["dataset"].load().tables["EXAFS"]) == 262
    # The margin decides, not the error alone.
    again = compare_models(outputs["model"], outputs["rounds"]["round_1"]["model"], outputs["dataset"], Float(-0.9))["verdict"]
    assert (again["better"], again["decrease"]) == (True, row["decrease"])

    broken = InstalledCode(computer=feff.computer, filepath_executable="/bin/false", label="broken").store()
    _, node = start(absorber="Mg", code=broken)
    assert node.exit_status == ImproveWorkChain.exit_codes.ERROR_NO_SPECTRA.status
    assert "FEFF gave no spectrum of 2 sites" in node.exit_message


def test_what_cannot_be_done_is_refused(start: Callable[..., Any], beginning: tuple[Path, Path]) -> None:
    for inputs, words in (
        ({"rounds": 0}, "rounds is 0"),
        ({"sites_per_round": 0}, "sites_per_round is 0"),
        ({"margin": 1.0}, "margin is 1"),
        ({"protocol": "slow"}, "use one of fast"),
        ({"kind": "XANES"}, "no XANES spectra"),
        ({"feff": {"radius": 1}}, "feff holds 'radius'"),
        ({"feff": {"parameters": {"k_max": 1000}}}, "k_max is 1000"),
        ({"feff": {"parameters": {"kind": "XANES"}}}, "ask for XANES, and EXAFS is wanted"),
        ({"feff": {"sites_per_job": "2"}}, "sites_per_job is '2'"),
        ({"feff": {"options": {"walltime": 1}}}, "feff.options: Unexpected ports"),
        ({"training": {"device": "tpu"}}, "device of training is 'tpu'"),
        ({"training": {"options": {"max_wallclock_seconds": "1 h"}}}, "training.options: value 'max_wallclock_seconds'"),
        ({"predict_options": {"walltime": 1}}, "predict_options: Unexpected ports"),
        ({"absorber": "mg"}, "give 'Mg'"),
        ({"label": ""}, "label is empty"),
        ({"training": {"epochs": 2}}, "training holds 'epochs'"),
        ({"holdout": {"names": []}}, "holdout is no mapping"),
    ):
        with pytest.raises(ValueError, match=words):
            start(**inputs)
    for inputs, status, words in (
        ({"family": "nobody"}, 301, "there is no model family 'nobody'"),
        ({"training": {"config": {"tasks": ["forward-XANES"]}}}, 302, "training changes 'tasks'"),
        ({"training": {"config": {"training": {"epochs": 0}}}}, 302, "training.epochs is 0"),
        ({"training": {"config": {"training": 5}}}, 302, "training must be a mapping"),
        ({"training": {"config": 5}}, 302, "the config of training is 5"),
        ({"absorber": "Co"}, 304, "1 of the part report"),
    ):
        _, node = start(**inputs)
        assert node.exit_status == status, node.exit_message
        assert words in node.exit_message


def test_a_worker_of_the_daemon_is_not_left_to_find_out_that_it_must_not_train(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "is_daemon_runner", True)
    _, node = start()
    assert node.exit_status == 302
    assert "give train_code" in node.exit_message
    assert not node.called


@pytest.mark.slow
def test_spectra_outlive_a_training_that_fails(start: Callable[..., Any]) -> None:
    outputs, node = start(absorber="Mg", training={"config": {"training": {"learning_rate": 1e30}}})
    assert node.exit_status == ImproveWorkChain.exit_codes.ERROR_TRAINING_FAILED.status
    assert f"kept, in the dataset <{outputs['dataset'].pk}>" in node.exit_message
    assert len(outputs["dataset"].load().tables["EXAFS"]) == 262


def test_a_model_is_trained_as_its_card_says(beginning: tuple[Path, Path]) -> None:
    card = json.loads((beginning[1] / "forward-EXAFS" / "card.json").read_text())
    config = training_config(card, {"training": {"epochs": 9}})
    own = config["training_of"]["forward-EXAFS"]
    assert (own["epochs"], own["learning_rate"], own["batch_size"]) == (9, card["training"]["learning_rate"], 32)
    assert (config["tasks"], config["split_seed"], config["architecture"]) == (["forward-EXAFS"], 0, card["architecture"])
    # What another machine had is not asked of this one.
    assert not {"devices", "accelerator", "nodes"} & set(own)
    # Networks that went on learning, twice, are trained from nothing as at first.
    first = card["training"] | {"training_data_hash": "a"}
    second = {**first, "epochs": 2, "before": first}
    card["training"] = {**card["training"], "epochs": 1, "before": second}
    assert training_config(card, {"training": {"epochs": 9}}) == config


def test_crystals_of_one_id_are_told_apart_and_jobs_can_have_their_names() -> None:
    """Ids of CIF files have dots, which no key of a `Dict` may have."""
    picked: list[dict[str, Any]] = [{"id": "a/x.cif", "hash": digest} for digest in ("1", "2", "1")] + [{"id": "a x.cif", "hash": "3"}]
    named = _name(picked, [CRYSTALS[name] for name in ("MgO", "NiO", "MgO", "CdO")])
    assert [row["name"] for row in picked] == ["a_x_cif", "a_x_cif_2", "a_x_cif", "a_x_cif_3"]
    assert [row["source_id"] for row in picked] == ["a/x.cif", "a/x.cif#2", "a/x.cif", "a x.cif"]
    assert [crystal.composition.reduced_formula for crystal in named.values()] == ["MgO", "NiO", "CdO"]
    assert Dict({key: [0] for key in named}).get_dict().keys() == named.keys()


def test_the_next_version_holds_the_other_models_too(
    aiida_profile_clean: Any, write_family: Callable[..., Path], make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    make_dataset(n=40).save(tmp_path / "set.h5")
    dataset = DatasetData.from_file(tmp_path / "set.h5")
    mine, other = (ModelFamily.install(write_family(tmp_path / name, seed), name) for seed, name in enumerate(("mine", "other")))
    ModelFamily.install(write_family(tmp_path / "third", 3), "mine/2")  # somebody else's
    model = other.get_model("forward", "XANES")
    made = install_next(mine, model, dataset, *numbered(mine.label))
    assert (made.label, made.manifest["version"], made.manifest["training_data_hash"]) == ("mine/3", "3", dataset.content_hash)
    expected = {key: node.uuid for key, node in mine.models.items()} | {("forward", "XANES"): model.uuid}
    assert {key: node.uuid for key, node in made.models.items()} == expected
    assert install_next(mine, model, dataset, *numbered(mine.label)).uuid == made.uuid
    assert [numbered(label) for label in ("mine", "mine/2", "xastruct/default/0a1b2c3d", "xastruct/default/12345678")] == [
        ("mine", 1), ("mine", 2), ("xastruct/default/0a1b2c3d", 1), ("xastruct/default/12345678", 1)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(2400)  # six processes, each of which loads every library anew
def test_killed_wherever_it_ends_as_an_undisturbed_one_and_does_nothing_twice(
    tmp_path: Path, beginning: tuple[Path, Path], new_store: Any
) -> None:
    """Each process is killed by SIGKILL, and the next resumes; the other run has a profile of its own, so that no cache helps."""
    look = """
import json
from aiida.orm import CalcJobNode, QueryBuilder, WorkChainNode
node = QueryBuilder().append(WorkChainNode, filters={"attributes.process_label": "ImproveWorkChain"}).first(flat=True)
done = sorted(one.process_label for parent in (node, *node.called) for one in parent.called if one.is_finished_ok)
outputs = node.outputs
print(json.dumps([node.exit_status, done, QueryBuilder().append(CalcJobNode).count(), outputs.rounds.round_1.picks.get_dict(),
    outputs.dataset.content_hash, outputs.model.content_hash, outputs.summary.get_dict()["rounds"]]))
"""

    def python(folder: Path, code: str) -> Any:
        head = f"import sys; sys.path.insert(0, {str(DRIVER.parent)!r})\nfrom pathlib import Path\nfrom screen_driver import load\n"
        code = f"{head}load(Path({str(folder)!r}))\n{code}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def drive(folder: Path, pk: int, where: str, expected: int) -> None:
        done = subprocess.run([sys.executable, str(DRIVER), str(folder), str(pk), where], capture_output=True, text=True, timeout=900)
        assert done.returncode == expected, done.stderr[-3000:]

    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    for folder in (quiet, killed):
        folder.mkdir()
        (folder / "store.json").write_text(json.dumps(new_store()))
        shutil.copy(beginning[0], folder / "set.h5")
        shutil.copytree(beginning[1], folder / "tiny")
    drive(quiet, 0, "nowhere", 0)
    drive(killed, 0, "screening", -9)
    pk = python(
        killed,
        "from aiida.orm import QueryBuilder, WorkChainNode\nprint(min(QueryBuilder().append(WorkChainNode, project='id').all(flat=True)))",
    )
    for where in ("job", "feff", "dataset"):
        drive(killed, pk, where, -9)
    drive(killed, pk, "nowhere", 0)
    expected, found = (python(folder, look) for folder in (quiet, killed))
    own = ["pick_sites", "FeffBatchCalculation", "extend_dataset", "train_family", "compare_models", "summarise_rounds"]
    assert expected[:3] == [0, sorted(["ScreenWorkChain", "predict_batch", "merge_batches", *own]), 1]
    assert found == expected
