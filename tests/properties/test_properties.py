"""What holds for any input: parsers, normalisation, grids, averages, splits, hashes. XASTRUCT_PROPERTIES=deep tries far more of each."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiida_xastruct.engine.averaging import average
from aiida_xastruct.engine.configuration import FamilyConfig
from aiida_xastruct.engine.content import combine
from aiida_xastruct.engine.dataset import PARTS, part_of
from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.exchange import from_json, to_json
from aiida_xastruct.engine.readers import read, read_measurement
from aiida_xastruct.engine.scans import SAME_ENERGY, ScanParameters, increasing, order_of
from aiida_xastruct.engine.sitecache import structure_hash
from aiida_xastruct.engine.spectrum import Spectrum, energy_to_k, k_to_energy, normalise, on_grid
from aiida_xastruct.engine.structure import make_structure
from aiida_xastruct.engine.structures_file import read_structures, write_structures
from aiida_xastruct.engine.writers import write

settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.register_profile("deep", max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("XASTRUCT_PROPERTIES", "quick"))

numbers = st.floats(-1e6, 1e6, allow_nan=False)
words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)


@st.composite
def spectra(draw, least=40, most=120):
    """Smooth steps with whatever lies on top of them, around the K edge of Fe."""
    n = draw(st.integers(least, most))
    steps = draw(arrays(np.float64, n, elements=st.floats(0.3, 4.0)))
    energy = 7060.0 + np.cumsum(steps)
    noise = draw(arrays(np.float64, n, elements=st.floats(-0.05, 0.05)))
    height, offset = draw(st.floats(0.1, 10.0)), draw(st.floats(-1.0, 1.0))
    mu = offset + height * (0.5 + np.arctan((energy - 7112.0) / 2.0) / np.pi) + noise
    return Spectrum(energy, mu, "Fe", "K", "XANES", "measured", "nominal", "raw")


@st.composite
def cells(draw):
    """Crystals of one to five atoms."""
    n = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.floats(3.0, 12.0), min_size=3, max_size=3))
    species = draw(st.lists(st.sampled_from(["Fe", "O", "Cu", "U"]), min_size=n, max_size=n))
    return make_structure(np.diag(lengths), species, draw(arrays(np.float64, (n, 3), elements=st.floats(0.0, 0.999))))


@given(st.binary(max_size=400), st.sampled_from(["a.dat", "a.xdi", "a.prj", "a.json", "a.nxs", "xmu.dat", "a.csv"]))
def test_any_bytes_are_refused_or_finite(content, name):
    try:
        found = read(content, name, ScanParameters(absorber="Fe"))
    except XastructError:
        return
    assert all(np.isfinite(item.energy).all() and np.isfinite(item.mu).all() for item in found)


@given(st.lists(st.tuples(numbers, numbers, words), min_size=10, max_size=30))
def test_any_columns_are_refused_or_finite(rows):
    text = "# energy mu\n" + "".join(f"{x!r} {y!r} {word if index % 7 == 0 else ''}\n" for index, (x, y, word) in enumerate(rows))
    try:
        found = read_measurement([("a.dat", text.encode())], ScanParameters(absorber="Fe"))
    except XastructError:
        return
    assert np.isfinite(found.energy).all()
    assert (np.diff(found.energy) > 0).all()


@given(spectra(), st.sampled_from(["csv", "json", "xdi", "nexus"]))
def test_what_is_written_is_read(spectrum, file_format):
    again = read_measurement([(f"a.{'nxs' if file_format == 'nexus' else file_format}", write(file_format, spectrum))])
    np.testing.assert_array_equal(again.energy, spectrum.energy)
    np.testing.assert_array_equal(again.mu, spectrum.mu)
    assert (again.absorber, again.edge, again.kind) == ("Fe", "K", "XANES")


@given(spectra(), st.floats(0.01, 100.0), st.floats(-5.0, 5.0))
def test_normalisation_knows_neither_scale_nor_offset(spectrum, scale, offset):
    own = replace(spectrum, e0=7112.0)
    other = replace(own, mu=scale * own.mu + offset)
    try:
        one, two = normalise(own, 7112.0), normalise(other, 7112.0)
    except XastructError:
        return
    np.testing.assert_allclose(two.mu, one.mu, rtol=1e-6, atol=1e-6)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(7000.0, 7010.0)), st.data())
def test_readings_are_sorted_and_none_is_lost(energy, data):
    mu = data.draw(arrays(np.float64, len(energy), elements=numbers))
    sorted_energy, merged = increasing(energy, mu)
    assert (np.diff(sorted_energy) > 0).all()
    assert sorted_energy.min() >= energy.min() - 1e-9
    assert sorted_energy.max() <= energy.max() + 1e-9
    assert merged.min() >= mu.min() - 1e-6 * (1 + abs(mu.min()))
    assert merged.max() <= mu.max() + 1e-6 * (1 + abs(mu.max()))
    if len(np.unique(np.round(energy / SAME_ENERGY / 3))) == len(energy) and (np.diff(np.sort(energy)) >= SAME_ENERGY).all():
        assert len(sorted_energy) == len(energy)
    assert order_of(sorted_energy) == "increasing"


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-1000.0, 1e5)))
def test_energy_and_k_are_inverse(energy):
    np.testing.assert_allclose(k_to_energy(energy_to_k(energy)), energy, rtol=1e-9, atol=1e-9)


@given(spectra(), st.floats(-50.0, 300.0), st.floats(0.1, 50.0))
def test_no_grid_invents_values(spectrum, start, width):
    grid = spectrum.energy[0] + start + np.linspace(0.0, width, 17)
    found = on_grid(spectrum.energy, spectrum.mu, grid)
    inside = (grid >= spectrum.energy[0]) & (grid <= spectrum.energy[-1])
    assert (np.isfinite(found) == inside).all()
    assert ((found[inside] >= spectrum.mu.min() - 1e-9) & (found[inside] <= spectrum.mu.max() + 1e-9)).all()


@given(spectra(), st.lists(st.integers(1, 48), min_size=1, max_size=4))
def test_the_average_of_one_spectrum_is_that_spectrum(spectrum, multiplicities):
    try:
        found, _ = average([replace(spectrum, normalisation="flat", e0=7112.0)] * len(multiplicities), multiplicities)
    except XastructError:
        return
    np.testing.assert_allclose(found.mu, np.interp(found.energy, spectrum.energy, spectrum.mu), rtol=1e-6, atol=1e-9)


@given(words, st.integers(0, 2**31))
def test_a_group_has_one_part(label, seed):
    assert part_of(label, seed) in PARTS
    assert part_of(label, seed) == part_of(label, seed)


def test_parts_have_their_shares():
    share = [np.mean([part_of(f"Fe{index}O|x", seed) == "train" for index in range(3000)]) for seed in (0, 1)]
    assert share == pytest.approx([0.7, 0.7], abs=0.03)


@given(st.dictionaries(words, words, min_size=1, max_size=5))
def test_a_hash_of_a_folder_knows_contents_and_not_order(hashes):
    assert combine(hashes) == combine(dict(reversed(hashes.items())))
    name = next(iter(hashes))
    assert combine({**hashes, name: hashes[name] + "x"}) != combine(hashes)


@given(cells(), st.integers(-3, 3))
def test_a_crystal_is_hashed_by_its_content(structure, shift):
    moved = make_structure(structure.lattice.matrix, [str(site.specie) for site in structure], structure.frac_coords + shift)
    # Coordinates on the border between two roundings may fall to either side.
    if not (np.abs(structure.frac_coords * 1e6 % 1.0 - 0.5) < 1e-3).any():
        assert structure_hash(moved) == structure_hash(structure)
    longer = make_structure(structure.lattice.matrix * 1.01, [str(site.specie) for site in structure], structure.frac_coords)
    assert structure_hash(longer) != structure_hash(structure)


@given(st.lists(st.tuples(words, cells()), max_size=4))
def test_no_crystal_of_a_file_is_lost(entries):
    stream = io.BytesIO()
    assert write_structures(entries, stream) == len(entries)
    stream.seek(0)
    found = list(read_structures(stream))
    assert len({name for name, _ in found}) == len(entries)
    for (_, given_structure), (_, again) in zip(entries, found, strict=True):
        if not isinstance(again, str):
            assert structure_hash(again) == structure_hash(given_structure)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_plain_values_survive_json(value):
    assert from_json("a", to_json(value)) == value


@given(
    st.dictionaries(st.sampled_from(["name", "tasks", "architecture", "training", "training_of", "split_seed", "other"]), plain, max_size=4)
)
def test_any_configuration_is_refused_or_typed(content):
    try:
        found = FamilyConfig.from_dict(content)
    except XastructError:
        return
    assert isinstance(found.name, str)
    assert isinstance(found.split_seed, int)
