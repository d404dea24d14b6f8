"""Training sets: what is written is read, splits keep groups together, and the held-out stay out."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from aiida_xastruct.engine.dataset import COLUMNS, GRIDS, PARTS, Dataset, Holdout
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.spectrum import XANES_GRID


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(kinds=("XANES", "EXAFS"), n=60)


def test_round_trip(dataset, tmp_path):
    dataset.save(tmp_path / "set.h5")
    found = Dataset.load(tmp_path / "set.h5")
    assert found.materials == dataset.materials
    assert found.engines == dataset.engines
    assert found.tables.keys() == dataset.tables.keys()
    for kind, table in dataset.tables.items():
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(found.tables[kind], name), getattr(table, name))
    assert found.content_hash() == dataset.content_hash()


def test_the_same_content_gives_the_same_bytes(make_dataset, tmp_path):
    for name in ("one", "two"):
        make_dataset(n=40).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_counts_in_the_hash(make_dataset, name):
    kind = "XANES" if name == "wide" else "EXAFS"
    dataset = make_dataset(kinds=(kind,), n=40)
    before = dataset.content_hash()
    column = getattr(dataset.tables[kind], name)
    changed = column.copy()
    changed[3] = "val" if name == "peer_split" else np.where(np.isfinite(column[3]), column[3] + 1, 0.0).astype(column.dtype)
    if name == "material":
        changed[3] = 0
    dataset.tables[kind] = replace(dataset.tables[kind], **{name: changed})
    assert dataset.content_hash() != before


def test_materials_and_engines_count_in_the_hash(make_dataset):
    before = make_dataset(n=40).content_hash()
    renamed, other_engine = make_dataset(n=40), make_dataset(n=40)
    renamed.materials[0]["source_id"] = "m-x"
    other_engine.engines[0] = "FEFF 6"
    assert len({before, renamed.content_hash(), other_engine.content_hash()}) == 3


@pytest.mark.parametrize("harm", ["text", "empty", "cut", "other format", "column missing"])
def test_what_is_no_dataset_is_refused(make_dataset, tmp_path, refused, harm):
    path = tmp_path / "set.h5"
    make_dataset(n=40).save(path)
    if harm == "text":
        path.write_text("energy,mu\n")
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        with h5py.File(path, "r+") as file:
            if harm == "other format":
                file.attrs["format"] = "something else"
            else:
                del file["XANES"]["curve"]
    with refused(DatasetError, "set.h5"):
        Dataset.load(path)


def test_a_missing_file_is_refused(tmp_path, refused):
    with refused(DatasetError, "cannot be read as a dataset"):
        Dataset.load(tmp_path / "nowhere.h5")


def test_tables_that_do_not_fit_are_refused(make_dataset, refused):
    dataset = make_dataset(n=40)
    table = dataset.tables["XANES"]
    with refused(DatasetError, "use XANES or EXAFS"):
        Dataset(dataset.materials, dataset.engines, {"XES": table})
    with refused(DatasetError, "curves have shape"):
        Dataset(dataset.materials, dataset.engines, {"EXAFS": table})
    with refused(DatasetError, "names a material that the dataset lacks"):
        Dataset(dataset.materials[:5], dataset.engines, {"XANES": table})


# ---------------------------------------------------------------- splits


def with_groups(dataset, labels):
    """The dataset with given formulas, so that materials share groups."""
    materials = [{**material, "formula": label} for material, label in zip(dataset.materials, labels, strict=True)]
    return Dataset(materials, dataset.engines, dataset.tables)


def test_parts_cover_every_row_once(dataset):
    parts = dataset.parts("XANES")
    assert tuple(parts) == PARTS
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in parts.values()), 1)


def test_parts_never_split_a_group(make_dataset):
    dataset = make_dataset(n=400)
    grouped = with_groups(dataset, [f"F{i % 37}" for i in range(200)])
    groups = grouped.group_of("XANES")
    assert len(set(groups)) == 37
    parts = grouped.parts("XANES")
    assert sum(mask.any() for mask in parts.values()) >= 3
    owners = [set(groups[mask]) for mask in parts.values()]
    for first in range(4):
        for second in range(first):
            assert not owners[first] & owners[second]


def test_one_formula_in_two_prototypes_is_two_groups(make_dataset):
    dataset = with_groups(make_dataset(n=8), ["TiO2"] * 4)
    dataset.materials[1]["prototype"] = "AB2-136"
    groups = dataset.group_of("XANES")
    assert groups[0] == groups[2] != groups[1]


def test_parts_have_the_sizes_asked_for(make_dataset):
    parts = make_dataset(n=4000).parts("XANES")
    shares = [parts[name].mean() for name in PARTS]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.1, 0.1], atol=0.04)


def test_parts_stay_when_the_dataset_grows(make_dataset):
    """A group keeps its part when others join, in whatever order: a model's exam stays an exam after the next FEFF run."""
    small, large = make_dataset(n=100), make_dataset(n=300)
    reordered = Dataset(large.materials[::-1], large.engines, large.tables)
    part_of = {}
    for name, mask in small.parts("XANES").items():
        for material in small.tables["XANES"].material[mask]:
            part_of[small.materials[material]["formula"]] = name
    for other in (large, reordered):
        for name, mask in other.parts("XANES").items():
            for material in other.tables["XANES"].material[mask]:
                assert part_of.get(other.materials[material]["formula"], name) == name


