"""The pages in a real browser, as somebody uses them who would rather look than read."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM
from explorer_server import Server, explorer
from pymatgen.core import Lattice, Structure

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine; install Debian's package chromium")

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"

#: Milliseconds that an answer may take on a busy machine; how long it does take is a benchmark.
PATIENCE = 240_000

#: Where on the canvas an atom is seen, by its name.
PLACE = """(name) => {
  const canvas = document.querySelector('canvas'), scene = getElement(canvas.closest('[id^=c]').id.slice(1));
  const atom = [...scene.objects.values()].find(object => object.mesh?.name === name).mesh;
  const seen = atom.position.clone().project(scene.camera);
  return {x: (seen.x + 1) / 2 * canvas.clientWidth, y: (1 - seen.y) / 2 * canvas.clientHeight};
}"""

SAYS = "(words) => document.querySelector('main')?.innerText.includes(words)"


def drop(page: Any, path: Path) -> None:
    """Give a file to the page's field."""
    # The field is named when the page is connected: a file that comes before has nobody to tell.
    page.wait_for_selector("input[type=file][aria-label]", state="attached", timeout=PATIENCE)
    page.set_input_files("input[type=file]", str(path))


def wait(page: Any, words: str) -> None:
    """Return when the page says so."""
    page.wait_for_function(SAYS, arg=words, timeout=PATIENCE)


def curve(page: Any, number: int = 0) -> list[float]:
    """Ordinates of the last line of a plot."""
    drawn(page, number)
    js = "(n) => { const plot = document.querySelectorAll('.js-plotly-plot')[n]; return plot.data.filter(t => t.line?.color).at(-1).y }"
    return list(page.evaluate(js, number))


def drawn(page: Any, number: int) -> None:
    """Return when a plot has lines."""
    js = "(n) => document.querySelectorAll('.js-plotly-plot')[n]?.data?.some(trace => trace.line?.color)"
    page.wait_for_function(js, arg=number, timeout=PATIENCE)


def apart(page: Any, before: list[float], more_than: float = -1.0, at_most: float = np.inf) -> None:
    """Return when the line is apart from another by so much: the page says what it is before plotly has drawn it.

    A time that runs out fails the test.
    """
    js = (
        "([before, least, most]) => { const now = document.querySelector('.js-plotly-plot').data.filter(t => t.line?.color).at(-1).y;"
        " const far = Math.max(...now.map((y, i) => Math.abs(y - before[i]))); return far > least && far <= most }"
    )
    page.wait_for_function(js, arg=[before, more_than, min(at_most, 1e9)], timeout=PATIENCE)


def names(page: Any, number: int = 0) -> list[str]:
    """What the legend of a plot says of its lines."""
    drawn(page, number)
    js = "(n) => document.querySelectorAll('.js-plotly-plot')[n].data.filter(trace => trace.line?.color).map(trace => trace.name)"
    return list(page.evaluate(js, number))


def test_a_crystal_becomes_a_spectrum_of_the_site_that_is_clicked(page: Any, server: Server, rocksalt: Path) -> None:
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "Mg 0, one of 4 alike, K edge")
    assert names(page) == ["model, Mg 0"]
    magnesium = curve(page)
    page.wait_for_timeout(1500)  # the camera comes to its place
    # An oxygen of the eight atoms is seen from where the camera stands; those behind another atom choose that one.
    for site in (4, 5, 6, 7):
        place = page.evaluate(PLACE, f"site {site}")
        page.locator("canvas").first.click(position=place)
        page.wait_for_timeout(300)
        if re.search(r"Absorber\s+O \d", page.locator("main").inner_text()):
            break
    wait(page, "one of 4 alike, K edge")
    page.wait_for_function("() => /Absorber\\s+O \\d/.test(document.querySelector('main')?.innerText)", timeout=PATIENCE)
    apart(page, magnesium, more_than=0.0)
    page.get_by_role("button", name="EXAFS").click()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot').layout.title.text.endsWith('EXAFS')", timeout=PATIENCE)


def test_a_strain_by_keyboard_moves_the_spectrum_and_is_taken_back(page: Any, server: Server, rocksalt: Path) -> None:
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "Mg 0, one of 4 alike, K edge")
    before = curve(page)
    slider = page.get_by_role("slider", name="Strain of the cell (%)")
    slider.locator("[tabindex='0']").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.locator("[aria-label='Strain of the cell (%)'][aria-valuenow='1']").wait_for(timeout=PATIENCE)
    apart(page, before, more_than=0.002)
    page.get_by_role("button", name="As it was").click()
    page.locator("[aria-label='Strain of the cell (%)'][aria-valuenow='0']").wait_for(timeout=PATIENCE)
    apart(page, before, at_most=0.0)


