"""Nothing is unpickled where the engine is imported, predicts, infers and goes on with a training; no socket is opened, nor in AiiDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCAN = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"

#: An audit hook sees what every library does, whatever names it has imported; it cannot be taken away, so that this runs in a process.
OFFLINE = """
import sys

phase = "import"

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind", "urllib.Request"):
        raise RuntimeError(f"{phase}: {event} {arguments!r}")

sys.addaudithook(watch)
"""

CLOSED = """
def watch(event, arguments):
    # e3nn reads its own constants from its own package when it is imported.
    if phase != "import" and event == "pickle.find_class":
        raise RuntimeError(f"{phase}: {event} {arguments!r}")

sys.addaudithook(watch)
import pickle, _pickle
import joblib, numpy, torch
import larch.xafs, xraydb
import aiida_xastruct.engine.cli as cli
import aiida_xastruct.engine.batch, aiida_xastruct.engine.family, aiida_xastruct.engine.joint, aiida_xastruct.engine.sevennet
import sevenn.model_build, lightning.pytorch

def forbidden(name, only=lambda *given, **named: True):
    def stop(*given, **named):
        if only(*given, **named):
            raise RuntimeError(f"{phase}: {name} was called")
    return stop

for module, name in [(own, name) for own in (pickle, _pickle) for name in ("load", "loads")] + [(torch, "load"), (joblib, "load")]:
    setattr(module, name, forbidden(f"{module.__name__}.{name}"))
load = numpy.load
def without_pickle(*given, **named):
    assert not named.get("allow_pickle"), "numpy.load was told to unpickle"
    return load(*given, **named)
numpy.load = without_pickle
pickle.Unpickler = forbidden("pickle.Unpickler")
for phase, arguments in COMMANDS:
    status = cli.main(arguments)
    assert status == 0, (phase, status)
print("closed")
"""

#: Every module of the package is imported, the explorer and the command line too.
AIIDA = """
import importlib, pkgutil
import aiida_xastruct
for module in pkgutil.walk_packages(aiida_xastruct.__path__, "aiida_xastruct."):
    importlib.import_module(module.name)

phase = "profile"
from aiida import load_profile, orm
from aiida.engine import run_get_node
from aiida.manage.configuration import create_profile, get_config
from ase.build import bulk
config = get_config(create=True)
create_profile(config, storage_backend="core.sqlite_dos", storage_config={"filepath": FOLDER}, name="closed", email="closed@localhost")
load_profile("closed")
from aiida_xastruct.calculations.functions.import_scans import import_scans
from aiida_xastruct.groups.family import load_default_family
from aiida_xastruct.workflows.infer import InferWorkChain
from aiida_xastruct.workflows.predict import PredictWorkChain
load_default_family()
salt = orm.StructureData(ase=bulk("NaCl", "rocksalt", a=5.64)).store()
scan = import_scans(parameters=orm.Dict({"absorber": "Fe"}), scan=orm.SinglefileData(SCAN).store())
for phase, builder in (
    ("predict", PredictWorkChain.get_builder_from_protocol(salt, sites=[0], fallback="off")),
    ("infer", InferWorkChain.get_builder_for(scan, kind="XANES")),
):
    node = run_get_node(builder)[1]
    assert node.is_finished_ok, (phase, node.exit_message)
print("closed")
"""


def run(commands: list[tuple[str, list[str]]], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `xastruct` commands, one after the other, in a process in which both are forbidden."""
    text = OFFLINE + CLOSED.replace("COMMANDS", repr(commands))
    return subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=580)


@pytest.mark.slow
def test_import_predict_infer_and_resume(make_dataset, tmp_path):
    import yaml
    from pymatgen.core import Lattice, Structure

    from aiida_xastruct.engine.checkpoint import STATE_FOLDER
    from aiida_xastruct.engine.configuration import FamilyConfig
    from aiida_xastruct.engine.errors import TimeIsUpError
    from aiida_xastruct.engine.family import make_family
    from aiida_xastruct.engine.watch import Watch

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(filename=str(tmp_path / "nacl.cif"))
    make_dataset().save(tmp_path / "set.h5")
    training = {"members": 2, "epochs": 3, "batch_size": 32, "accelerator": "cpu", "devices": 1, "progress": False}
    content = {"name": "closed", "tasks": ["distance-XANES"], "architecture": {"width": 16, "depth": 1}, "training": training}
    (tmp_path / "family.yaml").write_text(yaml.safe_dump(content | {"dataset": "set.h5"}))
    from aiida_xastruct.engine.dataset import Dataset

    class OneEpoch(Watch):
        """Ends a training after its first epoch."""

        begun = False

        def epoch(self, *given, **named):
            self.begun = True

        def is_over(self):
            return self.begun

    with pytest.raises(TimeIsUpError):
        make_family(Dataset.load(tmp_path / "set.h5"), FamilyConfig.from_dict(content), tmp_path / "family", watch=OneEpoch())
    assert list((tmp_path / "family" / STATE_FOLDER).rglob("*.checkpoint"))
    done = run(
        [
            ("predict", ["predict", "nacl.cif", "--absorber", "Na"]),
            ("predict EXAFS", ["predict", "nacl.cif", "--absorber", "Cl", "--kind", "EXAFS"]),
            ("infer", ["infer", str(SCAN), "--absorber", "Fe"]),
            ("resume", ["train", "family.yaml", "-o", "family"]),
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("closed\n")
    assert (tmp_path / "family" / "family.json").is_file()


@pytest.mark.slow
def test_every_module_and_the_work_chains_without_a_connection(tmp_path):
    text = OFFLINE + AIIDA.replace("FOLDER", repr(str(tmp_path / "storage"))).replace("SCAN", repr(str(SCAN)))
    (tmp_path / ".aiida").mkdir()
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("closed\n")
