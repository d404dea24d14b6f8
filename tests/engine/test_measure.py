"""What stands on a card is what it says: on numbers small enough to count."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_xastruct.engine.bundle import FamilyBundle
from aiida_xastruct.engine.dataset import Dataset
from aiida_xastruct.engine.measure import Report, _size_at, measure, report_on, risk_coverage
from aiida_xastruct.engine.models.tasks import drawn_inputs


@pytest.fixture(scope="module")
def report(tiny_family):
    """The report part of the family's own dataset, with every third structure type unseen and some formulas known."""
    dataset = tiny_family[1]
    in_report = set(dataset.tables["XANES"].material[dataset.parts("XANES")["report"]])
    materials = [
        {**material, "prototype": "new"} if index in in_report and index % 3 == 0 else material
        for index, material in enumerate(dataset.materials)
    ]
    parts = dataset.split("XANES")
    renamed = Dataset(materials, dataset.engines, dataset.tables)
    return report_on(renamed, "XANES", parts, dataset.present("XANES")[dataset.parts("XANES")["report"]])


def test_columns_say_what_was_seen(report):
    columns = report.columns
    assert next(iter(columns)) == "report"
    assert columns["report"].all()
    assert columns["new_prototype"].tolist() == (report.part.material % 3 == 0).tolist()
    assert (columns["seen_prototype"] ^ columns["new_prototype"]).all()
    assert columns["new_formula"].all()  # each material of the synthetic set has its own
    assert not any(name.startswith("block") for name in columns)


def test_a_formula_in_two_structures_is_known(make_dataset):
    dataset = make_dataset(n=400)
    material = dataset.tables["XANES"].material
    masks = dataset.parts("XANES")
    trained, reported = material[masks["train"]][0], material[masks["report"]][0]
    parts = dataset.split("XANES")
    dataset.materials[reported] = {**dataset.materials[reported], "formula": dataset.materials[trained]["formula"]}
    found = report_on(dataset, "XANES", parts, dataset.present("XANES")[masks["report"]])
    assert set(material[masks["report"]][found.known_formula]) == {reported}
    assert found.columns["new_formula"].tolist() == (~found.known_formula).tolist()


def test_a_block_has_a_column_from_150_sites_on(make_dataset):
    dataset = make_dataset(n=4000, absorbers=(26, 29, 8))
    masks = dataset.parts("XANES")
    found = report_on(dataset, "XANES", dataset.split("XANES"), dataset.present("XANES")[masks["report"]])
    absorber = found.part.absorber
    assert found.columns["block_d"].tolist() == (absorber != 8).tolist()
    assert ("block_p" in found.columns) is bool((absorber == 8).sum() >= 150)


@pytest.mark.parametrize("task", ["forward", "distance", "neighbours"])
def test_columns_add_up(tiny_family, report, task):
    """The mean over all rows is the mean of its two halves, weighted by their sites."""
    bundle = FamilyBundle.load(tiny_family[0]).model(task, "XANES")
    metrics = measure(bundle, report, drawn_inputs(bundle.task, report.part, 3))
    whole, halves = metrics["report"], [metrics["seen_prototype"], metrics["new_prototype"]]
    assert whole["sites"] == len(report.part) == sum(half["sites"] for half in halves)
    for name in {"forward": ("mse", "whole_spectrum_in_band"), "distance": ("mae", "coverage90"), "neighbours": ("exact", "set_size")}[
        task
    ]:
        assert whole[name] == pytest.approx(sum(half[name] * half["sites"] for half in halves) / whole["sites"], abs=2e-5)
    assert all(np.isfinite(value) for column in metrics.values() for value in column.values())


def test_the_card_holds_what_is_measured(tiny_family):
    dataset = tiny_family[1]
    bundle = FamilyBundle.load(tiny_family[0]).model("distance", "XANES")
    parts, masks = dataset.split("XANES"), dataset.parts("XANES")
    found = measure(
        bundle,
        report_on(dataset, "XANES", parts, dataset.present("XANES")[masks["report"]]),
        drawn_inputs(bundle.task, parts["report"], 3),
    )
    assert bundle.card["metrics"]["report"] == found["report"]


def test_the_risk_coverage_curve_ends_at_the_mean_of_all(tiny_family, report):
    bundle = FamilyBundle.load(tiny_family[0]).model("forward", "XANES")
    inputs = drawn_inputs(bundle.task, report.part, 3)
    curve = risk_coverage(bundle, report, inputs)
    assert curve["share"] == pytest.approx(np.arange(1, 11) / 10)
    assert curve["expected_error"] == sorted(curve["expected_error"])
    assert curve["mse"][-1] == pytest.approx(measure(bundle, report, inputs)["report"]["mse"], abs=1e-5)


def test_size_of_sets_at_a_coverage():
    probability = np.array([[0.0, 0.9, 0.5], [0.0, 0.6, 0.4], [0.0, 0.2, 0.8], [0.0, 0.3, 0.7]])
    true = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    assert _size_at(probability, true, 0.5) == 0.75  # half the rows are covered above 0.7: 1, 0, 1, 1 elements
    assert _size_at(probability, true, 1.0) == 2.0  # threshold 0.2


def test_a_report_needs_no_rows_of_a_column(tiny_family, report):
    bundle = FamilyBundle.load(tiny_family[0]).model("distance", "XANES")
    nothing = {"report": report.columns["report"], "empty": np.zeros(len(report.part), dtype=bool)}
    part = Report(report.train, report.part, report.present, report.known_formula, nothing)
    assert list(measure(bundle, part, drawn_inputs(bundle.task, part.part, 3))) == ["report"]
