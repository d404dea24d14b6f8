"""Scattering paths beside the spectra of the library: made by FEFF, written once, read back, joined to a training set."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.dataset import Dataset, Holdout
from aiida_xastruct.engine.errors import DatasetError
from aiida_xastruct.engine.paths import PATH_COLUMNS, PATH_K, PathKind
from aiida_xastruct.engine.prepare import prepare, read_library
from aiida_xastruct.engine.reference.__main__ import main
from aiida_xastruct.engine.reference.library import export, library_keys, read_reference
from aiida_xastruct.engine.reference.scattering import make_paths, read_paths


@pytest.fixture(scope="module")
def library(built, tmp_path_factory):
    """MgO and NaCl, four sorts of site, with the paths of each."""
    folder = tmp_path_factory.mktemp("library")
    export(built, folder)
    failures: list[str] = []
    assert len(make_paths(folder, per_element=2, failures=failures)) == 1
    assert failures == []
    return folder


def test_every_site_has_its_paths(library):
    found = {(own.source_id, own.absorber): own for own in read_paths(library)}
    assert set(found) == {("mgo", "Mg"), ("mgo", "O"), ("nacl", "Na"), ("nacl", "Cl")}
    own = found["mgo", "Mg"]
    assert own.program.lower().startswith("feff")
    assert own.geometry.shape == (len(own.geometry), len(PATH_COLUMNS))
    assert own.amplitude.shape == (len(own.geometry), 2, len(PATH_K))
    assert np.isfinite(own.amplitude).all()
    single = own.geometry[own.geometry[:, 0] == PathKind.SINGLE]
    nearest = single[single[:, 4].argmin()]
    assert nearest[:4].tolist() == [PathKind.SINGLE, 8, 8, 6]
    assert nearest[4] == pytest.approx(2.106, abs=1e-3)


def test_status_counts_the_paths(library, capsys):
    number = sum(len(own.geometry) for own in read_paths(library))
    assert main(["status", "--library", str(library)]) == 0
    assert f"4 sites have their scattering paths, {number} in all" in capsys.readouterr().out


def test_what_is_there_is_not_made_again(library, capsys):
    before = sorted(path.name for path in library.iterdir())
    assert make_paths(library, per_element=2) == []
    assert main(["paths", "--library", str(library), "--sites", "2"]) == 0
    assert "already holds" in capsys.readouterr().out
    assert sorted(path.name for path in library.iterdir()) == before


def test_spectra_are_read_as_before(library):
    assert len(list(read_reference(library))) == len(library_keys(library)) == 4


def test_paths_join_the_training_set_and_survive_its_file(library, tmp_path):
    paths = list(read_paths(library))
    dataset, _ = prepare(read_library(library), Holdout(frozenset(), frozenset()), tmp_path / "sites.sqlite", paths=paths)
    table = dataset.paths
    assert len(table) == sum(len(own.geometry) for own in paths)
    absorber = dataset.tables["EXAFS"].absorber[table.site]
    assert set(absorber.tolist()) == {8, 11, 12, 17}
    dataset.save(tmp_path / "set.h5")
    read = Dataset.load(tmp_path / "set.h5")
    np.testing.assert_array_equal(read.paths.amplitude, table.amplitude)
    assert read.content_hash() == dataset.content_hash()
    read.paths = None
    assert read.content_hash() != dataset.content_hash()


def test_damage_is_noticed(library, tmp_path, refused):
    (shard,) = library.glob("paths-*.h5")
    broken = tmp_path / shard.name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    with refused(DatasetError, shard.name, "damaged"):
        list(read_paths(tmp_path))


def test_bad_options_are_one_sentence(library, capsys):
    assert main(["paths", "--library", str(library), "--sites", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err
    assert main(["paths", "--library", str(library / "nowhere")]) == 1
    assert "no reference library" in capsys.readouterr().err
