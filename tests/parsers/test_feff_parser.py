"""The parser on recorded output of real FEFF runs (tests/fixtures/feff/record.py makes them)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import ParserFactory
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.feff import FeffCalculation

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"


def parse(node: orm.CalcJobNode):
    """Outputs and the parser's calcfunction node."""
    return ParserFactory("xastruct.feff").parse_from_node(node, store_provenance=False)


def test_xanes(finished):
    outputs, function = parse(finished("xanes", kind="XANES"))
    assert function.is_finished_ok, function.exit_message
    spectrum = outputs["spectrum"]
    rows = np.loadtxt(RECORDED / "xanes" / "xmu.dat")
    np.testing.assert_allclose(spectrum.energy, rows[:, 0])
    np.testing.assert_allclose(spectrum.mu, rows[:, 3])
    np.testing.assert_allclose(spectrum.mu0, rows[:, 4])
    assert (spectrum.absorber, spectrum.edge, spectrum.kind, spectrum.normalisation, spectrum.e0) == (
        "Mg",
        "K",
        "XANES",
        "feff_xsedge50",
        None,
    )
    assert (spectrum.site, spectrum.multiplicity) == (0, 4)
    facts = outputs["output_parameters"].get_dict()
    assert facts["scf_converged"] is True
    assert facts["engine"] == "feff10"
    assert len(facts["charge_transfer"]) == 3


def test_exafs(finished):
    outputs, function = parse(finished("exafs", kind="EXAFS"))
    assert function.is_finished_ok, function.exit_message
    spectrum = outputs["spectrum"]
    # E0 is the energy of k = 0, which this file prints first or lies 0.0095 eV below its first point.
    assert spectrum.e0 == pytest.approx(spectrum.energy[0], abs=0.02)
    assert spectrum.energy[-1] - spectrum.e0 == pytest.approx(20**2 / 0.26246842, abs=0.05)
    assert outputs["output_parameters"]["paths"] > 10


#: Recorded run, the exit code that it provokes, and words of its message.
FAILURES = [
    ("no-output", "ERROR_NO_OUTPUT", "MgO site 0"),
    ("damaged", "ERROR_OUTPUT_DAMAGED", "not finite"),
    ("input-refused-feff10", "ERROR_INPUT_REFUSED", "FOOBAR"),
    ("input-refused-feff8l", "ERROR_INPUT_REFUSED", "unrecognized"),
    ("missing-potential-feff10", "ERROR_MISSING_POTENTIAL", "unique pot 3"),
    ("missing-potential-feff8l", "ERROR_MISSING_POTENTIAL", "unique pot 3"),
    ("missing-absorber", "ERROR_MISSING_ABSORBER", "unique pot 0"),
    ("missing-absorber-potential", "ERROR_MISSING_ABSORBER", "No absorbing atom"),
    ("cluster-too-large", "ERROR_CLUSTER_TOO_LARGE", "max is 1000"),
    ("atoms-too-close", "ERROR_ATOMS_TOO_CLOSE", "VERY CLOSE"),
    ("potentials-failed", "ERROR_POTENTIALS_FAILED", "NOVP"),
    ("hangs", "ERROR_POTENTIALS_FAILED", "feff8l_pot hangs"),
    ("negative-occupation", "ERROR_NEGATIVE_OCCUPATION", "Nonsense request"),
    ("bad-counts", "ERROR_NEGATIVE_OCCUPATION", "Bad counts"),
    ("out-of-time", "ERROR_OUT_OF_WALLTIME", "ran out of time"),
    ("killed", "ERROR_KILLED", "SIGKILL"),
    ("killed-script", "ERROR_KILLED", "Killed"),
    ("killed-node", "ERROR_KILLED", "no time to say"),
    ("not-installed", "ERROR_NOT_INSTALLED", "xraylarch"),
    ("not-installed-program", "ERROR_NOT_INSTALLED", "/opt/feff/bin/feff10"),
    ("not-installed-library", "ERROR_NOT_INSTALLED", "libgfortran"),
    ("implausible", "ERROR_IMPLAUSIBLE", "the edge lies 42.9 eV"),
]


@pytest.mark.parametrize(("folder", "exit_code", "words"), FAILURES)
def test_failures_are_recognised(finished, folder, exit_code, words):
    outputs, function = parse(finished(folder, kind="EXAFS" if (RECORDED / folder / "log4.dat").exists() else "XANES"))
    assert (function.exit_status, words in function.exit_message) == (getattr(FeffCalculation.exit_codes, exit_code).status, True), (
        function.exit_message
    )
    assert "spectrum" not in outputs


