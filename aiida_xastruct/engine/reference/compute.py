"""The record of one site: FEFF run, checked and packed."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from ..errors import XastructError
from ..feff.deck import FeffParameters, write_deck
from ..feff.output import read_folder
from ..feff.runner import run
from .crystal import fingerprint, structure_to_dict
from .order import Task
from .sources import open_source
from .state import pack
from .thermal import draw_conditions, thermal_chi

#: CPU seconds a stage of FEFF may take; a site's EXAFS takes 1 to 5 in all, its XANES 10 to 60.
CPU_LIMIT = {"EXAFS": 60, "XANES": 600}

#: Wall seconds a site may take. Many times as long: at low priority beside other work, sites once did not get their CPU minute in 3000 s.
TIMEOUT = {"EXAFS": 3600.0, "XANES": 6 * 3600.0}

#: FEFF settings of the library.
LIBRARY_PARAMETERS = {"EXAFS": FeffParameters(kind="EXAFS"), "XANES": FeffParameters(kind="XANES", protocol="fast")}

#: Facts of a run that its record keeps.
_NOTED = ("scf_converged", "scf_settled", "scf_iterations")


def compute_record(task: Task) -> dict[str, Any]:
    """Compute one site of a collection: a JSON record for `State`.

    Raises:
        XastructError: if it cannot be computed, or the result fails the sanity check.
    """
    collection = open_source(task.source, task.path)
    structure, notes = collection.structure(task.source_id)
    return record_of(task, structure, notes, collection.version)


def record_of(task: Task, structure: Structure, notes: Mapping[str, Any], source_version: str) -> dict[str, Any]:
    """`compute_record` of a crystal that was read already, with notes about it (`Source.structure`)."""
    parameters = LIBRARY_PARAMETERS[task.kind]
    with tempfile.TemporaryDirectory(prefix="xastruct-reference-") as scratch:
        folder = Path(scratch)
        (folder / "feff.inp").write_text(write_deck(structure, task.site, parameters))
        facts = run(folder, timeout=TIMEOUT[task.kind], cpu_limit=CPU_LIMIT[task.kind])
        result = read_folder(folder, task.absorber, task.edge, parameters.kind)
        if result.problems:
            raise XastructError("; ".join(result.problems))
        spectrum = result.spectrum
        record = {
            "source": task.source,
            "source_id": task.source_id,
            "source_version": source_version,
            "fingerprint": fingerprint(structure),
            "site": task.site,
            "multiplicity": task.multiplicity,
            "absorber": task.absorber,
            "edge": task.edge,
            "kind": task.kind,
            "program": facts["version"],
            "settings": parameters.to_dict(),
            "notes": {**notes, **{name: value for name, value in result.facts.items() if name in _NOTED}},
            "uuid": str(uuid.uuid4()),
            "cpu_seconds": facts["cpu_seconds"],
            "e0": spectrum.e0,
            "energy": pack(spectrum.energy),
            "mu": pack(spectrum.mu.astype(np.float32)),
            "mu0": pack(np.asarray(spectrum.mu0, dtype=np.float32)),
        }
        if task.source != "amcsd":
            record["structure"] = structure_to_dict(structure)
        if task.kind == "EXAFS":
            conditions = draw_conditions(structure, f"{task.source}:{task.source_id}:{task.site}")
            record["conditions"] = conditions
            record["chi"] = pack(thermal_chi(folder, conditions).astype(np.float32))
    return record
