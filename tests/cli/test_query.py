"""`aiida-xastruct query`: each question once, and what is said where it makes no sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from aiida_xastruct.cli.root import cli

Run = Callable[..., Result]


def asked(run: Run, *arguments: object) -> list[dict[str, Any]]:
    return list(json.loads(run(cli, "query", *arguments, "--json").stdout))


def test_predictions_are_nodes_and_rows(run: Run, provenance: Any) -> None:
    found = asked(run, "predicted", provenance.family.label, "--absorber", "Mg")
    assert [(row["pk"], row["absorber"], row["kind"], row["site"]) for row in found] == [
        (provenance.predicted.pk, "Mg", "EXAFS", 0),
        (provenance.table.pk, "Mg", "EXAFS", 0),
    ]
    assert (found[0]["row"], provenance.table.get_row(found[1]["row"])["id"]) == (None, "mgo")
    assert asked(run, "predicted", provenance.model.pk, "--kind", "XANES") == []


def test_more_than_the_limit_is_said(run: Run, provenance: Any) -> None:
    result = run(cli, "query", "predicted", provenance.model.pk, "--limit", 1, "--json")
    assert len(json.loads(result.stdout)) == 1
    assert "more than 1" in result.stderr
    assert run(cli, "query", "predicted", provenance.model.pk, "--json").stderr == ""


def test_feff_runs(run: Run, provenance: Any) -> None:
    (row,) = asked(run, "feff-runs", provenance.learned.uuid)
    assert (row["run"], row["process_type"], row["dataset"]) == (provenance.batch.pk, "xastruct.feff_batch", provenance.grown.pk)
    result = run(cli, "query", "feff-runs", provenance.family.label, "--json")
    assert (json.loads(result.stdout), "not in this profile" in result.stderr) == ([], True)


def test_neighbours_by_crystal_and_by_answer(run: Run, provenance: Any) -> None:
    computed, collection = provenance.run.outputs.spectrum.pk, provenance.batch.outputs.collection.pk
    found = asked(run, "neighbours", "Mg", "O", "--from", 2.1, "--to", 2.11, "--by", "crystal")
    assert {(row["pk"], row["row"]) for row in found} == {(provenance.predicted.pk, None), (computed, None), (collection, 0)}
    assert {(tuple(row["neighbours"]), row["mean_distance"]) for row in found} == {(("O",), 2.106)}
    (row,) = asked(run, "neighbours", "Mg", "--by", "answer")
    assert (row["pk"], row["by"], row["mean_distance"]) == (computed, "answer", provenance.answer["mean_distance"])
    assert asked(run, "neighbours", "Mg", "O", "--from", 2.2, "--by", "crystal") == []


def test_neighbours_in_tables_are_computed_when_asked_for_and_found_from_then_on(run: Run, provenance: Any) -> None:
    words = ("neighbours", "Mg", "O", "--from", 2.1, "--to", 2.11, "--by", "crystal")
    result = run(cli, "query", *words, "--json")
    assert "Rows of 1 batches with Mg were not searched" in result.stderr
    assert len(json.loads(result.stdout)) == 3
    result = run(cli, "query", *words, "--tables", "--json")
    found = json.loads(result.stdout)
    assert (result.stderr, len(found)) == ("", 4)
    assert (found[-1]["pk"], found[-1]["by"], found[-1]["neighbours"], found[-1]["mean_distance"]) == (
        provenance.table.pk, "crystal", ["O"], 2.106,
    )  # fmt: skip
    assert provenance.table.get_row(found[-1]["row"])["absorber"] == "Mg"
    again = run(cli, "query", *words, "--json")
    assert (json.loads(again.stdout), again.stderr) == (found, "")
    result = run(cli, "query", *words, "--tables", "--limit", 3, "--json")
    assert (len(json.loads(result.stdout)), "more than 3" in result.stderr) == (3, True)


def test_elements_may_be_written_in_any_case(run: Run, provenance: Any) -> None:
    for words in (["neighbours", "{}", "{other}", "--by", "answer"], ["predicted", provenance.family.label, "-a", "{}"]):
        one, other = ([word.format(a, other=b) for word in words] for a, b in (("Mg", "O"), ("mg", "o")))
        assert asked(run, *one) == asked(run, *other) != []


def test_downstream_lists_rows_and_nodes(run: Run, provenance: Any) -> None:
    found = asked(run, "downstream", provenance.structure.pk)
    assert [row["type"] for row in found[:2]] == ["row", "row"]
    assert {(row["pk"], row["type"]) for row in found} >= {(provenance.predicted.pk, "SpectrumData"), (provenance.run.pk, "CalcJobNode")}
    shown = run(cli, "query", "downstream", provenance.structure.pk).stdout
    assert "xastruct.feff_batch" not in shown  # the job holds other crystals; its spectra of this one are there
    assert "Mg site 0, ml" in shown


def test_disagreements_come_with_their_size(run: Run, provenance: Any) -> None:
    found = asked(run, "disagreements", provenance.model.content_hash[:10], "--absorber", "Mg")
    assert len(found) == 4
    differences = [row["difference"] for row in found]
    assert differences == sorted(differences, reverse=True)
    assert min(differences) > 0.0
    assert {row["predicted"] for row in found} == {provenance.predicted.pk, provenance.table.pk}


def test_the_greatest_disagreement_is_shown_whatever_the_limit(run: Run, provenance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs come from the database in any order: in each, the one that is shown is the greatest of all."""
    from aiida_xastruct.tools import query_rows

    every = query_rows.pairs(provenance.model)
    greatest = max(pair.difference() for pair in every)
    assert greatest > min(pair.difference() for pair in every)
    for order in (every, every[::-1]):
        monkeypatch.setattr(query_rows, "pairs", lambda *_, order=order: list(order))
        result = run(cli, "query", "disagreements", provenance.model.pk, "--limit", 1, "--json")
        (row,) = json.loads(result.stdout)
        assert (row["difference"], "more than 1" in result.stderr) == (greatest, True)


def test_duplicates(run: Run, provenance: Any) -> None:
    (row,) = asked(run, "duplicates", "structures")
    assert (row["count"], row["pks"]) == (2, [provenance.structure.pk, provenance.twin.pk])
    for what in ("models", "datasets", "tables", "rows"):
        assert asked(run, "duplicates", what) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predicted", "nobody"], "nobody is neither a family nor a model"),
        (["predicted", "{family}", "--absorber", "Xx"], "'Xx' is not the symbol of an element"),
        (["feff-runs", "{structure}"], "is neither a family nor a model"),
        (["neighbours", "Fe", "Qq"], "'Qq' is not the symbol of an element"),
        (["downstream", "nowhere"], "nowhere is neither"),
        (["downstream", "{table}"], "is neither"),
        (["disagreements", "nobody"], "nobody is neither a family nor a model"),
        (["disagreements", "{family}", "--absorber", "Xx"], "'Xx' is not the symbol of an element"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(run: Run, provenance: Any, arguments: list[str], words: str) -> None:
    names = {"family": provenance.family.label, "structure": provenance.structure.pk, "table": provenance.table.pk}
    result = run(cli, "query", *[text.format(**names) for text in arguments], status=1)
    assert words in result.stderr
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["neighbours", "Fe", "--from", "3", "--to", "2"], ["neighbours", "Fe", "--tables", "--by", "answer"], ["duplicates", "everything"],
        ["predicted"],
    ],
)  # fmt: skip
def test_wrong_usage_is_refused(run: Run, provenance: Any, arguments: list[str]) -> None:
    assert "Error" in run(cli, "query", *arguments, status=2).stderr
