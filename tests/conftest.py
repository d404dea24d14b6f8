"""Fixtures of the whole suite: a temporary AiiDA profile on the store that `--store` names, and small real inputs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_xastruct.engine.spectrum import Spectrum

# AiiDA makes its configuration folder when it is imported, before any fixture runs: not in the user's home.
os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="xastruct-tests-")

pytest_plugins = "aiida.tools.pytest_fixtures"

#: Fixtures by which a test reads or writes the profile.
PROFILE_FIXTURES = {"aiida_profile_clean", "aiida_localhost", "provenance", "site"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that chooses where profiles of the tests are kept."""
    parser.addoption(
        "--store",
        choices=("sqlite", "postgresql", "production"),
        default="sqlite",
        help="where profiles are kept: sqlite (no services), postgresql, or production (PostgreSQL with RabbitMQ)",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A process more than xdist would take, which is one for each core: many tests wait for another process."""
    from xdist.plugin import pytest_xdist_auto_num_workers as usual

    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else usual(config) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests that may touch the store, which are worth a run on each; begin with the files that take long, lest one be alone."""
    engine = Path(__file__).parent / "engine"
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        # Every test has the profile in its closure, since it is made for all; few name it themselves.
        named = "aiida_profile" in inspect.signature(item.function).parameters if isinstance(item, pytest.Function) else False
        # The engine may not import AiiDA, which `make lint` watches over, so that few of its tests know a store.
        if named or asked & PROFILE_FIXTURES or engine not in item.path.parents:
            item.add_marker("store")
    yield  # what is not asked for is left out
    tests = Counter(item.path for item in items)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("exhaustive"))
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))


@pytest.fixture(scope="session")
def new_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], dict[str, Any]]]:
    """Function that makes an empty store, as the keywords by which AiiDA makes a profile of it."""
    store = request.config.getoption("--store")
    with ExitStack() as services:
        if store == "sqlite":
            yield lambda: {
                "storage_backend": "core.sqlite_dos",
                "storage_config": {"filepath": str(tmp_path_factory.mktemp("storage"))},
            }
            return
        # Only here, so that the tests on SQLite need neither server nor its client.
        from services import postgresql, rabbitmq

        server = services.enter_context(postgresql())
        broker: dict[str, Any] = {}
        if store == "production":
            broker = {"broker_backend": "core.rabbitmq", "broker_config": services.enter_context(rabbitmq())}
        yield lambda: {
            "storage_backend": "core.psql_dos",
            "storage_config": server.create_database(tmp_path_factory.mktemp("repository")),
            **broker,
        }


@pytest.fixture(scope="session", autouse=True)
def aiida_profile(aiida_config: Any, aiida_profile_factory: Any, new_store: Callable[[], dict[str, Any]]) -> Iterator[Any]:
    """The loaded temporary profile; in place of AiiDA's own, which is on SQLite always."""
    with aiida_profile_factory(aiida_config, **new_store()) as profile:
        yield profile


@pytest.fixture(autouse=True)
def _reports_are_kept() -> Iterator[None]:
    """Undo what a command does to AiiDA's logging: it tells as little as it was asked for, for as long as its process lives."""
    yield
    from aiida.common import log

    if log.CLI_ACTIVE:
        log.CLI_ACTIVE = log.CLI_LOG_LEVEL = None
        log.configure_logging(with_orm=True)


@pytest.fixture
def spectrum() -> Spectrum:
    """A measured-like Fe K edge: an arctangent step with a white line, 200 points over -100 to 300 eV around the edge."""
    energy = np.linspace(7012.0, 7412.0, 201)
    mu = 0.5 + np.arctan((energy - 7118.0) / 2.0) / np.pi + 0.4 * np.exp(-(((energy - 7124.0) / 5.0) ** 2))
    return Spectrum(energy, mu, "Fe", "K", "XANES", settings={"beamline": "P65"})


@pytest.fixture
def ml_spectrum() -> Spectrum:
    """A learned spectrum with its background, Cu K EXAFS."""
    energy = np.linspace(8979.0, 9879.0, 226)
    mu = 1.0 + 0.05 * np.sin(np.sqrt(energy - 8979.0))
    return Spectrum(energy, mu, "Cu", "K", "EXAFS", "ml", "feff", "flat", mu0=np.ones_like(mu), e0=8979.0, settings={"family": "default"})


