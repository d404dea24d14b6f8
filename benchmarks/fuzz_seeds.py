# ruff: noqa: E501  (files are written out as they are)
"""Write the sound files that `fuzz.py` starts from, small ones for every reader; what is there already stays.

python benchmarks/fuzz_seeds.py
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_readers import CORPUS, REPOSITORY
from pymatgen.core import Lattice, Structure

sys.path.insert(0, str(REPOSITORY / "tests"))

FEFF = REPOSITORY / "tests" / "fixtures" / "feff"


def keep(reader: str, name: str, files: dict[str, bytes]) -> None:
    """Write one input: a file `NAME--FILE`, or a folder NAME where it has several."""
    if len(files) == 1:
        ((file, content),) = files.items()
        target = {CORPUS / reader / f"{name}--{file}": content}
    else:
        target = {CORPUS / reader / name / file: content for file, content in files.items()}
    for path, content in target.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)


def _folder(path: Path) -> dict[str, bytes]:
    return {own.relative_to(path).as_posix(): own.read_bytes() for own in sorted(path.rglob("*")) if own.is_file()}


def rock_salt() -> Structure:
    """FeO."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.33), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def crystals(scratch: Path) -> None:
    """Files of crystals."""
    from aiida_xastruct.engine.reference.files import Member, write_members
    from aiida_xastruct.engine.structures_file import write_structures

    feo = rock_salt()
    keep("crystal", "feo", {"crystal.cif": feo.to(fmt="cif").encode()})
    keep("crystal", "symmetric", {"crystal.cif": feo.to(fmt="cif", symprec=0.01).encode()})
    keep("crystal", "feo", {"crystal.vasp": feo.to(fmt="poscar").encode()})
    keep("crystal", "feo", {"crystal.xsf": feo.to(fmt="xsf").encode()})
    lattice = " ".join(f"{value:.3f}" for value in feo.lattice.matrix.ravel())
    atoms = "\n".join(f"{site.specie} {site.x:.3f} {site.y:.3f} {site.z:.3f}" for site in feo)
    head = f'{len(feo)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    keep("crystal", "feo", {"crystal.xyz": f"{head}\n{atoms}\n".encode()})
    keep("library_cif", "symmetric", {"crystal.cif": feo.to(fmt="cif", symprec=0.01).encode()})
    stream = io.BytesIO()
    write_structures([("feo", feo), ("lost", "it was never there.")], stream)
    keep("structures", "two", {"structures.jsonl.gz": stream.getvalue()})
    keep("optimade", "rocksalt", {"answer.json": (REPOSITORY / "tests/fixtures/optimade/rocksalt.json").read_bytes()})
    np.savez_compressed(
        scratch / "table.npz", ids=np.array(["feo"]), cells=np.array([[4.33] * 3 + [90] * 3]), natoms=np.array([8]),
        Z=np.array([site.specie.Z for site in feo]), frac=feo.frac_coords,
    )  # fmt: skip
    keep("table_npz", "feo", {"table.npz": (scratch / "table.npz").read_bytes()})
    write_members(scratch / "members.jsonl", [Member("a", feo), Member("b", None, "it is no crystal.")])
    keep("members", "two", {"members.jsonl": (scratch / "members.jsonl").read_bytes()})


