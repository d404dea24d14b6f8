"""Write setup.json (the AiiDA registry reads it) and requirements-engine.txt from pyproject.toml, the one source of metadata.

python scripts/generate_metadata.py           # write both
python scripts/generate_metadata.py --check   # exit 1 if either is out of date
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def distribution(requirement: str) -> str:
    """Normalised name of the package that a requirement asks for, e.g. `torch-geometric` for `torch_geometric>=2.6`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    if match is None:
        raise ValueError(f"{requirement!r} names no package; write it as 'name>=version'.")
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def version(root: Path = ROOT) -> str:
    """The `__version__` of the package, read without importing it."""
    tree = ast.parse((root / "aiida_xastruct" / "__init__.py").read_text())
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["__version__"]:
            return str(ast.literal_eval(statement.value))
    raise ValueError("aiida_xastruct/__init__.py sets no __version__.")


def setup_json(root: Path = ROOT) -> str:
    """Text of setup.json: the keywords of `setuptools.setup` that the AiiDA registry reads."""
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    entry_points = {"console_scripts": project["scripts"], **project["entry-points"]}
    content = {
        "name": project["name"],
        "version": version(root),
        "description": project["description"],
        "author": ", ".join(author["name"] for author in project["authors"]),
        "license": project["license"],
        "python_requires": project["requires-python"],
        "classifiers": project["classifiers"],
        "install_requires": project["dependencies"],
        "extras_require": project["optional-dependencies"],
        "entry_points": {
            group: [f"{name} = {target}" for name, target in sorted(members.items())] for group, members in sorted(entry_points.items())
        },
    }
    return json.dumps(content, indent=4) + "\n"


def requirements_engine(root: Path = ROOT) -> str:
    """Text of requirements-engine.txt: every dependency but those that `[tool.xastruct] not-engine` names."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    left_out = {distribution(name) for name in pyproject["tool"]["xastruct"]["not-engine"]}
    unknown = left_out - {distribution(requirement) for requirement in pyproject["project"]["dependencies"]}
    if unknown:
        raise ValueError(f"not-engine names {', '.join(sorted(unknown))}, which no dependency asks for; remove it.")
    kept = [requirement for requirement in pyproject["project"]["dependencies"] if distribution(requirement) not in left_out]
    header = "# Generated from pyproject.toml by scripts/generate_metadata.py: what aiida_xastruct.engine needs, without AiiDA.\n"
    return header + "".join(f"{requirement}\n" for requirement in kept)


def main() -> int:
    """Write the files, or with --check compare them; the exit status is the number of files that differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    stale = 0
    for name, content in {"setup.json": setup_json(), "requirements-engine.txt": requirements_engine()}.items():
        path = ROOT / name
        if path.exists() and path.read_text() == content:
            continue
        if check:
            print(f"{name} is out of date; run `python scripts/generate_metadata.py`.", file=sys.stderr)
            stale += 1
        else:
            path.write_text(content)
            print(f"wrote {name}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
