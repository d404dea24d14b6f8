"""Node for many X-ray absorption spectra: what a batch makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField

from ..engine.errors import SpectrumError, XastructError
from ..engine.origin import Origin, prefixes
from ..engine.spectrum import Spectrum

#: What each spectrum says of itself beside its columns.
_HEADER = ("absorber", "edge", "kind", "method", "energy_reference", "normalisation", "e0")


#: What a spectrum of an unknown crystal says of it.
_UNKNOWN = dict.fromkeys(("structure_hash", "neighbours", "mean_distance"))


@dataclass(frozen=True)
class SiteSpectrum:
    """A spectrum and what it is of: the structure's name, the absorber's index in it, how many sites are equivalent, and its surroundings.

    The surroundings, `engine.origin.Origin`, are None where they are unknown.
    """

    structure: str
    site: int
    multiplicity: int
    spectrum: Spectrum
    origin: Origin | None = None


class SpectraData(ArrayData):
    """Spectra of many absorbers, of as many crystals as one likes, in one node.

    Storing a node and its link costs AiiDA the same whatever is in it, which is much beside what FEFF 8.5L takes for a site: spectra that
    are made together are kept together.

    Arrays in the repository:
        columns: (m, 3) energy in eV, mu and mu0, one spectrum below the other; mu0 is NaN where there is none.
        ends: (n,) row of `columns` after each spectrum's last.

    Attributes, beside those of the class: `spectra`, a list of n with structure, site, multiplicity, absorber, edge, kind, method,
    energy_reference, normalisation, e0, structure_hash, neighbours and mean_distance (null where unknown), and the settings that differ
    between them; `settings`, which all share.

    Raises:
        SpectrumError: when made from none, or from two of one structure's site.
        ValidationError: when stored with arrays or attributes that do not fit together.
    """

    class AttributesModel(ArrayData.AttributesModel):
        """Attributes of the node."""

        n_spectra: int = OrmMetadataField(description="Number of spectra")
        absorbers: list[str] = OrmMetadataField(description="Symbols of the absorbing elements, sorted")
        kinds: list[str] = OrmMetadataField(description="XANES, EXAFS or both")
        hash_prefixes: list[str] = OrmMetadataField(description="First eight digits of the crystals' hashes, sorted", may_be_large=True)
        settings: dict[str, Any] = OrmMetadataField(default_factory=dict, description="How all of them were made", may_be_large=True)
        spectra: list[dict[str, Any]] = OrmMetadataField(description="What each is of", may_be_large=True)

    @classmethod
    def from_engine(cls, items: Sequence[SiteSpectrum], **kwargs: Any) -> SpectraData:
        """Unstored node of spectra of the engine; `kwargs` are passed on to the node (`label`, `user`, ...)."""
        if not items:
            raise SpectrumError("there is no spectrum to store; give at least one.")
        keys = [(item.structure, item.site) for item in items]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SpectrumError(f"two spectra are of site {twice[1]} of {twice[0]!r}; give one.")
        spectra = [item.spectrum for item in items]
        shared = {name: value for name, value in spectra[0].settings.items() if all(_has(one.settings, name, value) for one in spectra)}
        node = cls(**kwargs)
        node.set_array("columns", np.concatenate([_columns(one) for one in spectra]))
        node.set_array("ends", np.cumsum([len(one) for one in spectra]))
        rows = [
            {
                "structure": item.structure,
                "site": int(item.site),
                "multiplicity": int(item.multiplicity),
                **{name: getattr(item.spectrum, name) for name in _HEADER},
                **(item.origin or _UNKNOWN),
                "settings": {name: value for name, value in item.spectrum.settings.items() if name not in shared},
            }
            for item in items
        ]
        node.base.attributes.set_many(
            {
                **_summary(items),
                "settings": shared,
                "spectra": rows,
            }
        )
        return node

    def __len__(self) -> int:
        return int(self.base.attributes.get("n_spectra"))

    def __iter__(self) -> Iterator[SiteSpectrum]:
        """Each spectrum, in the order in which they were given."""
        columns, ends = self.get_array("columns"), self.get_array("ends")
        shared = self.base.attributes.get("settings")
        for row, start, end in zip(self.base.attributes.get("spectra"), [0, *ends[:-1]], ends, strict=True):
            yield _site_spectrum(row, shared, columns[start:end])

    def get_row(self, number: int) -> SiteSpectrum:
        """One spectrum by its number, from 0; the others are not made.

        Raises:
            SpectrumError: if there is no such row.
        """
        if not 0 <= number < len(self):
            raise SpectrumError(f"the node has spectra 0 to {len(self) - 1}, not {number}.")
        ends = self.get_array("ends")
        columns = self.get_array("columns")[ends[number - 1] if number else 0 : ends[number]]
        return _site_spectrum(self.base.attributes.get("spectra")[number], self.base.attributes.get("settings"), columns)

    def get_spectrum(self, structure: str, site: int) -> Spectrum:
        """The spectrum of a site.

        Raises:
            SpectrumError: if it is not among them.
        """
        for number, row in enumerate(self.base.attributes.get("spectra")):
            if (row["structure"], row["site"]) == (structure, site):
                return self.get_row(number).spectrum
        raise SpectrumError(f"there is no spectrum of site {site} of {structure!r}; `node.base.attributes.get('spectra')` lists them.")

    def _validate(self) -> bool:
        """Refuse to store what could not be read back."""
        super()._validate()
        try:
            columns, ends, rows = self.get_array("columns"), self.get_array("ends"), self.base.attributes.get("spectra")
            if columns.ndim != 2 or columns.shape[1] != 3 or not len(rows) == len(ends) == len(self) or ends[-1] != len(columns):
                raise ValidationError(f"columns {columns.shape}, {len(ends)} ends and {len(rows)} rows of attributes do not fit together.")
            items = list(self)
            # Queries go by the summaries, and open no batch that does not list what they look for.
            if any(self.base.attributes.get(name, None) != value for name, value in _summary(items).items()):
                raise ValidationError("the attributes are not those of the spectra; make the node with `SpectraData.from_engine`.")
        except (KeyError, AttributeError) as error:
            raise ValidationError("the node holds no spectra; make it with `SpectraData.from_engine`.") from error
        except XastructError as error:
            raise ValidationError(str(error)) from error
        return True


def _summary(items: Sequence[SiteSpectrum]) -> dict[str, Any]:
    """Attributes by which a query finds the batches that may have a spectrum."""
    return {
        "n_spectra": len(items),
        "absorbers": sorted({item.spectrum.absorber for item in items}),
        "kinds": sorted({item.spectrum.kind for item in items}),
        "hash_prefixes": prefixes(item.origin and item.origin["structure_hash"] for item in items),
    }


def _columns(spectrum: Spectrum) -> np.ndarray[Any, Any]:
    mu0 = np.full(len(spectrum), np.nan) if spectrum.mu0 is None else spectrum.mu0
    return np.column_stack([spectrum.energy, spectrum.mu, mu0])


def _site_spectrum(row: Mapping[str, Any], shared: Mapping[str, Any], columns: np.ndarray[Any, Any]) -> SiteSpectrum:
    energy, mu, mu0 = columns.T
    header = {name: row[name] for name in _HEADER}
    spectrum = Spectrum(energy=energy, mu=mu, mu0=None if np.isnan(mu0).all() else mu0, settings={**shared, **row["settings"]}, **header)
    origin = {name: row[name] for name in _UNKNOWN} if row.get("structure_hash") else None
    return SiteSpectrum(row["structure"], row["site"], row["multiplicity"], spectrum, cast("Origin | None", origin))


def _has(settings: Mapping[str, Any], name: str, value: Any) -> bool:
    return name in settings and bool(settings[name] == value)
