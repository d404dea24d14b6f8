"""Sites that have both kinds of spectra, computed for real, and what a family learns from them."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from aiida_xastruct.engine.bundle import MATERIALS, POOL, FamilyBundle
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.dataset import GRIDS, Dataset, Holdout, part_of
from aiida_xastruct.engine.errors import DatasetError, ModelError, SpectrumError
from aiida_xastruct.engine.family import make_family
from aiida_xastruct.engine.joint import infer_both, join_models
from aiida_xastruct.engine.pairs import JUDGING, make_pairs
from aiida_xastruct.engine.prepare import Record
from aiida_xastruct.engine.reference.state import RECORDS, State
from aiida_xastruct.engine.spectrum import Spectrum, k_to_energy
from aiida_xastruct.engine.structure import prototype


def xanes_of(structure, element, source_id):
    energy = np.arange(1040.0, 1140.0, 0.5) if element == "Na" else np.arange(8960.0, 9060.0, 0.5)
    edge = energy[0] + 35.0
    mu = 0.5 + np.arctan((energy - edge) / 1.5) / np.pi
    spectrum = Spectrum(energy, mu, element, "K", "XANES", "feff", "feff", "flat", None, edge)
    return Record("made_here", source_id, structure, 0, spectrum, "FEFF")


def test_exafs_is_computed_for_sites_that_have_xanes(crystal, tmp_path):
    nacl, copper = xanes_of(crystal("NaCl"), "Na", "nacl"), xanes_of(crystal("Cu"), "Cu", "cu")
    # By this seed copper is trained on and salt is not, so only salt is computed.
    labels = [f"{formula}|{prototype(crystal(formula))}" for formula in ("NaCl", "Cu")]
    seed = next(seed for seed in range(100) if part_of(labels[0], seed) in JUDGING and part_of(labels[1], seed) == "train")
    nothing = Holdout(frozenset(), frozenset())
    state = State(tmp_path / "state")
    dataset = make_pairs([nacl, copper], nothing, state, tmp_path / "sites.sqlite", split_seed=seed)
    assert [material["source_id"] for material in dataset.materials] == ["nacl"]
    xanes, exafs = dataset.pairs()
    assert (xanes.tolist(), exafs.tolist()) == ([0], [0])
    chi = dataset.tables["EXAFS"].curve[0]
    assert 0.05 < np.nanstd(chi[40:120]) < 1.0
    assert np.isfinite(dataset.tables["EXAFS"].thermal).all()
    # Nothing is computed twice, and what is held out is not computed at all.
    before = list(state.lines(RECORDS))
    make_pairs([nacl], nothing, state, tmp_path / "sites.sqlite", split_seed=seed)
    assert list(state.lines(RECORDS)) == before
    with pytest.raises(DatasetError, match="no site has both"):
        make_pairs([nacl], Holdout(frozenset(), frozenset({("NaCl", 225)})), State(tmp_path / "other"), tmp_path / "sites.sqlite")
    assert not list(State(tmp_path / "other").lines(RECORDS))


@pytest.fixture(scope="module")
def joined(make_dataset, tiny_config, tmp_path_factory):
    """A family of both kinds, what it was made from, the pairs it was joined on, and what that measured."""
    folder = tmp_path_factory.mktemp("joined")
    dataset = make_dataset(kinds=("XANES", "EXAFS"), n=400)
    one = make_dataset(kinds=("XANES",), n=400, seed=7).tables["XANES"]
    other = make_dataset(kinds=("EXAFS",), n=400, seed=7).tables["EXAFS"]
    tasks = ("forward-EXAFS", *(f"{question}-{kind}" for question in ("neighbours", "distance") for kind in ("XANES", "EXAFS")))
    make_family(dataset, FamilyConfig(**{**vars(tiny_config), "tasks": tasks}), folder)
    judged = Dataset(dataset.materials, dataset.engines, {"XANES": one, "EXAFS": other})
    kept = {kind: table.take(~judged.parts(kind)["train"]) for kind, table in judged.tables.items()}
    pairs = Dataset(dataset.materials, dataset.engines, kept)
    return folder, dataset, pairs, join_models(folder, pairs)


def both_spectra(pairs, row):
    """XANES and EXAFS of one pair, as measured: flat mu."""
    found = []
    for kind in ("XANES", "EXAFS"):
        table = pairs.tables[kind]
        above = GRIDS[kind] if kind == "XANES" else k_to_energy(GRIDS[kind])
        mu = table.curve[row].astype(float) + (kind == "EXAFS")
        element = {26: "Fe", 29: "Cu"}[int(table.absorber[row])]
        found.append(Spectrum(above + 9000.0, mu, element, "K", kind, "feff", "feff", "flat", None, 9000.0))
    return found


def test_a_joined_family_answers_from_both(joined, refused):
    folder, _, pairs, metrics = joined
    family = FamilyBundle.load(folder)
    sizes = {name: own["report"]["sites"] for name, own in metrics["neighbours"].items()}
    assert len(set(sizes.values())) == 1
    assert set(sizes) == {"EXAFS", "XANES", "both"}
    assert family.model("distance", "EXAFS").card[POOL]["metrics"] == metrics["distance"]
    mae = {name: own["report"]["mae"] for name, own in metrics["distance"].items()}
    assert mae["both"] <= 1.05 * min(mae["XANES"], mae["EXAFS"])
    xanes, exafs = both_spectra(pairs, 0)
    answer = infer_both(family, xanes, exafs)
    low, high = answer.interval
    assert low < answer.mean_distance < high
    assert answer.neighbour_set
    assert set(infer_both(family, xanes, exafs, ["O", "Cu"]).neighbours) <= {"O", "Cu"}
    with refused(SpectrumError, "one absorber and edge"):
        infer_both(family, xanes, replace(exafs, absorber="Fe" if exafs.absorber == "Cu" else "Cu"))


def test_a_family_that_was_not_joined_says_so(joined, tmp_path, refused):
    folder, dataset, pairs, _ = joined
    shutil.copytree(folder, tmp_path / "family")
    card = tmp_path / "family" / "neighbours-XANES" / "card.json"
    card.write_text(card.read_text().replace('"engine_version"', '"mended": 1,\n "engine_version"'))
    with refused(ModelError, "xastruct join"):
        infer_both(FamilyBundle.load(tmp_path / "family"), *both_spectra(pairs, 0))
    with refused(DatasetError, "split seed"):
        join_models(tmp_path / "family", dataset)


def test_a_family_lists_the_materials_that_it_was_joined_on(joined, tmp_path):
    """What a family was calibrated on is in its list too, which is what the hold-out is checked against."""
    folder, dataset, pairs, _ = joined
    shutil.copytree(folder, tmp_path / "family")
    listed = tmp_path / "family" / MATERIALS
    before = listed.read_text()
    further = [{**material, "source_id": f"further-{index}"} for index, material in enumerate(pairs.materials)]
    join_models(tmp_path / "family", Dataset(further, pairs.engines, pairs.tables))
    lines = listed.read_text().splitlines()
    assert set(before.splitlines()) < set(lines)
    assert len(lines) == len(set(lines)) == len(dataset.materials) + len(further)


def test_a_model_that_is_calibrated_anew_is_joined_anew(joined, tiny_config, tmp_path):
    folder, dataset, pairs, _ = joined
    shutil.copytree(folder, tmp_path / "family")
    said = []
    config = FamilyConfig(**{**vars(tiny_config), "tasks": ("forward-EXAFS", "distance-EXAFS")})
    make_family(dataset, config, tmp_path / "family", said.append, keep=config.tasks)
    assert [line for line in said if "xastruct join" in line and line.startswith("distance-EXAFS")]
    assert not [line for line in said if "xastruct join" in line and line.startswith("forward-EXAFS")]
    with pytest.raises(ModelError, match="xastruct join"):
        infer_both(FamilyBundle.load(tmp_path / "family"), *both_spectra(pairs, 0))