def test_each_exit_code_has_a_recorded_run():
    own = {name for name, code in FeffCalculation.exit_codes.items() if code.status >= 300 and name != "WARNING_SCF_NOT_CONVERGED"}
    assert {name for _, name, _ in FAILURES} == own
    assert {folder for folder, _, _ in FAILURES} | {"exafs", "xanes", "scf-not-converged"} == {
        path.name for path in RECORDED.iterdir() if path.is_dir() and not path.name.startswith("__")
    }


@pytest.mark.parametrize("folder", ["killed-node", "killed"])
def test_the_scheduler_knows_better_why_it_killed(finished, folder):
    node = finished(folder)
    node.set_exit_status(120)  # what a scheduler's parser sets for a job that used up its time
    _, function = parse(node)
    assert function.exit_status == FeffCalculation.exit_codes.ERROR_OUT_OF_WALLTIME.status
    # Words of FEFF that name a cause count for more.
    refused = finished("input-refused-feff8l")
    refused.set_exit_status(120)
    assert parse(refused)[1].exit_status == FeffCalculation.exit_codes.ERROR_INPUT_REFUSED.status


def test_a_whole_table_of_a_killed_run_is_not_trusted(finished, tmp_path):
    # What a kill in the middle of the last write leaves: rows that end where a buffer ended, and no word of the script.
    folder = tmp_path / "killed"
    shutil.copytree(RECORDED / "exafs", folder)
    rows = (folder / "xmu.dat").read_text().splitlines(keepends=True)
    (folder / "xmu.dat").write_text("".join(rows[:-100]))
    assert parse(finished(folder, kind="EXAFS"))[1].is_finished_ok  # nothing in the rows themselves tells
    (folder / "xastruct-feff.json").unlink()
    assert parse(finished(folder, kind="EXAFS"))[1].exit_status == FeffCalculation.exit_codes.ERROR_KILLED.status


def test_scf_not_converged_keeps_the_spectrum(finished):
    outputs, function = parse(finished("scf-not-converged", kind="XANES"))
    assert function.exit_status == FeffCalculation.exit_codes.WARNING_SCF_NOT_CONVERGED.status
    assert outputs["spectrum"].absorber == "Mg"
    assert outputs["output_parameters"]["scf_converged"] is False


def test_another_absorbers_spectrum_is_implausible(finished):
    # Site 4 is oxygen: magnesium's spectrum lies 700 eV from its edge.
    outputs, function = parse(finished("exafs", site=4, kind="EXAFS"))
    assert function.exit_status == FeffCalculation.exit_codes.ERROR_IMPLAUSIBLE.status
    assert "spectrum" not in outputs
    assert any("edge lies" in problem for problem in outputs["output_parameters"]["problems"])


@pytest.mark.parametrize("damage", ["cut", "nan", "empty"])
def test_damaged_table(finished, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(RECORDED / "xanes", folder)
    text = (folder / "xmu.dat").read_text()
    rows = text.splitlines()
    changed = {
        "cut": text[:-40],
        "nan": text.replace(rows[-1].split()[3], "NaN"),
        "empty": "\n".join(row for row in rows if row.startswith("#")),
    }
    assert changed[damage] != text
    (folder / "xmu.dat").write_text(changed[damage])
    _, function = parse(finished(folder, kind="XANES"))
    assert function.exit_status == FeffCalculation.exit_codes.ERROR_OUTPUT_DAMAGED.status


@pytest.mark.parametrize(
    ("folder", "edge", "group", "cell", "elements", "places", "shell"),
    [
        ("fe-l3", "L3", "Im-3m", 2.866, ["Fe"], [[0, 0, 0]], "3d"),
        ("fe-l2", "L2", "Im-3m", 2.866, ["Fe"], [[0, 0, 0]], "3d"),
        ("ceo2-m5", "M5", "Fm-3m", 5.411, ["Ce", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]], "4f"),
        ("ceo2-m4", "M4", "Fm-3m", 5.411, ["Ce", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]], "4f"),
    ],
)
def test_multiplet_edges_are_answered_with_a_warning(finished, folder, edge, group, cell, elements, places, shell):
    crystal = Structure.from_spacegroup(group, Lattice.cubic(cell), elements, places)
    outputs, function = parse(finished(RECORDED.parent / "edges" / folder, crystal=crystal, kind="XANES", edge=edge))
    assert function.is_finished_ok, function.exit_message
    spectrum = outputs["spectrum"]
    assert spectrum.edge == edge
    for warnings in (outputs["output_parameters"]["warnings"], spectrum.settings["warnings"]):
        assert any(f"multiplets of the {shell} shell" in line for line in warnings)
    assert spectrum.settings["edge_cross_section"] == outputs["output_parameters"]["edge_cross_section"] > 0


def test_other_edges_carry_no_such_warning(finished):
    outputs, _ = parse(finished("xanes", kind="XANES"))
    assert "warnings" not in outputs["spectrum"].settings
