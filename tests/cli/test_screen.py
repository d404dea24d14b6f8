"""`aiida-xastruct screen` and `query materialise`: crystals in, a ranking out, and a row as nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiida.engine import ProcessState
from aiida.orm import WorkChainNode, load_node
from click.testing import Result
from pymatgen.core import Lattice, Structure

from aiida_xastruct.cli.root import cli

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

FCC = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two metals, one of them at two pressures, and a file that is no crystal."""
    for name, element, length in (("copper", "Cu", 3.615), ("pressed", "Cu", 3.4), ("nickel", "Ni", 3.524)):
        Structure(Lattice.cubic(length), [element] * 4, FCC).to(filename=str(tmp_path / f"{name}.cif"))
    (tmp_path / "bad.cif").write_text("not a crystal")
    return tmp_path


def test_a_folder_is_ranked_by_a_spectrum_of_one_of_its_rows(run: Callable[..., Result], folder: Path) -> None:
    first = json.loads(run(cli, "screen", folder, "--absorber", "Cu", "--kind", "EXAFS", "--chunk-size", 2, "--json").stdout)
    # Nickel has no copper; the file that cannot be read may have.
    assert (first["n_structures"], first["n_spectra"], first["n_refused"], first["best"]) == (3, 2, 1, [])
    rows = load_node(first["pk"]["table"]).read().to_pylist()
    (number,) = [i for i, row in enumerate(rows) if row["id"].startswith("pressed")]
    (made,) = json.loads(run(cli, "query", "materialise", first["pk"]["table"], number, "--json").stdout)
    assert (made["absorber"], made["method"]) == ("Cu", "ml")
    spectrum = load_node(made["spectrum"])
    assert spectrum.creator.inputs.table.pk == first["pk"]["table"]
    result = run(cli, "screen", folder, "--target", made["spectrum"], "--kind", "EXAFS")
    lines = [line for line in result.stdout.splitlines() if ".cif" in line]
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert "pressed.cif" in lines[0]
    # As a file it ranks alike, and the file is behind the ranking.
    run(cli, "export", made["spectrum"], "-o", folder / "target.csv")
    filed = json.loads(run(cli, "screen", folder, "--target", folder / "target.csv", "--kind", "EXAFS", "--json").stdout)
    assert filed["best"][0]["id"].startswith("pressed")
    assert load_node(filed["pk"]["process"]).inputs.target.creator.inputs.scan_000.filename == "target.csv"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give sources of crystals, or --resume"),
        (["nowhere"], "nowhere is neither"),
        (["--resume", "{pk}"], "ended already"),
        (["--resume", "{other}"], "is no screening"),
        (["--resume", "{pk}", "--kind", "EXAFS"], "without other options"),
        (["{folder}", "--absorber", "Xe", "--limit", "0"], "--limit"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Callable[..., Result], folder: Path, arguments: list[str], words: str) -> None:
    status = 2 if "--limit" in arguments else 1
    result = run(
        cli,
        "screen",
        *[text.format(folder=folder, pk=_ended("ScreenWorkChain"), other=_ended("Other")) for text in arguments],
        status=status,
    )
    assert words in result.output


def _ended(label: str) -> int:
    """Pk of a work chain that has ended."""
    node = WorkChainNode()
    node.set_process_label(label)
    node.set_process_state(ProcessState.FINISHED)
    return int(node.store().pk)
