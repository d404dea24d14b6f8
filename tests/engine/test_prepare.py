"""From files of spectra to a training set: what is held out is left out, and every row holds what models need."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.dataset import WIDE_GRID, Holdout
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.feff.output import read_xmu
from aiida_xastruct.engine.prepare import Record, prepare, read_jsonl, read_jsonl_structures, spectrum_of
from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID, edge_of, k_to_energy, tabulated_edge

#: FEFF's edge above the table in these files, eV.
SHIFT = 15.0


def xanes(absorber, shift=SHIFT):
    edge = tabulated_edge(absorber, edge_of(absorber)) + shift
    energy = np.linspace(edge - 15.0, edge + 60.0, 173)
    return {"kind": "XANES", "energy_eV": energy.tolist(), "mu": (0.5 + np.arctan((energy - edge) / 2.0) / np.pi).tolist()}


def exafs(absorber):
    k = np.linspace(0.5, 20.0, 300)
    energy = tabulated_edge(absorber, edge_of(absorber)) + SHIFT + k_to_energy(k)
    chi = 0.1 * np.sin(5.0 * k)
    return {"kind": "EXAFS", "energy_eV": energy.tolist(), "k": k.tolist(), "mu": (1 + chi).tolist(), "mu0": np.ones(300).tolist()}


def row(material, site, absorber, shape=None, engine="FEFF 9.9.1", **more):
    about = {"material_id": material, "site": site, "absorber": absorber, "edge": edge_of(absorber), "engine": engine}
    return {**about, **(shape or xanes(absorber)), **more}


def write(folder, source, crystals, rows):
    """A pair of files as in ../shared/data."""
    folder.mkdir(exist_ok=True)
    spectra, structures = folder / f"{source}.spectra.jsonl.gz", folder / f"{source}.structures.jsonl.gz"
    with gzip.open(structures, "wt") as stream:
        for name, crystal in crystals.items():
            species = [site.specie.symbol for site in crystal]
            written = {"lattice": crystal.lattice.matrix.tolist(), "species": species, "frac": crystal.frac_coords.tolist()}
            stream.write(json.dumps({"material_id": name, **written}) + "\n")
    with gzip.open(spectra, "wt") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in rows)
    return spectra, structures


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "sites.sqlite"


NOTHING = Holdout(frozenset(), frozenset())


# ---------------------------------------------------------------- reading


def test_files_are_read_as_they_were_written(tmp_path, crystal):
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("NaCl")}, [row("mp-1", 4, "Cl", split="val"), row("mp-1", 0, "Na", exafs("Na"))])
    first, second = read_jsonl(*files)
    assert (first.source, first.source_id, first.site, first.engine, first.peer_split) == ("feff_mp", "mp-1", 4, "FEFF 9.9.1", "val")
    assert second.peer_split == ""
    assert first.structure == crystal("NaCl")
    assert (first.spectrum.method, first.spectrum.normalisation, first.spectrum.kind) == ("feff", "feff_xsedge50", "XANES")
    assert read_jsonl_structures(files[1]).keys() == {"mp-1"}


def test_e0_of_exafs_is_where_k_is_zero():
    spectrum = spectrum_of(row("mp-1", 0, "Cu", exafs("Cu")))
    assert spectrum.e0 == pytest.approx(tabulated_edge("Cu", "K") + SHIFT, abs=1e-6)
    assert spectrum_of(row("mp-1", 0, "Cu")).e0 is None


@pytest.mark.parametrize("column", ["energy_eV", "mu", "absorber", "edge", "kind"])
def test_missing_columns_are_named(refused, column):
    line = row("mp-1", 0, "Cu")
    del line[column]
    with refused(DatasetError, column):
        spectrum_of(line)


def test_a_spectrum_without_its_structure_is_refused(tmp_path, crystal, refused):
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("Cu")}, [row("mp-2", 0, "Cu")])
    with refused(DatasetError, "mp-2", "matching pair"):
        list(read_jsonl(*files))


@pytest.mark.parametrize("harm", ["not json", "cut", "no gzip", "no site", "no lattice"])
def test_damaged_files_are_refused(tmp_path, crystal, refused, harm):
    spectra, structures = write(tmp_path, "feff_mp", {"mp-1": crystal("Cu")}, [row("mp-1", 0, "Cu")])
    if harm == "not json":
        spectra.write_bytes(gzip.compress(b"{energy: 1}\n"))
    elif harm == "cut":
        spectra.write_bytes(spectra.read_bytes()[:-200])
    elif harm == "no gzip":
        spectra.write_text("{}\n")
    elif harm == "no site":
        line = row("mp-1", 0, "Cu")
        del line["site"]
        spectra.write_bytes(gzip.compress(json.dumps(line).encode() + b"\n"))
    else:
        structures.write_bytes(gzip.compress(b'{"material_id": "mp-1", "species": ["Cu"]}\n'))
    with refused(DatasetError, structures.name if harm == "no lattice" else spectra.name):
        list(read_jsonl(spectra, structures))


# ---------------------------------------------------------------- what a row holds


def test_rows_hold_what_models_need(tmp_path, crystal, cache):
    rows = [row("mp-1", 0, "Na"), row("mp-1", 4, "Cl"), row("mp-1", 0, "Na", exafs("Na"), "FEFF 8.5L"), row("mp-2", 0, "Cu")]
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("NaCl"), "mp-2": crystal("Cu")}, rows)
    seen = []
    dataset, left_out = prepare(read_jsonl(*files), NOTHING, cache, progress=lambda done, total: seen.append((done, total)))
    assert left_out == {"held out": 0}
    assert seen[-1] == (2, 2)
    assert [material["formula"] for material in dataset.materials] == ["NaCl", "Cu"]
    assert dataset.materials[0] == {
        "source": "feff_mp", "source_id": "mp-1", "formula": "NaCl", "space_group": 225, "prototype": "AB-225"
    }  # fmt: skip
    assert dataset.engines == ["FEFF 9.9.1", "FEFF 8.5L"]
    near, far = dataset.tables["XANES"], dataset.tables["EXAFS"]
    assert near.absorber.tolist() == [11, 17, 29]
    assert near.material.tolist() == [0, 0, 1]
    assert near.site.tolist() == [0, 4, 0]
    assert near.coordination.tolist() == [6, 6, 12]
    assert [np.flatnonzero(mask).tolist() for mask in near.neighbours] == [[17], [11], [29]]
    np.testing.assert_allclose(near.mean_distance, [2.82, 2.82, 2.556], atol=1e-3)
    np.testing.assert_allclose(near.edge_shift, SHIFT, atol=0.5)
    assert far.engine.tolist() == [1]
    inside = EXAFS_GRID > 2.1
    np.testing.assert_allclose(far.curve[0][inside], 0.1 * np.sin(5.0 * EXAFS_GRID[inside]), atol=2e-3)
    np.testing.assert_array_equal(far.target, far.curve)
    assert far.wide.shape == (1, 0)
    edges = [WIDE_GRID[np.nanargmin(np.abs(curve - 0.5))] for curve in near.wide]
    np.testing.assert_allclose(edges, SHIFT, atol=0.5)


def test_forward_targets_keep_the_shift_from_compound_to_compound(tmp_path, crystal, cache):
    """One zero for all spectra of an engine and absorber: an edge 4 eV later is 4 eV later in the target, and not in the curve."""
    crystals = {f"mp-{i}": crystal(name) for i, name in enumerate(["Cu", "Cu", "Cu"])}
    for i, material in enumerate(crystals.values()):
        material.scale_lattice(material.volume * (1 + 0.01 * i))
    rows = [row("mp-0", 0, "Cu"), row("mp-1", 0, "Cu"), row("mp-2", 0, "Cu", xanes("Cu", SHIFT + 4.0))]
    dataset = prepare(read_jsonl(*write(tmp_path, "feff_mp", crystals, rows)), NOTHING, cache)[0]
    table = dataset.aligned("XANES", np.ones(3, dtype=bool))

    def edge(curve):
        return float(np.interp(0.5, np.nan_to_num(curve, nan=0.0), XANES_GRID))

    np.testing.assert_allclose([edge(curve) for curve in table.curve], 0.0, atol=0.5)
    np.testing.assert_allclose([edge(curve) for curve in table.target], [0.0, 0.0, 4.0], atol=0.5)


# ---------------------------------------------------------------- what is left out


def test_a_held_out_id_is_left_out_for_every_absorber_and_source(tmp_path, crystal, cache):
    holdout = Holdout(frozenset({"mp-1"}), frozenset())
    crystals = {"mp-1": crystal("NaCl"), "mp-2": crystal("Cu")}
    for source in ("feff_mp", "omnixas_feff"):
        files = write(tmp_path, source, crystals, [row("mp-1", 0, "Na"), row("mp-1", 4, "Cl"), row("mp-2", 0, "Cu")])
        dataset, left_out = prepare(read_jsonl(*files), holdout, cache)
        assert [material["source_id"] for material in dataset.materials] == ["mp-2"]
        assert left_out["held out"] == 2


@pytest.mark.parametrize(("source", "kept"), [("feff_mp", 1), ("amcsd", 1), ("omnixas_feff", 2)])
def test_a_twin_is_left_out_of_every_source_but_one(tmp_path, crystal, cache, source, kept):
    """Rock salt under another id, in another cell and of another size: the same formula and space group."""
    holdout = Holdout(frozenset({"mp-1"}), frozenset({("NaCl", 225)}))
    twin = crystal("NaCl").get_primitive_structure()
    twin.scale_lattice(twin.volume * 1.02)
    chlorine = [site.specie.symbol for site in twin].index("Cl")
    files = write(tmp_path, source, {"other-7": twin, "mp-2": crystal("Cu")}, [row("other-7", chlorine, "Cl"), row("mp-2", 0, "Cu")])
    dataset, left_out = prepare(read_jsonl(*files), holdout, cache)
    assert len(dataset.materials) == kept
    assert left_out["held out"] == 2 - kept


def test_another_phase_of_a_held_out_formula_stays(tmp_path, crystal, cache):
    holdout = Holdout(frozenset(), frozenset({("NaCl", 221)}))
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("NaCl")}, [row("mp-1", 0, "Na")])
    assert len(prepare(read_jsonl(*files), holdout, cache)[0].materials) == 1


def test_what_cannot_be_used_is_counted_by_reason(tmp_path, crystal, cache):
    from pymatgen.core import Lattice, Structure

    crystals = {
        "mp-1": crystal("NaCl"),
        "mp-2": crystal("Cu"),
        "mp-3": Structure(Lattice.cubic(4.0), ["Fe", "O"], [[0, 0, 0], [0.1, 0, 0]]),
    }
    short = xanes("Na")
    short = {**short, "energy_eV": short["energy_eV"][:40], "mu": short["mu"][:40]}
    wild = xanes("Cl")
    wild = {**wild, "mu": [40.0 * value for value in wild["mu"]]}
    rows = [
        row("mp-2", 0, "Cu"),
        row("mp-2", 0, "Cu"),  # again
        row("mp-2", 0, "Cu", engine="FEFF 10"),  # of another engine: another spectrum
        row("mp-2", 0, "Cu", exafs("Cu")),
        row("mp-1", 0, "Cl"),  # site 0 is sodium
        row("mp-1", 0, "Na", short),
        row("mp-1", 4, "Cl", wild),
        row("mp-3", 0, "Fe"),
    ]
    dataset, left_out = prepare(read_jsonl(*write(tmp_path, "feff_mp", crystals, rows)), NOTHING, cache)
    assert left_out == {
        "held out": 0, "duplicate": 1, "absorber is not at the site": 1, "spectrum refused": 2, "structure refused": 1
    }  # fmt: skip
    assert len(dataset.tables["XANES"]) == 2
    assert len(dataset.tables["EXAFS"]) == 1
    assert [material["source_id"] for material in dataset.materials] == ["mp-2"]


@pytest.mark.parametrize(
    ("folder", "edge", "group", "cell", "elements", "places"),
    [
        ("fe-l3", "L3", "Im-3m", 2.866, ["Fe"], [[0, 0, 0]]),
        ("ceo2-m5", "M5", "Fm-3m", 5.411, ["Ce", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    ],
)
def test_multiplet_edges_are_no_training_truth(tmp_path, crystal, cache, folder, edge, group, cell, elements, places):
    from pymatgen.core import Lattice, Structure

    structure = Structure.from_spacegroup(group, Lattice.cubic(cell), elements, places)
    text = (Path(__file__).parents[1] / "fixtures" / "edges" / folder / "xmu.dat").read_text()
    real = Record("made", "here", structure, 0, read_xmu(text, elements[0], edge, "XANES"), "FEFF 10")
    (other,) = read_jsonl(*write(tmp_path, "feff_mp", {"mp-2": crystal("Cu")}, [row("mp-2", 0, "Cu")]))
    dataset, left_out = prepare([real, other], NOTHING, cache)
    assert left_out == {"held out": 0, f"dominated by multiplets ({elements[0]} {edge})": 1}
    assert [material["source_id"] for material in dataset.materials] == ["mp-2"]


def test_the_same_files_make_the_same_dataset(tmp_path, crystal, cache):
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("NaCl")}, [row("mp-1", 0, "Na"), row("mp-1", 4, "Cl", exafs("Cl"))])
    fresh = prepare(read_jsonl(*files), NOTHING, cache)[0]
    cached = prepare(read_jsonl(*files), NOTHING, cache)[0]
    assert fresh.content_hash() == cached.content_hash()


def test_an_edge_far_from_the_table_is_left_out(tmp_path, crystal, cache):
    """What no training can put right: the wide grid does not reach it."""
    rows = [row("mp-1", 0, "Cu", xanes("Cu", 95.0)), row("mp-1", 1, "Cu")]
    dataset, left_out = prepare(read_jsonl(*write(tmp_path, "feff_mp", {"mp-1": crystal("Cu")}, rows)), NOTHING, cache)
    assert left_out["edge far from the tabulated energy"] == 1
    assert len(dataset.tables["XANES"]) == 1


@pytest.mark.parametrize("site", [8, -1, "0", None, 0.5])
def test_a_site_that_the_structure_lacks_is_refused(tmp_path, crystal, refused, site):
    files = write(tmp_path, "feff_mp", {"mp-1": crystal("NaCl")}, [row("mp-1", site, "Na")])
    with refused(DatasetError, f"site {site} of mp-1", "8 sites"):
        list(read_jsonl(*files))
