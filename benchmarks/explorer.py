"""How quick the explorer is in a browser: from the drop of a crystal to its curve, and while a lattice is strained.

    python benchmarks/explorer.py --json explorer.json --screenshots docs/images
    python benchmarks/explorer.py --table explorer.json > docs/reference/explorer.md

A real headless Chromium drops crystals of the AMCSD, of larixite, on the page of a running explorer with a profile of its own; times are
taken in the browser, from the change of the field to the first frame after plotly has drawn the curve of this crystal. The slider of the
strain is dragged for ten seconds; a frame of the browser counts where it shows another curve than the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser import chromium
from explorer_server import Server, explorer

#: Crystals that are dropped, by number of the AMCSD: oxides, sulphides, halides, metals and silicates of 2 to 80 atoms.
CRYSTALS = (
    641,
    605,
    18816,
    2890,
    13088,
    3,
    18050,
    4855,
    10471,
    17725,
    11623,
    11294,
    10874,
    10526,
    11364,
    18225,
    11344,
    14106,
    16784,
    11999,
)

GOETHITE = Path(__file__).parents[1] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"

#: Begins the clock when a file is chosen, and stops it in the frame after the crystal's name stands beside a drawn curve.
_DROP = """(name) => new Promise(resolve => {
  const field = document.querySelector('input[type=file]');
  field.addEventListener('change', () => {
    const start = performance.now();
    const look = () => {
      const drawn = document.querySelector('.js-plotly-plot .scatterlayer .trace path') !== null;
      if (drawn && document.querySelector('main').innerText.includes(`(${name})`)) resolve(performance.now() - start);
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, {capture: true, once: true});
  window.ready = true;
})"""

_DRAG = """async (seconds) => {
  const slider = document.querySelector('.q-slider'), box = slider.getBoundingClientRect(), y = box.y + box.height / 2;
  let frames = 0;
  let last = '';
  const count = () => {
    const now = document.querySelector('.js-plotly-plot .scatterlayer .trace:last-child path.js-line')?.getAttribute('d');
    if (now !== last) { frames++; last = now; }
    requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
  const fire = (target, type, x) =>
    target.dispatchEvent(new MouseEvent(type, {bubbles: true, cancelable: true, clientX: x, clientY: y, button: 0, buttons: 1}));
  fire(slider.querySelector('.q-slider__track-container'), 'mousedown', box.x + box.width / 2);
  const start = performance.now();
  while (performance.now() - start < 1000 * seconds) {
    fire(document, 'mousemove', box.x + box.width * (0.5 + 0.4 * Math.sin(0.4 + (performance.now() - start) / 700)));
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  fire(document, 'mouseup', box.x + box.width / 2);
  return frames / ((performance.now() - start) / 1000);
}"""


def dropped(page: Any, server: Server, path: Path) -> float:
    """Milliseconds from the drop of a crystal on an empty page to its curve."""
    page.goto(server.address("/crystal"))
    page.wait_for_selector("input[type=file]", state="attached")
    page.wait_for_timeout(500)  # as somebody who looks at the page first
    page.evaluate("(name) => { window.took = (" + _DROP + ")(name) }", path.name)
    page.set_input_files("input[type=file]", str(path))
    return float(page.evaluate("window.took"))


def screenshots(page: Any, server: Server, folder: Path, crystals: list[Path]) -> None:
    """Pictures of the pages for the documentation: the first crystal answered, a measurement read, all of them screened."""

    def picture(name: str, address: str, words: str, act: Callable[[], None] = lambda: None) -> None:
        page.goto(server.address(address))
        act()
        page.wait_for_function("words => document.querySelector('main').innerText.includes(words)", arg=words, timeout=60_000)
        page.wait_for_timeout(2000)
        page.screenshot(path=folder / f"explorer_{name}.png", full_page=True)

    def measured() -> None:
        page.get_by_label("Absorber, where the file does not say").fill("Fe")
        page.set_input_files("input[type=file]", str(GOETHITE))

    def screened() -> None:
        page.get_by_label("Table", exact=True).click()
        page.get_by_role("option", name=f"<{pks['table']}>").click()
        for row in range(3):
            page.get_by_role("checkbox", name=re.compile(r"row \d")).nth(row).click()

    picture("crystal", "/crystal", "K edge", lambda: page.set_input_files("input[type=file]", str(crystals[0])))
    picture("spectrum", "/spectrum", "Mean distance", measured)
    pks = server.command("screen", *crystals, "--absorber", "O", "--kind", "XANES")["pk"]
    picture("screening", "/screening", "rows", screened)
    picture("provenance", f"/provenance?node={pks['table']}", "merge_batches")


def measure(pictures: Path | None) -> dict[str, Any]:
    """Run everything."""
    from aiida_xastruct.engine.reference.sources import AmcsdSource

    source, drops, rates = AmcsdSource(), [], []
    with tempfile.TemporaryDirectory() as name, explorer(Path(name) / "home") as server, chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(server.url)
        paths = []
        for number in CRYSTALS:
            crystal, _ = source.structure(str(number))
            path = Path(name) / f"amcsd_{number}.cif"
            crystal.to(filename=str(path))
            paths.append((path, len(crystal)))
        dropped(page, server, paths[0][0])  # the models are loaded by then
        load = os.getloadavg()[0]
        for path, atoms in paths:
            drops.append({"crystal": path.stem, "atoms": atoms, "ms": dropped(page, server, path)})
        for path, atoms in (paths[2], paths[3]):
            dropped(page, server, path)
            page.wait_for_timeout(1500)
            rates.append({"crystal": path.stem, "atoms": atoms, "frames": float(page.evaluate(_DRAG, 10))})
        if pictures is not None:
            screenshots(page, server, pictures, [paths[2][0], *(path for path, _ in paths if path != paths[2][0])])
    return {"drops": drops, "rates": rates, "load": load, "cores": os.cpu_count()}


def table(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    times = sorted(drop["ms"] for drop in found["drops"])
    atoms = sorted(drop["atoms"] for drop in found["drops"])
    median = statistics.median(times)
    rows = [
        f"| from drop to curve, median of {len(times)} crystals of {atoms[0]} to {atoms[-1]} atoms | {median:.0f} ms | 1000 ms |",
        f"| the slowest of them | {times[-1]:.0f} ms | |",
        *(
            f"| strain slider, {rate['crystal']}, {rate['atoms']} atoms | {rate['frames']:.1f} frames a second | 10 |"
            for rate in found["rates"]
        ),
    ]
    head = (
        "Printed by `python benchmarks/explorer.py --table explorer.json` from what the same script measured in a headless Chromium; its\n"
        f"head says how. {found['cores']} cores, which the server, the browser and its software renderer of WebGL shared; load of the\n"
        f"machine at the start {found['load']:.1f}."
    )
    return "\n".join(["# The explorer's speed", "", head, "", "| | measured | wanted |", "|---|---|---|", *rows, ""])


def main() -> None:
    """Measure, or print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured here")
    parser.add_argument("--screenshots", type=Path, help="put pictures of the pages into this folder")
    parser.add_argument("--table", type=Path, help="print the page of this file")
    given = parser.parse_args()
    if given.table is not None:
        print(table(json.loads(given.table.read_text())), end="")
        return
    found = measure(given.screenshots)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))
    print(table(found), end="")


if __name__ == "__main__":
    main()
