"""The crystal in a CIF, by pymatgen's parser, with a word about what that parser passes over in silence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from pymatgen.core import Composition, Element, Structure

from .errors import StructureError
from .structure import of_elements

#: Where a CIF names its space group.
_SPACE_GROUP = re.compile(
    r"_(?:symmetry_)?space_group(?:_name_(?:h-m|hall)(?:_alt)?|_it_number)_?|_symmetry_int_tables_number_?", re.IGNORECASE
)

_OCCUPANCY, _FORMULA = "_atom_site_occupancy", "_chemical_formula_sum"

#: A value that is left to its default, or unknown.
_NOTHING = (".", "?")
_BLANK = re.compile(r"(?<!\S)[.?](?!\S)")


def parse_cif(text: str) -> Structure:
    """The conventional cell of the first crystal in the text of a CIF, of plain elements, sites in the order pymatgen's parser gives.

    An occupancy that is not given counts as one, as the CIF dictionary has it.

    Raises:
        StructureError: if pymatgen finds none, or does not know the space group that the file names.
    """
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")  # of rounded coordinates, of missing hydrogen, which `check_formula` looks for, and of more
        try:
            parser = CifParser.from_str(_with_occupancies(text), occupancy_tolerance=1.01, site_tolerance=5e-3)
            structure, words = parser.parse_structures(primitive=False)[0], ""
        except Exception as error:  # pymatgen raises many kinds for what 1960s refinements can hold
            structure, words = None, str(error).strip() or type(error).__name__
    said = [line for warning in recorded for line in str(warning.message).splitlines() if line.strip()]
    if structure is None:
        # Where a crystal cannot be made, the error says only that there is none.
        reason = said[-1] if said else words.splitlines()[0]
        raise StructureError(f"pymatgen cannot read the crystal: {reason.rstrip('.')}.")
    if any("Defaulting to P1" in line for line in said) and (named := _named_group(text)):
        raise StructureError(f"the space group {named} is not known in this setting; export the CIF with its symmetry operations.")
    return of_elements(structure)


def stated_formula(text: str) -> str:
    """`_chemical_formula_sum` of a CIF with one crystal; empty where it has none or several."""
    stated = [value for name, value in _values(text) if name == _FORMULA]
    return stated[0] if len(stated) == 1 and any(letter.isalpha() for letter in stated[0]) else ""


def count_crystals(text: str) -> int:
    """Blocks of a CIF that hold atoms."""
    return sum("_atom_site_fract_x" in block for block in _blocks(text))


def check_formula(structure: Structure, formula: str) -> bool:
    """Whether hydrogen is missing from the coordinates.

    Raises:
        StructureError: if the other elements do not make up the formula to 3 %: an unread label, a missing or a doubled atom.
    """
    try:
        stated = Composition(re.sub(r"\bD(?![a-z])", "H", formula)).element_composition
    except Exception as error:
        raise StructureError(f"the formula {formula!r} cannot be read.") from error
    present = structure.composition.element_composition
    hydrogen = Element("H")
    heavy = sorted(set(stated) - {hydrogen})
    if set(heavy) != set(present) - {hydrogen}:
        raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    if heavy:
        ratios = [present[element] / stated[element] for element in heavy]
        if max(ratios) / min(ratios) > 1.03:
            raise StructureError(f"the coordinates give {present.reduced_formula}, the formula says {formula}.")
    return hydrogen in stated and hydrogen not in present


def _blocks(text: str) -> list[dict[str, Any]]:
    """Names and values of each block, a list where they are a column."""
    from pymatgen.io.cif import CifFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [block.data for block in CifFile.from_str(text).data.values()]


def _values(text: str) -> Iterator[tuple[str, str]]:
    """Names and single values of all blocks."""
    for block in _blocks(text):
        yield from ((name, value) for name, value in block.items() if isinstance(value, str))


def _named_group(text: str) -> str:
    """The space group that a CIF names, unless it is P1; empty where it names none."""
    named = [value for name, value in _values(text) if _SPACE_GROUP.fullmatch(name) and value.strip() not in ("", *_NOTHING)]
    return next((value for value in named if re.sub(r"\s", "", value).upper() not in ("P1", "1")), "")


def _with_occupancies(text: str) -> str:
    """The same CIF with an occupancy of one where none is given: pymatgen would leave these atoms out."""
    from pymatgen.io.cif import CifFile

    if _OCCUPANCY not in text or not _BLANK.search(text):  # to parse a CIF twice would take as long again, of each of a folder of thousands
        return text
    file = CifFile.from_str(text)
    changed = False
    for block in file.data.values():
        values = block.data.get(_OCCUPANCY)
        if isinstance(values, list) and any(value in _NOTHING for value in values):
            block.data[_OCCUPANCY] = ["1" if value in _NOTHING else value for value in values]
            changed = True
    return str(file) if changed else text
