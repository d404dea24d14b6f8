"""Batches: what they answer does not depend on how they are computed, and no crystal is lost."""

from __future__ import annotations

import io
import json
import sqlite3

import numpy as np
import pytest

from aiida_xastruct.engine import batch as module
from aiida_xastruct.engine.batch import energy_grid, predict_batch
from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import CacheError, ModelError, StructureError
from aiida_xastruct.engine.sitecache import SiteCache
from aiida_xastruct.engine.structures_file import read_structures, write_structures

NAMES = ("Cu", "NaCl", "ZnS", "TiO2", "SrTiO3")


@pytest.fixture(scope="module")
def family():
    return FamilyBundle.load("default")


@pytest.fixture
def entries(crystal):
    return [(name, crystal(name)) for name in NAMES] + [("lost", "it was never there.")]


@pytest.mark.parametrize("kind", ["XANES", "EXAFS"])
def test_a_row_a_site_as_the_model_alone_says(family, entries, kind):
    found = predict_batch(family, entries, "", kind)
    assert [row["id"] for row in found.rows if "row" not in row] == ["lost"]
    table = found.table().to_pylist()
    assert len(table) == len(found.mu) + 1 == len(found.half_band) + 1
    alone = {name: family.predict(structure, [row["site"] for row in table if row["id"] == name], kind) for name, structure in entries[:-1]}
    for row, answer in zip(table[:-1], [answer for answers in alone.values() for answer in answers], strict=True):
        # Single precision: products of other shapes round otherwise, on each processor in its own way. Errors are a hundred times as large.
        np.testing.assert_allclose(found.mu[row["row"]], answer.spectrum.mu, atol=5e-4)
        np.testing.assert_allclose(row["e0"] + energy_grid(kind), answer.spectrum.energy)
        assert (row["absorber"], row["edge"], row["method"]) == (answer.spectrum.absorber, answer.spectrum.edge, "ml")
        assert row["domain_score"] == pytest.approx(answer.domain_score, rel=1e-2)


def test_numbers_do_not_depend_on_the_means(family, entries, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLICE", 2)
    plain = predict_batch(family, entries, "", "XANES")
    # Of these only a part is known at first, and each element by itself.
    cache = tmp_path / "cache.sqlite"
    predict_batch(family, entries[1:2], "Cl", "XANES", cache=cache)
    predict_batch(family, entries[1:4], "", "EXAFS", cache=cache)
    calls = []
    for means in ({"cache": cache}, {"cache": cache}, {"cores": 2}):
        found = predict_batch(family, entries, "", "XANES", progress=lambda *counts: calls.append(counts), **means)
        assert found.table().equals(plain.table())
        np.testing.assert_array_equal(found.mu, plain.mu)
        np.testing.assert_array_equal(found.half_band, plain.half_band)
        assert tuple(np.sum(calls, axis=0)) == (len(entries), len(plain.mu))
        calls.clear()


def test_known_features_are_not_computed_again(family, entries, tmp_path, monkeypatch):
    cache = tmp_path / "cache.sqlite"
    first = predict_batch(family, entries, "", "XANES", cache=cache)

    def fail(task):
        raise AssertionError(task)

    monkeypatch.setattr(module, "_compute", fail)
    assert predict_batch(family, entries, "", "XANES", cache=cache).table().equals(first.table())
    assert len(predict_batch(family, entries[3:4], "Ti", "EXAFS", cache=cache).mu) == 1
    # Features of another version of the algorithm are none.
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE absorber SET version = '0'")
    with pytest.raises(AssertionError):
        predict_batch(family, entries, "", "XANES", cache=cache)


def test_features_by_a_device_are_those_of_the_cpu(family, entries):
    plain = predict_batch(family, entries, "", "XANES")
    # "cpu:0" is no other device, but the way that many crystals at once take.
    together = predict_batch(family, entries, "", "XANES", device="cpu:0")
    np.testing.assert_allclose(together.mu, plain.mu, atol=1e-4)
    assert [row["id"] for row in together.rows] == [row["id"] for row in plain.rows]


def test_what_is_saved_is_what_was_found(family, entries, tmp_path):
    import pyarrow.parquet as pq

    found = predict_batch(family, entries[:2], "", "EXAFS")
    found.save(tmp_path)
    assert pq.read_table(tmp_path / "table.parquet").equals(found.table())
    np.testing.assert_array_equal(np.load(tmp_path / "mu.npy"), found.mu)
    facts = json.loads((tmp_path / "batch.json").read_text())
    assert facts == {
        "format": "xastruct-batch-1",
        "algorithm_version": module.ALGORITHM_VERSION["forward"],
        "kind": "EXAFS",
        "rows": 3,
        "spectra": 3,
    }


def test_an_empty_batch_is_an_empty_table(family):
    found = predict_batch(family, [], "", "XANES")
    assert found.table().num_rows == 0
    assert found.mu.shape == (0, len(energy_grid("XANES")))


def test_bad_questions(family, refused):
    with refused(ModelError, "use one of"):
        predict_batch(family, [], "", "XES")
    with refused(StructureError, "structures.jsonl.gz is no file of structures"):
        list(read_structures(io.BytesIO(b"nothing")))


def test_structures_come_back(crystal):
    stream = io.BytesIO()
    disordered = crystal("NaCl")
    disordered[0] = {"Na": 0.5, "K": 0.5}
    assert write_structures([("a", crystal("TiO2")), ("b", disordered), ("c", "no.")], stream) == 3
    stream.seek(0)
    (_, first), (_, second), third = read_structures(stream)
    assert first.matches(crystal("TiO2"))
    assert "disordered" in second
    assert third == ("c", "no.")


def test_a_name_that_comes_again_gets_a_number(crystal):
    """Two folders may each hold a NaCl.cif: neither crystal may pass for the other."""
    stream = io.BytesIO()
    assert write_structures([("NaCl", crystal("NaCl")), ("NaCl", crystal("Cu")), ("Cu", crystal("Cu"))], stream) == 3
    stream.seek(0)
    assert [(name, found.composition.reduced_formula) for name, found in read_structures(stream)] == [
        ("NaCl", "NaCl"), ("NaCl#2", "Cu"), ("Cu", "Cu"),
    ]  # fmt: skip


@pytest.mark.parametrize("names", [["a", "a", "a#2"], ["a", "a#2", "a"], ["a#2", "a", "a", "a#2"], ["a", "a#2", "a#2", "a", "a#2#2"]])
def test_a_number_is_no_name_that_another_entry_has(names):
    stream = io.BytesIO()
    write_structures([(name, "no crystal") for name in names], stream)
    stream.seek(0)
    written = [name for name, _ in read_structures(stream)]
    assert len(set(written)) == len(names)
    assert written[0] == names[0]


def test_a_cache_that_is_none_is_refused(tmp_path, refused):
    with refused(CacheError, "folder that exists"):
        SiteCache(tmp_path / "missing" / "features.sqlite")
    (tmp_path / "text").write_text("no database")
    with refused(CacheError, "cannot keep features"):
        SiteCache(tmp_path / "text")
