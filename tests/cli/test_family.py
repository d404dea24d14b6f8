from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import pytest
from aiida.orm import Dict

from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.groups.family import ModelFamily, models_of

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def test_install_list_show_export(run, tmp_path, family_folder):
    assert "no family" in run(cli, "family", "list").output.lower()
    assert "forward-XANES" in run(cli, "family", "install", family_folder, "-L", "tiny", "-D", "For tests.").output
    run(cli, "family", "install", family_folder, "-L", "tiny")
    (row,) = json.loads(run(cli, "family", "list", "--json").output)
    assert (row["label"], row["models"], row["description"]) == ("tiny", 3, "For tests.")
    assert "tiny" in run(cli, "family", "list").output
    shown = json.loads(run(cli, "family", "show", "tiny", "--json").output)
    assert [model["model"] for model in shown["models"]] == ["distance-EXAFS", "forward-XANES", "neighbours-EXAFS"]
    assert "r2 0.9" in run(cli, "family", "show", "tiny").output
    run(cli, "family", "export", "tiny", tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(family_folder)


def test_label_defaults_to_the_folder(run, family_folder):
    assert run(cli, "family", "install", family_folder).output.startswith("family:")


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("install", "nowhere"), "has no family.json", 1),
        (("show", "nowhere"), "no ModelFamily found", 2),
        (("export", "nowhere", "out"), "no ModelFamily found", 2),
        (("isntall",), "most similar", 2),
    ],
)
def test_errors_are_a_sentence(run, arguments, message, status):
    result = run(cli, "family", *arguments, status=status)
    assert message in result.output
    assert "Traceback" not in result.output


def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(run, tmp_path, family_folder, monkeypatch):
    run(cli, "family", "install", family_folder, "-L", "tiny")
    (tmp_path / "file").write_text("")
    assert "cannot be made" in run(cli, "family", "export", "tiny", tmp_path / "file" / "out", status=1).output

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("aiida_xastruct.groups.family._share", full)
    assert "No space left" in run(cli, "family", "export", "tiny", tmp_path / "out", status=1).output
    assert not (tmp_path / "out").exists()


def test_a_label_that_is_taken_does_not_hide_the_training(run, tmp_path, write_family, make_dataset, monkeypatch):
    """The label is tried when the training is done, hours after it was given."""
    ModelFamily.install(write_family(tmp_path / "tiny"), "tiny")
    said = {"finished": [], "device": "cpu", "processes": 1, "seconds": 1.0, "family": {"name": "other"}}
    outputs = {"report": Dict(said), "models": models_of(write_family(tmp_path / "other", 1))}
    monkeypatch.setattr("aiida_xastruct.cli.train.launch", lambda *_: (outputs, SimpleNamespace(pk=77, is_finished_ok=True)))
    make_dataset(n=40).save(tmp_path / "set.h5")
    result = run(cli, "train", tmp_path / "set.h5", "--label", "tiny", status=1)
    assert "exists already" in result.output
    assert "family install 77" in " ".join(result.output.split())


def test_export_never_overwrites(run, tmp_path, family_folder):
    run(cli, "family", "install", family_folder, "-L", "tiny")
    result = run(cli, "family", "export", "tiny", tmp_path, status=1)
    assert "exists already" in result.output