def _write_model(folder: Path, task: str, kind: str, seed: int = 0) -> Path:
    """Write a tiny real model: safetensors weights of a linear map and a complete card."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    save_file({"weight": weights}, folder / "weights.safetensors")
    card = {
        "task": task,
        "kind": kind,
        "edges": ["K", "L3"],
        "elements": ["Fe", "Cu"],
        "training_data_hash": "0" * 64,
        "metrics": {"r2": 0.9},
        "engine_version": "FEFF 8.5L",
        "algorithm_version": "1",
        "note": f"{task} of {kind}",
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1))
    return folder


def _write_family(folder: Path, seed: int = 0) -> Path:
    """Write a tiny real family: three models, and one file that they share."""
    folder.mkdir(parents=True)
    for task, kind in [("forward", "XANES"), ("neighbours", "EXAFS"), ("distance", "EXAFS")]:
        _write_model(folder / f"{task}-{kind}", task, kind, seed)
    (folder / "shared.json").write_text(json.dumps({"grid": [1, 2, 3]}))
    (folder / "family.json").write_text('{"name": "tiny",   "format": "test"}')
    return folder


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Function that writes a tiny model."""
    return _write_model


@pytest.fixture
def write_family() -> Callable[..., Path]:
    """Function that writes a tiny family."""
    return _write_family


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Folder of a tiny model."""
    return _write_model(tmp_path / "forward-XANES", "forward", "XANES")


@pytest.fixture
def family_folder(tmp_path: Path) -> Path:
    """Folder of a tiny family."""
    return _write_family(tmp_path / "family")


@pytest.fixture
def dataset_file(tmp_path: Path) -> Path:
    """A training set of six EXAFS spectra of four materials, as the engine writes it."""
    from aiida_xastruct.engine.dataset import GRIDS, MAX_Z, Dataset, SiteTable

    n = 6
    random = np.random.default_rng(0)
    curve = random.normal(size=(n, len(GRIDS["EXAFS"]))).astype(np.float32)
    table = SiteTable(
        material=np.array([0, 0, 1, 2, 3, 3]),
        site=np.arange(n),
        absorber=np.array([26, 26, 29, 29, 92, 92]),
        curve=curve,
        wide=np.zeros((n, 0), dtype=np.float32),
        thermal=np.full((n, 2, len(GRIDS["EXAFS"])), np.nan, dtype=np.float32),
        edge_shift=np.zeros(n, dtype=np.float32),
        engine=np.zeros(n, dtype=np.int64),
        peer_split=np.array([""] * n),
        shell=np.ones((n, MAX_Z), dtype=np.uint8),
        mean_distance=np.full(n, 2.0, dtype=np.float32),
        nearest_distance=np.full(n, 1.9, dtype=np.float32),
        features=random.normal(size=(n, 5)).astype(np.float32),
    )
    materials = [
        {"source": "amcsd", "source_id": str(i), "formula": formula, "space_group": 225, "prototype": "AB-225"}
        for i, formula in enumerate(["FeO", "CuO", "CuCl", "UO2"])
    ]
    path = tmp_path / "made-here.h5"
    Dataset(materials, ["FEFF 8.5L"], {"EXAFS": table}).save(path)
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz source: MgO, NaCl, and one structure with overlapping atoms."""
    path = tmp_path_factory.mktemp("source") / "three.npz"
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    np.savez(
        path,
        ids=np.array(["mgo", "nacl", "broken"]),
        cells=np.array([[4.212] * 3 + [90] * 3, [5.64] * 3 + [90] * 3, [4.0] * 3 + [90] * 3]),
        natoms=np.array([8, 8, 2]),
        Z=np.array([12] * 4 + [8] * 4 + [11] * 4 + [17] * 4 + [12, 8]),
        frac=np.concatenate([corners, corners, [[0, 0, 0], [0.05, 0, 0]]]),
    )
    return path


@pytest.fixture(scope="session")
def build_command(table: Path) -> Callable[[Path], list[str]]:
    """Function that gives the command of a build of that source into a state folder, EXAFS in a fixed order."""
    program = [sys.executable, "-m", "aiida_xastruct.engine.reference", "build"]
    return lambda state: [*program, "--state", str(state), "--source", "npz", "--path", str(table), "--kinds", "EXAFS", "--seed", "1"]


