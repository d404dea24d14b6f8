from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from aiida.orm import Group, Int, QueryBuilder

from aiida_xastruct.data.model import ModelData
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.engine.errors import ModelError
from aiida_xastruct.groups.family import ModelFamily, install_models

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def counts() -> tuple[int, int]:
    """Numbers of families and models in the profile."""
    return QueryBuilder().append(ModelFamily).count(), QueryBuilder().append(ModelData).count()


def test_install_and_ask(family_folder):
    family = ModelFamily.install(family_folder, "tiny")
    assert sorted(family.models) == [("distance", "EXAFS"), ("forward", "XANES"), ("neighbours", "EXAFS")]
    assert family.get_model("forward", "XANES").name == "forward-XANES"
    assert family.manifest == {"name": "tiny", "format": "test"}
    assert family.content_hash == content_hash(family_folder)
    with pytest.raises(ModelError, match="no model for forward of EXAFS"):
        family.get_model("forward", "EXAFS")


def test_second_install_adds_nothing(family_folder):
    first = ModelFamily.install(family_folder, "tiny")
    assert ModelFamily.install(family_folder, "tiny").uuid == first.uuid
    assert counts() == (1, 3)
    ModelFamily.install(family_folder, "same under another name")
    assert counts() == (2, 3)


def test_taken_label_is_refused(tmp_path, family_folder, write_family):
    ModelFamily.install(family_folder, "tiny")
    with pytest.raises(ModelError, match="choose another label"):
        ModelFamily.install(write_family(tmp_path / "other", seed=1), "tiny")
    assert counts() == (1, 3)


def test_export_gives_the_folder_back(tmp_path, family_folder):
    family = ModelFamily.install(family_folder, "tiny")
    exported = family.export(tmp_path / "out" / "family")
    assert content_hash(exported) == content_hash(family_folder)
    with pytest.raises(ModelError, match="exists already"):
        family.export(exported)


@pytest.mark.parametrize("fault", ["no manifest", "bad manifest", "no model", "damaged model", "wrong name", "odd name"])
def test_unfit_folder_leaves_nothing_behind(family_folder, fault):
    if fault == "no manifest":
        (family_folder / "family.json").unlink()
    elif fault == "bad manifest":
        (family_folder / "family.json").write_text("{")
    elif fault == "no model":
        for path in family_folder.glob("*-*"):
            shutil.rmtree(path)
    elif fault == "damaged model":
        (family_folder / "neighbours-EXAFS" / "weights.safetensors").write_bytes(b"x")
    elif fault == "wrong name":
        (family_folder / "neighbours-EXAFS").rename(family_folder / "neighbours-XANES")
    else:
        (family_folder / "neighbours-EXAFS").rename(family_folder / "best-model")
    with pytest.raises(ModelError):
        ModelFamily.install(family_folder, "tiny")
    assert counts() == (0, 0)


def test_failure_on_the_way_leaves_nothing_behind(family_folder, monkeypatch):
    """The last node cannot be stored: the group and the nodes before it go, too."""
    store = ModelData.store

    def store_but_not_neighbours(self):
        if self.task == "neighbours":
            raise RuntimeError("disk full")
        return store(self)

    monkeypatch.setattr(ModelData, "store", store_but_not_neighbours)
    with pytest.raises(RuntimeError, match="disk full"):
        ModelFamily.install(family_folder, "tiny")
    assert counts() == (0, 0)
    monkeypatch.undo()
    ModelFamily.install(family_folder, "tiny")
    assert counts() == (1, 3)


CHILD = """
import sys
from pathlib import Path
from aiida import load_profile
load_profile(sys.argv[1])
from aiida_xastruct.data.model import ModelData
from aiida_xastruct.groups.family import ModelFamily, install_models
if sys.argv[4] == "killed":
    import os, signal
    store = ModelData.store
    def kill_on_the_last(self):
        if self.task == "neighbours":
            os.kill(os.getpid(), signal.SIGKILL)
        return store(self)
    ModelData.store = kill_on_the_last
print(ModelFamily.install(Path(sys.argv[2]), sys.argv[3]).uuid)
"""


def start(profile, folder, label, how):
    command = [sys.executable, "-c", CHILD, profile.name, str(folder), label, how]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_process_killed_on_the_way_leaves_nothing_behind(aiida_profile_clean, family_folder):
    process = start(aiida_profile_clean, family_folder, "tiny", "killed")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert counts() == (0, 0)
    ModelFamily.install(family_folder, "tiny")
    assert counts() == (1, 3)


def test_two_processes_install_the_same_family_once(aiida_profile_clean, family_folder):
    processes = [start(aiida_profile_clean, family_folder, "tiny", "undisturbed") for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert QueryBuilder().append(ModelFamily).count() == 1


def test_family_takes_one_model_a_question(tmp_path, family_folder, write_model):
    family = ModelFamily.install(family_folder, "tiny")
    other = ModelData.from_folder(write_model(tmp_path / "other", "forward", "XANES", seed=9)).store()
    with pytest.raises(ModelError, match="already has a forward-XANES"):
        family.add_nodes(other)
    with pytest.raises(TypeError, match="ModelData"):
        family.add_nodes(Int(1).store())
    family.add_nodes(family.get_model("forward", "XANES"))
    assert family.count() == 3


def test_family_is_loaded_as_its_own_class(family_folder):
    family = ModelFamily.install(family_folder, "tiny")
    assert type(Group.collection.get(id=family.pk)) is ModelFamily
    assert family.type_string == "xastruct.family"


def test_a_family_of_two_trainings_has_seen_what_either_has(tmp_path, write_family):
    for name, seed, materials in (("old", 0, "a\nb\n"), ("new", 1, "b\nc\n")):
        (write_family(tmp_path / name, seed) / "materials.txt").write_text(materials)
    old, new = (ModelFamily.install(tmp_path / name, name) for name in ("old", "new"))
    models = {"forward": new.get_model("forward", "XANES"), "distance": old.get_model("distance", "EXAFS")}
    joined = install_models(models, {"name": "joined"}, "joined")
    assert {model.uuid for model in joined.nodes} == {model.uuid for model in models.values()}
    assert (joined.export(tmp_path / "out") / "materials.txt").read_text() == "a\nb\nc\n"
    assert content_hash(tmp_path / "out") == joined.content_hash
