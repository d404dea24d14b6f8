"""The benchmark of imports: claims of names, corrections, and reasons of edges off the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aiida_xastruct.engine.spectrum import tabulated_edge


def write(folder: Path, name: str, rises: list[tuple[float, float]], head: str = "# energy mu\n") -> None:
    """A scan around the first rise; rises are energies and heights."""
    energy = np.arange(rises[0][0] - 150.0, rises[0][0] + 300.0, 0.5)
    mu = sum(height * (0.5 + np.arctan((energy - at) / 1.0) / np.pi) for at, height in rises)
    rows = "\n".join(f"{x:.2f} {y:.8f}" for x, y in zip(energy, mu, strict=True))
    (folder / name).write_text(f"{head}{rows}\n")


def test_rows_and_page(script, tmp_path):
    foils, library = (tmp_path / "experiment" / name for name in ("xasref", "xasdatalibrary"))
    foils.mkdir(parents=True)
    library.mkdir()
    write(foils, "W_foil_W_K.dat", [(tabulated_edge("W", "L3"), 1.0)])
    write(foils, "Mo_foil_Mo_K.dat", [(20000.0, 0.45), (20010.0, 0.55)])
    strontium = "# Element.symbol: Sr\n# Element.edge: K\n# Sample.formula: SrO\n# energy mu\n"
    write(library, "SrO_1.xdi", [(tabulated_edge("Sr", "K") + 33.0, 1.0)], strontium)
    write(library, "SrO_2.xdi", [(tabulated_edge("Sr", "K") + 8.0, 1.0)], strontium)
    (library / "index.csv").write_text("element,edge\nSr,K\n")
    module = script("imports")
    result = module.run(tmp_path)
    rows = {(row["file"], row["claim"]): row for row in result["rows"]}
    assert "likely of the W L3 edge" in rows["W_foil_W_K.dat", "W K"]["refused"]
    assert rows["W_foil_W_K.dat", "read as the likely edge"]["edge"] == "L3"
    assert rows["Mo_foil_Mo_K.dat", "Mo K"]["reason"].startswith("second rise: the first is at")
    assert (rows["SrO_1.xdi", ""]["correction"], rows["SrO_1.xdi", ""]["reason"]) == (33.0, "")
    assert rows["SrO_2.xdi", ""]["reason"] == "chemical shift: SrO"
    assert "refused" in rows["index.csv", ""]
    page = module.table(json.loads(json.dumps(result)))
    assert "5 files of" in page
    assert "4 spectra imported" in page
    assert "2 files or claims refused" in page
