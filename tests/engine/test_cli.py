"""The console script `xastruct`, in this process: every mistake is one sentence and a nonzero exit, never a traceback."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import yaml

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.cli import main
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.evaluate import evaluate, feff_curve
from aiida_xastruct.engine.prepare import read_jsonl
from aiida_xastruct.engine.spectrum import XANES_GRID, Spectrum, flatten, smooth_background, tabulated_edge

CONFIG = {"architecture": {"width": 16, "depth": 1}, "training": {"members": 1, "epochs": 1, "accelerator": "cpu", "progress": False}}


def copper(crystal, folder, source="feff_mp", rows=None):
    """Two copper spectra of one crystal, as in ../shared/data."""
    structure = crystal("Cu")
    edge = tabulated_edge("Cu", "K") + 15.0
    energy = np.linspace(edge - 20.0, edge + 60.0, 161)
    mu = 0.5 + np.arctan((energy - edge) / 2.0) / np.pi
    row = {"material_id": "mp-30", "site": 0, "absorber": "Cu", "edge": "K", "kind": "XANES", "engine": "FEFF of the tests"}
    row |= {"energy_eV": energy.tolist(), "mu": mu.tolist()}
    written = {"material_id": "mp-30", "lattice": structure.lattice.matrix.tolist(), "species": ["Cu"] * 4}
    spectra, structures = folder / f"{source}.spectra.jsonl.gz", folder / f"{source}.structures.jsonl.gz"
    with gzip.open(spectra, "wt") as stream:
        stream.writelines(json.dumps({**row, **change}) + "\n" for change in (rows or [{}, {"site": 1}]))
    with gzip.open(structures, "wt") as stream:
        stream.write(json.dumps({**written, "frac": structure.frac_coords.tolist()}) + "\n")
    return spectra, structures


def scan(path, absorber="Fe"):
    """Two columns, as a beamline writes them."""
    e0 = tabulated_edge(absorber, "K")
    energy = np.arange(e0 - 100.0, e0 + 200.0, 0.5)
    mu = 0.2 + 0.5 + np.arctan((energy - e0) / 2.0) / np.pi
    np.savetxt(path, np.stack([energy, mu], axis=1), header="energy mu")
    return path


@pytest.fixture
def fails(capsys):
    """Run `xastruct` and expect one sentence on standard error that holds the words."""

    def check(arguments, *words):
        assert main([str(argument) for argument in arguments]) == 1
        said = capsys.readouterr()
        assert said.err.startswith("xastruct: ")
        assert said.err.count("\n") == 1
        assert "Traceback" not in said.err
        for word in words:
            assert word in said.err

    return check


@pytest.fixture
def cif(crystal, tmp_path):
    path = tmp_path / "copper.cif"
    crystal("Cu").to(filename=str(path))
    return path


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize("arguments", [[], ["predict"], ["no-such-command"], ["predict", "x.cif", "--kind", "XES"], ["train", "c.yaml"]])
def test_wrong_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: xastruct" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "infer", "dataset", "train", "evaluate"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: xastruct" in capsys.readouterr().out


# ---------------------------------------------------------------- predict and infer


def test_predict(tiny_family, cif, tmp_path, capsys):
    assert main(["predict", str(cif), "--family", str(tiny_family[0]), "--json", str(tmp_path / "a.json")]) == 0
    assert "XANES of Cu" in capsys.readouterr().out
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["family"] == FamilyBundle.load(tiny_family[0]).content_hash
    (site,) = answer["sites"]
    assert (site["absorber"], site["multiplicity"], site["edge"]) == ("Cu", 4, "K")
    assert len(site["energy_eV"]) == len(site["mu"]) == len(site["band"]) == 137


def test_predict_refuses(tiny_family, cif, tmp_path, fails):
    family = ["--family", tiny_family[0]]
    (tmp_path / "text.cif").write_text("not a crystal\n")
    (tmp_path / "half.cif").write_text(cif.read_text().replace("1.0\n", "0.5\n").replace(" 1\n", " 0.5\n"))
    fails(["predict", tmp_path / "nowhere.cif", *family], "does not exist")
    fails(["predict", tmp_path, *family], "does not exist")
    fails(["predict", tmp_path / "text.cif", *family], "cannot be read as a crystal structure")
    fails(["predict", tmp_path / "half.cif", *family], "disordered")
    fails(["predict", cif, "--absorber", "Fe", *family], "Fe is not in the structure")
    fails(["predict", cif, "--kind", "EXAFS", *family], "no forward-EXAFS model")
    fails(["predict", cif, "--family", tmp_path / "nowhere"], "does not hold a model family")
    fails(["predict", cif, *family, "--json", tmp_path / "no" / "folder.json"], "folder.json")


def test_infer(tiny_family, tmp_path, capsys):
    path = scan(tmp_path / "scan.dat")
    arguments = ["infer", path, "--absorber", "Fe", "--kind", "XANES", "--family", tiny_family[0], "--json", tmp_path / "a.json"]
    assert main([*map(str, arguments), "--elements-present", "Fe", "O"]) == 0
    assert "nearest neighbours" in capsys.readouterr().out
    answer = json.loads((tmp_path / "a.json").read_text())
    assert set(answer["neighbour_set"]) <= {"Fe", "O"}
    assert answer["interval"][0] < answer["mean_distance"] < answer["interval"][1]


def test_infer_refuses(tiny_family, tmp_path, fails):
    family = ["--family", tiny_family[0]]
    path = scan(tmp_path / "scan.dat")
    (tmp_path / "text.dat").write_text("nothing here\n")
    (tmp_path / "binary.dat").write_bytes(bytes(range(256)) * 10)
    fails(["infer", tmp_path / "nowhere.dat", *family], "nowhere.dat")
    fails(["infer", tmp_path / "text.dat", "--absorber", "Fe", *family], "text.dat")
    fails(["infer", tmp_path / "binary.dat", "--absorber", "Fe", *family], "binary.dat")
    fails(["infer", path, "--absorber", "Xx", *family], "Xx")
    fails(["infer", path, "--absorber", "Au", "--kind", "XANES", *family])
    fails(["infer", path, "--absorber", "Fe", "--kind", "EXAFS", *family], "EXAFS")
    fails(["infer", path, "--absorber", "Fe", "--kind", "XANES", "--elements-present", "Qq", *family], "Qq")


# ---------------------------------------------------------------- dataset and train


def test_dataset_then_train(make_dataset, crystal, tmp_path, capsys):
    spectra, _ = copper(crystal, tmp_path)
    (tmp_path / "holdout_ids.txt").write_text("mp-1\n")
    (tmp_path / "holdout_formulas.txt").write_text("NaCl 225\n")
    output = tmp_path / "set.h5"
    arguments = ["dataset", str(spectra), "--holdout", str(tmp_path), "--cache", str(tmp_path / "sites.sqlite"), "-o", str(output)]
    assert main(arguments) == 0
    assert "1 materials" in capsys.readouterr().out
    dataset = Dataset.load(output)
    assert len(dataset.tables["XANES"]) == 2
    make_dataset(n=260).save(output)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": "set.h5", "tasks": ["distance-XANES"]}))
    assert main(["train", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "family")]) == 0
    assert "distance-XANES" in capsys.readouterr().out
    assert FamilyBundle.load(tmp_path / "family").labels == ["distance-XANES"]


def test_dataset_refuses(crystal, tmp_path, fails):
    spectra, structures = copper(crystal, tmp_path)
    common = ["--cache", tmp_path / "sites.sqlite", "-o", tmp_path / "set.h5", "--holdout", tmp_path]
    fails(["dataset", spectra, *common], "nothing is trained without it")
    (tmp_path / "holdout_ids.txt").write_text("mp-1\n")
    (tmp_path / "holdout_formulas.txt").write_text("NaCl 225\n")
    fails(["dataset", *common], "no source of spectra")
    fails(["dataset", structures, *common], "no structures beside it")
    fails(["dataset", "--reference", tmp_path / "nowhere", *common], "nowhere")
    spectra.write_bytes(spectra.read_bytes()[:-50])
    fails(["dataset", spectra, *common], "gzipped JSON lines")


def test_train_refuses(make_dataset, tmp_path, fails):
    config, output = tmp_path / "c.yaml", ["-o", tmp_path / "family"]
    fails(["train", config, *output], "c.yaml")
    for content, word in [
        ("a: [1", "is not YAML"),
        ("- 1\n- 2\n", "must hold a mapping"),
        ("name: x\n", "no dataset was given"),
        ("dataset: nowhere.h5\n", "nowhere.h5"),
        ("dataset: set.h5\nepochs: 3\n", "unknown key epochs"),
        ("dataset: set.h5\ntraining: {learning_rate: 2e-3}\n", "2.0e-3"),
        ("dataset: set.h5\ntasks: [forward-EXAFS]\n", "no EXAFS spectra"),
        ("dataset: set.h5\ntraining: {accelerator: abacus, progress: false}\n", "abacus"),
    ]:
        make_dataset(n=200).save(tmp_path / "set.h5")
        config.write_text(content)
        fails(["train", config, *output], word)


# ---------------------------------------------------------------- evaluate


def test_metrics_of_a_file(tiny_family, crystal, tmp_path):
    files = copper(crystal, tmp_path)
    result = evaluate(FamilyBundle.load(tiny_family[0]), *files)
    assert result["n"] == 2
    assert result["refused"] == {}
    assert result["forward"]["XANES"]["Cu"]["n"] == result["forward"]["XANES"]["all"]["n"] == 2
    assert 0 < result["forward"]["XANES"]["Cu"]["mse"] < 1
    assert result["inverse"]["XANES"]["distance"]["n"] == 2
    assert result["inverse"]["XANES"]["distance"]["mae"] < 1.5  # copper's shell is at 2.556
    assert set(result["inverse"]["XANES"]["neighbours"]) >= {"micro_f1", "exact", "coverage90"}
    assert 0 <= result["flagged_out_of_domain"] <= 1


def test_what_cannot_be_evaluated_is_counted(tiny_family, crystal, tmp_path):
    energy = np.linspace(9000.0, 9001.0, 12).tolist()
    files = copper(crystal, tmp_path, rows=[{}, {"energy_eV": energy, "mu": energy, "site": 1}])
    result = evaluate(FamilyBundle.load(tiny_family[0]), *files)
    assert result["n"] + sum(result["refused"].values()) == 2


def test_bad_records_do_not_end_the_exam(tiny_family, crystal, tmp_path):
    energy = np.linspace(8990.0, 9050.0, 60).tolist()
    bad = [
        {"energy_eV": energy, "mu": [float("nan")] * 60},
        {"energy_eV": energy, "mu": "x"},
        {"kind": "EXAFS", "energy_eV": energy, "mu": energy, "k": []},
        {"absorber": "Fe"},
        {"edge": "L1"},
        {"material_id": "mp-31"},
        {"site": 7},
        {"site": "first"},
        {"energy_eV": None},
    ]
    result = evaluate(FamilyBundle.load(tiny_family[0]), *copper(crystal, tmp_path, rows=[{}, *bad]))
    assert result["n"] == 1
    reasons = " ".join(result["refused"])
    assert sum(result["refused"].values()) == len(bad)
    for words in ("NaN", "no number", "not at the site", "not the edge that people measure", "mp-31", "site 7", "site first"):
        assert words in reasons


def test_lines_that_are_no_records_do_not_end_the_exam(tiny_family, crystal, tmp_path):
    spectra, structures = copper(crystal, tmp_path)
    for path in (spectra, structures):
        with gzip.open(path, "rt") as stream:
            good = stream.read()
        with gzip.open(path, "wt") as stream:
            stream.write('{"material_id": \n[1, 2]\n' + good + '{"material_id": "mp-9"}\n')
    result = evaluate(FamilyBundle.load(tiny_family[0]), spectra, structures)
    assert result["n"] == 2
    assert result["refused"]["a line is no JSON object"] == 4
    assert result["refused"]["a structure cannot be read"] == 1
    assert sum(result["refused"].values()) == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"species": [{"Cu": 0.5, "Ni": 0.5}] * 4}, "site is disordered"),
        ({"species": ["Cu"] * 3 + [{"Cu": 0.5, "Ni": 0.5}]}, "disordered"),
        ({"lattice": [[0.0] * 3] * 3}, "no volume"),
        ({"lattice": [[float("nan"), 0, 0], [0, 3.6, 0], [0, 0, 3.6]]}, ""),
        ({"frac": [[float("nan")] * 3] * 4}, ""),
        ({"frac": [[0.0, 0.0, 0.0]] * 4}, "0.00 angstrom apart"),
        ({"species": ["Cu"] * 3 + ["Xx"]}, "Xx"),
        ({"species": ["Cu"] * 3}, ""),
    ],
)
def test_damaged_structures_do_not_end_the_exam(tiny_family, crystal, tmp_path, change, reason):
    """The same spectrum on a sound and on a damaged crystal: one is used, one is counted."""
    spectra, structures = copper(crystal, tmp_path, rows=[{}, {"material_id": "mp-31"}])
    with gzip.open(structures, "rt") as stream:
        sound = json.loads(stream.read())
    with gzip.open(structures, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in (sound, {**sound, "material_id": "mp-31", **change}))
    result = evaluate(FamilyBundle.load(tiny_family[0]), spectra, structures)
    assert result["n"] == 1
    assert sum(result["refused"].values()) >= 1
    assert reason in " ".join(result["refused"])


def test_exam_and_answer_are_one(tiny_family, crystal, tmp_path):
    """What is measured is what a user is told: the named neighbours, the set and the interval of `infer`."""
    files = copper(crystal, tmp_path, rows=[{}])
    family = FamilyBundle.load(tiny_family[0])
    measured = evaluate(family, *files)["inverse"]["XANES"]
    (record,) = read_jsonl(*files)
    answer = family.infer(record.spectrum)
    assert measured["neighbours"]["exact"] == float(answer.neighbour_set == ["Cu"])
    assert measured["neighbours"]["set_size"] == len(answer.conformal_set)
    assert measured["neighbours"]["coverage90"] == float("Cu" in answer.conformal_set)
    assert measured["distance"]["mae"] == pytest.approx(abs(answer.mean_distance - 3.615 / 2**0.5), abs=1e-5)
    assert measured["distance"]["coverage90"] == float(answer.interval[0] <= 3.615 / 2**0.5 <= answer.interval[1])


def test_a_task_that_the_family_lacks_is_said(tiny_family, crystal, tmp_path):
    energy = np.linspace(9000.0, 9900.0, 400)
    chi = 0.05 * np.sin(np.sqrt(energy - 8999.0))
    exafs = {"kind": "EXAFS", "energy_eV": energy.tolist(), "mu": (1 + chi).tolist(), "mu0": [1.0] * 400, "k": [0.5] * 400}
    result = evaluate(FamilyBundle.load(tiny_family[0]), *copper(crystal, tmp_path, rows=[exafs]))
    assert "no forward-EXAFS model" in result["forward"]["EXAFS"]["unanswered"]
    assert "EXAFS model" in result["inverse"]["EXAFS"]["unanswered"]


def test_nothing_usable_is_refused(tiny_family, crystal, tmp_path, refused):
    files = copper(crystal, tmp_path)
    with gzip.open(files[0], "wt"):
        pass
    with refused(DatasetError, "no spectrum", "empty"):
        evaluate(FamilyBundle.load(tiny_family[0]), *files)


def test_a_prediction_in_feffs_normalisation_is_feffs_own_curve(tiny_family):
    """Flatten a FEFF curve, and put it back: the exam's error of a perfect model is nothing."""
    bundle = FamilyBundle.load(tiny_family[0]).model("forward", "XANES")
    edge = tabulated_edge("Cu", "K") + 15.0  # where the tests' FEFF puts it
    energy = np.linspace(edge - 10.0, edge + 50.0, 241)
    mu = (0.5 + np.arctan((energy - edge) / 2.0) / np.pi) * smooth_background(energy, edge)
    spectrum = Spectrum(energy, mu, "Cu", "K", "XANES", "feff", "feff", "feff_xsedge50", None, edge)
    flat = flatten(spectrum)
    for engine in ("FEFF of the tests", "an engine never seen"):
        np.testing.assert_allclose(feff_curve(bundle, flat.mu, energy - edge, spectrum, engine), mu, atol=1e-6)


