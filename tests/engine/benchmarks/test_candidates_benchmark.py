"""The benchmark of candidates: what its page says is what was measured."""

from __future__ import annotations

from typing import Any


def test_the_page_says_where_the_mineral_came_out(script: Any) -> None:
    numbers = {"distance": 0.2, "error_bound": 0.25, "inside": True, "r2": 0.9, "from_e0": -5.0, "at_limit": True}
    rows = [
        {**numbers, "name": "12", "what": "Hematite, Fe2O3, 167"},
        {**numbers, "name": "34", "what": "Goethite, FeHO2, 62", "distance": 0.3, "inside": False, "at_limit": False},
    ]
    result = {"scan": "a.xdi", "absorber": "Fe", "mineral": "Goethite", "atoms": 16, "candidates": rows, "trained": 1, "version": "10"}
    page = script("candidates").page(result)
    assert "Places of goethite: 2. 1 candidates differ" in page
    assert "for 1 the best shift is the largest allowed" in page
    assert page.splitlines()[-1] == "| 2 | 34 | Goethite, FeHO2, 62 | 0.300 | 0.250 | 0.900 | -5.0 |"


def test_the_mineral_is_read_from_the_head_of_a_cif(script: Any) -> None:
    assert script("candidates")._mineral("data_global\n_chemical_name_mineral 'Troilite 2H'\nloop_\n") == "Troilite 2H"
    assert script("candidates")._mineral("data_global\n_amcsd_formula_title 'FeS'\n") == ""
