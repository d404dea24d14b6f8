"""What is imported when: AiiDA's commands stay fast, and the engine does without AiiDA. Each test is a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "pymatgen", "larch", "lightning", "sevenn", "sklearn", "pandas", "matplotlib", "larixite", "spglib")

REPORT = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

FORBID = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiida", "aiida_pseudo"):
            raise ImportError(f"the engine imported {name}")

sys.meta_path.insert(0, Forbid())
"""


def run_python(code: str, home: Path, **environment: str) -> str:
    """Run code in an interpreter whose home is an empty folder; returns what it printed."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("AIIDA")} | {"HOME": str(home)} | environment
    result = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_imports_nothing_else(tmp_path):
    before = set(json.loads(run_python(REPORT, tmp_path)))
    after = set(json.loads(run_python("import aiida_xastruct\n" + REPORT, tmp_path)))
    assert after - before <= {"aiida_xastruct", "__future__"}


def test_entry_points_of_aiida_load_nothing_heavy(tmp_path):
    code = """
from importlib.metadata import distribution
for entry_point in distribution("aiida-xastruct").entry_points:
    if entry_point.group.startswith("aiida."):
        entry_point.load()
"""
    loaded = json.loads(run_python(code + REPORT, tmp_path, AIIDA_PATH=str(tmp_path)).splitlines()[-1])
    assert not set(loaded) & set(HEAVY)


def test_help_of_the_command_lines_loads_nothing_heavy(tmp_path):
    code = """
import sys
from click.testing import CliRunner
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida_xastruct.cli.root import cli
for command, arguments in ((cli, ["--help"]), (verdi, ["data", "xastruct", "--help"])):
    assert CliRunner().invoke(command, arguments).exit_code == 0
"""
    loaded = json.loads(run_python(code + REPORT, tmp_path, AIIDA_PATH=str(tmp_path)).splitlines()[-1])
    assert not set(loaded) & set(HEAVY)


def test_every_engine_module_imports_without_aiida(tmp_path):
    code = """
import importlib, pkgutil
import aiida_xastruct.engine as engine
for module in pkgutil.walk_packages(engine.__path__, "aiida_xastruct.engine."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    run_python(FORBID + code, tmp_path)
    assert not (tmp_path / ".aiida").exists()
