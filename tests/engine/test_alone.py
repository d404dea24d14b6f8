"""`xastruct` in a fresh interpreter where importing AiiDA raises: train, predict, infer and evaluate, one after the other."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

SCAN = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"

ALONE = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiida", "aiida_pseudo"):
            raise ImportError(f"the engine imported {name}")

sys.meta_path.insert(0, Forbid())
from aiida_xastruct.engine.cli import main
sys.exit(main(sys.argv[1:]))
"""

CONFIG = {
    "name": "alone",
    "architecture": {"width": 16, "depth": 1},
    "training": {"members": 2, "epochs": 2, "batch_size": 32, "accelerator": "cpu", "devices": 1, "progress": False},
}


def xastruct(home: Path, *arguments: object, status: int = 0) -> str:
    """Run `xastruct` without AiiDA in an empty home; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIIDA")} | {"HOME": str(home)}
    command = [sys.executable, "-c", ALONE, *map(str, arguments)]
    result = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=300)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert not (home / ".aiida").exists()
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_dataset) -> tuple[Path, Path]:
    """A home, and the family that `xastruct train` made there."""
    home = tmp_path_factory.mktemp("home")
    make_dataset().save(home / "dataset.h5")
    (home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": "dataset.h5"}))
    said = xastruct(home, "train", "config.yaml", "-o", "family")
    assert "forward-XANES" in said
    return home, home / "family"


def test_predict(trained, crystal):
    home, family = trained
    crystal("TiO2").to(filename=str(home / "rutile.cif"))
    said = xastruct(home, "predict", "rutile.cif", "--absorber", "Ti", "--family", family, "--json", "answer.json")
    assert "FEFF should answer" in said  # titanium was not trained on
    (site,) = json.loads((home / "answer.json").read_text())["sites"]
    assert (site["absorber"], site["edge"], site["multiplicity"]) == ("Ti", "K", 2)
    assert len(site["energy_eV"]) == len(site["mu"]) == len(site["band"])


def test_infer(trained):
    home, family = trained
    xastruct(home, "infer", SCAN, "--absorber", "Fe", "--kind", "XANES", "--family", family, "--json", "answer.json")
    answer = json.loads((home / "answer.json").read_text())
    assert answer["neighbour_set"]
    assert answer["interval"][0] < answer["mean_distance"] < answer["interval"][1]


def test_evaluate(trained, crystal):
    home, family = trained
    structure = crystal("Cu")
    energy = np.linspace(8960.0, 9060.0, 201)
    mu = 0.5 + np.arctan((energy - 8990.0) / 2.0) / np.pi
    about = {"material_id": "mp-1", "site": 0, "absorber": "Cu", "edge": "K", "kind": "XANES", "engine": "FEFF of the tests"}
    with gzip.open(home / "one.spectra.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(about | {"energy_eV": energy.tolist(), "mu": mu.tolist()}) + "\n")
    lattice, fractions = structure.lattice.matrix.tolist(), structure.frac_coords.tolist()
    with gzip.open(home / "one.structures.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"material_id": "mp-1", "lattice": lattice, "species": ["Cu"] * 4, "frac": fractions}) + "\n")
    said = xastruct(home, "evaluate", family, "one.spectra.jsonl.gz", "one.structures.jsonl.gz", "--json", "metrics.json")
    assert "forward XANES Cu" in said
    assert json.loads((home / "metrics.json").read_text())["n"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "nowhere.cif"), "does not exist"),
        (("infer", "nowhere.xdi"), "nowhere.xdi"),
        (("train", "nowhere.yaml", "-o", "out"), "nowhere.yaml"),
        (("evaluate", "nowhere", "a.jsonl.gz", "b.jsonl.gz"), "nowhere"),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, message):
    said = xastruct(tmp_path, *arguments, status=1).strip() + "\n"
    assert message in said
    assert said.startswith("xastruct: ")
    assert said.count("\n") == 1
