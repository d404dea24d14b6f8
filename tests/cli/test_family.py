from __future__ import annotations

import json

import pytest

from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.content import content_hash

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


def test_export_never_overwrites(run, tmp_path, family_folder):
    run(cli, "family", "install", family_folder, "-L", "tiny")
    result = run(cli, "family", "export", "tiny", tmp_path, status=1)
    assert "exists already" in result.output