#: What a screen reader calls the element that has the focus, and the slider or field that it is in.
FOCUSED = """() => {
  const own = document.activeElement;
  const text = own.tagName === 'BUTTON' && own.innerText ? own.innerText : null;
  return text ?? own.closest('[aria-label]')?.getAttribute('aria-label') ?? own.labels?.[0]?.innerText ?? own.innerText;
}"""


def tab_to(page: Any, name: str) -> None:
    """Go on by the Tab key until what bears a name has the focus."""
    met = []
    for _ in range(60):
        page.keyboard.press("Tab")
        met.append(str(page.evaluate(FOCUSED)).strip())
        if name.lower() in met[-1].lower() and len(met[-1]) < 80:  # the page as a whole has the text of all
            return
    pytest.fail(f"no Tab leads to {name!r}, only to {met}")


def test_a_crystal_is_asked_about_by_keys_alone(page: Any, server: Server, rocksalt: Path) -> None:
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "Mg 0, one of 4 alike, K edge")
    tab_to(page, "Skip to the page")
    page.keyboard.press("Enter")
    tab_to(page, "Absorber")
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="O 4", exact=False).wait_for(timeout=PATIENCE)
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait(page, "O 4, one of 4 alike, K edge")
    oxygen = curve(page)
    tab_to(page, "EXAFS")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.js-plotly-plot').layout.title.text.endsWith('EXAFS')", timeout=PATIENCE)
    assert curve(page) != oxygen
    tab_to(page, "Strain of the cell")
    page.keyboard.press("ArrowLeft")
    page.locator("[aria-label='Strain of the cell (%)'][aria-valuenow='-0.1']").wait_for(timeout=PATIENCE)
    tab_to(page, "Move an atom")
    page.keyboard.press("Enter")
    page.locator("[aria-label='x (angstrom)']").wait_for(timeout=PATIENCE)  # until then Tab passes it by
    tab_to(page, "x (angstrom)")
    page.keyboard.press("ArrowRight")
    moved = "() => Math.abs(document.querySelector('[aria-label=\"x (angstrom)\"]').getAttribute('aria-valuenow') - 0.01) < 1e-6"
    page.wait_for_function(moved, timeout=PATIENCE)
    tab_to(page, "As it was")
    page.keyboard.press("Enter")
    page.locator("[aria-label='Strain of the cell (%)'][aria-valuenow='0']").wait_for(timeout=PATIENCE)
    for name in ("Check by FEFF", "Keep with provenance"):
        tab_to(page, name)


def test_strains_that_were_answered_ahead_are_drawn_without_the_server(page: Any, server: Server, rocksalt: Path) -> None:
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "Mg 0, one of 4 alike, K edge")
    before = curve(page)
    film = "Object.keys(document.querySelector('.js-plotly-plot').film ?? {}).length"
    page.wait_for_function(f"() => {film} === 101", timeout=PATIENCE)
    page.evaluate("() => { window.socket.emit = () => {} }")
    page.get_by_role("slider", name="Strain of the cell (%)").locator("[tabindex='0']").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    apart(page, before, more_than=0.002)
    frame = page.evaluate("() => document.querySelector('.js-plotly-plot').film[10].y.at(-1)")
    apart(page, frame, at_most=0.0)


@pytest.mark.slow
def test_feff_is_asked_from_the_page_and_every_node_is_linked(page: Any, server: Server, rocksalt: Path) -> None:
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "Mg 0, one of 4 alike, K edge")
    page.get_by_role("button", name="EXAFS").click()
    page.get_by_role("button", name="Check by FEFF").click()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')?.data?.some(t => /FEFF/.test(t.name))", timeout=2 * PATIENCE)
    assert len(names(page)) == 2
    links = page.locator("main a.node-link")
    assert {text.split(" <")[0] for text in links.all_inner_texts()} == {
        f"FEFF: {name}" for name in ("structure", "spectrum", "answer", "process")
    }
    page.goto(server.address("/jobs"))
    wait(page, "FEFF of Mg 0, one of 4 alike EXAFS in periclase.cif")
    wait(page, "done")