def test_one_material_is_in_the_same_part_for_both_kinds(dataset):
    parts = [{name: set(dataset.tables[kind].material[mask]) for name, mask in dataset.parts(kind).items()} for kind in ("XANES", "EXAFS")]
    assert parts[0] == parts[1]


def test_another_seed_is_another_split(make_dataset):
    dataset = make_dataset(n=400)
    first, again, other = dataset.parts("XANES"), dataset.parts("XANES"), dataset.parts("XANES", seed=1)
    assert (first["train"] == again["train"]).all()
    assert (first["train"] != other["train"]).any()


# ---------------------------------------------------------------- small things


def test_take_keeps_rows_together(dataset):
    table = dataset.tables["EXAFS"]
    chosen = table.take(np.array([5, 2]))
    assert len(chosen) == 2
    assert chosen.mean_distance.tolist() == [table.mean_distance[5], table.mean_distance[2]]
    np.testing.assert_array_equal(chosen.curve[1], table.curve[2])


def test_neighbours_and_coordination(dataset):
    table = dataset.tables["XANES"]
    metallic = table.mean_distance > 2.3
    assert set(table.coordination[metallic]) == {12}
    assert set(table.coordination[~metallic]) == {6}
    assert table.neighbours[metallic][:, 29].all()
    assert not table.neighbours[metallic][:, 8].any()


def test_edge_shift_is_the_median_of_engine_and_absorber(make_dataset):
    dataset = make_dataset(n=40)
    table = dataset.tables["XANES"]
    iron = np.flatnonzero(table.absorber == 26)
    shift = table.edge_shift.copy()
    shift[iron[0]] = 500.0  # one wild spectrum
    engine = table.engine.copy()
    engine[iron[-4:]] = 1
    shift[iron[-4:]] = [1.0, 2.0, 3.0, 4.0]
    dataset.engines.append("another")
    dataset.tables["XANES"] = replace(table, edge_shift=shift, engine=engine)
    everything = np.ones(len(table), dtype=bool)
    shifts = dataset.edge_shifts("XANES", everything)
    assert shifts.by_engine == {"FEFF of the tests": {"Fe": 15.0, "Cu": 15.0}, "another": {"Fe": 2.5}}
    assert shifts.usual == {"Fe": 15.0, "Cu": 15.0}
    everything[iron[-4:]] = False
    assert "another" not in dataset.edge_shifts("XANES", everything).by_engine


# ---------------------------------------------------------------- targets


def edge_of(curves):
    """Where curves (n, XANES_GRID) reach a half, eV."""
    return np.array([np.interp(0.5, curve[:41], XANES_GRID[:41]) for curve in curves])


def with_late_edges(dataset, rows, late):
    """The dataset with the edges of some rows `late` eV further up, by another program."""
    table = dataset.tables["XANES"]
    wide, shift, engine = table.wide.copy(), table.edge_shift.copy(), table.engine.copy()
    steps = round(late / 0.5)
    wide[rows, steps:] = wide[rows, :-steps]
    shift[rows] += late
    engine[rows] = 1
    dataset.engines.append("another")
    dataset.tables["XANES"] = replace(table, wide=wide, edge_shift=shift, engine=engine, target=np.zeros((len(table), 0), np.float32))
    return dataset


def test_targets_lie_above_the_edge_of_their_program(make_dataset):
    """Two programs 6 eV apart give the same targets, where both are in the training part."""
    plain = make_dataset(n=40)
    table = plain.tables["XANES"]
    np.testing.assert_allclose(plain.aligned("XANES", np.arange(40)).target, table.curve, atol=1e-5)
    late = with_late_edges(make_dataset(n=40), np.arange(20), 6.0)
    np.testing.assert_allclose(late.aligned("XANES", np.arange(40)).target, table.curve, atol=1e-5)


def test_targets_follow_from_the_training_rows_alone(make_dataset):
    """Edges that training has not seen do not move the zero: they stay 6 eV late where the program is known, whatever else is there."""
    dataset = with_late_edges(make_dataset(n=40), np.arange(20), 6.0)
    dataset.tables["XANES"].engine[:] = 0
    usual = dataset.tables["XANES"].curve
    target = dataset.aligned("XANES", np.arange(20, 40)).target
    np.testing.assert_allclose(target[20:], usual[20:], atol=1e-5)
    np.testing.assert_allclose(target[:20, 12:], usual[:20, :-12], atol=1e-5)


