"""The Python of the how-to on training is run as it stands, and its jobs for a cluster are written as they would be submitted there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.common.folders import SandboxFolder
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_xastruct.calculations.train import TrainCalculation
from aiida_xastruct.groups.family import ModelFamily

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "training.md"


def script(builder: Any) -> tuple[str, str]:
    """The script of the job and its configuration, as they come to the cluster."""
    inputs = dict(builder.train._inputs(prune=True))
    process = instantiate_process(get_manager().get_runner(), TrainCalculation, **inputs)
    with SandboxFolder() as folder:
        process.presubmit(folder)
        return tuple(Path(folder.get_abs_path(name)).read_text() for name in ("_aiidasubmit.sh", "config.yaml"))


@pytest.mark.slow
def test_the_snippets_run(aiida_profile_clean: Any, make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = orm.Computer(
        label="cluster", hostname="cluster", transport_type="core.local", scheduler_type="core.slurm", workdir=str(tmp_path / "work")
    ).store()
    cluster.set_mpirun_command(["srun"])
    cluster.configure()
    make_dataset().save(tmp_path / "dataset.h5")
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    scripts = []
    for block in BLOCK.findall(PAGE.read_text()):
        exec(block, session)
        if "builder" in block and "run_get_node" not in block:
            scripts.append(script(session["builder"]))
    assert session["node"].is_finished_ok, session["node"].exit_message
    assert [model.name for model in ModelFamily.collection.get(label="mine/1").nodes] == ["distance-XANES"]
    (one, _), (eight, config), (container, _) = scripts
    assert "#SBATCH --gpus-per-node=1" in one
    assert "'/path/to/venv/bin/xastruct' 'train'" in one
    assert "srun" not in one
    for line in ("#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=4", "'srun' '/path/to/venv/bin/xastruct'"):
        assert line in eight
    assert {"  accelerator: gpu", "  devices: 4", "  nodes: 2", "  batch_size: 1024"} <= set(config.splitlines())
    assert "--nv" in container
    assert "/path/to/xastruct.sif" in container