def test_a_measurement_is_inferred_and_its_handles_move_the_answer(page: Any, server: Server) -> None:
    page.goto(server.address("/spectrum"))
    drop(page, GOETHITE)
    wait(page, "the files do not say which element absorbs")
    page.get_by_label("Absorber, where the file does not say").fill("Fe")
    page.get_by_role("button", name="Read again").click()
    wait(page, "Mean distance")
    text = page.locator("main").inner_text()
    assert re.search(r"Neighbours\s+O \(0\.\d+\)", text)
    assert "Known to the models" in text
    distance = re.search(r"Mean distance\s+([\d.]+) angstrom", text)
    assert distance is not None
    assert 1.9 < float(distance[1]) < 2.15
    # A handle of the plot is dragged: E0 follows, and the answer.
    plot = page.locator(".js-plotly-plot").first
    drawn(page, 0)
    plot.locator(".nsewdrag").wait_for(state="attached")
    place = page.evaluate(
        "() => { const plot = document.querySelector('.js-plotly-plot'), area = plot.querySelector('.nsewdrag').getBoundingClientRect();"
        " const axis = plot._fullLayout.xaxis; return {x: area.x + axis.d2p(plot.layout.shapes[2].x0), y: area.y + area.height / 2} }"
    )
    plot.scroll_into_view_if_needed()
    before = page.get_by_label("E0 (eV)").input_value()
    page.mouse.move(place["x"], place["y"])
    page.mouse.down()
    page.mouse.move(place["x"] + 10, place["y"], steps=10)  # plotly begins a drag after eight pixels
    page.mouse.up()
    page.wait_for_function("(before) => document.querySelector('[aria-label=\"E0 (eV)\"]').value != before", arg=before, timeout=PATIENCE)
    page.wait_for_function(f"() => !document.querySelector('main').innerText.includes('{distance[1]} angstrom')", timeout=PATIENCE)
    page.get_by_role("button", name="As models see it").click()
    wait(page, f"{distance[1]} angstrom")


def test_a_measurement_is_kept_with_its_normalisation(page: Any, server: Server) -> None:
    page.goto(server.address("/spectrum"))
    page.get_by_label("Absorber, where the file does not say").fill("Fe")
    drop(page, GOETHITE)
    wait(page, "Mean distance")
    shown = re.search(r"Mean distance\s+([\d.]+) angstrom", page.locator("main").inner_text())
    assert shown is not None
    page.get_by_role("button", name="Keep with provenance").click()
    page.wait_for_function("() => document.querySelectorAll('main a.node-link').length == 3", timeout=2 * PATIENCE)
    pks = [int(text.split("<")[1].rstrip(">")) for text in page.locator("main a.node-link").all_inner_texts()]
    rows = server.command("query", "neighbours", "Fe")
    stored = [row for row in rows if pks[0] in row.values()]
    assert stored, rows
    assert any(f"{value:.3f}" == shown[1] for row in stored for value in row.values() if isinstance(value, float))


def serious(page: Any) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical of a page: rule and element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(rule["id"], node["html"][:200]) for rule in found if rule["impact"] in ("serious", "critical") for node in rule["nodes"]]


