"""The readers of outside files that `fuzz.py` feeds, each with what it does when a user gives the file, and small sound files for each.

A reader takes the files of one input, by name, and a folder of its own to put them in where it reads paths. It may raise an error of the
family XastructError, and nothing else; what it gives without one must be finite.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

Files = Mapping[str, bytes]

REPOSITORY = Path(__file__).parent.parent

#: Sound files of each reader, and those that were once a crash: a file an input, or a folder where an input has several.
CORPUS = REPOSITORY / "tests" / "fuzz" / "corpus"


class WrongNumberError(Exception):
    """A reader took a damaged file and answered with what is no number."""


def load_corpus(reader: str) -> dict[str, dict[str, bytes]]:
    """Inputs of a reader by name."""
    found = {}
    for path in sorted((CORPUS / reader).iterdir()):
        files = [path] if path.is_file() else sorted(own for own in path.rglob("*") if own.is_file())
        base = path.parent if path.is_file() else path
        # A file's name in an input is that of its reader; what stands before `--` tells inputs apart.
        found[path.name] = {own.relative_to(base).as_posix().rpartition("--")[2]: own.read_bytes() for own in files}
    return found


def put(files: Files, folder: Path) -> Path:
    """Write the files of an input; returns the path of the first."""
    paths = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths[0]


def _finite(what: str, *arrays: Any) -> None:
    for array in arrays:
        if array is not None and not np.isfinite(np.asarray(array, dtype=np.float64)).all():
            raise WrongNumberError(f"{what} is not finite.")


# ---------------------------------------------------------------- crystals


def crystal(files: Files, folder: Path) -> None:
    """A file of one crystal, as both command lines read it."""
    from aiida_xastruct.engine.crystal_file import read_crystal

    structure = read_crystal(put(files, folder))
    _finite("a coordinate", structure.lattice.matrix, structure.frac_coords)


def library_cif(files: Files, folder: Path) -> None:
    """A folder of CIF files, as screenings and builds of the reference library read it."""
    from aiida_xastruct.engine.reference.files import CifSource

    put(files, folder)
    _all_of(CifSource(folder))


def table_npz(files: Files, folder: Path) -> None:
    """A table of crystals."""
    from aiida_xastruct.engine.reference.files import NpzSource

    _all_of(NpzSource(put(files, folder)))


def members(files: Files, folder: Path) -> None:
    """Crystals of a group."""
    from aiida_xastruct.engine.reference.files import MemberSource

    _all_of(MemberSource(put(files, folder)))


def _all_of(source: Any) -> None:
    from aiida_xastruct.engine.errors import StructureError

    for source_id in sorted({one for ids in source.ids_by_element().values() for one in ids})[:3]:
        with contextlib.suppress(StructureError):  # of one crystal, which is left out
            source.structure(source_id)


def structures(files: Files, folder: Path) -> None:
    """Many crystals in one file, those of a screening."""
    from aiida_xastruct.engine.errors import StructureError
    from aiida_xastruct.engine.sitecache import structure_hash
    from aiida_xastruct.engine.structure import check_structure
    from aiida_xastruct.engine.structures_file import count_structures, read_structures

    (content,) = files.values()
    for _, structure in read_structures(io.BytesIO(content)):
        if not isinstance(structure, str):
            structure_hash(structure)
            with contextlib.suppress(StructureError):
                check_structure(structure)
    count_structures(io.BytesIO(content))


def optimade(files: Files, folder: Path) -> None:
    """An answer of a database that speaks OPTIMADE."""
    from aiida_xastruct.engine.crystal_sources import read_optimade

    (content,) = files.values()
    read_optimade(content, "odbx:1", "https://example.org/v1/structures/1")


# ---------------------------------------------------------------- spectra


def spectrum(files: Files, folder: Path) -> None:
    """A file of spectra, its format recognised by its content; with the quality report that an import makes."""
    from aiida_xastruct.engine.quality import with_quality
    from aiida_xastruct.engine.readers import read, read_measurement
    from aiida_xastruct.engine.scans import Scan, ScanParameters
    from aiida_xastruct.engine.spectrum_file import stated_edge

    ((name, content),) = files.items()
    stated_edge(content)
    for item in read(content, name):
        _finite("a spectrum", item.energy, item.mu)
        if not isinstance(item, Scan):
            _finite("a spectrum", item.mu0, item.e0 or 0.0)
    try:
        found = read_measurement([(name, content)])
    except ValueError:  # nor does it say which element absorbs
        found = read_measurement([(name, content)], ScanParameters(absorber="Fe"))
    json.dumps(with_quality(found).settings)


def pair_of_lines(files: Files, folder: Path) -> None:
    """Spectra and structures, one a line, that a family is measured on."""
    from aiida_xastruct.engine.prepare import read_jsonl

    put(files, folder)
    for record in read_jsonl(folder / "set.spectra.jsonl.gz", folder / "set.structures.jsonl.gz"):
        _finite("a spectrum", record.spectrum.energy, record.spectrum.mu)


def feff_path(files: Files, folder: Path) -> None:
    """A file of one of FEFF's paths."""
    from aiida_xastruct.engine.feff.path_files import path_chi, read_path

    (content,) = files.values()
    path_chi(read_path(content.decode(errors="replace")), np.linspace(2.0, 10.0, 9))


