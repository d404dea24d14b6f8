"""Shards: what goes in comes out, once, and nothing is rewritten."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from aiida_xastruct.engine.errors import DatasetError, StructureError
from aiida_xastruct.engine.reference import ReferenceRecord, export, library_keys, read_reference
from aiida_xastruct.engine.reference.compute import LIBRARY_PARAMETERS
from aiida_xastruct.engine.reference.crystal import fingerprint
from aiida_xastruct.engine.reference.library import K_GRID, MAX_BYTES, _rounded, shards
from aiida_xastruct.engine.reference.sources import AmcsdSource, read_structure
from aiida_xastruct.engine.reference.state import FAILURES, RECORDS, REJECTED, State, pack, unpack
from aiida_xastruct.engine.spectrum import chi_k, find_e0


def test_build_computes_every_sort_of_site_once(built):
    records = list(built.lines(RECORDS))
    assert sorted((record["source_id"], record["absorber"]) for record in records) == [
        ("mgo", "Mg"),
        ("mgo", "O"),
        ("nacl", "Cl"),
        ("nacl", "Na"),
    ]
    assert all(record["multiplicity"] == 4 for record in records)
    rejected = {value["source_id"]: value["reason"] for value in built.lines(REJECTED)}
    assert list(rejected) == ["broken"]
    assert "apart" in rejected["broken"]
    assert list(built.lines(FAILURES)) == []


def test_round_trip(built, tmp_path):
    written = export(built, tmp_path)
    assert len(written) == 1
    assert written[0].stat().st_size < MAX_BYTES
    found = {record.key: record for record in read_reference(tmp_path)}
    assert len(found) == 4
    for stored in built.lines(RECORDS):
        record = found[("npz", stored["source_id"], stored["site"], stored["edge"], "EXAFS")]
        assert isinstance(record, ReferenceRecord)
        energy, mu, mu0 = (unpack(stored[name]).astype(float) for name in ("energy", "mu", "mu0"))
        np.testing.assert_allclose(record.energy, energy[-400:], atol=0.02)
        np.testing.assert_allclose(record.mu, mu[-400:], atol=2e-4)
        np.testing.assert_allclose(record.mu0, mu0[-400:], atol=1e-4)
        assert record.draws.shape == (4, 400)
        assert record.e0 == stored["e0"]
        assert record.uuid == stored["uuid"]
        assert record.settings == json.loads(json.dumps(LIBRARY_PARAMETERS["EXAFS"].to_dict()))
        crystal = record.crystal()
        assert crystal[record.site].specie.symbol == record.absorber
        assert fingerprint(crystal) == record.fingerprint


def test_disorder_damps_more_the_hotter(built, tmp_path):
    export(built, tmp_path)
    far = K_GRID > 8
    for record in read_reference(tmp_path):
        cold = np.std((record.mu / record.mu0 - 1)[far])
        # sigma^2 of the correlated Debye model grows with T / theta^2 at these temperatures.
        order = np.argsort(record.conditions[:, 0] / record.conditions[:, 1] ** 2)
        damped = [np.std(record.draws[i][far]) for i in order]
        assert damped[0] < cold
        assert damped[-1] < damped[0]
        assert ((record.conditions[:, 0] >= 80) & (record.conditions[:, 0] <= 400)).all()


def test_spectra_go_through_the_engine(built, tmp_path):
    export(built, tmp_path)
    record = next(read_reference(tmp_path))
    spectrum = record.spectrum(draw=2)
    assert spectrum.settings["temperature_k"] == pytest.approx(record.conditions[2, 0])
    k, chi = chi_k(spectrum)
    np.testing.assert_allclose(np.interp(K_GRID[40:], k, chi), record.draws[2][40:], atol=1e-3)
    assert find_e0(record.spectrum()) == record.e0


def test_shards_are_never_rewritten(built, tmp_path):
    first = export(built, tmp_path)[0]
    before = (first.read_bytes(), first.stat().st_mtime_ns)
    assert export(built, tmp_path) == []
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert len(library_keys(tmp_path)) == 4
    # The same records make the same shard anywhere: its name is its content.
    assert export(built, tmp_path / "elsewhere")[0].name == first.name


def test_only_new_records_are_exported(built, tmp_path):
    lines = (built.folder / RECORDS).read_text().splitlines()
    partial = State(tmp_path / "state")
    partial.create()
    (partial.folder / RECORDS).write_text("\n".join(lines[:3]) + "\n" + lines[3][:200])
    assert len(export(partial, tmp_path / "library")) == 1
    assert len(library_keys(tmp_path / "library")) == 3
    assert len(export(built, tmp_path / "library")) == 1
    assert len(list(read_reference(tmp_path / "library"))) == 4
    assert len(shards(tmp_path / "library")) == 2


def test_append_after_a_cut_off_line(tmp_path):
    state = State(tmp_path)
    (tmp_path / FAILURES).write_text('{"a": 1}\n{"b": ')
    state.append(FAILURES, {"c": 3})
    assert list(state.lines(FAILURES)) == [{"a": 1}, {"c": 3}]


def test_damage_is_noticed(built, tmp_path):
    shard = export(built, tmp_path)[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="damaged"):
        list(read_reference(tmp_path))
    with pytest.raises(DatasetError, match="no reference library"):
        next(read_reference(tmp_path / "nothing"))


def test_another_format_is_refused(built, tmp_path):
    shard = export(built, tmp_path)[0]
    with h5py.File(shard, "a") as file:
        file.attrs["format"] = "xastruct-reference-9"
    with pytest.raises(DatasetError, match="reads 'xastruct-reference-1'"):
        list(read_reference(tmp_path, verify=False))


def test_a_site_that_fails_the_sanity_check_is_left_out(built, tmp_path):
    moved = State(tmp_path / "state")
    moved.create()
    for record in built.lines(RECORDS):
        if record["absorber"] == "Cl":
            record |= {"e0": record["e0"] + 40.0, "energy": pack(unpack(record["energy"]) + 40.0)}
        moved.append(RECORDS, record)
    export(moved, tmp_path / "library")
    assert len(library_keys(tmp_path / "library")) == 4
    assert sorted(record.absorber for record in read_reference(tmp_path / "library")) == ["Mg", "Na", "O"]


def test_rounding_keeps_five_digits():
    values = np.random.default_rng(0).normal(size=1000)
    assert np.max(np.abs(_rounded(values) / values - 1)) < 6.2e-5
    assert len(np.unique(_rounded(values).view(np.uint32) & 0x1FF)) == 1


def test_amcsd_is_read_again_and_compared():
    galena, notes = AmcsdSource().structure("3")
    assert galena.composition.reduced_formula == "PbS"
    assert notes == {"missing_hydrogen": False}
    assert read_structure("amcsd", "3", fingerprint(galena)) == galena
    with pytest.raises(StructureError, match="reads differently"):
        read_structure("amcsd", "3", "0" * 16)
    with pytest.raises(StructureError, match="no code"):
        read_structure("amcsd", "999999999")


def test_amcsd_refuses_what_is_not_clean():
    source = AmcsdSource()
    with pytest.raises(StructureError, match="disordered"):
        source.structure("7336")
    with pytest.raises(StructureError, match="160 atoms"):
        source.structure("19611")
