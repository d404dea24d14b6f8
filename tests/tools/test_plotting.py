"""Figures: what they hold, and that both drawers draw it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff.output import read_xmu
from aiida_xastruct.tools.plotting import contents, paper, screen
from aiida_xastruct.tools.plotting.figure import all_elements, place

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

RECORDED = Path(__file__).parents[1] / "fixtures" / "feff"

ANSWER = {"neighbours": {"O": 0.9, "F": 0.2}, "mean_distance": 1.99, "interval": [1.94, 2.04], "coverage": 0.9}


@pytest.fixture
def exafs() -> SpectrumData:
    """EXAFS of magnesium in MgO, by FEFF."""
    return SpectrumData.from_engine(read_xmu((RECORDED / "exafs" / "xmu.dat").read_text(), "Mg", "K", "EXAFS"), label="periclase")


def test_every_element_has_a_place_of_its_own() -> None:
    places = {element: place(element) for element in all_elements()}
    assert len(set(places.values())) == 103
    assert (places["H"], places["He"], places["Fe"], places["Ce"], places["U"]) == ((0, 0), (0, 17), (3, 7), (7, 3), (8, 5))


def test_a_band_is_drawn_around_its_spectrum(spectrum) -> None:
    flat = np.linspace(0.0, 1.0, 60)
    node = SpectrumData(
        np.linspace(7100.0, 7159.0, 60), flat, "Fe", "K", "XANES", method="ml", normalisation="flat", e0=7112.0,
        band=np.stack([flat - 0.1, flat + 0.2], axis=1), settings={"pointwise_share": 0.5},
    )  # fmt: skip
    figure = contents.of_spectra([SpectrumData.from_engine(spectrum), node])
    assert [line.label.split(",")[0] for line in figure.lines] == ["measured", "model"]
    drawn = json.loads(screen.as_json(figure))["data"]
    colour = next(trace["line"]["color"] for trace in drawn if trace.get("name", "").startswith("model"))
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    shades = [(trace["name"], trace["fillcolor"]) for trace in drawn if trace.get("fill")]
    assert shades == [
        ("90 % band, whole spectrum", f"rgba({red},{green},{blue},0.15)"), ("90 % band, single points", f"rgba({red},{green},{blue},0.3)"),
    ]  # fmt: skip
    for band, width in zip(figure.bands, (0.3, 0.15), strict=True):
        np.testing.assert_allclose(band.high - band.low, width)
    assert figure.lines[0].y[-1] == pytest.approx(1.0, abs=0.05)  # normalised, though the scan is raw


def test_exafs_is_weighted_and_its_transform_peaks_at_the_first_shell(exafs: SpectrumData) -> None:
    chi, transform = contents.of_spectra([exafs]), contents.of_spectra([exafs], "transform")
    assert chi.x_label.startswith("k ")
    assert 0.3 < np.abs(chi.lines[0].y).max() < 8.0
    r = transform.lines[0].x[np.argmax(transform.lines[0].y)]
    assert r == pytest.approx(2.6, abs=0.25)  # oxygen at 2.1 and the louder magnesium at 2.98 angstrom, 0.4 nearer without the phase
    assert "periclase" in chi.description


def test_a_predicted_exafs_has_its_band(ml_spectrum) -> None:
    mu = ml_spectrum.mu
    node = SpectrumData.from_engine(replace(ml_spectrum, mu0=None), band=np.stack([mu - 0.01, mu + 0.01], axis=1))
    figure = contents.of_spectra([node])
    band, line = figure.bands[0], figure.lines[0]
    np.testing.assert_allclose((band.high - band.low) / band.x**2, 0.02, atol=1e-9)
    assert band.x[0] >= 1.0
    middle = np.interp(line.x, band.x, (band.low + band.high) / 2)
    np.testing.assert_allclose(middle[line.x < 14.0], line.y[line.x < 14.0], atol=0.15)


def test_what_cannot_be_drawn_together(exafs: SpectrumData, spectrum) -> None:
    with pytest.raises(SpectrumError, match="of Fe K and Mg K"):
        contents.of_spectra([exafs, SpectrumData.from_engine(spectrum)])
    with pytest.raises(SpectrumError, match="no kind of figure"):
        contents.of_spectra([exafs], "pie")
    with pytest.raises(SpectrumError, match="nothing to draw"):
        contents.of_spectra([])


def test_both_drawers_draw_all_figures(exafs: SpectrumData, tmp_path: Path) -> None:
    risk = contents.of_risk({"forward-XANES": {"risk_coverage": {"share": [0.5, 1.0], "mse": [0.001, 0.01]}}})
    assert risk is not None
    assert contents.of_risk({"distance-XANES": {}}) is None
    for index, figure in enumerate([contents.of_spectra([exafs]), *contents.of_answer(ANSWER), risk]):
        for ending in ("png", "svg", "pdf"):
            path = tmp_path / f"{index}.{ending}"
            paper.save(figure, path)
            assert path.stat().st_size > 3000
        drawn = json.loads(screen.as_json(figure))
        assert drawn["data"]
        assert drawn["layout"]["title"]["text"] == figure.title
    table, distance = (json.loads(screen.as_json(figure)) for figure in contents.of_answer(ANSWER))
    marks = dict(zip(table["data"][0]["text"], table["data"][0]["customdata"], strict=True))
    assert (marks["O"], marks["F"], marks["Fe"]) == (0.9, 0.2, 0.0)
    assert distance["data"][0]["error_x"]["array"][0] == pytest.approx(0.05)


def test_losses_of_a_training() -> None:
    network = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "select_loss": [3.0, None, 2.0]}
    first, second = contents.of_losses({"shell-XANES": [network] * 5, "forward-XANES": [network], "empty": []})
    assert [line.style for line in first.lines] == ["solid", "dashed"] * 3
    assert "the first 3 of 5 networks" in first.description
    assert second.lines[1].x.tolist() == [1.0, 3.0]
    assert second.lines[1].y.tolist() == [3.0, 2.0]


def test_text_from_users_cannot_leave_its_script(exafs: SpectrumData) -> None:
    exafs.label = "</script><script>alert(1)</script>"
    text = screen.as_json(contents.of_spectra([exafs]))
    assert "<" not in text
    assert "alert(1)" in text
