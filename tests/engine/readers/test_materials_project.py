"""Documents of the Materials Project, written by hand after the schema of emmet-core's `XASDoc` and pymatgen's `XAS`."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.readers import read, read_measurement
from aiida_xastruct.engine.readers.materials_project import fetch
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.sitecache import structure_hash
from aiida_xastruct.engine.spectrum import Spectrum

FEO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def document(site: Any = 1, kind: str = "XANES", **changes: Any) -> dict[str, Any]:
    """One document, as the API gives it in JSON."""
    x = np.linspace(7110.0, 7170.0, 100)
    spectrum = {
        "@module": "pymatgen.analysis.xas.spectrum",
        "@class": "XAS",
        "x": x.tolist(),
        "y": (0.5 + np.arctan(x - 7125.0) / np.pi).tolist(),
        "structure": FEO.as_dict(),
        "absorbing_element": {"@module": "pymatgen.core.periodic_table", "@class": "Element", "element": "Fe"},
        "edge": "K",
        "spectrum_type": kind,
        "absorbing_index": site,
    }
    head = {
        "task_id": "mp-1279742",
        "spectrum_id": f"mp-1279742-{kind}-Fe-K",
        "absorbing_element": "Fe",
        "edge": "K",
        "spectrum_type": kind,
    }
    return {**head, "spectrum": {**spectrum, **changes}}


def as_file(*documents: dict[str, Any]) -> bytes:
    return json.dumps({"data": list(documents)}).encode()


def test_a_document_becomes_a_spectrum_with_its_crystal() -> None:
    found = read_measurement([("mp.json", as_file(document()))])
    assert (found.absorber, found.edge, found.kind, found.method, found.energy_reference) == ("Fe", "K", "XANES", "feff", "feff")
    crystal = found.settings["crystal"]
    assert (crystal["site"], crystal["neighbours"]) == (1, ["O"])
    assert crystal["mean_distance"] == pytest.approx(2.15)
    assert crystal["structure_hash"] == structure_hash(FEO)
    assert found.settings["material_id"] == "mp-1279742"


def test_mp_api_itself_writes_what_is_read() -> None:
    emmet = pytest.importorskip("emmet.core.xas")
    from pymatgen.analysis.xas.spectrum import XAS

    given = document()["spectrum"]
    xas = XAS(np.array(given["x"]), np.array(given["y"]), FEO, "Fe", "K", "XANES", 1)
    written = emmet.XASDoc.from_spectrum(xas, material_id="mp-1279742", last_updated="2026-01-01T00:00:00").model_dump(mode="json")
    found = read_measurement([("mp.json", json.dumps(written).encode())])
    np.testing.assert_allclose(found.mu, given["y"])
    assert found.settings["crystal"]["site"] == 1


def test_a_mean_over_sites_has_none() -> None:
    assert read_measurement([("mp.json", as_file(document(None)))]).settings["crystal"] == {
        "site": None,
        "structure_hash": structure_hash(FEO),
    }


def test_documents_are_chosen_by_kind_or_id() -> None:
    content = as_file(document(), document(kind="EXAFS"), document(kind="XAFS"))
    assert [item.kind for item in read(content, "mp.json") if isinstance(item, Spectrum)] == ["XANES", "EXAFS", "XANES"]
    with pytest.raises(SpectrumError, match=r"holds 3 spectra .*mp-1279742-EXAFS-Fe-K"):
        read_measurement([("mp.json", content)])
    exafs = read_measurement([("mp.json", content)], ScanParameters(groups=["mp-1279742-EXAFS-Fe-K"]))
    assert (exafs.kind, exafs.e0) == ("EXAFS", 7110.0)
    joined = read_measurement([("mp.json", content)], ScanParameters(groups=["mp-1279742-XAFS-Fe-K"], kind="EXAFS"))
    assert (joined.kind, joined.e0) == ("EXAFS", None)
    with pytest.raises(SpectrumError, match="no spectrum of O K; it has Fe K XANES, Fe K EXAFS, Fe K XANES"):
        read(content, "mp.json", ScanParameters(absorber="O", edge="K"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (document(5), "says that Fe absorbs at site 5, where its structure has O"),
        (document(8), "names site 8, and its structure has the sites 0 to 7"),
        (document(-1), "names site -1"),
        (document(True), "names site True"),
        (document(structure=None), "comes without its structure"),
        (document(structure={"lattice": {}, "sites": []}), "a structure that cannot be read"),
        (document(structure={**FEO.as_dict(), "sites": FEO.as_dict()["sites"][4:]}), "of Fe, which its structure O2 does not hold"),
        (document(x=[1.0, 2.0]), "shapes .2,. and .100,."),
        (document(y=["a"] * 100), "no arrays x and y of numbers"),
        (document(kind="XPS"), "does not say absorbing_element"),
    ],
)
def test_documents_that_contradict_themselves_are_refused(made: dict[str, Any], words: str) -> None:
    with pytest.raises(SpectrumError, match=words):
        read(as_file(made), "mp.json")


def test_classes_that_a_document_names_are_not_imported() -> None:
    structure = FEO.as_dict()
    structure["sites"][0]["properties"] = {"trap": {"@module": "antigravity", "@class": "geohash"}}
    read(as_file(document(structure=structure)), "mp.json")
    assert "antigravity" not in sys.modules


def test_damaged_json_is_refused() -> None:
    with pytest.raises(SpectrumError, match="damaged JSON"):
        read(as_file(document())[:-20], "mp.json")


def test_fetching_needs_a_key_and_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SpectrumError, match="no key of the Materials Project in MP_API_KEY"):
        fetch("mp-149")
    monkeypatch.setenv("MP_API_KEY", "x" * 32)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(SpectrumError, match="pip install mp-api"):
        fetch("mp-149")
