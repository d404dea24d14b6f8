"""Many spectra in one node: what is read back is what was given, and what cannot be read back is not stored."""

from __future__ import annotations

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError

from aiida_xastruct.data.spectra import SiteSpectrum, SpectraData
from aiida_xastruct.engine.errors import SpectrumError
from aiida_xastruct.engine.spectrum import Spectrum


def spectrum(length: int, mu0: bool = True, **settings) -> Spectrum:
    energy = np.linspace(7100.0, 7900.0, length)
    mu = 1.0 + 0.1 * np.sin(energy / 30)
    background = np.ones(length) if mu0 else None
    return Spectrum(energy, mu, "Fe", "K", "EXAFS", "feff", "feff", "feff_xsedge50", background, 7112.5, {"engine": "feff8l", **settings})


ITEMS = (
    SiteSpectrum("mp-1", 0, 4, spectrum(30, cards={"SIG2": [0.003]})),
    SiteSpectrum("mp-1", 4, 2, spectrum(12, mu0=False, cards={})),
    SiteSpectrum("mp-2", 0, 1, spectrum(20, cards={})),
)


def test_comes_back_as_it_was(aiida_profile_clean):
    node = SpectraData.from_engine(ITEMS).store()
    assert len(node) == 3
    for given, found in zip(ITEMS, node, strict=True):
        assert (found.structure, found.site, found.multiplicity) == (given.structure, given.site, given.multiplicity)
        for name in ("energy", "mu"):
            np.testing.assert_array_equal(getattr(found.spectrum, name), getattr(given.spectrum, name))
        assert (found.spectrum.mu0 is None) == (given.spectrum.mu0 is None)
        for name in ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0", "settings"):
            assert getattr(found.spectrum, name) == getattr(given.spectrum, name)


def test_what_all_share_is_said_once(aiida_profile_clean):
    node = SpectraData.from_engine(ITEMS)
    assert node.base.attributes.get("settings") == {"engine": "feff8l"}
    assert node.base.attributes.get("spectra")[0]["settings"] == {"cards": {"SIG2": [0.003]}}
    assert (node.base.attributes.get("absorbers"), node.base.attributes.get("kinds")) == (["Fe"], ["EXAFS"])


def test_one_of_them(aiida_profile_clean):
    node = SpectraData.from_engine(ITEMS)
    assert len(node.get_spectrum("mp-1", 4)) == 12
    with pytest.raises(SpectrumError, match="no spectrum of site 9 of 'mp-1'"):
        node.get_spectrum("mp-1", 9)


@pytest.mark.parametrize(("items", "words"), [((), "no spectrum to store"), ((ITEMS[0], ITEMS[0]), "two spectra are of site 0 of 'mp-1'")])
def test_what_makes_no_node(aiida_profile_clean, items, words):
    with pytest.raises(SpectrumError, match=words):
        SpectraData.from_engine(items)


def test_damage_is_not_stored(aiida_profile_clean):
    with pytest.raises(ValidationError, match="holds no spectra"):
        SpectraData().store()
    node = SpectraData.from_engine(ITEMS)
    node.set_array("ends", np.array([30, 42]))
    with pytest.raises(ValidationError, match="do not fit together"):
        node.store()
    node = SpectraData.from_engine(ITEMS)
    columns = node.get_array("columns").copy()
    columns[3, 1] = np.nan
    node.set_array("columns", columns)
    with pytest.raises(ValidationError, match="finite"):
        node.store()


def test_where_a_spectrum_is_from_comes_back_too(aiida_profile_clean):
    origin = {"structure_hash": "ab" * 32, "neighbours": ["O", "S"], "mean_distance": 2.1}
    items = (SiteSpectrum("mp-1", 0, 4, spectrum(30), origin), SiteSpectrum("mp-2", 0, 1, spectrum(20)))
    node = SpectraData.from_engine(items).store()
    assert [item.origin for item in node] == [origin, None]
    assert node.base.attributes.get("hash_prefixes") == ["abababab"]
    assert [row["mean_distance"] for row in node.base.attributes.get("spectra")] == [2.1, None]


@pytest.mark.parametrize(("name", "value"), [("absorbers", ["Cu"]), ("kinds", ["XANES"]), ("hash_prefixes", ["abababab"])])
def test_attributes_that_would_hide_spectra_from_queries_are_not_stored(aiida_profile_clean, name, value):
    node = SpectraData.from_engine(ITEMS)
    node.base.attributes.set(name, value)
    with pytest.raises(ValidationError, match="not those of the spectra"):
        node.store()


def test_a_row_by_its_number(aiida_profile_clean):
    node = SpectraData.from_engine(ITEMS).store()
    for number, whole in enumerate(node):
        row = node.get_row(number)
        assert (row.structure, row.site, row.multiplicity, row.origin) == (whole.structure, whole.site, whole.multiplicity, whole.origin)
        np.testing.assert_array_equal(row.spectrum.mu, whole.spectrum.mu)
    for number in (-1, 3):
        with pytest.raises(SpectrumError, match=f"spectra 0 to 2, not {number}"):
            node.get_row(number)
