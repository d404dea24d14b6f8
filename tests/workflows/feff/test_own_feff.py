"""FEFF executables of a user's own, really run: FEFF 6L, FEFF 8L's modules behind a shell script, and FEFF10, each an ordinary code."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.feff import FeffParameters, write_deck
from aiida_xastruct.engine.feff.programs import FEFF8L_MODULES, executable, larch_bin
from aiida_xastruct.engine.spectrum import chi_k
from aiida_xastruct.workflows.feff.base import FeffBaseWorkChain

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

COPPER = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
K = np.arange(3.0, 12.01, 0.05)


def deck(engine: str) -> str:
    """Copper EXAFS, as a user would write it: without the mark by which `xastruct-feff` knows its own decks."""
    return write_deck(COPPER, 0, FeffParameters(kind="EXAFS", engine=engine)).split("\n", 1)[1]


def deck_6() -> str:
    """The same for FEFF 6: a hole in the place of an edge, a shorter CONTROL, and no card for EXAFS."""
    text = re.sub(r"(?m)^EDGE K$", "HOLE 1 1.0", deck("feff8l"))
    text = re.sub(r"(?m)^(S02|EXAFS) .*\n", "", text).replace("RPATH", "RMAX")
    return re.sub(r"(?m)^(CONTROL|PRINT) .*", lambda card: f"{card[1]} " + ("1 1 1 1" if card[1] == "CONTROL" else "0 0 0 0"), text)


@pytest.fixture
def run_own(aiida_localhost: orm.Computer, tmp_path: Path) -> Callable[..., Any]:
    """Function (commands, deck) -> results and node of the workflow, the commands in a shell script that is the code."""

    def run(commands: str, text: str) -> Any:
        script = tmp_path / "my-feff.sh"
        script.write_text(f"#!/bin/bash\nset -e\n{commands}\n")
        script.chmod(0o755)
        builder = FeffBaseWorkChain.get_builder()
        builder.feff.code = orm.InstalledCode(computer=aiida_localhost, filepath_executable=str(script), label="my-feff")
        builder.feff.feff_input = orm.SinglefileData.from_string(text, filename="feff.inp")
        return run_get_node(builder)

    return run


FEFF8L = "\n".join(f"{larch_bin()}/feff8l_{module}" for module in FEFF8L_MODULES)
FEFF10 = f"{sys.executable} -c \"import feff10; feff10.FeffPipeline(feff10.FeffConfig.from_file('.', 'feff.inp')).run()\""


def agreement(spectrum: Any, other: Any) -> float:
    """R2 of k^2 chi, k 3 to 12, with E0 of the first moved by the best of -5 to 5 eV: the Fermi levels of the programs differ."""
    from aiida_xastruct.engine.spectrum import ETOK

    (k, chi), (k_other, chi_other) = (chi_k(one.to_engine()) for one in (spectrum, other))
    expected = K**2 * np.interp(K, k_other, chi_other)
    variance = np.sum((expected - expected.mean()) ** 2)
    moved = (np.interp(np.sqrt(K**2 + ETOK * shift), k, chi) for shift in np.arange(-5.0, 5.1, 0.25))
    return max(1 - np.sum((K**2 * curve - expected) ** 2) / variance for curve in moved)


def test_feff_6_8_and_10_agree(run_own: Any) -> None:
    spectra = {}
    for name, commands, text in (
        ("FEFF 6L", str(executable("feff6l")), deck_6()),
        ("FEFF 8L", FEFF8L, deck("feff8l")),
        ("FEFF 10", FEFF10, deck("feff10")),
    ):
        results, node = run_own(commands, text)
        assert node.is_finished_ok, (name, node.exit_message, node.called[-1].exit_message)
        spectra[name] = results["spectrum"]
        assert (spectra[name].absorber, spectra[name].edge, spectra[name].kind) == ("Cu", "K", "EXAFS")
        assert spectra[name].settings["program"].endswith("(own executable)")
    assert {name: spectrum.settings["program"].removesuffix(" (own executable)") for name, spectrum in spectra.items()} == {
        "FEFF 6L": "Feff 6L.02",
        "FEFF 8L": "Feff8L (EXAFS) 0.1",
        "FEFF 10": "FEFF 10.0.0",
    }
    assert spectra["FEFF 6L"].creator.outputs.output_parameters["paths"] == 22
    assert spectra["FEFF 6L"].energy_reference == "nominal"
    assert spectra["FEFF 8L"].energy_reference == spectra["FEFF 10"].energy_reference == "feff"
    assert agreement(spectra["FEFF 8L"], spectra["FEFF 10"]) > 0.99
    assert agreement(spectra["FEFF 6L"], spectra["FEFF 8L"]) > 0.95


@pytest.mark.parametrize(
    ("commands", "text", "exit_code", "words"),
    [
        (str(larch_bin() / "feff6l"), deck_6().replace("HOLE 1", "FOOBAR 1"), 303, "FOOBAR"),
        (str(larch_bin() / "feff6l"), deck_6().replace("   0 Cu", "   1 Cu"), 305, "unique pot 0"),
        ("/opt/feff/feff85", deck("feff8l"), 312, "/opt/feff/feff85"),
        (f"{larch_bin()}/feff6l & kill -9 $!; wait $!", deck_6(), 311, "Killed"),
    ],
)
def test_own_executables_fail_with_a_reason(run_own: Any, commands: str, text: str, exit_code: int, words: str) -> None:
    _, node = run_own(commands, text)
    failed = node.called[-1]
    assert failed.exit_status == exit_code, failed.exit_message
    assert words in failed.exit_message
    assert node.exit_status == 304