def test_a_screening_is_filtered_drawn_and_followed_to_its_origin(page: Any, server: Server, rocksalt: Path, tmp_path: Path) -> None:
    sulphide = tmp_path / "niningerite.cif"
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.2), ["Mg", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(filename=str(sulphide))
    pks = server.command("screen", rocksalt, sulphide, "--absorber", "Mg", "--kind", "EXAFS")["pk"]
    page.goto(server.address("/screening"))
    page.get_by_label("Table", exact=True).click()
    page.get_by_role("option", name=f"<{pks['table']}>").click()
    wait(page, "2 rows")
    page.get_by_label("Id or formula holds").fill("mgs")
    wait(page, "1 rows")
    page.get_by_role("checkbox", name=re.compile(r"row \d")).click()
    assert names(page)[0].startswith("MgS (")
    assert not serious(page)
    page.get_by_role("button", name="All rows").click()
    wait(page, "2 rows")
    page.get_by_role("link", name=f"table <{pks['table']}>").click()
    wait(page, f"TableData <{pks['table']}>")
    assert not serious(page)
    page.locator("svg a").filter(has_text="merge_batches").first.click()
    wait(page, "merge_batches <")
    page.goto(server.address("/provenance?node=99999999999999999999"))
    page.get_by_role("alert").get_by_text("there is no node of the pk").wait_for(timeout=PATIENCE)


def bad_files(folder: Path) -> dict[str, tuple[str, bytes | int, str]]:
    """Page, content (or a length of nothing) and what is said, by file name."""
    cell = Structure(Lattice.cubic(4.0), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    disordered = str(cell.to(fmt="cif")).encode()
    near = str(Structure(Lattice.cubic(4.0), ["Fe", "Fe"], [[0, 0, 0], [0.02, 0, 0]]).to(fmt="cif")).encode()
    energy = np.arange(7000.0, 7400.0, 2.0)
    columns = "# energy mu\n" + "\n".join(f"{e:.1f} {{}}" for e in energy)
    flat, nothing = columns.replace("{}", "1.0"), columns.replace("{}", "nan")
    html = b"<html><script>alert(1)</script></html>"
    return {
        "empty.cif": ("/crystal", b"", "empty.cif is empty"),
        "binary.cif": ("/crystal", os.urandom(20_000), "binary.cif cannot be read"),
        "page.cif": ("/crystal", html, "page.cif cannot be read"),
        "bomb.cif": ("/crystal", gzip.compress(b"0" * 100_000_000), "bomb.cif cannot be read"),
        "huge.cif": ("/crystal", 200_000_000, "the file was refused"),
        "nocell.cif": ("/crystal", b"data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\nFe 0.0\n", "nocell.cif cannot be read"),
        "disordered.cif": ("/crystal", disordered, "disordered"),
        "near.cif": ("/crystal", near, "angstrom apart"),
        "molecule.xyz": ("/crystal", b"2\nwater\nO 0 0 0\nH 0 0 1\n", "no cell"),
        "poscar.vasp": ("/crystal", b"x\n1.0\n1 0 0\n", "cannot be read"),
        "pickle.cif": ("/crystal", b"cos\nsystem\n(S'touch /tmp/owned'\ntR.", "cannot be read"),
        "empty.xdi": ("/spectrum", b"", "is empty"),
        "binary.dat": ("/spectrum", os.urandom(20_000), "binary.dat"),
        "page.txt": ("/spectrum", html, "page.txt"),
        "huge.dat": ("/spectrum", 200_000_000, "the file was refused"),
        "words.txt": ("/spectrum", b"this is no spectrum\nbut a text\n" * 50, "words.txt"),
        "flat.dat": ("/spectrum", flat.encode(), "edge"),
        "nan.dat": ("/spectrum", nothing.encode(), "nan.dat"),
        "short.dat": ("/spectrum", b"# energy mu\n7110 0.1\n7112 0.5\n", "short.dat"),
        "pickle.h5": ("/spectrum", b"\x89HDF\r\n\x1a\n" + os.urandom(2000), "pickle.h5"),
    }


def test_bad_uploads_are_told_in_a_sentence_and_the_memory_comes_back(page: Any, server: Server, rocksalt: Path, tmp_path: Path) -> None:
    def used() -> int:
        return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    files = bad_files(tmp_path)
    assert len(files) == 20
    page.goto(server.address("/crystal"))
    drop(page, rocksalt)
    wait(page, "K edge")
    page.goto(server.address("/spectrum"))
    page.get_by_label("Absorber, where the file does not say").fill("Fe")
    drop(page, GOETHITE)
    wait(page, "Mean distance")
    before = used()  # with models and libraries loaded
    for name, (address, content, words) in files.items():
        path = tmp_path / name
        with path.open("wb") as stream:
            if isinstance(content, int):
                stream.truncate(content)
            else:
                stream.write(content)
        page.goto(server.address(address))
        if address == "/spectrum":
            page.get_by_label("Absorber, where the file does not say").fill("Fe")
        drop(page, path)
        alert = page.get_by_role("alert").first
        try:
            alert.get_by_text(re.compile(r"\S")).first.wait_for(timeout=PATIENCE)
        except Exception:
            pytest.fail(f"nothing was said of {name}: {page.locator('main').inner_text()[:500]}")
        said = alert.inner_text().removeprefix("error").strip()
        assert words.lower() in said.lower(), (name, said)
        assert "not foreseen" not in said, name
        assert said.endswith((".", ")")), said
        assert "Traceback" not in said
        path.unlink()
    assert not Path("/tmp/owned").exists()
    assert used() - before < 150_000_000
    page.goto(server.address("/crystal"))
    wait(page, "Drop a crystal")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_pages_are_accessible_and_fit_a_phone(browser: Any, server: Server, rocksalt: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server.url)
    for address in ("/", "/crystal", "/spectrum", "/screening", "/provenance", "/jobs"):
        page.goto(server.address(address))
        page.wait_for_timeout(700)
        if address == "/crystal":
            drop(page, rocksalt)
            wait(page, "K edge")
        if address == "/spectrum":
            page.get_by_label("Absorber, where the file does not say").fill("Fe")
            drop(page, GOETHITE)
            wait(page, "Mean distance")
        page.wait_for_timeout(700)
        found = serious(page)
        assert not found, (address, found)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    context.close()


def test_read_only_stores_and_starts_nothing(browser: Any, rocksalt: Path, tmp_path: Path) -> None:
    with explorer(tmp_path / "home", "--read-only") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.goto(server.address("/crystal"))
        drop(page, rocksalt)
        wait(page, "Mg 0, one of 4 alike, K edge")
        for name in ("Check by FEFF", "Keep with provenance"):
            assert page.get_by_role("button", name=name).is_disabled()
        assert "read only" in page.locator("header").inner_text()
        context.close()
