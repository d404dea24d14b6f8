"""Spectra of the page: read and answered as the command line does, and normalised as the handles say."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.explore.measured import Reading, answer, as_files, read

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


@pytest.fixture(scope="module")
def family() -> FamilyBundle:
    """The models that ship."""
    return FamilyBundle.load()


def test_a_measurement_is_read_with_its_ranges_and_answered(family: FamilyBundle) -> None:
    measured = read([(GOETHITE.name, GOETHITE.read_bytes())], "Fe")
    assert measured.kinds == ("XANES", "EXAFS", "both")
    assert measured.pre_edge is not None
    assert measured.post_edge is not None
    assert measured.pre_edge[1] < 0 < measured.post_edge[0]
    _, found = answer(family, measured, Reading("EXAFS"))
    assert found.neighbour_set == ["O"]
    assert found.interval[0] < 2.02 < found.interval[1], "the mean distance in goethite"
    flat, both = answer(family, measured, Reading("both"))
    assert both.neighbours["O"] > 0.5
    assert flat.absorber == "Fe"


def test_the_handles_change_the_answer_and_the_elements_restrict_it(family: FamilyBundle) -> None:
    measured = read([(GOETHITE.name, GOETHITE.read_bytes())], "Fe")
    usual = answer(family, measured, Reading("XANES"))[1]
    moved = answer(family, measured, Reading("XANES", e0=measured.e0 + 4.0, post_edge=(40.0, 200.0)))[1]
    assert moved.mean_distance != usual.mean_distance
    _, found = answer(family, measured, Reading("XANES", elements=("Fe", "S")))
    assert set(found.neighbours) <= {"Fe", "S"}
    with pytest.raises(SpectrumError, match="lies outside the data"):
        answer(family, measured, Reading("XANES", e0=1000.0))


def test_a_file_that_does_not_say_what_absorbs_is_not_guessed() -> None:
    with pytest.raises(SpectrumError, match="suggest the Fe K edge"):
        read([(GOETHITE.name, GOETHITE.read_bytes())])


def test_files_are_written_under_harmless_names() -> None:
    measured = read([("..\\/--absorber; rm -rf x.xdi", GOETHITE.read_bytes()), ("b.xdi", GOETHITE.read_bytes())], "Fe")
    assert measured.name.endswith(" and 1 more")
    with as_files(measured) as paths:
        names = [Path(path).name for path in paths]
        assert names == ["--absorber__rm_-rf_x.xdi", "b.xdi"]
        assert all(path.startswith("/") for path in paths)
        assert Path(paths[0]).read_bytes() == GOETHITE.read_bytes()
    assert not Path(paths[0]).exists()
