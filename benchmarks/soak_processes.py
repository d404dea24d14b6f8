"""The mixed processes of `benchmarks/soak.py`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

PROCESSES = ("feff", "predict", "infer", "screen", "train")

GOETHITE = Path(__file__).parent.parent / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


def training_set(path: Path) -> None:
    """240 sites whose spectra follow from their distances."""
    import numpy as np

    from aiida_xastruct.engine.dataset import MAX_Z, WIDE_GRID, Dataset, SiteTable
    from aiida_xastruct.engine.spectrum import XANES_GRID

    n = 240
    draw = np.random.default_rng(0)
    distance = draw.uniform(1.9, 2.7, n)
    curve, wide = (
        0.5 + np.arctan(above / 2.0) / np.pi + 0.1 * np.sin((above[None, :] - 5.0) / (6.0 * distance[:, None]) * np.pi)
        for above in (XANES_GRID, WIDE_GRID)
    )
    shell = np.zeros((n, MAX_Z), np.uint8)
    shell[:, 8] = 6
    table = SiteTable(
        material=np.arange(n), site=np.arange(n), absorber=np.full(n, 26), curve=curve.astype(np.float32), wide=wide.astype(np.float32),
        thermal=np.zeros((n, 0, len(XANES_GRID)), np.float32), edge_shift=np.zeros(n, np.float32), engine=np.zeros(n, np.int64),
        peer_split=np.array([""] * n), shell=shell, mean_distance=distance.astype(np.float32),
        nearest_distance=(distance - 0.05).astype(np.float32), features=np.zeros((n, 5), np.float32),
    )  # fmt: skip
    materials = [
        {"source": "soak", "source_id": str(i), "formula": f"Fe{i + 1}O", "space_group": 225, "prototype": "AB-225"} for i in range(n)
    ]
    Dataset(materials, ["FEFF"], {"XANES": table}).save(path)


def load(folder: Path, store: dict[str, Any]) -> None:
    """Make and load the profile; nothing of the user's own is touched."""
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / ".aiida").mkdir(parents=True, exist_ok=True)
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if "benchmark" not in config.profile_names:
        create_profile(config, name="benchmark", email="benchmark@localhost", **store)
        config.set_default_profile("benchmark")
        config.set_option("transport.task_retry_initial_interval", 2)
        config.store()
    load_profile("benchmark")


def submit_all(folder: Path, store: dict[str, Any], number: int) -> list[int]:
    """Submit the processes; their pks."""
    load(folder, store)
    from aiida.engine import submit
    from aiida.manage import get_manager
    from aiida.orm import Computer, Dict, SinglefileData, StructureData
    from pymatgen.core import Lattice, Structure

    from aiida_xastruct.calculations.functions.import_scans import import_scans
    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.groups.family import load_default_family
    from aiida_xastruct.tools.codes import bundled_feff_code, bundled_xastruct_code
    from aiida_xastruct.tools.structures import structure_chunks
    from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain
    from aiida_xastruct.workflows.infer import InferWorkChain
    from aiida_xastruct.workflows.predict import PredictWorkChain
    from aiida_xastruct.workflows.screen import ScreenWorkChain
    from aiida_xastruct.workflows.train import TrainWorkChain

    place = {"hostname": "localhost", "transport_type": "core.local", "scheduler_type": "core.direct", "workdir": str(folder / "scratch")}
    computer = Computer(label="localhost", **place).store()
    computer.set_default_mpiprocs_per_machine(1)
    computer.set_minimum_job_poll_interval(2.0)
    computer.configure(safe_interval=0.0)
    feff, xastruct = bundled_feff_code(), bundled_xastruct_code()
    load_default_family()
    training_set(folder / "set.h5")
    dataset = DatasetData.from_file(folder / "set.h5").store()
    goethite = import_scans(parameters=Dict({"absorber": "Fe"}), scan=SinglefileData(GOETHITE).store())
    small = {"parameters": {"scf_radius": 2.2, "fms_radius": 3.1, "energy_step": 1.0}}
    learned = {
        "name": "soak", "tasks": ["distance-XANES"], "architecture": {"width": 16, "depth": 1},
        "training": {"members": 1, "epochs": 40, "batch_size": 32, "devices": 1},
    }  # fmt: skip
    deadline = time.monotonic() + 300
    while not get_manager().get_broker().check_service_reachable() and time.monotonic() < deadline:
        time.sleep(1.0)
    get_manager().reset_broker()
    pks = []
    for index in range(number):
        # Every crystal is another one, so that nothing is taken from what was computed before.
        crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2 + 0.001 * index), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        structure = StructureData(pymatgen=crystal).store()
        kind = PROCESSES[index % len(PROCESSES)]
        if kind == "feff":
            builder = FeffBaseWorkChain.get_builder_from_protocol(feff, structure, 0, overrides=small)
        elif kind == "predict":
            builder = PredictWorkChain.get_builder_from_protocol(structure, sites=[0], kind="EXAFS", fallback="off")
        elif kind == "infer":
            builder = InferWorkChain.get_builder_for(goethite, kind="EXAFS" if index % 2 else "XANES")
        elif kind == "screen":
            builder = ScreenWorkChain.get_builder_from_chunks(list(structure_chunks([(f"mgo-{index}", crystal)], 1)), kind="EXAFS")
        else:
            overrides = {"config": learned, "max_iterations": 4}
            builder = TrainWorkChain.get_builder_from_protocol(xastruct, dataset, "fast", overrides=overrides)
        pks.append(int(submit(builder).pk))
    return pks
