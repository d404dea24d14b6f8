"""What the package says of itself is what it is: metadata, entry points, dependencies, import rules."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import aiida_xastruct

ROOT = Path(__file__).resolve().parents[1]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {("console_scripts", name): target for name, target in PROJECT["scripts"].items()} | {
    (group, name): target for group, members in PROJECT["entry-points"].items() for name, target in members.items()
}

#: Where a package is imported under another name than it is installed by.
DISTRIBUTIONS = {
    "aiida": "aiida-core",
    "aiida_pseudo": "aiida-pseudo",
    "aiida_quantumespresso": "aiida-quantumespresso",
    "feff10": "feff10-rs",
    "larch": "xraylarch",
    "mp_api": "mp-api",
    "sklearn": "scikit-learn",
    "torch_geometric": "torch-geometric",
    "yaml": "pyyaml",
}


def test_generated_files_are_up_to_date():
    subprocess.run([sys.executable, ROOT / "scripts" / "generate_metadata.py", "--check"], check=True)


def test_setup_json_equals_pyproject():
    content = json.loads((ROOT / "setup.json").read_text())
    assert content["name"] == PROJECT["name"]
    assert content["version"] == aiida_xastruct.__version__
    assert content["install_requires"] == PROJECT["dependencies"]
    assert content["extras_require"] == PROJECT["optional-dependencies"]
    assert content["classifiers"] == PROJECT["classifiers"]
    in_json = {(group, line.split(" = ")[0]): line.split(" = ")[1] for group, lines in content["entry_points"].items() for line in lines}
    assert in_json == DECLARED


@pytest.mark.parametrize(("group", "name"), sorted(DECLARED))
def test_entry_point_is_installed_and_loads(group, name):
    (entry_point,) = entry_points(group=group, name=name)
    assert entry_point.value == DECLARED[group, name]
    assert callable(entry_point.load())


def test_names_of_entry_points_are_ours():
    for group, name in DECLARED:
        assert name == "xastruct" or name.startswith(("xastruct.", "xastruct-", "aiida-xastruct")), (group, name)


def test_every_plugin_has_an_entry_point():
    from aiida.engine import CalcJob, WorkChain
    from aiida.orm import Data, Group
    from aiida.parsers import Parser

    targets = set(DECLARED.values())
    for room in ("calculations", "data", "groups", "parsers", "workflows"):
        package = importlib.import_module(f"aiida_xastruct.{room}")
        for module_info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(module_info.name)
            for name, member in vars(module).items():
                if getattr(member, "__module__", None) != module.__name__ or name.startswith("_"):
                    continue
                is_plugin = inspect.isclass(member) and issubclass(member, (CalcJob, WorkChain, Parser, Data, Group))
                if is_plugin and member.__subclasses__() and module_info.name.endswith((".recovery", ".workflows.crystal")):
                    continue  # what others build on; nobody runs it
                if is_plugin or getattr(member, "is_process_function", False):
                    assert f"{module.__name__}:{name}" in targets, f"{name} in {module.__name__} has no entry point"


def imported_packages(paths: list[Path]) -> set[str]:
    """Top-level names of what modules import, wherever in their code."""
    names = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"aiida_xastruct", "demo_parts"}


def distributions(lines: list[str]) -> set[str]:
    """Normalised names in a list of requirements."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from generate_metadata import distribution
    finally:
        sys.path.pop(0)
    return {distribution(line) for line in lines if line and not line.startswith("#")}


def check_dependencies(folders: list[str], requirements: list[str]) -> None:
    """Whatever is imported is declared, and whatever is declared is imported, or run by its name."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    declared = distributions(requirements)
    imported = {DISTRIBUTIONS.get(name, name) for name in imported_packages(paths)}
    extras = PROJECT["optional-dependencies"]
    optional = distributions([*extras["explore"], *extras["materials-project"], *extras["xspectra"]])
    assert imported - optional <= declared, "imported, not declared"
    module_of = {distribution: module for module, distribution in DISTRIBUTIONS.items()}
    text = "\n".join(path.read_text() for path in paths)
    unused = {name for name in declared - imported if not re.search(rf'"{module_of.get(name, name)}\b', text)}
    assert not unused, "declared, not used"


def test_engine_requirements_are_what_the_engine_uses():
    check_dependencies(["aiida_xastruct/engine"], (ROOT / "requirements-engine.txt").read_text().splitlines())


def test_dependencies_are_what_the_package_uses():
    check_dependencies(["aiida_xastruct", "examples"], PROJECT["dependencies"])


def test_every_process_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "processes.md").read_text()
    for group in ("aiida.calculations", "aiida.workflows"):
        for name, target in PROJECT["entry-points"][group].items():
            is_function = name.startswith("xastruct.functions.")
            line = f".. autofunction:: {target.replace(':', '.')}" if is_function else f".. process:: {group}:{name}"
            assert f"{line}\n" in page, name


def test_import_contracts_hold():
    # In a process of its own: import-linter silences every logger that exists, and so AiiDA's reports in the tests that follow.
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_licence_and_notice_are_in_the_installed_metadata():
    assert PROJECT["license-files"] == ["LICENSE", "NOTICE"]
    notice = (ROOT / "NOTICE").read_text()
    for words in ("FEFF10.0 Copyright (c) 2020", "feff85exafs", "Yutack Park", "CC BY 4.0", "Downs"):
        assert words in notice