@pytest.fixture(scope="session")
def built(build_command: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """State folder of a finished build of that source: EXAFS of the four sorts of site."""
    from aiida_xastruct.engine.reference.state import State

    folder = tmp_path_factory.mktemp("state")
    # In its own process: a build lowers its priority for good.
    subprocess.run(build_command(folder), check=True, capture_output=True, timeout=240)
    return State(folder)


#: Where FEFF puts every edge of the synthetic sets, eV above the table.
EDGE_SHIFT = 15.0


def _table(kind: str, n: int, absorbers: tuple[int, ...], seed: int, materials: int) -> Any:
    """Sites whose curves follow from one hidden number each, the distance, which the first feature states."""
    from aiida_xastruct.engine.dataset import MAX_Z, WIDE_GRID, SiteTable
    from aiida_xastruct.engine.features import MAX_NEIGHBOURS, SITE_SIZE
    from aiida_xastruct.engine.paths import PATHS_SIZE, PathKind
    from aiida_xastruct.engine.sevennet import SevenNetFeatures
    from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID

    random = np.random.default_rng(seed)
    absorber = np.array(absorbers)[np.arange(n) % len(absorbers)]
    distance = random.uniform(1.9, 2.7, n)
    metallic = distance > 2.3
    amplitude = np.where(metallic, 0.2, 0.1)[:, None]
    if kind == "XANES":
        grid = XANES_GRID
        curve, wide = (
            0.5 + np.arctan(above / 2.0) / np.pi + amplitude * np.sin((above[None, :] - 5.0) / (6.0 * distance[:, None]) * np.pi)
            for above in (grid, WIDE_GRID - EDGE_SHIFT)
        )
    else:
        grid, wide = EXAFS_GRID, np.zeros((n, 0))
        curve = amplitude * 10.0 * np.sin(2.0 * grid * distance[:, None]) * np.exp(-0.01 * grid**2) / grid**2
    shell = np.zeros((n, MAX_Z), dtype=np.uint8)
    shell[~metallic, 8] = 6
    shell[metallic, 29] = 12
    features = np.zeros((n, SITE_SIZE), dtype=np.float32)
    learned = SevenNetFeatures.size
    features[:, :learned] = 0.1 * random.normal(size=(n, learned))
    features[:, :16] = (distance[:, None] - 2.3) / 0.23
    for row in range(n):
        count = int(shell[row].sum())
        z, r = (29 if metallic[row] else 8), distance[row]
        features[row, learned : learned + count] = r
        features[row, learned + MAX_NEIGHBOURS :][:count] = z
        features[row, -PATHS_SIZE:][:8] = (PathKind.SINGLE, z, z, count, r, r, r, 0.0)
    return SiteTable(
        material=np.arange(n, dtype=np.int64) % materials,
        site=np.arange(n, dtype=np.int64),
        absorber=absorber.astype(np.int64),
        curve=curve.astype(np.float32),
        wide=wide.astype(np.float32),
        thermal=np.full((n, 0 if kind == "XANES" else 2, len(grid)), np.nan, dtype=np.float32),
        edge_shift=np.full(n, EDGE_SHIFT, dtype=np.float32),
        engine=np.zeros(n, dtype=np.int64),
        peer_split=np.array([""] * n),
        shell=shell,
        mean_distance=distance.astype(np.float32),
        nearest_distance=(distance - 0.05).astype(np.float32),
        features=features,
        target=curve.astype(np.float32),
    )


def _dataset(kinds: tuple[str, ...] = ("XANES",), n: int = 260, absorbers: tuple[int, ...] = (26, 29), seed: int = 0) -> Any:
    from aiida_xastruct.engine.dataset import GRIDS, Dataset

    count = n // 2
    materials = [
        {"source": "made_here", "source_id": f"m-{i}", "formula": f"Fe{i + 1}CuO", "space_group": 225, "prototype": "AB-225"}
        for i in range(count)
    ]
    tables = {kind: _table(kind, n, absorbers, seed + index, count) for index, kind in enumerate(kinds)}
    assert set(kinds) <= set(GRIDS)
    return Dataset(materials, ["FEFF of the tests"], tables)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Any]:
    """Function that makes a synthetic training set: two sites a material, each material a group of its own."""
    return _dataset


def _parsed(process: str, inputs: dict[str, Any], files: dict[str, bytes], computer: Any) -> Any:
    """A finished job of FEFF around recorded output, with what its parser makes of it, all stored."""
    from aiida.common import LinkType
    from aiida.orm import CalcJobNode, FolderData
    from aiida.plugins import ParserFactory

    node = CalcJobNode(computer=computer, process_type=f"aiida.calculations:{process}")
    for name, value in inputs.items():
        node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=name)
    node.set_option("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
    node.base.repository.put_object_from_bytes(b"{}", "refused.json")
    node.store()
    retrieved = FolderData()
    for name, content in files.items():
        retrieved.base.repository.put_object_from_bytes(content, name)
    retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="retrieved")
    retrieved.store()
    outputs, function = ParserFactory(process).parse_from_node(node, store_provenance=False)
    node.set_exit_status(function.exit_status or 0)
    for name, value in outputs.items():
        value.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
        value.store()
    return node