def feff_archive(files: Files, folder: Path) -> None:
    """What a job of many runs of FEFF brings back, and its report."""
    from aiida_xastruct.engine.feff.batch import read_report, unpack

    put(files, folder)
    inside = folder / "inside"
    inside.mkdir()
    before = {path for path in folder.rglob("*") if inside not in path.parents}
    unpack(folder / "sites.tar", inside)
    read_report(folder)
    if any(path.is_symlink() for path in inside.rglob("*")) or {path for path in folder.rglob("*") if inside not in path.parents} != before:
        raise WrongNumberError("a member of the archive left its folder.")


# ---------------------------------------------------------------- training sets


def dataset(files: Files, folder: Path) -> None:
    """A training set, and what its node asks of it."""
    from aiida_xastruct.engine.dataset import Dataset

    found = Dataset.load(put(files, folder))
    found.content_hash()
    for kind in found.tables:
        found.parts(kind)
        found.split(kind)
        found.present(kind)


def crystals(files: Files, folder: Path) -> None:
    """A table of crystals without spectra."""
    from aiida_xastruct.engine.crystals import Crystals

    found = Crystals.load(put(files, folder))
    found.content_hash()
    found.sites(found.of_part("train", 0))


def reference(files: Files, folder: Path) -> None:
    """A library of reference spectra; the shard's name is not compared, so that what is behind it is reached."""
    from aiida_xastruct.engine.reference.library import library_keys, read_reference

    put(files, folder)
    for record in read_reference(folder, verify=False):
        record.spectrum()
    library_keys(folder)


def build_state(files: Files, folder: Path) -> None:
    """The state of a build of the library."""
    from aiida_xastruct.engine.reference.library import export
    from aiida_xastruct.engine.reference.state import State

    put(files, folder)
    state = State(folder)
    state.known()
    export(state, folder)


def site_cache(files: Files, folder: Path) -> None:
    """A file that keeps features."""
    from aiida_xastruct.engine.sitecache import SiteCache

    with SiteCache(put(files, folder)) as cache:
        cache.get("a" * 64, [0])
        cache.get_absorbers("a" * 64, "Fe")


# ---------------------------------------------------------------- models


def model(files: Files, folder: Path) -> None:
    """A model that reads distances out of a XANES, and its answer."""
    from aiida_xastruct.engine.bundle import ModelBundle

    put(files, folder)
    answer = ModelBundle.load(folder).distances([_question()])[0]
    _finite("an answer", answer.mean_distance, answer.interval, answer.nearest_distance, answer.coordination)


def neighbours_model(files: Files, folder: Path) -> None:
    """A model that names neighbours, and its answer."""
    from aiida_xastruct.engine.bundle import ModelBundle

    put(files, folder)
    answer = ModelBundle.load(folder).neighbours([_question()], ["Fe", "O"])[0]
    _finite("a probability", list(answer.neighbours.values()))


def forward_model(files: Files, folder: Path) -> None:
    """A model that predicts an EXAFS, and its answer."""
    from aiida_xastruct.engine.bundle import ModelBundle
    from aiida_xastruct.engine.features import SITE_SIZE

    put(files, folder)
    answer = ModelBundle.load(folder).predict_from_features(np.zeros((1, SITE_SIZE), dtype=np.float32), ["Fe"])[0]
    _finite("a spectrum", answer.spectrum.mu, answer.band, answer.uncertainty)


