"""Spectra of every kind go out in every format and come back."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.feff import read_xmu
from aiida_xastruct.engine.readers import read, read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum
from aiida_xastruct.engine.writers import WRITERS, format_of_name, write

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
RECORDED = ROOT / "tests" / "fixtures" / "feff"

CRYSTAL = {"site": 3, "multiplicity": 4, "structure_hash": "a" * 64, "neighbours": ["O", "O", "Fe"], "mean_distance": 2.0123456789012345}


def measured() -> Spectrum:
    head = b"# Mono.d_spacing: 3.13\n# Beamline.name: P65\n"
    return read_measurement([(SCAN.name, head + SCAN.read_bytes())], ScanParameters(absorber="Fe"))


def computed(kind: str) -> Spectrum:
    return read_xmu(
        (RECORDED / kind.lower() / "xmu.dat").read_text(), "Mg", "K", kind, {"text": 'a "quoted" # é', "long": list(range(900))}
    )


@pytest.fixture(params=["measured", "XANES by FEFF", "EXAFS by FEFF", "learned EXAFS", "learned XANES", "L2,3"])
def case(request, ml_spectrum, spectrum):
    """A spectrum and what its node knows besides."""
    band = np.column_stack([ml_spectrum.mu - 0.1, ml_spectrum.mu + 1.0 / 3.0])
    return {
        "measured": lambda: (measured(), {}),
        "XANES by FEFF": lambda: (computed("XANES"), CRYSTAL),
        "EXAFS by FEFF": lambda: (computed("EXAFS"), CRYSTAL),
        "learned EXAFS": lambda: (ml_spectrum, {**CRYSTAL, "band": band}),
        "learned XANES": lambda: (replace(ml_spectrum, kind="XANES", mu0=None), {"band": band}),
        "L2,3": lambda: (replace(spectrum, absorber="Ce", edge="L2,3", energy=spectrum.energy - 1400.0), {}),
    }[request.param]()


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_what_goes_out_comes_back(case, file_format):
    spectrum, extent = case
    if file_format == "xmu" and spectrum.mu0 is None:
        with pytest.raises(SpectrumError, match="mu0"):
            write(file_format, spectrum, extent)
        return
    content = write(file_format, spectrum, extent)
    assert content == write(file_format, spectrum, extent)
    (back,) = read(content, "file")
    crystal = back.settings.get("crystal", {})
    tolerance = {"rtol": 1e-9, "atol": 6e-7} if file_format == "xmu" else {"rtol": 0.0, "atol": 0.0}
    for name in ("energy", "mu", "mu0"):
        expected = getattr(spectrum, name)
        if expected is None:
            assert getattr(back, name) is None
        else:
            np.testing.assert_allclose(getattr(back, name), expected, **tolerance)
    if "band" in extent:
        np.testing.assert_allclose(crystal["band"], extent["band"], **tolerance)
    assert {name: crystal[name] for name in CRYSTAL if name in extent} == {name: extent[name] for name in CRYSTAL if name in extent}
    for name in ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0"):
        assert getattr(back, name) == getattr(spectrum, name)
    assert {name: value for name, value in back.settings.items() if name != "crystal"} == json.loads(json.dumps(dict(spectrum.settings)))


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_a_claim_that_the_file_contradicts_is_refused(file_format):
    content = write(file_format, computed("EXAFS"))
    with pytest.raises(SpectrumError, match="says absorber Mg, not Fe"):
        read(content, "file", ScanParameters(absorber="Fe"))
    with pytest.raises(SpectrumError, match="says kind EXAFS, not XANES"):
        read(content, "file", ScanParameters(kind="XANES"))


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_a_file_that_is_cut_off_is_refused(file_format):
    spectrum = computed("EXAFS")
    content = write(file_format, spectrum, {"band": np.column_stack([spectrum.mu - 0.1, spectrum.mu + 1.0 / 3.0])})
    # In a line, within a number, and behind a whole line.
    cuts = [*range(len(content) - 2, len(content) - 150, -1), content.rindex(b"\n", 0, len(content) - 1) + 1]
    for cut in cuts:
        with pytest.raises(SpectrumError):
            read(content[:cut], "file")
    with pytest.raises(SpectrumError):
        read(content[: int(0.97 * len(content))] + b"\n1.0 x\n", "file")


def test_larch_reads_the_xdi(tmp_path):
    from larch.io import read_xdi

    spectrum = measured()
    path = tmp_path / "goethite.xdi"
    path.write_bytes(write("xdi", spectrum))
    group = read_xdi(str(path))
    np.testing.assert_allclose(group.energy, spectrum.energy, rtol=1e-12)
    np.testing.assert_allclose(group.mu, spectrum.mu, rtol=1e-12)
    assert (group.element, group.edge) == ("Fe", "K")
    assert spectrum.settings["xdi"]["mono"]["d_spacing"] in str(group.attrs["mono"]["d_spacing"])


def test_what_reads_feff_reads_the_xmu():
    spectrum = computed("EXAFS")
    back = read_xmu(write("xmu", spectrum).decode(), "Mg", "K", "EXAFS")
    np.testing.assert_allclose(back.mu, spectrum.mu, rtol=1e-8)
    np.testing.assert_allclose(back.mu0, spectrum.mu0, rtol=1e-8)
    assert back.e0 == pytest.approx(spectrum.e0, abs=1e-5)


def test_formats_by_their_endings():
    assert [format_of_name(name) for name in ("a.XDI", "b.nxs", "xmu.dat", "c.doc")] == ["xdi", "nexus", "xmu", None]
    with pytest.raises(SpectrumError, match="no format"):
        write("doc", computed("XANES"))


def nexus_file(fill):
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        entry = file.create_group("scan1")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXxas"
        fill(entry)
    return stream.getvalue()


def beamline(entry, spectrum, mode="Transmission", unit="keV"):
    """What NXxas asks of a beamline: monochromator, incoming and absorbed beam."""
    instrument = entry.create_group("instrument")
    instrument.attrs["NX_class"] = "NXinstrument"
    instrument["monochromator/energy"] = spectrum.energy / 1000.0
    instrument["monochromator/energy"].attrs["units"] = unit
    incoming = np.linspace(2e5, 1e5, len(spectrum))
    instrument["incoming_beam/data"] = incoming
    instrument["absorbed_beam/data"] = incoming * (np.exp(-spectrum.mu) if mode == "Transmission" else spectrum.mu)
    plot = entry.create_group("plot")
    plot.attrs["NX_class"] = "NXdata"
    plot["mode"] = mode
    entry["sample/name"] = "goethite"
    entry["element"] = "Fe"
    entry["edge"] = "K"


@pytest.mark.parametrize("mode", ["Transmission", "Fluorescence Yield"])
def test_nexus_of_a_beamline(spectrum, mode):
    (scan,) = read(nexus_file(lambda entry: beamline(entry, spectrum, mode)), "scan.nxs")
    np.testing.assert_allclose(scan.energy, spectrum.energy, rtol=1e-12)
    np.testing.assert_allclose(scan.mu, spectrum.mu, atol=1e-12)
    assert (scan.absorber, scan.edge, scan.header["sample"]["name"]) == ("Fe", "K", "goethite")


def test_nexus_that_cannot_be_used(spectrum):
    import h5py

    def elsewhere(entry):
        beamline(entry, spectrum)
        del entry["instrument/monochromator/energy"]
        entry["instrument/monochromator/energy"] = h5py.ExternalLink("/etc/hostname", "/x")

    for fill, message in [
        (lambda entry: None, "no column of energies"),
        (lambda entry: beamline(entry, spectrum, unit="furlong"), "furlong"),
        (elsewhere, "another file"),
        (lambda entry: entry.__delitem__("definition"), "no entry whose definition is NXxas"),
    ]:
        with pytest.raises(SpectrumError, match=message):
            read(nexus_file(fill), "scan.nxs")
    with pytest.raises(SpectrumError, match="no entry 'other'"):
        read(nexus_file(lambda entry: beamline(entry, spectrum)), "scan.nxs", ScanParameters(groups=("other",)))