def spectra() -> None:
    """Files of spectra."""
    from aiida_xastruct.engine.readers import read
    from aiida_xastruct.engine.writers import ENDINGS, WRITERS, write

    xdi = (REPOSITORY / "examples/data/20K_GOE_Fe_K_240.00000.xdi").read_text().splitlines(keepends=True)
    head = [line for line in xdi if line.startswith("#")]
    rows = [line for line in xdi if not line.startswith("#")]
    keep("spectrum", "goethite", {"scan.xdi": "".join(head + rows[:: max(1, len(rows) // 150)]).encode()})
    energy = np.concatenate([np.arange(7050.0, 7150.0, 1.0), np.arange(7150.0, 7600.0, 10.0)])
    mu = 0.1 + 0.5 + np.arctan((energy - 7115.0) / 2.0) / np.pi
    plain = "".join(f"{x:.1f} {y:.4f}\n" for x, y in zip(energy, mu, strict=True))
    keep("spectrum", "plain", {"scan.dat": f"# energy mu\n{plain}".encode()})
    keep(
        "spectrum",
        "detectors",
        {
            "scan.csv": (
                "Energy (eV),I0,I1\n" + "".join(f"{x},{1e5},{1e5 * np.exp(-y):.1f}\n" for x, y in zip(energy, mu, strict=True))
            ).encode()
        },
    )
    words = {"label": "goethite", "bkg_z": "Fe", "fft_edge": "k", "bkg_eshift": "0.5", "titles": "one"}
    perl = "# Athena project file -- Demeter version 0.9.26\n\n$old_group = 'abcd';\n@args = ("
    perl += ",".join(f"'{key}','{value}'" for key, value in words.items()) + ");\n"
    for name, values in (("x", energy), ("y", mu)):
        perl += f"@{name} = (" + ",".join(f"'{value:.3f}'" for value in values) + ");\n"
    keep("spectrum", "athena", {"project.prj.gz": gzip.compress(f"{perl}[record]\n\n1;\n".encode(), mtime=0)})
    keep("spectrum", "athena", {"project.prj": f"{perl}[record]\n\n1;\n".encode()})
    project = {
        "_____header1": "# Athena project file -- Demeter version 0.9.26",
        "abcd": {"args": words, "x": energy.tolist(), "y": np.round(mu, 3).tolist()},
    }
    keep("spectrum", "athena", {"project.json": json.dumps(project).encode()})
    for folder, name in (("exafs", "xmu.dat"), ("xanes", "xmu.dat"), ("exafs", "chi.dat")):
        if (FEFF / folder / name).is_file():
            keep("spectrum", folder, {name: (FEFF / folder / name).read_bytes()})
    feff = next(item for item in read((FEFF / "exafs" / "xmu.dat").read_bytes(), "xmu.dat"))
    ending = {own: end for end, own in ENDINGS.items() if end.startswith(".")}
    for file_format in WRITERS:
        keep(
            "spectrum",
            "export",
            {f"spectrum{'.nxs' if file_format == 'nexus' else ending[file_format]}": write(file_format, feff, {"band": None})},
        )
    feo = rock_salt()
    document = {
        "material_id": "mp-1", "task_id": "mp-1", "spectrum_id": "mp-1-XANES-Fe-K", "absorbing_element": "Fe", "absorbing_index": 0, "edge": "K",
        "spectrum_type": "XANES", "spectrum": {"x": energy.tolist(), "y": np.round(mu, 3).tolist(), "structure": None}, "structure": feo.as_dict(),
    }  # fmt: skip
    document["spectrum"].pop("structure")
    keep("spectrum", "materials-project", {"mp.json": json.dumps([document]).encode()})
    row = {
        "material_id": "m",
        "site": 0,
        "engine": "FEFF",
        "absorber": "Fe",
        "edge": "K",
        "kind": "XANES",
        "energy_eV": energy.tolist(),
        "mu": np.round(mu, 3).tolist(),
    }
    structure = {
        "material_id": "m",
        "lattice": feo.lattice.matrix.tolist(),
        "species": [str(site.specie) for site in feo],
        "frac": feo.frac_coords.tolist(),
    }
    lines = {"set.spectra.jsonl.gz": row, "set.structures.jsonl.gz": structure}
    keep("pair_of_lines", "one", {name: gzip.compress((json.dumps(own) + "\n").encode(), mtime=0) for name, own in lines.items()})


def feff() -> None:
    """What FEFF leaves."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name in ("xmu.dat", "feff.inp"):
            content = (FEFF / "exafs" / name).read_bytes()[:4000] if (FEFF / "exafs" / name).is_file() else b"x\n"
            member = tarfile.TarInfo(f"feo.site_0/{name}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    report = {"cores": 1, "wall_seconds": 1.0, "sites": {"feo.site_0": {"exit_status": 0, "wall_seconds": 1.0, "cpu_seconds": 1.0}}}
    from aiida_xastruct.engine.feff.batch import REPORT_FILE, Ran

    report["sites"] = {"feo.site_0": asdict(Ran(0, 1.0, 1.0))}
    keep("feff_archive", "one", {"sites.tar": stream.getvalue(), REPORT_FILE: json.dumps(report).encode()})
    head = " FeO\n Path    1      icalc       2\n " + "-" * 60 + "\n   2   6.000   2.1650    2.8 -3.5 nleg, deg, reff, rnrmav(bohr), edge\n"
    head += "        x         y         z   pot at#\n     0.0000    0.0000    0.0000  0  26 Fe absorbing atom\n     2.1650    0.0000    0.0000  1   8 O\n"
    head += "    k   real[2*phc]   mag[feff]  phase[feff] red factor   lambda     real[p]@#\n"
    rows = "".join(
        f"{k:7.3f} {3.0 - 0.3 * k:.4E} {0.3:.4E} {-k:.4E} {0.9:.3E} {5.0 + k:.4E} {k + 0.5:.4E}\n" for k in np.arange(0.0, 15.0, 0.5)
    )
    keep("feff_path", "one", {"feff0001.dat": (head + rows).encode()})


def training_sets(scratch: Path) -> None:
    """Training sets, libraries and what lies beside them."""
    from aiida_xastruct.engine.crystals import Crystals
    from aiida_xastruct.engine.dataset import MAX_Z, WIDE_GRID, Dataset, SiteTable
    from aiida_xastruct.engine.paths import PATHS_SIZE
    from aiida_xastruct.engine.reference.library import shards, store_shard
    from aiida_xastruct.engine.sitecache import SiteCache
    from aiida_xastruct.engine.spectrum import EXAFS_GRID, XANES_GRID
    from aiida_xastruct.engine.structure import Absorber

    n = 4
    shell = np.zeros((n, MAX_Z), dtype=np.uint8)
    shell[:, 8] = 6
    common: dict[str, Any] = {
        "material": np.arange(n) % 2, "site": np.arange(n), "absorber": np.full(n, 26), "edge_shift": np.zeros(n, np.float32),
        "engine": np.zeros(n, np.int64), "peer_split": np.array([""] * n), "shell": shell, "mean_distance": np.full(n, 2.1, np.float32),
        "nearest_distance": np.full(n, 2.0, np.float32), "features": np.zeros((n, 5), np.float32),
    }  # fmt: skip
    tables = {}
    for kind, grid in (("XANES", XANES_GRID), ("EXAFS", EXAFS_GRID)):
        wide = len(WIDE_GRID) if kind == "XANES" else 0
        curve, draws = np.ones((n, len(grid)), np.float32), 0 if kind == "XANES" else 1
        tables[kind] = SiteTable(
            curve=curve, wide=np.ones((n, wide), np.float32), thermal=np.zeros((n, draws, len(grid)), np.float32), **common
        )
    materials = [
        {"source": "x", "source_id": str(i), "formula": f"Fe{i + 1}O", "space_group": 225, "prototype": "AB-225"} for i in range(2)
    ]
    Dataset(materials, ["FEFF"], tables).save(scratch / "dataset.h5")
    keep("dataset", "both", {"dataset.h5": (scratch / "dataset.h5").read_bytes()})
    names = ("material", "site", "absorber", "shell", "mean_distance", "nearest_distance")
    Crystals(materials, **{name: common[name] for name in names}, paths=np.zeros((n, PATHS_SIZE), np.float32)).save(scratch / "crystals.h5")
    keep("crystals", "four", {"crystals.h5": (scratch / "crystals.h5").read_bytes()})
    library(scratch, store_shard, shards)
    with SiteCache(scratch / "cache.sqlite") as cache:
        from aiida_xastruct.engine.sitecache import AbsorberRows, SiteFacts, StructureFacts
        from aiida_xastruct.engine.structure import FirstShell

        facts = SiteFacts(FirstShell(("O",), (2.1,)), np.zeros(3, np.float32))
        cache.put("a" * 64, StructureFacts(225, "AB-225", "", {0: facts}))
        cache.put_absorbers("a" * 64, AbsorberRows([Absorber(0, "Fe", 4)], np.zeros((1, 3), np.float32)))
    connection = sqlite3.connect(scratch / "cache.sqlite")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("VACUUM")
    connection.close()
    keep("site_cache", "one", {"cache.sqlite": (scratch / "cache.sqlite").read_bytes()})


def library(scratch: Path, *_: Any) -> None:
    """A state of a build with one site of each kind, and its shards."""
    from aiida_xastruct.engine.reference.library import export
    from aiida_xastruct.engine.reference.state import RECORDS, State, pack

    folder = scratch / "state"
    state = State(folder)
    state.create()
    feo = rock_salt()
    structure = {"lattice": feo.lattice.matrix.tolist(), "species": [str(site.specie) for site in feo], "frac": feo.frac_coords.tolist()}
    common = {
        "source": "npz", "source_id": "feo", "source_version": "1", "fingerprint": "f" * 16, "absorber": "Fe", "edge": "K", "program": "FEFF",
        "uuid": "u", "site": 0, "multiplicity": 4, "settings": {"kind": "XANES"}, "notes": {}, "structure": structure,
    }  # fmt: skip
    energy = np.linspace(7100.0, 7160.0, 20)
    xanes = {
        "kind": "XANES",
        "energy": pack(energy),
        "mu": pack(np.ones(20)),
        "mu0": pack(np.ones(20)),
        "e0": None,
        "chi": pack(np.zeros((0, 20))),
        "conditions": [],
    }
    k = np.arange(0.05, 20.01, 0.05)
    chi = 0.1 * np.sin(4.2 * k) * np.exp(-0.02 * k**2)
    exafs = {
        "kind": "EXAFS", "energy": pack(7120.0 + k**2 / 0.26246842), "mu": pack(1.0 + chi), "mu0": pack(np.ones_like(k)), "e0": 7120.0,
        "chi": pack(chi[None].astype(np.float32)), "conditions": [[300.0, 400.0]],
    }  # fmt: skip
    for own in (xanes, exafs):
        state.append(RECORDS, {**common, **own})
    keep(
        "build_state",
        "two",
        {
            RECORDS: (folder / RECORDS).read_bytes(),
            "failures.jsonl": b'{"source": "npz", "source_id": "x", "site": 0, "edge": "K", "kind": "XANES"}\n',
        },
    )
    for path in export(state, scratch / "library"):
        keep("reference", path.name.partition("-")[0], {"spectra-0.h5": path.read_bytes()})


def models(scratch: Path) -> None:
    """Models with networks of a few numbers, a family of one, and states of trainings."""
    import torch

    from aiida_xastruct.engine import ALGORITHM_VERSION
    from aiida_xastruct.engine.bundle import ModelBundle
    from aiida_xastruct.engine.content import content_hash
    from aiida_xastruct.engine.features import SITE_SIZE
    from aiida_xastruct.engine.models.domain import DomainIndex
    from aiida_xastruct.engine.models.ensemble import Architecture, Ensemble
    from aiida_xastruct.engine.models.tasks import Task
    from aiida_xastruct.engine.sevennet import FOLDER
    from aiida_xastruct.engine.spectrum import EXAFS_GRID

    torch.manual_seed(0)
    sets = {"set_threshold": 0.1, "best_threshold": 0.5, "coverage": 0.9}
    calibration: dict[str, Any] = {
        "distance": {"factors": [1.0, 1.0, 1.0], "coverage": 0.9}, "neighbours": sets,
        "forward": {
            "error_model": {"weights": [0.0, 1.0, 0.0, 0.0]}, "profile": [1.0] * len(EXAFS_GRID), "simultaneous": 2.0, "pointwise": 1.0,
            "bound": 2.0, "risk_target": 1.0, "threshold": 0.5, "accepted": 0.5, "coverage": 0.9,
        },
    }  # fmt: skip
    for reader, name, kind in (
        ("model", "distance", "XANES"),
        ("neighbours_model", "neighbours", "XANES"),
        ("forward_model", "forward", "EXAFS"),
    ):
        task = Task(name, kind)  # type: ignore[arg-type]
        architecture = Architecture(width=8, depth=1)
        length = SITE_SIZE if name == "forward" else task.n_in
        position = task.position(torch.zeros(1, length), torch.zeros(1, task.n_in)).shape[1]
        domain = DomainIndex(torch.randn(position, 2), torch.zeros(position), torch.randn(9, 2), 1.0)
        card = {
            "task": name, "kind": kind, "elements": ["Fe"], "edges": ["K"], "training_sites": {"Fe": 99}, "training_data_hash": "0" * 64,
            "features": content_hash(FOLDER) if name == "forward" else "", "engine_version": "0", "reference_programs": ["FEFF"],
            "algorithm_version": ALGORITHM_VERSION[name], "architecture": asdict(architecture), "edge_shift": {"Fe": 15.0},
            "edge_shift_by_engine": {"FEFF": {"Fe": 15.0}}, "calibration": calibration[name], "metrics": {},
            "composition": {"chemistry": [0.1] * 10, "pool": [0.1] * 4, "calibration": sets},
        }  # fmt: skip
        folder = scratch / f"{name}-{kind}"
        ModelBundle(card, Ensemble(task, [architecture.build(task)]), domain).save(folder)
        keep(reader, "tiny", _folder(folder))
    whole = scratch / "family"
    shutil.copytree(scratch / "distance-XANES", whole / "distance-XANES")
    (whole / "family.json").write_text(json.dumps({"name": "tiny", "version": "1", "models": ["distance-XANES"]}))
    (whole / "materials.txt").write_text("x 1 FeO 225\n")
    keep("family", "tiny", _folder(whole))


def runs(scratch: Path) -> None:
    """What a training and a batch leave, and settings."""
    import torch

    from aiida_xastruct.engine.batch import Batch
    from aiida_xastruct.engine.checkpoint import write_state
    from aiida_xastruct.engine.spectrum import XANES_GRID

    write_state(
        scratch / "state.safetensors", {"weights": {"a": torch.ones(2, 2)}, "optimizer": {0: [torch.zeros(2)]}, "epoch": 3, "name": "x"}
    )
    run = {"fingerprint": "f" * 64, "finished": ["forward-XANES"]}
    keep(
        "checkpoint",
        "one",
        {"training/run.json": json.dumps(run).encode(), "training/state.safetensors": (scratch / "state.safetensors").read_bytes()},
    )
    common = {"structure": 0, "id": "feo", "hash": "a" * 64, "formula": "FeO"}
    rows = [
        {
            **common,
            "row": 0,
            "site": 0,
            "absorber": "Fe",
            "edge": "K",
            "multiplicity": 4,
            "e0": 7120.0,
            "method": "ml",
            "uncertainty": 0.1,
            "reason": "x",
        },
        {**common, "id": "lost", "structure": 1, "reason": "it was never there."},
    ]
    curve = np.ones((1, len(XANES_GRID)), np.float32)
    Batch("XANES", rows, curve, curve).save(scratch / "batch")
    keep("batch", "one", _folder(scratch / "batch"))
    log = [
        {"run": "r"},
        *({"task": "forward-XANES", "network": 0, "epoch": i, "loss": 1.0 / (i + 1), "select_loss": 1.0} for i in range(3)),
    ]
    keep("training_log", "three", {"training.jsonl": "\n".join(map(json.dumps, log)).encode()})
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        keep("configuration", path.stem, {"family.yaml": path.read_bytes()})
    given = {
        "scan": {"absorber": "Fe", "edge": "K", "kind": "EXAFS", "mode": "transmission", "columns": {"energy": "1", "i0": "2", "i1": "3"}, "groups": ["a"]},
        "processing": {"energy_shift": 1.0, "glitches": [7200.0], "pre_edge": [-150.0, -30.0], "k_range": [2.0, 12.0], "k_weight": 2, "window": "hanning", "composition": "Fe2O3", "e0": 7112.0},
        "adoption": {}, "feff": {"kind": "XANES", "scf_radius": 4.3, "fms_radius": 5.0, "cards": {}},
    }  # fmt: skip
    keep("settings", "all", {"settings.json": json.dumps(given).encode()})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        crystals(place)
        spectra()
        feff()
        training_sets(place)
        models(place)
        runs(place)
