"""Files that lie about what they hold: cards, weights, sizes, names in archives. Each is refused, and nothing leaves its folder."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aiida_xastruct.engine.arrays import read_npy, read_npz
from aiida_xastruct.engine.bundle import CARD, DOMAIN, WEIGHTS, ModelBundle
from aiida_xastruct.engine.checkpoint import read_state
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.errors import DatasetError, FeffError, ModelError, SpectrumError, StructureError, XastructError
from aiida_xastruct.engine.feff.batch import unpack
from aiida_xastruct.engine.readers import read
from aiida_xastruct.engine.readers.text import MAX_BYTES
from aiida_xastruct.engine.reference.library import read_reference, store_shard
from aiida_xastruct.engine.structures_file import count_structures, read_structures


@pytest.fixture
def corpus(request):
    """Function that gives the folder of the sound files that a reader is fuzzed with."""
    return lambda reader: request.path.parent.parent / "fuzz" / "corpus" / reader


@pytest.fixture
def model(corpus, tmp_path):
    """A model of one's own to lie about."""
    folder = tmp_path / "model"
    shutil.copytree(corpus("model") / "tiny", folder)
    assert ModelBundle.load(folder).task.label == "distance-XANES"
    return folder


@pytest.mark.parametrize(
    "lie",
    [
        {"task": "neighbours"}, {"task": "forward"}, {"kind": "EXAFS"}, {"task": "../distance"}, {"architecture": {"width": 9, "depth": 1}},
        {"architecture": {"width": 10**9, "depth": 1}}, {"architecture": {"width": 8, "depth": 10**6}}, {"architecture": {"width": "8"}},
        {"algorithm_version": "999"}, {"calibration": {"factors": [1.0, 1.0], "coverage": 0.9}}, {"calibration": {}},
        {"calibration": {"factors": [float("nan"), 1.0, 1.0], "coverage": 0.9}},
        {"calibration": {"factors": [-1.0, 1.0, 1.0], "coverage": 0.9}},
        {"training_sites": {"Fe": -1}}, {"training_sites": {"Xx": 1}}, {"training_sites": []}, {"edge_shift": {"Fe": float("inf")}},
        {"edge_shift_by_engine": {"FEFF": 3}},
    ],
    ids=lambda lie: next(iter(lie)),
)  # fmt: skip
def test_a_card_that_lies(model, lie):
    card = json.loads((model / CARD).read_text())
    (model / CARD).write_text(json.dumps(card | lie))
    with pytest.raises(ModelError) as caught:
        ModelBundle.load(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", [WEIGHTS, DOMAIN])
@pytest.mark.parametrize("harm", ["nan", "inf", "shape", "less", "more"])
def test_weights_that_are_no_weights(model, file, harm):
    tensors = load_file(model / file)
    name = next(own for own in sorted(tensors) if tensors[own].ndim == 2)
    if harm in ("nan", "inf"):
        tensors[name][0, 0] = float(harm)
    elif harm == "shape":
        tensors[name] = np.ascontiguousarray(tensors[name].T[:-1])
    elif harm == "less":
        del tensors[name]
    else:
        tensors["999999999.more" if file == WEIGHTS else name] = np.zeros((3, 999), np.float32)
    save_file(tensors, model / file)
    with pytest.raises(ModelError):
        ModelBundle.load(model)


def test_a_model_that_says_it_has_other_features(corpus, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(corpus("forward_model") / "tiny", folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"features": "0" * 64}))
    with pytest.raises(ModelError, match="other SevenNet weights"):
        ModelBundle.load(folder)


@pytest.mark.parametrize("shape", [(10**12,), (10**7, 10**5)])
def test_hdf5_that_claims_more_than_it_holds(corpus, tmp_path, shape):
    path = shutil.copy(corpus("dataset") / "both--dataset.h5", tmp_path / "set.h5")
    with h5py.File(path, "r+") as file:
        del file["EXAFS/curve"]
        file.create_dataset("EXAFS/curve", shape=shape, dtype="f8", chunks=tuple(min(1000, one) for one in shape), compression="gzip")
    with pytest.raises(DatasetError, match="more than its file can hold"):
        Dataset.load(path)


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/XANES/curve")])
def test_hdf5_that_points_elsewhere(corpus, tmp_path, link):
    path = shutil.copy(corpus("dataset") / "both--dataset.h5", tmp_path / "set.h5")
    with h5py.File(path, "r+") as file:
        del file["EXAFS/curve"]
        file["EXAFS/curve"] = link
    with pytest.raises(DatasetError, match="no array of this file"):
        Dataset.load(path)


def test_a_shard_whose_name_is_not_its_hash(corpus, tmp_path):
    content = (corpus("reference") / "xanes--spectra-0.h5").read_bytes()
    path = store_shard(content, tmp_path, "xanes-")
    assert len(list(read_reference(tmp_path))) == 1
    path.write_bytes(content + b"\0")
    with pytest.raises(DatasetError, match="content does not match its name"):
        list(read_reference(tmp_path))


def test_numpy_heads_that_claim_more(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(4))
    lying = stream.getvalue().replace(b"(4,), ", b"(4000000000000,), ".ljust(6)[:18])
    (tmp_path / "a.npy").write_bytes(lying)
    with pytest.raises(ValueError):
        read_npy(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="of type object"):
        read_npy(tmp_path / "b.npy")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\0" * 60_000_000)
    with pytest.raises(ValueError, match="unpacks to 60 MB"):
        read_npz(tmp_path / "bomb.npz", ["x"], 50_000_000)


def test_an_athena_project_that_is_a_bomb():
    bomb = gzip.compress(b"# Athena project file" + b"\0" * (MAX_BYTES + 10), 9)
    assert len(bomb) < 1_000_000
    with pytest.raises(SpectrumError, match="unpacks to more than"):
        read(bomb, "bomb.prj")


def test_a_line_of_structures_without_an_end():
    bomb = gzip.compress(b'{"id": "' + b"x" * 30_000_000, 9)
    with pytest.raises(StructureError, match="a line is longer"):
        list(read_structures(io.BytesIO(bomb)))
    with pytest.raises(StructureError, match="a line is longer"):
        count_structures(io.BytesIO(bomb))


NAMES = ["../evil", "/tmp/evil", "a/../../evil", "a/b/evil", "..", "a", ".hidden/evil", "a/.evil", "a/" + "x" * 300]


def test_archives_stay_in_their_folder(tmp_path):
    archive, inside = tmp_path / "sites.tar", tmp_path / "inside"
    inside.mkdir()
    with tarfile.open(archive, "w") as tar:
        for name in [*NAMES, "site_0/xmu.dat"]:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"site_{ord(kind)}/link")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    unpack(archive, inside)
    assert [path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()] == ["site_0/xmu.dat"]
    assert {path.name for path in tmp_path.iterdir()} == {"sites.tar", "inside"}


def test_states_of_trainings_hold_no_code(tmp_path):
    import pickle

    (tmp_path / "state.safetensors").write_bytes(pickle.dumps({"epoch": 1}))
    with pytest.raises(ModelError, match="no state of a training run"):
        read_state(tmp_path / "state.safetensors")


def test_all_of_these_are_for_the_user():
    assert all(issubclass(kind, XastructError) for kind in (DatasetError, FeffError, ModelError, SpectrumError, StructureError))