def _question() -> Any:
    from aiida_xastruct.engine.spectrum import Spectrum

    energy = np.arange(7080.0, 7180.0, 0.5)
    return Spectrum(
        energy, 0.5 + np.arctan((energy - 7115.0) / 2.0) / np.pi, "Fe", "K", "XANES", "measured", "nominal", "flat", None, 7115.0
    )


def family(files: Files, folder: Path) -> None:
    """The folder of a family, as the engine opens it and as a profile installs it."""
    from aiida_xastruct.engine.bundle import FamilyBundle
    from aiida_xastruct.groups.family import _read

    put(files, folder)
    _read(folder)
    found = FamilyBundle.load(folder)
    for label in found.labels:
        task, _, kind = label.partition("-")
        found.model(task, kind)


def checkpoint(files: Files, folder: Path) -> None:
    """The state of a training: the network that was in training, and which models are finished."""
    from aiida_xastruct.engine.checkpoint import STATE_FOLDER, RunState, read_state

    put(files, folder)
    run = RunState(folder, "f" * 64)
    if not all(isinstance(label, str) for label in run.finished):
        raise WrongNumberError("what is finished is no list of labels.")
    read_state(folder / STATE_FOLDER / "state.safetensors") if (folder / STATE_FOLDER / "state.safetensors").is_file() else None


def batch(files: Files, folder: Path) -> None:
    """What a batch of predictions brings back from another machine."""
    from aiida_xastruct.engine.batch import FACTS, read_batch

    put(files, folder)
    found = read_batch(folder, files.get(FACTS, b"").decode(errors="replace"))
    _finite("a curve", found.mu, found.half_band)


def training_log(files: Files, folder: Path) -> None:
    """The log of a training that is followed while it runs."""
    from aiida_xastruct.engine.watch import divergence, read_log

    (content,) = files.values()
    lines = content.decode(errors="replace").splitlines()
    read_log(lines)
    divergence(lines)


# ---------------------------------------------------------------- settings


def configuration(files: Files, folder: Path) -> None:
    """The configuration of `xastruct train`."""
    from aiida_xastruct.engine.configuration import FamilyConfig, read_content

    FamilyConfig.from_dict(read_content(put(files, folder)))


def settings(files: Files, folder: Path) -> None:
    """Settings that come as plain values: of scans, processing, adoption and FEFF, and the protocols of FEFF's workflows."""
    from aiida_xastruct.engine.adoption import AdoptionParameters
    from aiida_xastruct.engine.errors import XastructError
    from aiida_xastruct.engine.feff.parameters import FeffParameters
    from aiida_xastruct.engine.processing import ProcessingParameters
    from aiida_xastruct.engine.scans import ScanParameters

    (content,) = files.values()
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):  # a Dict of AiiDA's has been read already
        return
    if not isinstance(given, dict):
        return
    for name, cls in (
        ("scan", ScanParameters),
        ("processing", ProcessingParameters),
        ("adoption", AdoptionParameters),
        ("feff", FeffParameters),
    ):
        if isinstance(given.get(name), dict):
            with contextlib.suppress(XastructError):
                asdict(cls.from_dict(given[name]))


READERS: dict[str, Callable[[Files, Path], None]] = {
    "crystal": crystal, "library_cif": library_cif, "table_npz": table_npz, "members": members, "structures": structures,
    "optimade": optimade, "spectrum": spectrum, "pair_of_lines": pair_of_lines, "feff_path": feff_path, "feff_archive": feff_archive,
    "dataset": dataset, "crystals": crystals, "reference": reference, "build_state": build_state, "site_cache": site_cache,
    "model": model, "neighbours_model": neighbours_model, "forward_model": forward_model, "family": family, "checkpoint": checkpoint,
    "batch": batch, "training_log": training_log, "configuration": configuration, "settings": settings,
}  # fmt: skip


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder in memory where there is one, gone when the context ends."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="xastruct-fuzz-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def feed(reader: str, files: Files) -> str:
    """Give an input to a reader; returns the sentence that it refuses it with, empty if it takes it.

    Raises:
        BaseException: whatever the reader raises beside the family XastructError.
    """
    from aiida_xastruct.engine.errors import XastructError

    with own_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            READERS[reader](files, folder)
        except XastructError as error:
            return str(error)
    return ""