@pytest.fixture(scope="module")
def provenance(aiida_profile: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the package makes of rock salt, MgO: stored twice, predicted alone and in a batch, by FEFF alone and in a batch, and inferred.

    NaCl is predicted beside it. A training set grew by the batch of FEFF, and the model `learned` was trained on it.
    """
    import io
    import tarfile
    from dataclasses import asdict
    from types import SimpleNamespace

    from aiida.engine import calcfunction
    from aiida.orm import Computer, Dict, Int, List, Str, StructureData
    from pymatgen.core import Lattice, Structure

    from aiida_xastruct.calculations.functions.infer_local_structure import infer_local_structure
    from aiida_xastruct.calculations.functions.predict_batch import predict_batch, structures_node
    from aiida_xastruct.calculations.functions.predict_spectra import predict_spectra
    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.data.model import ModelData
    from aiida_xastruct.engine.feff.batch import ARCHIVE_FILE, REPORT_FILE, Ran
    from aiida_xastruct.groups.family import load_default_family

    aiida_profile.reset_storage()
    folder = tmp_path_factory.mktemp("provenance")
    recorded = {path.name: path.read_bytes() for path in (Path(__file__).parent / "fixtures" / "feff" / "exafs").iterdir()}
    mgo, nacl = (
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), list(elements), [[0, 0, 0], [0.5, 0.5, 0.5]])
        for length, elements in ((4.212, ("Mg", "O")), (5.64, ("Na", "Cl")))
    )
    made = SimpleNamespace(crystal=mgo, structure=StructureData(pymatgen=mgo).store(), twin=StructureData(pymatgen=mgo).store())
    made.other = StructureData(pymatgen=nacl).store()
    made.family = load_default_family()
    made.model = made.family.get_model("forward", "EXAFS")
    inputs = {"sites": List([0]), "kind": Str("EXAFS"), "model": made.model}
    made.predicted = predict_spectra.run_get_node(structure=made.structure, **inputs)[1].outputs.spectra.site_0
    made.predicted_other = predict_spectra.run_get_node(structure=made.other, **inputs)[1].outputs.spectra.site_0
    structures = structures_node({"mgo": mgo, "nacl": nacl}).store()
    made.table = predict_batch.run_get_node(structures=structures, absorber=Str(""), kind=Str("EXAFS"), model=made.model)[1].outputs.table

    computer = Computer("localhost", "localhost", transport_type="core.local", scheduler_type="core.direct", workdir=str(folder)).store()
    asked = {"parameters": Dict({"kind": "EXAFS"})}
    made.run = _parsed("xastruct.feff", {"structure": made.twin, "site": Int(0), **asked}, recorded, computer)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in recorded.items():
            item = tarfile.TarInfo(f"mgo.site_0/{name}")
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    report = {"sites": {"mgo.site_0": asdict(Ran(0, 1.0, 1.0))}}
    files = {ARCHIVE_FILE: archive.getvalue(), REPORT_FILE: json.dumps(report).encode()}
    made.batch = _parsed("xastruct.feff_batch", {"structures": structures, "sites": Dict({"mgo": [0]}), **asked}, files, computer)
    models = {task: made.family.get_model(task, "EXAFS") for task in ("neighbours", "distance")}
    made.answer = infer_local_structure(spectrum=made.run.outputs.spectrum, kind=Str("EXAFS"), **models)

    @calcfunction
    def grow(dataset, collection):  # type: ignore[no-untyped-def]
        larger = dataset.load()
        (name,) = (item.structure for item in collection)
        larger.materials.append({**larger.materials[0], "source_id": name})
        larger.save(folder / "larger.h5")
        return DatasetData.from_file(folder / "larger.h5")

    _dataset(n=4).save(folder / "first.h5")
    made.imported = DatasetData.from_file(folder / "first.h5").store()
    made.grown = grow(dataset=made.imported, collection=made.batch.outputs.collection)
    card = json.loads((_write_model(folder / "learned", "forward", "EXAFS", seed=7) / "card.json").read_text())
    (folder / "learned" / "card.json").write_text(json.dumps(card | {"training_data_hash": made.grown.content_hash}))
    made.learned = ModelData.from_folder(folder / "learned", label="learned").store()
    return made
