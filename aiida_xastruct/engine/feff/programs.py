"""Where FEFF is: the executables in the xraylarch wheel, and FEFF10 in the feff10-rs wheel."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import FeffError

#: The comment by which `xastruct-feff` knows which engine a deck was written for.
ENGINE_MARK = "* xastruct engine:"

#: Modules of FEFF 8.5L in the order they run. The last alone adds thermal disorder.
FEFF8L_MODULES = ("rdinp", "pot", "xsph", "pathfinder", "genfmt", "ff2x")

#: What each module must have written: most of them end with status 0 whatever happened.
FEFF8L_PRODUCTS = {"pot": "pot.pad", "xsph": "phase.pad", "pathfinder": "paths.dat", "genfmt": "feff.pad", "ff2x": "xmu.dat"}

#: Stages of FEFF10 that make an absorption spectrum; the pipeline's other eight only start and end (0.07 s each).
FEFF10_STAGES = ("rdinp", "atomic", "pot", "screen", "xsph", "fms", "mkgtr", "path", "genfmt", "ff2x")


@cache
def larch_bin() -> Path:
    """Folder of xraylarch's executables for this platform, found without importing larch (which takes 4 s).

    Raises:
        FeffError: if xraylarch is not installed or ships nothing for this platform.
    """
    spec = find_spec("larch")
    if spec is None or not spec.submodule_search_locations:
        raise FeffError("FEFF 8L comes with xraylarch, which is not installed; pip install xraylarch.")
    system = {"Linux": "linux64", "Darwin": "darwin64", "Windows": "win64"}.get(platform.system(), "")
    folder = Path(next(iter(spec.submodule_search_locations))) / "bin" / system
    if not system or not folder.is_dir():
        raise FeffError(f"xraylarch ships no FEFF for {platform.system()} {platform.machine()}; use engine 'feff10'.")
    return folder


def executable(name: str) -> Path:
    """Path of one of xraylarch's programs, e.g. `feff8l_pot`.

    Raises:
        FeffError: if it is not there.
    """
    path = larch_bin() / (f"{name}.exe" if sys.platform == "win32" else name)
    if not path.is_file():
        raise FeffError(f"{name} is not in {path.parent}; reinstall xraylarch.")
    return path


def environment() -> dict[str, str]:
    """This process's environment with the folder of FEFF 8L's Fortran libraries on the loader's path, and one thread for each FEFF."""
    values = dict(os.environ)
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    values[variable] = os.pathsep.join(filter(None, (str(larch_bin()), values.get(variable, ""))))
    values["OMP_NUM_THREADS"] = "1"
    return values


@cache
def engine_version(engine: str) -> str:
    """Name and version of an engine, as stored with each spectrum."""
    package, label = {
        "feff10": ("feff10-rs", "FEFF 10.0.0"),
        "feff8l": ("xraylarch", "FEFF 8.5L"),
    }[engine]
    try:
        return f"{label} ({package} {version(package)})"
    except PackageNotFoundError as error:
        raise FeffError(f"{label} comes with {package}, which is not installed; pip install {package}.") from error
