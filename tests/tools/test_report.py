"""Reports: one file that holds all it shows, opened in a real browser."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiida.orm import Dict, Int, SinglefileData, StructureData
from browser import CHROMIUM, chromium
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from aiida_xastruct.calculations.functions.import_scans import import_scans
from aiida_xastruct.cli.root import cli
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.tools.report.gather import gather
from aiida_xastruct.tools.report.page import render

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"


@pytest.fixture
def measured() -> Any:
    """A stored scan of goethite, whose label wants to be a tag."""
    spectrum = import_scans(parameters=Dict({"absorber": "Fe"}), scan=SinglefileData(GOETHITE))
    spectrum.label = '<img src=x onerror="alert(1)">'
    return spectrum


@pytest.fixture
def inference(measured: Any) -> Any:
    """The process that told its first shell."""
    from aiida.engine import run_get_node

    from aiida_xastruct.workflows.infer import InferWorkChain

    return run_get_node(InferWorkChain.get_builder_for(measured, None, None, None))[1]


def test_a_report_says_what_was_asked_and_answered(inference: Any) -> None:
    report = gather(inference)
    assert report.title == "Local structure from a spectrum"
    assert report.answer["nearest neighbours"] == "O"
    assert report.answer["promises hold in"] == "90 % of cases"
    assert {"Fe K, EXAFS", "Neighbours of the absorber", "Mean distance of the first shell"} <= {figure.title for figure in report.figures}
    assert {"import_scans", "InferWorkChain", "SinglefileData"} <= {box.title for box in report.graph.boxes}
    assert all(start < end for start, _, end, _ in report.graph.arrows)
    works = dict(report.rests_on)
    assert {"aiida", "larch"} <= works.keys()


def test_a_page_holds_all_that_it_shows(inference: Any) -> None:
    page = render(gather(inference))
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly's own script names addresses that it never asks
    assert not re.search(r"(src|href)=[\"']?https?:", body)
    assert "default-src 'none'" in unescape(page)


def opened(browser: Any, path: Path) -> tuple[list[str], str]:
    """Titles of the plots that a page draws, and what the pointer reads off the first; the console is empty and nothing is fetched."""
    page = browser.new_page()
    page.set_default_timeout(240_000)  # on a machine that does much else a page of 5 MB takes its time
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.locator("div.plot .main-svg").first.wait_for()
    assert page.locator("div.plot:has(.main-svg)").count() == page.locator("div.plot").count()
    layer = page.locator("div.plot .nsewdrag").first
    layer.scroll_into_view_if_needed()
    box = layer.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    value = page.locator("div.plot .hoverlayer text").first
    value.wait_for()
    found = page.locator("div.plot .gtitle").all_text_contents(), value.text_content()
    page.close()
    assert said == []
    assert asked == [path.as_uri()]
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine; install Debian's package chromium")
@pytest.mark.slow
def test_pages_in_a_browser(inference: Any, make_dataset: Any, tmp_path: Path) -> None:
    """What infers, predicts, screens and trains, each by the command of a user."""
    from aiida.engine import run_get_node

    from aiida_xastruct.calculations.functions.predict_spectra import predict_spectra
    from aiida_xastruct.calculations.functions.train_family import train_family
    from aiida_xastruct.data.dataset import DatasetData
    from aiida_xastruct.groups.family import load_default_family
    from aiida_xastruct.tools.structures import structure_chunks
    from aiida_xastruct.workflows.screen import ScreenWorkChain

    salts = {
        name: Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), ["Mg", name], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for name, length in (("O", 4.212), ("S", 5.2))
    }
    model = load_default_family().get_model("forward", "EXAFS")
    outputs, prediction = predict_spectra.run_get_node(structure=StructureData(pymatgen=salts["O"]), sites=[0], kind="EXAFS", model=model)
    chunks = list(structure_chunks(salts.items(), 2))
    target = outputs["spectra"]["site_0"]
    screening = run_get_node(ScreenWorkChain.get_builder_from_chunks(chunks, absorber="Mg", kind="EXAFS", target=target))[1]
    make_dataset().save(tmp_path / "set.h5")
    config = {
        "name": "tiny", "tasks": ["distance-XANES", "forward-XANES"], "architecture": {"width": 16, "depth": 1},
        "training": {"members": 1, "epochs": 3, "batch_size": 32, "accelerator": "cpu", "devices": 1},
    }  # fmt: skip
    training = train_family.run_get_node(dataset=DatasetData.from_file(tmp_path / "set.h5"), config=Dict(config))[1]
    expected = {
        inference: ["Fe K, EXAFS", "Fe K, Fourier transform", "Neighbours of the absorber", "Mean distance of the first shell"],
        prediction: ["Mg K, EXAFS", "Mg K, Fourier transform"],
        screening: ["Mg K, EXAFS", "Mg K, Fourier transform", "Expected errors"],
        training: ["Training of forward-XANES", "Training of shell-XANES", "Risk and coverage"],
    }
    paths = {node.pk: tmp_path / f"report-{node.process_label}.html" for node in expected}
    for node in expected:
        assert node.is_finished_ok, node.exit_message
        assert CliRunner().invoke(cli, ["report", str(node.pk), "-o", str(paths[node.pk])]).exit_code == 0
    with chromium() as browser:
        for node, titles in expected.items():
            found, value = opened(browser, paths[node.pk])
            assert sorted(found) == sorted(titles)
            assert re.search(r"\d", value)


def test_reports_of_a_spectrum_and_a_model(measured: Any) -> None:
    from aiida_xastruct.groups.family import load_default_family

    report = gather(measured)
    assert report.answer["absorber"] == "Fe"
    assert len(report.figures) == 2
    model = next(node for node in load_default_family().nodes if node.task == "forward" and node.kind == "XANES")
    report = gather(model)
    assert report.figures[0].title == "Risk and coverage"
    assert ("mse", f"{model.card['metrics']['report']['mse']:.4g}") in report.tables[0].rows


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(XastructError, match="is no result of this package"):
        gather(Int(1).store())


def test_the_commands(inference: Any, tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    path = tmp_path / "r.html"
    assert run("report", inference.pk, "-o", path).exit_code == 0
    assert path.stat().st_size > 1_000_000
    assert "exists already" in run("report", inference.pk, "-o", path).output
    spectrum = inference.inputs.spectrum
    for node, name in ((inference, "neighbours.svg"), (inference, "distance.png"), (spectrum, "transform.pdf"), (spectrum, "chi.html")):
        result = run("plot", node.pk, "-k", name.partition(".")[0], "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
    assert "ends in no known format" in run("plot", inference.pk, "-o", tmp_path / "r.gif").output
    structure = StructureData(pymatgen=Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])).store()
    assert "is no result of this package" in run("report", structure.pk, "-o", tmp_path / "s.html").output
