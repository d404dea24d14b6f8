from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiida_xastruct.cli.root import cli

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

ARCHIVE = Path(__file__).parents[2] / "examples" / "data" / "core_hole.tar.gz"


def test_install_list_show_export(run, tmp_path):
    assert "No core-hole family" in run(cli, "core-hole", "list").output
    said = json.loads(run(cli, "core-hole", "install", ARCHIVE, "--json").output)
    assert (said["label"], said["functional"], len(said["pseudos"])) == ("core_hole", "PBE", 2)
    (row,) = json.loads(run(cli, "core-hole", "list", "--json").output)
    assert (row["absorbers"], row["hole"]) == ("C Si", "1s")
    assert "C Si" in run(cli, "core-hole", "list").output
    assert "60.0" in run(cli, "core-hole", "show", "core_hole").output
    run(cli, "core-hole", "export", "core_hole", tmp_path / "out")
    run(cli, "core-hole", "install", tmp_path / "out", "-L", "again")
    assert len(json.loads(run(cli, "core-hole", "list", "--json").output)) == 2


def test_errors_are_a_sentence(run, tmp_path):
    assert "neither a folder nor a file" in run(cli, "core-hole", "install", "nowhere", status=1).output
    assert "no ground_state" in run(cli, "core-hole", "install", tmp_path, status=1).output
    assert "the core level" in run(cli, "core-hole", "install", ARCHIVE, "--core-level", "K", status=1).output
