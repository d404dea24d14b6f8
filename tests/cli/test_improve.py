"""`aiida-xastruct improve`: what makes no sense is refused; crystals become a better family."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from aiida.engine import ProcessState
from aiida.orm import WorkChainNode, load_node
from click.testing import Result
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.dataset import THERMAL_DRAWS, Dataset
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.spectrum import EXAFS_GRID
from aiida_xastruct.groups.family import ModelFamily

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

TRAINING = {"members": 1, "epochs": 1, "batch_size": 32, "learning_rate": 1e-5, "accelerator": "cpu", "devices": 1, "progress": False}


@pytest.fixture
def files(tmp_path: Path, make_dataset: Callable[..., Any]) -> Path:
    """A training set, a configuration, a folder of two crystals and one of held-out materials."""
    made = make_dataset(kinds=("EXAFS",))
    draws = np.full((len(made.tables["EXAFS"]), THERMAL_DRAWS, len(EXAFS_GRID)), np.nan, dtype=np.float32)
    Dataset(made.materials, made.engines, {"EXAFS": replace(made.tables["EXAFS"], thermal=draws)}).save(tmp_path / "set.h5")
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"training": {"epochs": 4, "learning_rate": 3e-3}}))
    for name in ("crystals", "lists"):
        (tmp_path / name).mkdir()
    (tmp_path / "lists" / "holdout_ids.txt").write_text("mp-1\n")
    (tmp_path / "lists" / "holdout_formulas.txt").write_text("CdO 225\n")
    fcc = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    for metal, length in (("Mg", 4.21), ("Cd", 4.69)):
        crystal = Structure(Lattice.cubic(length), [metal] * 4 + ["O"] * 4, np.concatenate([fcc, fcc + 0.5]))
        crystal.to(filename=str(tmp_path / "crystals" / f"{metal}O.cif"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_folder_of_crystals_makes_a_family_better(run: Callable[..., Result], files: Path) -> None:
    """With a job that trains; what is held out is not touched, and the other models of the family stay."""
    config = {"name": "tiny", "tasks": ["forward-EXAFS"], "architecture": {"width": 16, "depth": 1}, "training": TRAINING}
    make_family(Dataset.load(files / "set.h5"), FamilyConfig.from_dict(config), files / "tiny")
    run(cli, "family", "install", files / "tiny", "--label", "tiny")
    words = ["improve", files / "crystals", "--dataset", files / "set.h5", "--family", "tiny", "--kind", "EXAFS", "--sites-per-round", 5]
    words += ["--sites-per-group", 2, "--holdout", files / "lists", "--config", files / "more.yaml", "--device", "cpu", "--label", "new"]
    said = json.loads(run(cli, *words, "--cache", files / "cache.sqlite", "--json").stdout)
    (row,) = said["rounds"]
    assert (row["asked"], row["added"], row["failed"], row["better"]) == (2, 2, 0, True)
    assert (said["family"], said["first_family"], said["improved"]) == ("new/1", "tiny", True)
    node = load_node(said["pk"]["process"])
    assert [one.process_label for one in node.called].count("TrainWorkChain") == 1
    assert node.outputs.rounds.round_1.picks["left_out"] == {"held out": 2}
    (model,) = ModelFamily.collection.get(label="new/1").nodes
    assert (model.pk, model.creator.process_label) == (said["pk"]["model"], "TrainCalculation")
    shown = json.loads(run(cli, "family", "show", "new/1", "--json").stdout)
    assert (shown["manifest"]["version"], [one["model"] for one in shown["models"]]) == ("1", ["forward-EXAFS"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give sources of crystals, or --resume"),
        (["{files}/crystals"], "give --dataset"),
        (["{files}/crystals", "--dataset", "{files}/set.h5"], "the dataset has no XANES spectra"),
        (["nowhere", "--dataset", "{files}/set.h5"], "nowhere is neither"),
        (["{files}/crystals", "--dataset", "{files}/more.yaml"], "cannot be read as a dataset"),
        (["{files}/crystals", "--dataset", "{files}/set.h5", "--holdout", "{files}/crystals"], "lacks the list of held-out materials"),
        (["--resume", "{pk}"], "ended already"),
        (["--resume", "{other}"], "is none of these runs"),
        (["--resume", "{pk}", "--margin", "0.1"], "without other options"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Callable[..., Result], files: Path, arguments: list[str], words: str) -> None:
    known = {"files": files, "pk": _ended("ImproveWorkChain"), "other": _ended("Other")}
    result = run(cli, "improve", *[text.format(**known) for text in arguments], status=1)
    assert words in result.output


def _ended(label: str) -> int:
    """Pk of a work chain that has ended."""
    node = WorkChainNode()
    node.set_process_label(label)
    node.set_process_state(ProcessState.FINISHED)
    return int(node.store().pk)
