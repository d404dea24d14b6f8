from __future__ import annotations

import json

import numpy as np
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi

from aiida_xastruct.cli.data import data
from aiida_xastruct.data.model import ModelData
from aiida_xastruct.data.spectrum import SpectrumData

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def test_verdi_finds_the_commands(run):
    output = run(verdi, "data", "xastruct", "--help").output
    for name in ("spectrum", "dataset", "model"):
        assert name in output


def test_spectra_are_listed_by_what_they_are(run, spectrum, ml_spectrum):
    measured, learned = SpectrumData.from_engine(spectrum).store(), SpectrumData.from_engine(ml_spectrum).store()
    rows = json.loads(run(data, "spectrum", "list", "--json").output)
    assert [row["pk"] for row in rows] == [learned.pk, measured.pk]
    rows = json.loads(run(data, "spectrum", "list", "-a", "Fe", "-k", "XANES", "-m", "measured", "-e", "K", "--json").output)
    assert [row["pk"] for row in rows] == [measured.pk]
    assert len(json.loads(run(data, "spectrum", "list", "-n", "1", "--json").output)) == 1
    assert "XANES" in run(data, "spectrum", "list").output


def test_spectrum_show(run, ml_spectrum):
    node = SpectrumData.from_engine(ml_spectrum, site=2).store()
    shown = json.loads(run(data, "spectrum", "show", node.pk, "--json").output)
    assert (shown["absorber"], shown["site"], shown["points"], shown["arrays"]) == ("Cu", 2, 226, ["mu0", "spectrum"])
    assert "flat" in run(data, "spectrum", "show", node.uuid).output


def test_spectrum_export(run, tmp_path, spectrum):
    node = SpectrumData.from_engine(spectrum).store()
    target = tmp_path / "fe.xdi"
    run(data, "spectrum", "export", node.pk, "-o", target)
    np.testing.assert_allclose(np.loadtxt(target)[:, 1], spectrum.mu, rtol=1e-9)
    assert "exists already" in run(data, "spectrum", "export", node.pk, "-o", target, status=1).output
    run(data, "spectrum", "export", node.pk, "-o", target, "-f", "csv", "--overwrite")
    assert "energy,mu" in target.read_text()
    assert "no known format" in run(data, "spectrum", "export", node.pk, "-o", tmp_path / "fe.doc", status=1).output
    assert "cannot be written" in run(data, "spectrum", "export", node.pk, "-o", tmp_path / "no" / "fe.csv", status=1).output
    assert run(data, "spectrum", "export", node.pk).output.count("\n") > len(spectrum)


def test_dataset_commands(run, tmp_path, dataset_file):
    output = run(data, "dataset", "import", dataset_file, "-L", "six").output
    assert "6 EXAFS, 4 materials, 3 absorbers" in output
    (row,) = json.loads(run(data, "dataset", "list", "--json").output)
    assert row["label"] == "six"
    assert json.loads(run(data, "dataset", "show", row["pk"], "--json").output)["elements"] == ["Fe", "Cu", "U"]
    (tmp_path / "x.h5").write_text("nonsense")
    assert "cannot be read" in run(data, "dataset", "import", tmp_path / "x.h5", status=1).output


def test_model_commands(run, model_folder):
    node = ModelData.from_folder(model_folder).store()
    (row,) = json.loads(run(data, "model", "list", "--json").output)
    assert (row["pk"], row["task"]) == (node.pk, "forward")
    assert json.loads(run(data, "model", "show", node.pk, "--json").output)["metrics"] == {"r2": 0.9}


def test_wrong_node_type_is_refused(run, spectrum):
    node = SpectrumData.from_engine(spectrum).store()
    assert "Traceback" not in run(data, "model", "show", node.pk, status=2).output
