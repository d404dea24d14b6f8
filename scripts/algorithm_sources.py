"""Guard of the engine's versions: what a task's answers are computed by, and whether it has changed under the same version.

python scripts/algorithm_sources.py                                # exit 1 if a task's sources have changed and nobody said so
python scripts/algorithm_sources.py --record                       # after the version of a task was raised
python scripts/algorithm_sources.py --no-numerical-change REASON   # the sources have changed, and no number of an answer has

Tasks are those of `engine.ALGORITHM_VERSION`, and "features", whose version is `engine.FEATURES_VERSION`. The sources of a task are the
modules of `aiida_xastruct/engine` that its entry modules import, directly or not, inside functions too; imports for type checkers do not
count. A module's hash is that of its syntax tree without docstrings, so that prose and layout are free.
`tests/engine/algorithm_sources.json` holds for each task the version, the hash of the sources when it was first recorded under it, each
change since that altered no number, with the reason, and the hashes of today's modules; together they make a chain without a gap.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "aiida_xastruct" / "engine"
RECORD = ROOT / "tests" / "engine" / "algorithm_sources.json"

#: Modules that turn an input into an answer: `predict_batch` and `predict_spectra`; `infer_local_structure`; what is kept of crystals.
ENTRIES = {"forward": ("batch",), "neighbours": ("joint",), "distance": ("joint",), "features": ("features", "sitecache")}

#: Where the versions themselves are; no answer depends on anything else in it.
VERSIONS = "__init__.py"


def versions(engine: Path) -> dict[str, str]:
    """The versions by task, read without importing them."""
    found = {}
    for statement in ast.parse((engine / VERSIONS).read_text()).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            found[ast.unparse(target)] = ast.literal_eval(statement.value)
    try:
        return {**found["ALGORITHM_VERSION"], "features": found["FEATURES_VERSION"]}
    except KeyError as error:
        raise SystemExit(f"{engine / VERSIONS} sets no {error.args[0]}.") from error


def written(node: Any) -> Any:
    """A syntax tree as nested lists, the same under every version of Python: without positions, docstrings and fields that say nothing."""
    if isinstance(node, list):
        return [written(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        own = value
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_text(value[:1]):
            own = value[1:]
        if name not in ("ctx", "kind", "type_comment") and own not in (None, []):
            fields.append([name, written(own)])
    return fields


def _is_text(statements: list[ast.stmt]) -> bool:
    """Whether the first statement is a docstring."""
    first = statements[0] if statements else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def hash_module(path: Path) -> str:
    """Of a module's syntax tree."""
    return hashlib.sha256(json.dumps(written(ast.parse(path.read_text()))).encode()).hexdigest()[:16]


def imported(path: Path, engine: Path) -> Iterator[Path]:
    """Modules of the engine that a module imports."""
    tree = ast.parse(path.read_text())
    for_checkers = {
        id(one)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for one in ast.walk(statement)
    }
    package = ["aiida_xastruct", "engine", *path.relative_to(engine).parent.parts]
    for node in ast.walk(tree):
        if id(node) in for_checkers:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join(module), *(".".join([*module, one.name]) for one in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[:2] != ["aiida_xastruct", "engine"]:
                continue
            # Importing a module runs the packages around it too.
            for depth in range(2, len(parts) + 1):
                place = engine.joinpath(*parts[2:depth])
                yield from (one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file())


def sources(task: str, engine: Path) -> dict[str, str]:
    """Hashes of a task's modules by path."""
    left = [engine / f"{entry}.py" for entry in ENTRIES[task]]
    found: dict[str, str] = {}
    while left:
        path = left.pop()
        name = path.relative_to(engine).as_posix()
        if name in found or name == VERSIONS:
            continue
        found[name] = hash_module(path)
        left += imported(path, engine)
    return dict(sorted(found.items()))


def combined(modules: dict[str, str]) -> str:
    """One hash of a task's modules."""
    return hashlib.sha256(json.dumps(modules, sort_keys=True).encode()).hexdigest()[:16]


def complaints(engine: Path, record: dict[str, Any]) -> list[str]:
    """What is wrong, a sentence for each task; empty if nothing is."""
    found = []
    for task, version in versions(engine).items():
        known, now = record.get(task), sources(task, engine)
        if known is None or known["version"] != version:
            found.append(f"{task}: version {version} is not recorded; run `python scripts/algorithm_sources.py --record`.")
            continue
        steps = [known["first"], *(change["sources"] for change in known["no_numerical_change"])]
        if steps[-1] != combined(known["modules"]) or not all(change["reason"].strip() for change in known["no_numerical_change"]):
            found.append(f"{task}: the record has a gap; it is written by `python scripts/algorithm_sources.py`, not by hand.")
        elif now != known["modules"]:
            names = sorted({name for name in {*now, *known["modules"]} if now.get(name) != known["modules"].get(name)})
            found.append(
                f"{task}: {', '.join(names)} changed under version {version}. Raise it in {VERSIONS} and record it, or, where no "
                "number of an answer has changed, run `python scripts/algorithm_sources.py --no-numerical-change REASON`."
            )
    return found


def recorded(engine: Path, record: dict[str, Any], reason: str) -> dict[str, Any]:
    """The record of today's sources; refuses changes under the same version without a reason."""
    found = {}
    for task, version in versions(engine).items():
        known, now = record.get(task), sources(task, engine)
        if known is None or known["version"] != version:
            found[task] = {"version": version, "first": combined(now), "no_numerical_change": [], "modules": now}
        elif now == known["modules"]:
            found[task] = known
        elif reason:
            changes = [*known["no_numerical_change"], {"reason": reason, "sources": combined(now)}]
            found[task] = {**known, "no_numerical_change": changes, "modules": now}
        else:
            raise SystemExit(" ".join(complaints(engine, {**record, **found})))
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="note the sources of versions that were raised")
    parser.add_argument("--no-numerical-change", metavar="REASON", default="", help="note changed sources of the same versions")
    parser.add_argument("--engine", type=Path, default=ENGINE, help="folder of the engine")
    parser.add_argument("--file", type=Path, default=RECORD, help="the record")
    options = parser.parse_args()
    record = json.loads(options.file.read_text()) if options.file.exists() else {}
    if options.record or options.no_numerical_change:
        record = recorded(options.engine, record, options.no_numerical_change)
        options.file.write_text(json.dumps(record, indent=1) + "\n")
    wrong = complaints(options.engine, record)
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
