"""Versions of files: what is newer is refused and says to update, what is older and cannot be read says how to make it again."""

from __future__ import annotations

import json
import shutil

import h5py
import pytest

from aiida_xastruct.engine.batch import FACTS, read_batch
from aiida_xastruct.engine.bundle import CARD, FAMILY_CARD, FamilyBundle
from aiida_xastruct.engine.crystals import Crystals
from aiida_xastruct.engine.dataset import FORMAT, Dataset
from aiida_xastruct.engine.errors import DatasetError, ModelError, XastructError
from aiida_xastruct.engine.reference.library import FORMAT as REFERENCE
from aiida_xastruct.engine.reference.library import read_reference


@pytest.fixture
def corpus(monkeypatch, request):
    """Function that gives the folder of the sound files that a reader is fuzzed with."""
    return lambda reader: request.path.parent.parent / "fuzz" / "corpus" / reader


def stated(path, text):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = text


@pytest.mark.parametrize(
    ("version", "words"), [(1, "make it again"), (2, "make it again"), (3, "make it again"), (5, "update"), (40, "update")]
)
def test_datasets(corpus, tmp_path, version, words):
    path = shutil.copy(corpus("dataset") / "both--dataset.h5", tmp_path / "set.h5")
    assert FORMAT == "xastruct-dataset-4"
    assert Dataset.load(path).materials
    stated(path, f"xastruct-dataset-{version}")
    with pytest.raises(DatasetError, match=words) as caught:
        Dataset.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "xastruct-dataset", "xastruct-dataset-x", "other-4", "xastruct-dataset-4 "])
def test_what_is_no_version_is_no_dataset(corpus, tmp_path, text):
    path = shutil.copy(corpus("dataset") / "both--dataset.h5", tmp_path / "set.h5")
    stated(path, text)
    with pytest.raises(DatasetError, match="is not a xastruct-dataset-4 file"):
        Dataset.load(path)


def test_crystals_and_libraries(corpus, tmp_path):
    path = shutil.copy(corpus("crystals") / "four--crystals.h5", tmp_path / "crystals.h5")
    assert len(Crystals.load(path)) == 4
    stated(path, "xastruct-crystals-2")
    with pytest.raises(DatasetError, match="update aiida-xastruct"):
        Crystals.load(path)
    path.unlink()
    path = shutil.copy(corpus("reference") / "xanes--spectra-0.h5", tmp_path / "xanes-0.h5")
    assert len(list(read_reference(tmp_path, verify=False))) == 1
    stated(path, REFERENCE.replace("-1", "-2"))
    with pytest.raises(DatasetError, match="update aiida-xastruct"):
        list(read_reference(tmp_path, verify=False))


@pytest.mark.parametrize("file", [FAMILY_CARD, f"distance-XANES/{CARD}"])
def test_models_and_families(corpus, tmp_path, file):
    folder = tmp_path / "family"
    shutil.copytree(corpus("family") / "tiny", folder)
    content = json.loads((folder / file).read_text())
    name = "family" if file == FAMILY_CARD else "model"
    content.pop("format", None)
    for version, words in ((None, ""), (1, ""), (2, "update aiida-xastruct"), ("x", "is not a")):
        own = {} if version is None else {"format": f"xastruct-{name}-{version}"}
        (folder / file).write_text(json.dumps(content | own))
        if not words:
            assert FamilyBundle.load(folder).model("distance", "XANES").sites == {26: 99}
            continue
        with pytest.raises(ModelError, match=words):
            FamilyBundle.load(folder).model("distance", "XANES")


def test_batches(corpus, tmp_path):
    folder = tmp_path / "batch"
    shutil.copytree(corpus("batch") / "one", folder)
    said = (folder / FACTS).read_text()
    assert read_batch(folder, said).mu.shape == (1, 137)
    with pytest.raises(XastructError, match="update aiida-xastruct"):
        read_batch(folder, json.dumps(json.loads(said) | {"format": "xastruct-batch-2"}))
