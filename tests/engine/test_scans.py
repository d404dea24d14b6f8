"""Measured scans: reading, merging, and one sentence for every file that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.merging import disagreements, merge
from aiida_xastruct.engine.quality import quality
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import HC, Scan, ScanParameters, read_scan
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
    # Nor does it leave a step where the scans lie at different heights.
    np.testing.assert_allclose(merged.mu, clean.mu, atol=3e-3)


def test_a_drift_of_the_energy_is_no_glitch(energy: np.ndarray) -> None:
    drifting = [Scan(f"s{i}", energy, step(energy, 0.1 * i), "Fe", "K", "mu") for i in range(5)]
    assert merge(drifting).settings["n_glitches"] < 10


def disagreeing(energy: np.ndarray, *others: Scan) -> list[str]:
    """What is said of two good scans and others, with the names of the scans it is said of."""
    return disagreements(merge([*scans(energy, 2), *others]))


def test_scans_that_disagree_are_named(energy: np.ndarray) -> None:
    assert disagreeing(energy) == disagreeing(energy, Scan("weak", energy, 0.6 * step(energy) + 1.0, "Fe", "K", "mu")) == []
    noise = 1e-4 * np.random.default_rng(3).normal(size=len(energy))
    (moved,) = disagreeing(energy, Scan("moved", energy, step(energy, 4.0), "Fe", "K", "mu"))
    assert (match := re.fullmatch(r"moved lies (\S+) eV from the other scans: calibrate the scans, or leave it out\.", moved))
    assert float(match[1]) == pytest.approx(4.0, abs=0.3)
    (dead,) = disagreeing(energy, Scan("dead", energy, 0.3 + noise, "Fe", "K", "mu"))
    assert dead == "dead has 0 % of the other scans' edge step: leave it out."
    (wild,) = disagreeing(energy, Scan("wild", energy, step(energy) + 0.3 * (np.arange(len(energy)) % 9 == 0), "Fe", "K", "mu"))
    assert re.fullmatch(r"wild disagrees with the other scans in \d+ % of its readings: leave it out\.", wild)
    good, bad = scans(energy, 1)[0], Scan("dead", energy, 0.3 + noise, "Fe", "K", "mu")
    assert disagreements(merge([good, bad])) == [dead]
    assert quality(merge([good, bad])).remarks[-1] == dead


def test_a_scan_that_was_stopped_does_not_cut_the_others(energy: np.ndarray) -> None:
    stopped = Scan("stopped", energy[:300], step(energy[:300]), "Fe", "K", "mu")
    with pytest.raises(SpectrumError, match="stopped ends at 7259 eV, 141 eV inside the range of the other scans"):
        merge([*scans(energy, 2), stopped])
    late = Scan("late", energy[100:], step(energy[100:]), "Fe", "K", "mu")
    with pytest.raises(SpectrumError, match="late begins at 7060 eV, 100 eV inside"):
        merge([late, *scans(energy, 2)])
    assert merge([*scans(energy, 2), stopped], ScanParameters(kind="XANES")).energy[-1] == energy[299]
    coarse = Scan("coarse", energy[::4], step(energy[::4]), "Fe", "K", "mu")
    assert len(merge([coarse, *scans(energy, 2)])) == len(energy)


def test_decimal_commas_and_semicolons(energy: np.ndarray) -> None:
    mu = step(energy)
    rows = [f"{e:.3f}\t{m:.6f}" for e, m in zip(energy, mu, strict=True)]
    for text in (
        "Energie\tmu\n" + "\n".join(rows).replace(".", ","),
        "# energy mu\n" + "\n".join(rows).replace(".", ",").replace("\t", ";"),
        '"Energy (eV)";"mu"\n' + "\n".join(rows).replace("\t", ";"),
        "energy,mu\n" + "\n".join(rows).replace("\t", ", "),
    ):
        found = read_measurement([("scan.csv", text.encode())], IRON)
        np.testing.assert_allclose(found.energy, energy, atol=1e-3)
        np.testing.assert_allclose(found.mu, mu, atol=1e-6)


def test_fluorescence_where_transmission_is_dead(energy: np.ndarray) -> None:
    i0, fluorescence = np.full_like(energy, 1e5), 1e5 * step(energy)
    for transmitted, formula in ((np.full_like(energy, 5e4), "ifluor/i0"), (1e5 * np.exp(-step(energy)), "ln(i0/itrans)")):
        text = xdi({"energy": energy, "i0": i0, "itrans": transmitted, "ifluor": fluorescence})
        assert read_scan(text, "scan", IRON).formula == formula
    assert read_scan(text, "scan", ScanParameters(mode="fluorescence")).formula == "ifluor/i0"


def test_scans_one_after_the_other(energy: np.ndarray) -> None:
    twice = {"energy": np.concatenate([energy, energy]), "mu": np.concatenate([step(energy), step(energy) + 0.1])}
    assert read_scan(xdi(twice), "twice", IRON).order == "repeated"
    there_and_back = {"energy": np.concatenate([energy, energy[::-1]]), "mu": np.concatenate([step(energy), step(energy)[::-1]])}
    assert read_scan(xdi(there_and_back), "both", IRON).order == "unsorted"


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
