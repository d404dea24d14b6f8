"""Measured scans: reading, merging, and one sentence for every file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.scans import HC, Scan, ScanParameters, merge, read_scan
from aiida_xastruct.engine.spectrum import chi_k, find_e0, flatten, model_curve

GOETHITE = Path(__file__).parents[2] / "examples" / "data" / "20K_GOE_Fe_K_240.00000.xdi"
IRON = ScanParameters(absorber="Fe", edge="K")


def step(energy: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """An iron edge with a white line."""
    return 0.5 + np.arctan((energy - 7122.0 - shift) / 2.0) / np.pi + 0.4 * np.exp(-(((energy - 7128.0 - shift) / 5.0) ** 2))


def xdi(columns: dict[str, np.ndarray], header: str = "", fields: bool = True) -> str:
    """Text of an XDI file."""
    names = "".join(f"# Column.{index + 1}: {name}\n" for index, name in enumerate(columns)) if fields else ""
    rows = "\n".join(" ".join(f"{value:.8g}" for value in row) for row in np.column_stack(list(columns.values())))
    labels = " ".join(name.split()[0] for name in columns)
    return f"# XDI/1.0\n{names}{header}# ///\n# a comment\n# ------\n# {labels}\n{rows}\n"


@pytest.fixture
def energy() -> np.ndarray:
    """Energies of a short iron scan, eV."""
    return np.linspace(6960.0, 7400.0, 441)


def test_the_goethite_scan_of_p65_is_read_by_its_counters() -> None:
    scan = read_scan(GOETHITE.read_text(), GOETHITE.name)
    assert scan.formula == "ln(vfc01/vfc02)"
    assert scan.energy[0] == pytest.approx(6963.888, abs=0.01)
    # A monochromator that stands still at the end of the scan gives a point or two, not seventeen.
    assert (scan.energy > 8113.48).sum() <= 3
    assert (np.diff(scan.energy) > 0).all()


def test_goethite_normalises_and_covers_what_models_see() -> None:
    spectrum = merge([read_scan(GOETHITE.read_text(), GOETHITE.name)], IRON)
    assert (spectrum.kind, spectrum.method, spectrum.energy_reference, spectrum.normalisation) == ("EXAFS", "measured", "nominal", "raw")
    assert find_e0(spectrum) == pytest.approx(7127.0, abs=1.5)
    flat = flatten(spectrum)
    assert flat.settings["edge_step"] == pytest.approx(0.80, abs=0.03)
    assert flat.mu[flat.energy < 7080.0].mean() == pytest.approx(0.0, abs=0.01)
    k, chi = chi_k(spectrum)
    assert k[-1] > 15.0
    assert np.abs(chi[(k > 3) & (k < 12)]).max() < 0.3
    assert np.isfinite(model_curve(spectrum)).all()


def test_the_reference_foil_of_the_same_scan_is_metallic_iron() -> None:
    foil = merge([read_scan(GOETHITE.read_text(), GOETHITE.name, ScanParameters(mode="reference"))], IRON)
    assert find_e0(foil) == pytest.approx(7112.0, abs=1.5)


def test_standard_xdi_agrees_with_larch(tmp_path: Path, energy: np.ndarray) -> None:
    from larch.io import read_xdi

    i0 = np.full_like(energy, 1e5)
    header = "# Element.symbol: Fe\n# Element.edge: K\n# Mono.d_spacing: 3.1356\n"
    text = xdi({"energy eV": energy, "i0": i0, "itrans": i0 * np.exp(-step(energy))}, header)
    (tmp_path / "iron.xdi").write_text(text)
    larch = read_xdi(str(tmp_path / "iron.xdi"))
    scan = read_scan(text, "iron.xdi")
    assert (scan.absorber, scan.edge) == ("Fe", "K")
    np.testing.assert_allclose(scan.energy, larch.energy)
    np.testing.assert_allclose(scan.mu, np.log(larch.i0 / larch.itrans), rtol=1e-6)
    np.testing.assert_allclose(scan.mu, step(energy), atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "mode", "formula"),
    [
        ({"i0": 2.0, "itrans": 1.0}, "", "ln(i0/itrans)"),
        ({"i0": 2.0, "ifluor": 1.0}, "", "ifluor/i0"),
        ({"i0": 2.0, "i1": 1.0, "i2": 0.5}, "reference", "ln(i1/i2)"),
        ({"xmu": 1.0, "i0": 2.0, "i1": 1.0}, "", "xmu"),
        ({"xmu": 1.0, "i0": 2.0, "i1": 1.0}, "transmission", "ln(i0/i1)"),
    ],
)
def test_mu_is_made_of_the_detectors_there_are(columns: dict[str, float], mode: str, formula: str, energy: np.ndarray) -> None:
    full = {"energy": energy} | {name: np.full_like(energy, value) for name, value in columns.items()}
    assert read_scan(xdi(full), "scan.xdi", ScanParameters(mode=mode)).formula == formula


def test_columns_can_be_named(energy: np.ndarray) -> None:
    text = xdi({"energy": energy, "MON": np.full_like(energy, 2.0), "det": np.full_like(energy, 1.0)})
    assert read_scan(text, "a", ScanParameters(columns={"i0": "mon", "i1": "det"})).mu[0] == pytest.approx(np.log(2.0))


def test_kev_and_angles_become_ev(energy: np.ndarray) -> None:
    mu = step(energy)
    np.testing.assert_allclose(read_scan(xdi({"energy": energy / 1000, "mu": mu}), "kev").energy, energy, rtol=1e-6)
    angle = np.degrees(np.arcsin(HC / (2 * 3.1356 * energy)))
    scan = read_scan(xdi({"angle degrees": angle, "mu": mu}, "# Mono.d_spacing: 3.1356\n"), "angle")
    np.testing.assert_allclose(scan.energy, energy, rtol=1e-5)
    with pytest.raises(SpectrumError, match=r"angles but no Mono\.d_spacing"):
        read_scan(xdi({"angle degrees": angle, "mu": mu}), "angle")


def test_a_scan_that_goes_back_is_sorted(energy: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(energy))
    scan = read_scan(xdi({"energy": energy[order], "mu": step(energy)[order]}), "shuffled")
    np.testing.assert_allclose(scan.energy, energy)
    np.testing.assert_allclose(scan.mu, step(energy), rtol=1e-6)


def test_the_line_that_was_being_written_is_left_out(energy: np.ndarray) -> None:
    text = xdi({"energy": energy, "mu": step(energy)})
    assert len(read_scan(text.rstrip()[:-14] + "\n", "cut").energy) == len(energy) - 1


def scans(energy: np.ndarray, count: int) -> list[Scan]:
    """Scans that differ in height, step and noise, as those of one sample do."""
    generator = np.random.default_rng(1)
    return [
        Scan(f"s{i}", energy, (1 + 0.02 * i) * step(energy) + 0.1 * i + 1e-4 * generator.normal(size=len(energy)), "Fe", "K", "mu")
        for i in range(count)
    ]


def test_three_scans_outvote_a_glitch(energy: np.ndarray) -> None:
    clean = merge(scans(energy, 4))
    found = scans(energy, 4)
    found[2].mu[300:303] += 0.5
    merged = merge(found)
    assert merged.settings["n_glitches"] >= 3
    assert clean.settings["n_glitches"] == 0
    # One scan of four left out moves the raw mean by a share of the offset between scans, not by the glitch.
    assert np.abs(merged.mu - clean.mu).max() < 0.08


def test_a_drift_of_the_energy_is_no_glitch(energy: np.ndarray) -> None:
    drifting = [Scan(f"s{i}", energy, step(energy, 0.1 * i), "Fe", "K", "mu") for i in range(5)]
    assert merge(drifting).settings["n_glitches"] < 10


def test_merging_needs_a_common_range(energy: np.ndarray) -> None:
    shifted = Scan("far", energy + 5000.0, step(energy), "Fe", "K", "mu")
    with pytest.raises(SpectrumError, match="overlap in 0 points"):
        merge([*scans(energy, 1), shifted])


def test_the_kind_follows_the_range(energy: np.ndarray) -> None:
    assert merge(scans(energy, 1)).kind == "EXAFS"
    assert merge([Scan("s", energy[:300], step(energy[:300]), "Fe", "K", "mu")]).kind == "XANES"
    assert merge(scans(energy, 1), ScanParameters(kind="XANES")).kind == "XANES"


def test_the_edge_defaults_to_the_one_people_measure(energy: np.ndarray) -> None:
    assert merge([Scan("s", energy, step(energy), "", "", "mu")], ScanParameters(absorber="Fe")).edge == "K"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 lines of numbers"),
        ("data_FeS2\n_cell 5\n" * 10, "is no table of numbers"),
        ("# energy mu\n7000 1\n7001 2\n", "2 lines of numbers"),
        ("# energy mu extra\n" + "7000 1\n" * 20, "has 2 columns but names 3"),
        ("# time mu\n" + "1 1\n" * 20, "no column of energies"),
        ("# energy i0\n" + "7000 1\n" * 20, "no columns for"),
        ("# energy i0 i1\n" + "7000 1 -1\n" * 20, "is no number in 20 of 20 points"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(SpectrumError) as caught:
        read_scan(text, "bad.dat")
    message = str(caught.value)
    assert words in message
    assert message.startswith("bad.dat")
    assert "\n" not in message


def test_a_scan_of_another_edge_is_refused(energy: np.ndarray) -> None:
    with pytest.raises(SpectrumError, match="60 eV of the Cu K edge"):
        merge(scans(energy, 1), ScanParameters(absorber="Cu", edge="K"))
    mixed = [*scans(energy, 1), Scan("other", energy, step(energy), "Co", "K", "mu")]
    with pytest.raises(SpectrumError, match="absorber Co, Fe"):
        merge(mixed)
    with pytest.raises(SpectrumError, match="which element absorbs"):
        merge([Scan("s", energy, step(energy), "", "", "mu")])
    with pytest.raises(SpectrumError, match="no scan to merge"):
        merge([])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"edge": "K1"}, "edge is 'K1'"),
        ({"mode": "trans"}, "mode is 'trans'"),
        ({"kind": "xas"}, "kind is 'xas'"),
        ({"columns": {"detector": "x"}}, "columns names 'detector'"),
        ({"absorbr": "Fe"}, "did you mean 'absorber'"),
    ],
)
def test_parameters_are_checked(values: dict[str, object], words: str) -> None:
    with pytest.raises(SpectrumError) as caught:
        ScanParameters.from_dict(values)
    assert words in str(caught.value)