def test_below_its_grid_a_prediction_follows_the_tail_of_the_edge(tiny_family):
    """A step widened by a core hole of 2 eV, of which the model's grid holds all but the onset."""
    bundle = FamilyBundle.load(tiny_family[0]).model("forward", "XANES")
    edge = tabulated_edge("Cu", "K") + 15.0
    energy = np.linspace(edge - 30.0, edge + 50.0, 241)
    mu = (0.5 + np.arctan((energy - edge) / 2.0) / np.pi) * smooth_background(energy, edge)
    spectrum = Spectrum(energy, mu, "Cu", "K", "XANES", "feff", "feff", "feff_xsedge50", None, edge)
    flat = np.interp(XANES_GRID, energy - edge, flatten(spectrum).mu)
    np.testing.assert_allclose(feff_curve(bundle, flat, XANES_GRID, spectrum, "FEFF of the tests"), mu, atol=2e-3)
    falling = np.linspace(0.5, 0.1, len(XANES_GRID))  # no tail to follow: the first value stays
    assert feff_curve(bundle, falling, XANES_GRID, spectrum, "FEFF of the tests")[0] == pytest.approx(0.5, rel=0.03)


def test_evaluate_refuses(tiny_family, crystal, tmp_path, fails):
    spectra, structures = copper(crystal, tmp_path)
    fails(["evaluate", tmp_path / "nowhere", spectra, structures], "does not hold a model family")
    fails(["evaluate", tiny_family[0], tmp_path / "nowhere.gz", structures], "nowhere.gz")
    fails(["evaluate", tiny_family[0], structures, structures], "lacks")