def test_an_element_without_training_rows_has_the_edge_of_its_neighbours_in_z(make_dataset):
    dataset = make_dataset(n=60, absorbers=(26, 28, 29))
    table = dataset.tables["XANES"]
    nickel = table.absorber == 28
    shift = np.where(table.absorber == 26, 12.0, 18.0).astype(np.float32)
    dataset.tables["XANES"] = replace(table, edge_shift=shift)
    assert dataset.edge_shifts("XANES", ~nickel).of("Ni", "FEFF of the tests") == 16.0
    assert dataset.edge_shifts("XANES", ~nickel).of("Co", "unknown") == 14.0
    target = dataset.aligned("XANES", ~nickel).target
    np.testing.assert_allclose(target[nickel][:, :-2], table.curve[nickel][:, 2:], atol=1e-5)  # 15 eV in truth, one later is assumed


def test_split_is_parts_with_targets(make_dataset):
    dataset = make_dataset(n=100)
    dataset.tables["XANES"] = replace(dataset.tables["XANES"], target=np.zeros((100, 0), np.float32))
    parts, masks = dataset.split("XANES", 3), dataset.parts("XANES", 3)
    for name, mask in masks.items():
        assert parts[name].site.tolist() == dataset.tables["XANES"].site[mask].tolist()
        np.testing.assert_allclose(parts[name].target, parts[name].curve, atol=1e-5)


def test_exafs_is_its_own_target(make_dataset, tmp_path):
    dataset = make_dataset(kinds=("XANES", "EXAFS"), n=40)
    dataset.save(tmp_path / "set.h5")
    found = Dataset.load(tmp_path / "set.h5").tables
    np.testing.assert_array_equal(found["EXAFS"].target, found["EXAFS"].curve)
    assert found["XANES"].target.shape == (40, 0)  # until it is known what is trained on


def test_elements_present_are_those_of_the_formula(make_dataset):
    dataset = make_dataset(n=8)
    dataset.materials[1]["formula"] = "Ca(FeO2)2"
    present = dataset.present("XANES")
    assert present.shape == (8, 104)
    assert np.flatnonzero(present[1]).tolist() == np.flatnonzero(present[5]).tolist() == [8, 20, 26]
    assert np.flatnonzero(present[0]).tolist() == [8, 26, 29]


def test_grids():
    assert {kind: grid.shape for kind, grid in GRIDS.items()} == {"XANES": (137,), "EXAFS": (261,)}


# ---------------------------------------------------------------- held out


@pytest.fixture
def holdout(tmp_path):
    (tmp_path / "holdout_ids.txt").write_text("mp-1\nmp-2\n")
    (tmp_path / "holdout_formulas.txt").write_text("NaCl 225\nCa(FeO2)2 62\n\n")
    return Holdout.read(tmp_path)


def test_holdout_is_read(holdout):
    assert holdout.ids == {"mp-1", "mp-2"}
    assert holdout.twins == {("NaCl", 225), ("Ca(FeO2)2", 62)}


@pytest.mark.parametrize("missing", ["holdout_ids.txt", "holdout_formulas.txt"])
def test_nothing_is_trained_without_the_lists(tmp_path, holdout, refused, missing):
    (tmp_path / missing).unlink()
    with refused(DatasetError, "nothing is trained without it"):
        Holdout.read(tmp_path)


@pytest.mark.parametrize(
    ("source", "source_id", "formula", "group", "out"),
    [
        ("feff_mp", "mp-1", "ZnS", 216, True),
        ("omnixas_feff", "mp-1", "ZnS", 216, True),
        ("feff_mp", "mp-9", "NaCl", 225, True),
        ("amcsd", "17", "NaCl", 225, True),
        ("omnixas_feff", "mp-9", "NaCl", 225, False),
        ("feff_mp", "mp-9", "NaCl", 221, False),
        ("feff_mp", "mp-9", "KCl", 225, False),
    ],
)
def test_what_is_held_out(holdout, source, source_id, formula, group, out):
    assert holdout.excludes(source, source_id, formula, group) is out


def test_check_refuses_a_dataset_that_holds_the_exam(make_dataset, holdout, refused):
    dataset = make_dataset(n=40)
    holdout.check(dataset)
    dataset.materials[7]["source_id"] = "mp-2"
    with refused(DatasetError, "mp-2", "held out for the exam"):
        holdout.check(dataset)
    dataset.materials[7] |= {"source_id": "mp-77", "formula": "NaCl", "space_group": 225}
    with refused(DatasetError, "mp-77"):
        holdout.check(dataset)
