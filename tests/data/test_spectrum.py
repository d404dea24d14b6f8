from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node

from aiida_xastruct.data.spectrum import SpectrumData
from aiida_xastruct.engine.errors import SpectrumError


def test_round_trip_through_the_database(ml_spectrum):
    band = np.column_stack([ml_spectrum.mu - 0.1, ml_spectrum.mu + 0.1])
    pk = SpectrumData.from_engine(ml_spectrum, site=3, multiplicity=4, band=band).store().pk
    node = load_node(pk)
    back = node.to_engine()
    for name in ("energy", "mu", "mu0"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ml_spectrum, name))
    for name in ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0", "settings"):
        assert getattr(back, name) == getattr(ml_spectrum, name)
    np.testing.assert_array_equal(node.band, band)
    assert (node.site, node.multiplicity) == (3, 4)


def test_unknown_values_are_null_and_queryable(spectrum):
    from aiida.orm import QueryBuilder

    node = SpectrumData.from_engine(spectrum).store()
    attributes = node.base.attributes.all
    assert attributes["e0"] is None
    assert attributes["site"] is None
    assert node.mu0 is None
    assert node.band is None
    builder = QueryBuilder().append(SpectrumData, filters={"attributes.absorber": "Fe", "attributes.kind": "XANES", "uuid": node.uuid})
    assert builder.count() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": lambda e: e[::-1]}, "do not increase"),
        ({"energy": lambda e: e / 1000.0}, "eV"),
        ({"mu": lambda m: m[:-1]}, "one length"),
        ({"mu": lambda m: np.where(m > 0.9, np.nan, m)}, "NaN"),
        ({"edge": lambda _: "K1"}, "use one of"),
        ({"absorber": lambda _: "Xx"}, "not the symbol"),
        ({"method": lambda _: "guess"}, "use one of"),
    ],
)
def test_unfit_data_are_refused_when_the_node_is_made(spectrum, change, message):
    arguments = {"energy": spectrum.energy, "mu": spectrum.mu, "absorber": "Fe", "edge": "K", "kind": "XANES", "method": "measured"}
    for name, function in change.items():
        arguments[name] = function(arguments[name])
    with pytest.raises(SpectrumError, match=message):
        SpectrumData(**arguments)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"site": -1}, "site is -1"),
        ({"site": 1.9}, "site is 1.9"),
        ({"site": True}, "site is True"),
        ({"multiplicity": 0}, "multiplicity is 0"),
        ({"multiplicity": 2.5}, "multiplicity is 2.5"),
        ({"neighbours": "Fe"}, "neighbours is 'Fe'"),
        ({"mean_distance": -1.0}, "mean_distance is -1"),
        ({"band": np.zeros((201, 2))}, "has no band"),
    ],
)
def test_unfit_extent_is_refused(spectrum, extra, message):
    with pytest.raises(ValidationError, match=message):
        SpectrumData.from_engine(spectrum, **extra)


@pytest.mark.parametrize(
    ("band", "message"),
    [
        (np.zeros((3, 2)), "has shape"),
        (np.tile([1.0, 0.0], (226, 1)), "above its upper"),
        (np.full((226, 2), np.nan), "not finite"),
    ],
)
def test_unfit_band_is_refused(ml_spectrum, band, message):
    with pytest.raises(ValidationError, match=message):
        SpectrumData.from_engine(ml_spectrum, band=band)


def test_the_band_of_single_points_lies_inside(ml_spectrum):
    band = np.column_stack([ml_spectrum.mu - 0.1, ml_spectrum.mu + 0.3])
    node = SpectrumData.from_engine(replace(ml_spectrum, settings={"pointwise_share": 0.5}), band=band)
    np.testing.assert_allclose(node.point_band - ml_spectrum.mu[:, None], np.tile([-0.05, 0.15], (len(ml_spectrum), 1)), atol=1e-12)
    assert SpectrumData.from_engine(ml_spectrum, band=band).point_band is None
    for share in (0.0, 1.5, "half", True):
        with pytest.raises(ValidationError, match="pointwise_share is"):
            SpectrumData.from_engine(replace(ml_spectrum, settings={"pointwise_share": share}), band=band)


