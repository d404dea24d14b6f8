"""Benchmarks of inverse models: what they compute is what they say, on small data whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import yaml

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.dataset import group_label
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.models.tasks import Task
from aiida_xastruct.engine.scans import Scan
from aiida_xastruct.engine.spectrum import tabulated_edge

# ---------------------------------------------------------------- measured


def foil(name, absorber, edge):
    e0 = tabulated_edge(absorber, edge)
    energy = np.arange(e0 - 150.0, e0 + 200.0, 0.5)
    return Scan(name, energy, 0.5 + np.arctan((energy - e0) / 2.0) / np.pi, "", "", "mu")


@pytest.mark.parametrize(
    ("absorber", "edge"), [("W", "L3"), ("Zr", "K"), ("Cu", "K"), ("Au", "L3"), ("Re", "L3"), ("Zn", "K"), ("Ru", "K")]
)
def test_the_energies_say_which_edge_it_is(script, absorber, edge):
    assert script("measured").edge_in(foil("x_foil_Zn_K.dat", absorber, edge)) == (absorber, edge)


def test_energies_without_an_edge_are_refused(script, refused):
    energy = np.arange(20.0, 400.0, 1.0)
    with refused(SpectrumError, "no element has its usual edge"):
        script("measured").edge_in(Scan("x", energy, np.arctan(energy - 200.0), "", "", "mu"))


def test_misnamed_foils_are_read_by_their_energies(script, tmp_path):
    for name, absorber, edge in (("W_foil_W_K", "W", "L3"), ("Zr_foil_Zn_K", "Zr", "K"), ("Mn_foil_Mn_K", "Mn", "K")):
        scan = foil(name, absorber, edge)
        np.savetxt(tmp_path / f"{name}.dat", np.stack([scan.energy, scan.mu], axis=1), header="energy mu")
    tungsten, zirconium = script("measured").foils(tmp_path)  # manganese has four sites, and is left out
    assert (tungsten.scans[0].absorber, tungsten.scans[0].edge, tungsten.space_group) == ("W", "L3", 229)
    assert (zirconium.scans[0].absorber, zirconium.scans[0].edge, zirconium.formula) == ("Zr", "K", "Zr")
    assert "the file name says Zn K, the energies Zr K" in zirconium.why


@pytest.mark.parametrize(
    ("text", "is_ambient"),
    [
        ("no word of it", True),
        (" Sample: at T = 293 K", True),
        (" Sample: at T = 25C", True),
        (" Sample: P = 0.0 GPa, T = 298 K, prior to experiment", True),
        (" P = 1 Kbar", True),
        (" Sample: at T = 577 K", False),
        (" Sample: BNL, T = 10 K", False),
        (" Sample data recorded at P = 23.96 GPa, T = = 823 K", False),
        (" P = 40 kbar", False),
    ],
)
def test_entries_far_from_ambient_are_told(script, text, is_ambient):
    assert script("measured").ambient(text) is is_ambient


def test_first_shells_of_phases(script):
    """The golden shells, from the structures that larixite ships."""
    phases = script("measured").Phases.__new__(script("measured").Phases)
    from aiida_xastruct.engine.reference.sources import open_source

    source = open_source("amcsd")
    phases._sources, phases._known = [("AMCSD", source)], {}
    phases._ids = [script("measured").Phases._by_elements(source)]
    copper = phases.truth("Cu", 225, "Cu")
    assert copper.distance == pytest.approx(2.556, abs=0.01)
    assert copper.neighbours == ("Cu",)
    sphalerite = phases.truth("ZnS", 216, "Zn")
    assert sphalerite.distance == pytest.approx(2.342, abs=0.01)
    assert sphalerite.neighbours == ("S",)
    assert phases.truth("Cu", 2, "Cu") is None


def test_the_page_of_measured_spectra(script):
    measured = script("measured")
    row = {
        **{"sample": "Cu_foil_Cu_K", "absorber": "Cu", "edge": "K", "kind": "EXAFS", "formula": "Cu", "space_group": 225},
        **{"why": "metal foil", "scans": 1, "reach": 900.0, "trained_on": True, "in_domain": True, "set_holds_all": True, "inside": True},
        "truth": {"distance": 2.556, "spread": 0.01, "neighbours": ["Cu"], "entries": 9, "source": "AMCSD"},
        **{"mean_distance": 2.566, "error": 0.01, "half_width": 0.05, "neighbours": ["Cu"], "neighbours_elements_known": ["Cu"]},
    }
    other = row | {"error": -0.03, "neighbours": ["Ni"], "inside": False}
    found = measured.summary([row, other])
    assert found["mae"] == pytest.approx(0.02)
    assert (found["f1"], found["exact"], found["inside"]) == (0.5, 0.5, 0.5)
    result = {"rows": [row, other], "family": "x", "version": "1", "samples_without_trusted_phase": 3, "left_out": ["a: because"]}
    page = measured.table(result)
    assert "| Cu | 2 | 0.020 | 0.50 | 0 |  |  |" in page
    assert "- a: because" in page


# ---------------------------------------------------------------- peers


def test_polynomials_describe_each_piece(script):
    """A cubic is one cubic in every piece: the coefficients give it back."""
    peers = script("peers_inverse")
    x = np.linspace(-1, 1, 137)
    curve = np.stack([x**3 - x, np.ones_like(x)])
    found = peers.polynomials(curve).reshape(2, sum(peers.PIECES), peers.DEGREE + 1)
    bounds = np.linspace(0, 137, peers.PIECES[0] + 1).round().astype(int)
    for piece, (start, end) in enumerate(pairwise(bounds)):
        back = np.polynomial.legendre.legval(np.linspace(-1, 1, end - start), found[0, piece])
        np.testing.assert_allclose(back, curve[0, start:end], atol=1e-9)
    np.testing.assert_allclose(found[1][:, 0], 1.0)
    np.testing.assert_allclose(found[1][:, 1:], 0.0, atol=1e-12)


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_peers_beat_the_absorber_alone(script, make_dataset, monkeypatch, kind):
    """Spectra that follow from the distance: every peer reads it; a rare absorber is answered by the model of all."""
    peers = script("peers_inverse")
    monkeypatch.setattr(peers, "TREES", 20)
    table = make_dataset(kinds=(kind,), n=200).tables[kind]
    table = replace(table, absorber=np.where(np.arange(200) % 10 == 0, 28, table.absorber))
    task = Task("distance", kind)
    inputs = task.inputs(task.source(table))
    rows = {"train": np.arange(120), "select": np.arange(120, 150), "asked": np.arange(150, 200)}
    train, select, asked = (peers.Spectra(kind, inputs[torch.as_tensor(own)], table.take(own)) for own in rows.values())
    assert (train.absorber == 28).sum() < peers.LEAST_SITES
    assert (asked.absorber == 28).any()
    alone = peers.scores(peers.prior(train, select, asked), asked)
    for peer in (peers.forests, peers.nearest, peers.ridge, *((peers.extra_trees,) if kind == "EXAFS" else ())):
        found = peers.scores(peer(train, select, asked), asked)
        assert found["mae"] < 0.5 * alone["mae"]
        assert found["micro_f1"] > 0.85


def test_the_family_is_measured_on_the_draws_of_its_card(script, tiny_family, monkeypatch):
    """The same numbers as on the card: the very same random draws of the very same sites."""
    peers = script("peers_inverse")
    monkeypatch.setattr(peers, "PEERS", {"the absorber alone": peers.prior, "random forests on polynomials, by element": peers.prior})
    folder, dataset, _, _ = tiny_family
    family = FamilyBundle.load(folder)
    result = peers.ours(dataset, family, "XANES", 2)
    card = {task: family.model(task, "XANES").card["metrics"]["report"] for task in ("distance", "neighbours")}
    assert result["scores"]["this family"]["mae"] == pytest.approx(card["distance"]["mae"], abs=1e-5)
    assert result["scores"]["this family"]["micro_f1"] == pytest.approx(card["neighbours"]["micro_f1"], abs=1e-5)
    assert result["scores"]["the absorber alone"]["micro_f1"] == pytest.approx(card["neighbours"]["baseline_micro_f1"], abs=1e-5)
    assert "| this family |" in peers.table({"XANES": result})
    monkeypatch.setattr(peers, "PEERS", dict.fromkeys(peers.PEERS, lambda *_: pytest.fail("a peer was trained again")))
    assert json.dumps(peers.ours(dataset, family, "XANES", 2, result)) == json.dumps(result)  # a score may be NaN
    with pytest.raises(pytest.fail.Exception):
        peers.ours(dataset, family, "XANES", 1, result)


# ---------------------------------------------------------------- spread, learning curve, end to end


@pytest.mark.exhaustive
def test_spread_goes_on_and_is_a_mean_with_its_deviation(script, make_dataset, tiny_config, tmp_path, monkeypatch):
    spread = script("spread")
    config = replace(tiny_config, tasks=("distance-XANES",), training=replace(tiny_config.training, members=1, epochs=1))
    dataset, path = make_dataset(), tmp_path / "s.json"
    result = spread.run(dataset, config, 2, 1, path)
    assert list(result["runs"]) == ["split 0, seed 0", "split 1, seed 0"]
    first = result["runs"]["split 0, seed 0"]
    more = spread.run(dataset, replace(config, tasks=("distance-XANES", "forward-XANES")), 1, 1, path)["runs"]["split 0, seed 0"]
    assert list(more["metrics"]) == ["distance-XANES", "forward-XANES"]
    assert more["metrics"]["distance-XANES"] == first["metrics"]["distance-XANES"]
    monkeypatch.setattr(spread, "make_family", lambda *_: pytest.fail("what is done is done again"))
    assert spread.run(dataset, config, 2, 1, path)["runs"]["split 0, seed 0"] == more
    runs = [{"split": split, "seed": seed, "metrics": {"a": {"x": split + 0.1 * seed}}} for split in (0, 2) for seed in (0, 2)]
    found = spread.spread(runs, "a", "x")
    assert found["mean"] == pytest.approx(1.1)
    assert found["sd_of_splits"] == pytest.approx(2**0.5)
    assert found["sd_of_seeds"] == pytest.approx(0.2 / 2**0.5)
    assert "| distance-XANES | MAE (angstrom) |" in spread.table(json.loads(path.read_text()))


def test_smaller_training_sets_lie_inside_larger_ones(script, make_dataset):
    """Only groups of *train* go; the other parts, and so what is measured on, stay whole."""
    curve = script("learning_curve")
    dataset = make_dataset(kinds=("XANES", "EXAFS"))
    kept = []
    for fraction in curve.FRACTIONS:
        thin = curve.thinned(dataset, fraction, 0)
        parts = thin.parts("XANES", 0)
        table = thin.tables["XANES"]
        for name in ("select", "calibrate", "report"):
            assert (parts[name]).sum() == dataset.parts("XANES", 0)[name].sum()
        kept.append({group_label(dataset.materials[material]) for material in table.material[parts["train"]]})
    assert kept[0] < kept[1] < kept[2] < kept[3]
    assert curve.thinned(dataset, 1.0, 0).content_hash() == dataset.content_hash()


def test_the_line_through_a_power_law(script):
    curve = script("learning_curve")
    sites = [500, 1000, 2000, 4000]
    errors = [2.0 * n**-0.5 for n in sites]
    assert curve.power_law(sites, errors)[1] == pytest.approx(-0.5)
    assert curve.outlook("distance-EXAFS", sites, errors) == "at 1e+04 sites"
    assert curve.outlook("distance-EXAFS", sites, [0.019] * 4) == "reached"
    assert curve.outlook("distance-EXAFS", sites, [0.1, 0.1, 0.11, 0.12]) == "not by more of the same sites"
    assert curve.outlook("forward-XANES", sites, errors) == ""


def test_a_learning_curve_is_written(script, make_dataset, tiny_config, tmp_path, monkeypatch):
    curve = script("learning_curve")
    monkeypatch.setattr(curve, "FRACTIONS", (0.5, 1.0))
    config = replace(tiny_config, tasks=("distance-XANES",), training=replace(tiny_config.training, members=1, epochs=2))
    result = curve.run(make_dataset(), config, tmp_path / "l.json")
    half, whole = (result["runs"][str(fraction)]["distance-XANES"] for fraction in (0.5, 1.0))
    assert half["train"] < whole["train"]
    assert half["sites"] == whole["sites"]
    assert "| distance-XANES |" in curve.table(json.loads((tmp_path / "l.json").read_text()))


def test_end_to_end_and_apart_are_asked_the_same(script, make_dataset):
    """Both learn; apart, what the inverse network learned does not depend on the forward one."""
    module = script("end_to_end")
    dataset = make_dataset(n=200)
    result = module.run(dataset, 12, 1, 0)
    untrained = module.run(dataset, 1, 1, 0)
    for name in ("apart", "end to end"):
        for key in module.TITLES:
            assert result["runs"][name][0][key] < untrained["runs"][name][0][key]
    assert "| crystal to XANES: mean square error of flat mu |" in module.table(result)


@pytest.mark.parametrize("name", ["spread", "learning"])
def test_the_configurations_are_configurations(script, name):
    from aiida_xastruct.engine.family import FamilyConfig

    folder = script("spread").Path(script("spread").__file__).parent.parent / "configs"
    config = FamilyConfig.from_dict(yaml.safe_load((folder / f"{name}.yaml").read_text()))
    assert config.training.members == 1
