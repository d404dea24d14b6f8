"""Crystals that are damaged, for `benchmarks/malformed.py`: the attributes of a StructureData, and what is asked of it.

A damage is a function that changes a `Question` in place; its docstring is the row of the page.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

#: Atoms of a crystal at most, so that a thousand are answered in minutes.
MOST_ATOMS = 10

#: One entry of so many is taken.
EVERY = 17

#: Lengths that are written in another unit than angstrom, in angstrom: bohr, nm, pm, and bohr the other way round.
UNITS = (1.8897, 0.1, 100.0, 0.5292)


@dataclass
class Question:
    """What goes into a process.

    Attributes:
        content: attributes of a StructureData, or arguments of a SpectrumData.
        inputs: of the process, as plain values.
    """

    content: dict[str, Any]
    inputs: dict[str, Any]

    def copy(self) -> Question:
        """One that can be damaged."""
        return Question(*json.loads(json.dumps([self.content, self.inputs])))


Damage = Callable[[Question, Random], None]


def sound_structures(data: Path) -> Iterator[Question]:
    """Oxides of at most `MOST_ATOMS` atoms, of what FEFF was run on for the training data, each asked about its first element."""
    with gzip.open(data / "omnixas_feff.structures.jsonl.gz", "rt") as stream:
        for number, line in enumerate(stream):
            entry = json.loads(line)
            species, cell = entry["species"], entry["lattice"]
            if number % EVERY or not 2 <= len(species) <= MOST_ATOMS or species[0] == "O":
                continue
            sites = [
                {"kind_name": symbol, "position": [sum(f * v[axis] for f, v in zip(place, cell, strict=True)) for axis in range(3)]}
                for symbol, place in zip(species, entry["frac"], strict=True)
            ]
            kinds = [{"name": symbol, "symbols": [symbol], "weights": [1.0], "mass": 1.0} for symbol in dict.fromkeys(species)]
            content = {"cell": cell, "pbc1": True, "pbc2": True, "pbc3": True, "kinds": kinds, "sites": sites}
            yield Question(content, {"absorber": species[0], "kind": "XANES" if number % (4 * EVERY) == 0 else "EXAFS"})


def _every(question: Question, change: Callable[[float], float], cell: bool = True, sites: bool = True) -> None:
    content = question.content
    if cell:
        content["cell"] = [[change(x) for x in vector] for vector in content["cell"]]
    if sites:
        for site in content["sites"]:
            site["position"] = [change(x) for x in site["position"]]


def no_cell(question: Question, random: Random) -> None:
    """The cell is missing."""
    del question.content["cell"]


def zero_cell(question: Question, random: Random) -> None:
    """The cell is zero, or one of its vectors is."""
    vectors = [random.randrange(3)] if random.random() < 0.5 else [0, 1, 2]
    for vector in vectors:
        question.content["cell"][vector] = [0.0, 0.0, 0.0]


def singular_cell(question: Question, random: Random) -> None:
    """Two vectors of the cell are parallel, or nearly."""
    cell = question.content["cell"]
    cell[2] = [x + random.choice((0.0, 1e-9, 1e-3)) for x in cell[1]]


def cell_of_other_shape(question: Question, random: Random) -> None:
    """The cell is two vectors, or lengths and angles, or text."""
    cell = question.content["cell"]
    question.content["cell"] = random.choice(
        (cell[:2], [4.0, 4.0, 4.0, 90.0, 90.0, 90.0], [row[:2] for row in cell], "cubic", [[None] * 3] * 3)
    )


def not_finite_cell(question: Question, random: Random) -> None:
    """A number of the cell is NaN or infinite."""
    question.content["cell"][random.randrange(3)][random.randrange(3)] = random.choice((math.nan, math.inf, -math.inf))


def huge_cell(question: Question, random: Random) -> None:
    """Cell and atoms are 10 to 1e9 times as far apart."""
    factor = 10.0 ** random.choice((1, 2, 3, 6, 9))
    _every(question, lambda x: x * factor)


def other_unit(question: Question, random: Random) -> None:
    """Lengths are in bohr, nm or pm."""
    factor = random.choice(UNITS)
    _every(question, lambda x: x * factor)


def fractional_as_cartesian(question: Question, random: Random) -> None:
    """Fractional coordinates where angstrom are asked for."""
    for site in question.content["sites"]:
        site["position"] = [random.random() for _ in range(3)]


def not_finite_place(question: Question, random: Random) -> None:
    """A coordinate is NaN or infinite."""
    random.choice(question.content["sites"])["position"][random.randrange(3)] = random.choice((math.nan, math.inf, -math.inf))


def far_place(question: Question, random: Random) -> None:
    """An atom lies 1e6 to 1e300 angstrom away."""
    random.choice(question.content["sites"])["position"][random.randrange(3)] = 10.0 ** random.choice((6, 12, 100, 300))


def place_of_other_shape(question: Question, random: Random) -> None:
    """A position has two numbers, four, or is text."""
    site = random.choice(question.content["sites"])
    site["position"] = random.choice((site["position"][:2], [*site["position"], 0.0], "here", None, ["a", "b", "c"], {"x": 0.0}))


def same_place(question: Question, random: Random) -> None:
    """Two atoms are at one place, or 0.001 to 0.3 angstrom apart."""
    sites = question.content["sites"]
    first, second = random.sample(range(len(sites)), 2)
    apart = random.choice((0.0, 0.001, 0.1, 0.3))
    sites[second]["position"] = [sites[first]["position"][0] + apart, *sites[first]["position"][1:]]


def written_twice(question: Question, random: Random) -> None:
    """All atoms are written twice."""
    question.content["sites"] *= 2


def disordered(question: Question, random: Random) -> None:
    """A site holds two elements, or one by a part."""
    kind = random.choice(question.content["kinds"])
    share = random.choice((0.1, 0.5, 0.9))
    if random.random() < 0.5:
        kind["symbols"], kind["weights"] = [kind["symbols"][0], "Zr"], [share, 1.0 - share]
    else:
        kind["weights"] = [share]


def odd_weights(question: Question, random: Random) -> None:
    """An occupation is negative, above one, no number, or of another length."""
    kind = random.choice(question.content["kinds"])
    kind["weights"] = random.choice(([-0.5], [2.0], [math.nan], [], [0.5, 0.5], ["1"], None, [0.0]))


def unknown_element(question: Question, random: Random) -> None:
    """An element does not exist."""
    random.choice(question.content["kinds"])["symbols"] = [random.choice(("X", "Xx", "fe", "", "Iron", "42", "D", "Fe3+", "\u0424\u0435"))]


def element_no_text(question: Question, random: Random) -> None:
    """An element is a number, nothing or a list."""
    random.choice(question.content["kinds"])["symbols"] = random.choice(([26], [None], [["Fe"]], [], None))


def heaviest(question: Question, random: Random) -> None:
    """The absorber is an element that no one measures, Md to Og."""
    _absorber(question, random.choice(("Md", "No", "Lr", "Rf", "Ds", "Og")))


def lightest(question: Question, random: Random) -> None:
    """The absorber is H or He, whose edges lie below 25 eV."""
    _absorber(question, random.choice(("H", "He")))


def _absorber(question: Question, symbol: str) -> None:
    old = question.inputs["absorber"]
    for kind in question.content["kinds"]:
        if kind["symbols"] == [old]:
            kind["symbols"] = [symbol]
    question.inputs["absorber"] = symbol


def strange_neighbours(question: Question, random: Random) -> None:
    """All neighbours are elements that form no such compound: noble gases or transuranics."""
    symbol = random.choice(("He", "Ne", "Rn", "Og", "Lr"))
    for kind in question.content["kinds"]:
        if kind["symbols"] != [question.inputs["absorber"]]:
            kind["symbols"] = [symbol]


def absent(question: Question, random: Random) -> None:
    """The absorber is not in the crystal."""
    present = {symbol for kind in question.content["kinds"] for symbol in kind["symbols"]}
    question.inputs["absorber"] = random.choice([symbol for symbol in ("Cr", "Ga", "Pt", "U", "Kr") if symbol not in present])


def absorber_no_element(question: Question, random: Random) -> None:
    """The absorber is no symbol."""
    question.inputs["absorber"] = random.choice(("", "iron", "X", "fe", "Fe K", "26", "\U0001f9ea", "Fe\x00", "A" * 1000))


def absorber_no_text(question: Question, random: Random) -> None:
    """The absorber is a number or a list."""
    question.inputs["absorber"] = random.choice((26, 26.0, ["Fe"], True))


def odd_sites(question: Question, random: Random) -> None:
    """Sites are negative, beyond the crystal, no integers, twice the same, or none."""
    del question.inputs["absorber"]
    question.inputs["sites"] = random.choice(([-1], [10**6], [0.5], ["0"], [0, 0], [], [None], [[0]], [True], [2**70], [math.nan]))


def nothing_asked(question: Question, random: Random) -> None:
    """Neither absorber nor sites, or both."""
    if random.random() < 0.5:
        question.inputs["sites"] = [0]
    else:
        del question.inputs["absorber"]


def other_kind(question: Question, random: Random) -> None:
    """The kind is none that there is."""
    question.inputs["kind"] = random.choice(("XAFS", "xanes", "", "K", "EXAFS ", "both"))


def no_atoms(question: Question, random: Random) -> None:
    """There are no atoms."""
    question.content["sites"] = []
    if random.random() < 0.5:
        question.content["kinds"] = []


def not_periodic(question: Question, random: Random) -> None:
    """The crystal is not periodic in all directions."""
    for name in random.sample(("pbc1", "pbc2", "pbc3"), random.randint(1, 3)):
        question.content[name] = False


def alone(question: Question, random: Random) -> None:
    """A single atom in a box of 12 to 500 angstrom."""
    sites = question.content["sites"]
    question.content["sites"] = [site for site in sites if site["kind_name"] == question.inputs["absorber"]][:1]
    size = random.choice((12.0, 30.0, 200.0, 500.0))
    question.content["cell"] = [[size, 0.0, 0.0], [0.0, size, 0.0], [0.0, 0.0, size]]


def kind_missing(question: Question, random: Random) -> None:
    """An atom is of a kind that is not described, or has none."""
    site = random.choice(question.content["sites"])
    if random.random() < 0.5:
        site["kind_name"] = "Nowhere1"
    else:
        del site["kind_name"]


def kinds_twice(question: Question, random: Random) -> None:
    """A kind is described twice, as different elements."""
    question.content["kinds"].append({**question.content["kinds"][0], "symbols": ["Zr"]})


def list_missing(question: Question, random: Random) -> None:
    """Atoms or kinds are missing, no list, or hold what is no object."""
    name = random.choice(("sites", "kinds"))
    value = random.choice((None, "none", 7, [None], ["Fe"], [[]], [{}]))
    if value is None:
        del question.content[name]
    else:
        question.content[name] = value


def other_cell(question: Question, random: Random) -> None:
    """harmless: atoms are moved by whole cells."""
    cell = question.content["cell"]
    for site in question.content["sites"]:
        moves = [random.choice((-1, 1)) * random.choice((0, 1, 3, 500)) for _ in range(3)]
        site["position"] = [x + sum(n * v[axis] for n, v in zip(moves, cell, strict=True)) for axis, x in enumerate(site["position"])]


def mirrored(question: Question, random: Random) -> None:
    """harmless: the cell is left-handed, as its mirror image is."""
    _every(question, lambda x: -x)


def turned(question: Question, random: Random) -> None:
    """harmless: the crystal is turned in space."""
    angle = random.uniform(0.1, 3.0)
    cosine, sine = math.cos(angle), math.sin(angle)
    content = question.content
    content["cell"] = [[cosine * x - sine * y, sine * x + cosine * y, z] for x, y, z in content["cell"]]
    for site in content["sites"]:
        x, y, z = site["position"]
        site["position"] = [cosine * x - sine * y, sine * x + cosine * y, z]


def odd_names(question: Question, random: Random) -> None:
    """harmless: kinds have names that say nothing of the element, or of another one."""
    names = {kind["name"]: random.choice(("Zr", "kind", "0", "Fe2+ ")) + str(index) for index, kind in enumerate(question.content["kinds"])}
    for kind in question.content["kinds"]:
        kind["name"] = names[kind["name"]]
    for site in question.content["sites"]:
        site["kind_name"] = names[site["kind_name"]]


DAMAGES: tuple[Damage, ...] = (
    no_cell, zero_cell, singular_cell, cell_of_other_shape, not_finite_cell, huge_cell, other_unit, fractional_as_cartesian,
    not_finite_place, far_place, place_of_other_shape, same_place, written_twice, disordered, odd_weights, unknown_element,
    element_no_text, heaviest, lightest, strange_neighbours, absent, absorber_no_element, absorber_no_text, odd_sites, nothing_asked,
    other_kind, no_atoms, not_periodic, alone, kind_missing, kinds_twice, list_missing, other_cell, mirrored, turned, odd_names,
)  # fmt: skip