def test_tampered_node_cannot_be_stored(spectrum):
    node = SpectrumData.from_engine(spectrum)
    node.set_array("spectrum", np.zeros((201, 2)))
    with pytest.raises(ValidationError, match="increase"):
        node.store()
    node = SpectrumData.from_engine(spectrum)
    node.base.attributes.set("edge", "K9")
    with pytest.raises(ValidationError, match="edge"):
        node.store()
    node = SpectrumData.from_engine(spectrum)
    node.set_array("notes", np.zeros(3))
    with pytest.raises(ValidationError, match="notes"):
        node.store()


@pytest.mark.parametrize("name", ["absorber", "edge", "kind", "method", "energy_reference", "normalisation"])
def test_a_node_that_lacks_an_attribute_is_damaged(spectrum, name):
    node = SpectrumData.from_engine(spectrum)
    node.base.attributes.delete(name)
    with pytest.raises(SpectrumError, match="node is damaged"):
        node.to_engine()
    with pytest.raises(ValidationError, match="node is damaged"):
        node.store()


def test_whole_numbers_may_come_from_a_table(spectrum):
    node = SpectrumData.from_engine(spectrum, site=np.int64(3), multiplicity=np.float64(4.0), mean_distance=np.float32(2.0)).store()
    assert (node.site, node.multiplicity, node.origin["mean_distance"]) == (3, 4, 2.0)


def test_hash_is_of_the_content_alone(spectrum):
    one = SpectrumData.from_engine(spectrum, label="one").store()
    two = SpectrumData.from_engine(spectrum, label="two", source={"uri": "file:///elsewhere"}).store()
    other = SpectrumData.from_engine(spectrum, site=1).store()
    assert one.base.caching.compute_hash() == two.base.caching.compute_hash()
    assert one.base.caching.compute_hash() != other.base.caching.compute_hash()


def test_csv_and_xdi_columns_come_back(tmp_path, ml_spectrum):
    from larch.io import read_ascii

    band = np.column_stack([ml_spectrum.mu - 0.1, ml_spectrum.mu + 0.1])
    node = SpectrumData.from_engine(ml_spectrum, band=band)
    csv, xdi = tmp_path / "spectrum.csv", tmp_path / "spectrum.xdi"
    node.export(str(csv))
    node.export(str(xdi))
    table = np.genfromtxt(csv, delimiter=",", names=True, skip_header=sum(line.startswith("#") for line in csv.read_text().splitlines()))
    assert table.dtype.names == ("energy", "mu", "mu0", "lower", "upper")
    np.testing.assert_allclose(table["mu"], ml_spectrum.mu, rtol=1e-9)
    group = read_ascii(str(xdi))
    assert group.array_labels[:2] == ["energy", "mu"]
    np.testing.assert_allclose(group.energy, ml_spectrum.energy, rtol=1e-9)
    np.testing.assert_allclose(group.mu, ml_spectrum.mu, rtol=1e-9)


def test_json_holds_every_digit(tmp_path, spectrum):
    node = SpectrumData.from_engine(spectrum)
    node.export(str(tmp_path / "spectrum.json"))
    content = json.loads((tmp_path / "spectrum.json").read_text())
    np.testing.assert_array_equal(content["columns"]["mu"], spectrum.mu)
    assert content["settings"] == {"beamline": "P65"}
    assert content["uuid"] == node.uuid


def test_models_of_the_orm(spectrum):
    node = SpectrumData.from_engine(spectrum).store()
    attributes = node.serialize()["attributes"]
    assert attributes["absorber"] == "Fe"
    made = SpectrumData.from_model(
        SpectrumData.ConstructorModel(
            node_type=SpectrumData.class_node_type,
            args={"energy": spectrum.energy.tolist(), "mu": spectrum.mu.tolist(), "absorber": "Fe", "edge": "K", "kind": "XANES"},
        )
    ).store()
    np.testing.assert_array_equal(made.mu, spectrum.mu)


def test_clone_and_description(spectrum):
    node = SpectrumData.from_engine(spectrum).store()
    clone = node.clone().store()
    assert clone.base.caching.compute_hash() == node.base.caching.compute_hash()
    assert node.get_description() == "Fe K XANES, measured, 7012 to 7412 eV"
