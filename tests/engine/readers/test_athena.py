"""Athena projects: as Larch writes them, as Athena does, and what a stranger may put in one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.readers import read, read_measurement, text
from aiida_xastruct.engine.scans import Scan, ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum, chi_k, energy_to_k

MAGIC = "# Athena project file -- Demeter version 0.9.26\n# Using Demeter 0.9.26\n\n"


def group(spectrum: Spectrum, label: str = "iron", key: str = "abcde", **args: object) -> str:
    """A group of a project in Perl."""
    values = {"label": label, "bkg_z": "Fe", "fft_edge": "k", "bkg_eshift": "0", "is_xmu": 1, **args}
    words = ",".join(f"'{name}',{value if isinstance(value, int) else repr(value)}" for name, value in values.items())
    x, y = (",".join(f"'{value:.10g}'" for value in column) for column in (spectrum.energy, spectrum.mu))
    return f"$old_group = '{key}';\n@args = ({words},'titles',['Fe K','a (good) scan']);\n@x = ({x});\n@y = ({y});\n[record]   # create\n\n"


def project(*groups: str, compressed: bool = True) -> bytes:
    content = (MAGIC + "".join(groups) + "@journal = ();\n\n1;\n").encode()
    return gzip.compress(content) if compressed else content


def test_a_project_that_larch_wrote(spectrum: Spectrum, tmp_path: Path) -> None:
    from larch import Group
    from larch.io import create_athena

    path = tmp_path / "iron.prj"
    written = create_athena(str(path))
    written.add_group(Group(energy=np.array(spectrum.energy), mu=np.array(spectrum.mu), __name__="iron"))
    written.save()
    (scan,) = read(path.read_bytes(), path.name)
    assert isinstance(scan, Scan)
    np.testing.assert_allclose(scan.energy, spectrum.energy)
    np.testing.assert_allclose(scan.mu, spectrum.mu)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_project_of_athena(spectrum: Spectrum, compressed: bool) -> None:
    (scan,) = read(project(group(spectrum, "it's", bkg_eshift="-1.25"), compressed=compressed), "a.prj")
    assert isinstance(scan, Scan)
    np.testing.assert_allclose(scan.energy, spectrum.energy - 1.25)
    assert (scan.group, scan.absorber, scan.edge, scan.header["athena"]["titles"]) == ("it's", "Fe", "K", "Fe K; a (good) scan")


def test_groups_are_chosen_by_label_or_key(spectrum: Spectrum) -> None:
    content = project(group(spectrum, "first", "aaaaa"), group(spectrum, "second", "bbbbb"), group(spectrum, "other", "ccccc", bkg_z="Cu"))
    assert [item.group for item in read(content, "a.prj") if isinstance(item, Scan)] == ["first", "second", "other"]
    merged = read_measurement([("a.prj", content)], ScanParameters(groups=["first", "bbbbb"]))
    assert merged.settings["files"] == ["a.prj: first", "a.prj: second"]
    with pytest.raises(SpectrumError, match=r"holds 3 spectra \(first, second, other\); name those"):
        read_measurement([("a.prj", content)])
    with pytest.raises(SpectrumError, match="no group 'third'; it has first, second, other"):
        read(content, "a.prj", ScanParameters(groups=["third"]))
    with pytest.raises(SpectrumError, match=r"likely of the Fe K edge .* not of the Cu K edge"):
        read_measurement([("a.prj", content)], ScanParameters(groups=["other"]))


def test_json_projects(spectrum: Spectrum) -> None:
    entry = {"args": ["label", "iron", "bkg_z", "Fe", "bkg_eshift", 2], "x": [f"{x}" for x in spectrum.energy], "y": list(spectrum.mu)}
    content = {"_____header1": "# Athena project file -- Demeter version 0.9.26", "_____order": ["abcde"], "abcde": entry}
    (scan,) = read(json.dumps(content).encode(), "a.prj")
    assert isinstance(scan, Scan)
    np.testing.assert_allclose(scan.energy, spectrum.energy + 2.0)
    assert (scan.absorber, scan.group) == ("Fe", "iron")


def test_normalised_groups_and_chi_are_flat(spectrum: Spectrum) -> None:
    (flat,) = read(project(group(spectrum, is_nor=1)), "a.prj")
    assert isinstance(flat, Spectrum)
    assert (flat.normalisation, flat.settings["group"]) == ("flat", "iron")
    k = energy_to_k(spectrum.energy[60:] - spectrum.energy[60])
    wave = Spectrum(np.linspace(10.0, 20.0, len(k)), np.sin(4 * k), "Fe", "K", "EXAFS")
    object.__setattr__(wave, "energy", k)
    (chi,) = read(project(group(wave, is_chi=1, bkg_e0="7119.5")), "a.prj")
    assert isinstance(chi, Spectrum)
    assert (chi.kind, chi.method, chi.normalisation, chi.e0) == ("EXAFS", "measured", "flat", 7119.5)
    found_k, found = chi_k(chi)
    np.testing.assert_allclose(found_k, k, atol=1e-6)
    np.testing.assert_allclose(found, np.sin(4 * k), atol=1e-6)


def test_nothing_in_a_project_is_run(spectrum: Spectrum, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path('{trap}').touch()"
    evil = group(spectrum).replace("@x = (", f"@x = ({code},")
    with pytest.raises(SpectrumError, match="damaged Athena project"):
        read(project(evil, f"@journal = ({code});\n"), "a.prj")
    assert not trap.exists()


def test_damaged_projects_are_refused(spectrum: Spectrum, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = project(group(spectrum))
    for content, words in (
        (whole[: len(whole) // 2], "damaged gzip file"),
        (project(), "without groups"),
        (project(group(spectrum).replace("[record]", "")), "in the middle of a group"),
        (project(group(spectrum).replace("@y = (", "@y = ('1',")), "no two columns of one length"),
        (project(group(spectrum, is_rsp=1)), "is chi.R., not mu"),
        ((MAGIC.replace("#", "", 1) + "{").replace(" Athena", '{"a": "Athena').encode(), "damaged Athena project"),
    ):
        with pytest.raises(SpectrumError, match=words):
            read(content, "a.prj")
    monkeypatch.setattr(text, "MAX_BYTES", 1000)
    with pytest.raises(SpectrumError, match="unpacks to more than"):
        text.unzipped(gzip.compress(b"x" * 5000), "bomb", 1001)
