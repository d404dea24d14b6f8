"""Node for one X-ray absorption spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import ArrayData
from aiida.orm.pydantic import OrmMetadataField, OrmModel
from numpy.typing import ArrayLike

from ..engine.errors import SpectrumError, XastructError
from ..engine.exchange import CRYSTAL
from ..engine.point_band import point_band
from ..engine.spectrum import FloatArray, Spectrum, atomic_number, element_symbol
from ..engine.writers import write

#: What the engine's spectrum is made of; properties of the node by the same names.
_VALUES = ("energy", "mu", "absorber", "edge", "kind", "method", "energy_reference", "normalisation", "mu0", "e0", "settings")


class SpectrumData(ArrayData):
    """Absorption against energy of one absorber, with what it takes to compare it with another.

    Arrays in the repository:
        spectrum: (n, 2) absolute photon energy in eV, strictly increasing, and mu in the unit that `normalisation` names.
        mu0: (n,) atomic background in the unit of mu, where the source gives one.
        band: (n, 2) lower and upper limit of mu that hold the truth as often as the answer says (`coverage`); of a learned model only.

    Everything else is an attribute, always present (null where unknown), so that it can be queried.

    Raises:
        SpectrumError: when made from data that would make a later number silently wrong.
        ValidationError: when made with a site, multiplicity, first shell or band that cannot be, or stored with arrays or attributes that
            no longer fit together.
    """

    class AttributesModel(ArrayData.AttributesModel):
        """Attributes of the node."""

        absorber: str = OrmMetadataField(description="Symbol of the absorbing element", examples=["Fe"])
        edge: str = OrmMetadataField(description="Absorption edge", examples=["K", "L3"])
        kind: str = OrmMetadataField(description="Range that the spectrum is meant for: XANES or EXAFS", examples=["XANES"])
        method: str = OrmMetadataField(description="Who made it: feff, xspectra, ml or measured", examples=["feff"])
        energy_reference: str = OrmMetadataField(description="What the energy axis is worth: feff, calibrated or nominal")
        normalisation: str = OrmMetadataField(description="Unit of mu: feff_xsedge50, flat or raw")
        e0: float | None = OrmMetadataField(None, description="Edge energy in eV, where the source states it")
        site: int | None = OrmMetadataField(None, description="Index of the absorbing site in its structure, from 0")
        multiplicity: int | None = OrmMetadataField(None, description="How many equivalent sites the spectrum stands for")
        structure_hash: str | None = OrmMetadataField(None, description="SHA-256 of the crystal that it is of, where that is known")
        neighbours: list[str] | None = OrmMetadataField(None, description="Elements of the first shell in that crystal, sorted")
        mean_distance: float | None = OrmMetadataField(None, description="Mean distance of that shell, angstrom")
        settings: dict[str, Any] = OrmMetadataField(default_factory=dict, description="How it was made", may_be_large=True)

    class ConstructorArgsModel(OrmModel):
        """Arguments of the constructor."""

        energy: list[float] = OrmMetadataField(description="Photon energy in eV, increasing", write_only=True)
        mu: list[float] = OrmMetadataField(description="Absorption", write_only=True)
        absorber: str = OrmMetadataField(description="Symbol of the absorbing element")
        edge: str = OrmMetadataField(description="Absorption edge")
        kind: str = OrmMetadataField(description="XANES or EXAFS")
        method: str = OrmMetadataField("measured", description="feff, xspectra, ml or measured")
        energy_reference: str = OrmMetadataField("nominal", description="feff, calibrated or nominal")
        normalisation: str = OrmMetadataField("raw", description="feff_xsedge50, flat or raw")
        mu0: list[float] | None = OrmMetadataField(None, description="Atomic background", write_only=True)
        band: list[tuple[float, float]] | None = OrmMetadataField(None, description="Limits of mu", write_only=True)
        e0: float | None = OrmMetadataField(None, description="Edge energy in eV")
        site: int | None = OrmMetadataField(None, description="Index of the absorbing site")
        multiplicity: int | None = OrmMetadataField(None, description="Number of equivalent sites")
        structure_hash: str | None = OrmMetadataField(None, description="SHA-256 of the crystal")
        neighbours: list[str] | None = OrmMetadataField(None, description="Elements of the first shell")
        mean_distance: float | None = OrmMetadataField(None, description="Mean distance of the first shell, angstrom")
        settings: dict[str, Any] = OrmMetadataField(default_factory=dict, description="How it was made")

    # Where the data came from (a file name, an address) is no part of what it says.
    _hash_ignored_attributes = ("source",)

    def __init__(
        self,
        energy: ArrayLike,
        mu: ArrayLike,
        absorber: str,
        edge: str,
        kind: str,
        *,
        method: str = "measured",
        energy_reference: str = "nominal",
        normalisation: str = "raw",
        mu0: ArrayLike | None = None,
        band: ArrayLike | None = None,
        e0: float | None = None,
        site: int | None = None,
        multiplicity: int | None = None,
        structure_hash: str | None = None,
        neighbours: Sequence[str] | None = None,
        mean_distance: float | None = None,
        settings: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # The engine's class checks what it is given, so that a node that could not be stored is refused here already.
        spectrum = Spectrum(
            energy=energy,  # type: ignore[arg-type]
            mu=mu,  # type: ignore[arg-type]
            absorber=absorber,
            edge=edge,
            kind=kind,  # type: ignore[arg-type]
            method=method,  # type: ignore[arg-type]
            energy_reference=energy_reference,  # type: ignore[arg-type]
            normalisation=normalisation,  # type: ignore[arg-type]
            mu0=mu0,  # type: ignore[arg-type]
            e0=float(e0) if isinstance(e0, np.number) else e0,
            settings=dict(settings or {}),
        )
        super().__init__(**kwargs)
        self.set_array("spectrum", np.column_stack([spectrum.energy, spectrum.mu]))
        if spectrum.mu0 is not None:
            self.set_array("mu0", np.array(spectrum.mu0))
        if band is not None:
            self.set_array("band", np.ascontiguousarray(band, dtype=np.float64))
        self.base.attributes.set_many(
            {
                "absorber": spectrum.absorber,
                "edge": spectrum.edge,
                "kind": spectrum.kind,
                "method": spectrum.method,
                "energy_reference": spectrum.energy_reference,
                "normalisation": spectrum.normalisation,
                "e0": spectrum.e0,
                "site": _plain(site),
                "multiplicity": _plain(multiplicity),
                "structure_hash": structure_hash,
                "neighbours": _symbols(neighbours),
                "mean_distance": mean_distance.item() if isinstance(mean_distance, np.generic) else mean_distance,
                "settings": dict(spectrum.settings),
            }
        )
        self._check_extent()

    @classmethod
    def from_engine(
        cls,
        spectrum: Spectrum,
        site: int | None = None,
        multiplicity: int | None = None,
        band: ArrayLike | None = None,
        **kwargs: Any,
    ) -> SpectrumData:
        """Node of a spectrum of the engine.

        Args:
            spectrum: what to store.
            site: index of the absorbing site in its structure, from 0.
            multiplicity: number of equivalent sites that the spectrum stands for.
            band: (n, 2) lower and upper limit of mu that hold the truth in the share of cases that the answer states.
            kwargs: passed on to the node (`label`, `user`, ...; the crystal by `**engine.origin.origin_of(structure, site)`).
        """
        return cls(
            spectrum.energy,
            spectrum.mu,
            spectrum.absorber,
            spectrum.edge,
            spectrum.kind,
            method=spectrum.method,
            energy_reference=spectrum.energy_reference,
            normalisation=spectrum.normalisation,
            mu0=spectrum.mu0,
            band=band,
            e0=spectrum.e0,
            site=site,
            multiplicity=multiplicity,
            settings=spectrum.settings,
            **kwargs,
        )

    def to_engine(self) -> Spectrum:
        """The spectrum as the engine works with it.

        Raises:
            SpectrumError: if the node's content is unfit, which storing it would have refused.
        """
        try:
            values: dict[str, Any] = {name: getattr(self, name) for name in _VALUES}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:  # of an archive that nobody checked
            raise SpectrumError(f"the spectrum's node is damaged ({type(error).__name__}: {error}); import it again.") from error
        return Spectrum(**values)

    @property
    def energy(self) -> FloatArray:
        """(n,) photon energy in eV."""
        return np.asarray(self.get_array("spectrum")[:, 0], dtype=np.float64)

    @property
    def mu(self) -> FloatArray:
        """(n,) absorption."""
        return np.asarray(self.get_array("spectrum")[:, 1], dtype=np.float64)

    @property
    def mu0(self) -> FloatArray | None:
        """(n,) atomic background, or None."""
        return self.get_array("mu0") if "mu0" in self.get_arraynames() else None

    @property
    def band(self) -> FloatArray | None:
        """(n, 2) lower and upper limit of mu, or None."""
        return self.get_array("band") if "band" in self.get_arraynames() else None

    @property
    def point_band(self) -> FloatArray | None:
        """(n, 2) limits of mu that hold single points as often as `band` holds the whole spectrum, or None where the model did not say."""
        return point_band(self.mu, self.band, self.settings)

    @property
    def absorber(self) -> str:
        """Symbol of the absorbing element."""
        return str(self.base.attributes.get("absorber"))

    @property
    def edge(self) -> str:
        """Absorption edge."""
        return str(self.base.attributes.get("edge"))

    @property
    def kind(self) -> str:
        """XANES or EXAFS."""
        return str(self.base.attributes.get("kind"))

    @property
    def method(self) -> str:
        """Who made it: feff, xspectra, ml or measured."""
        return str(self.base.attributes.get("method"))

    @property
    def energy_reference(self) -> str:
        """What the energy axis is worth: feff, calibrated or nominal."""
        return str(self.base.attributes.get("energy_reference"))

    @property
    def normalisation(self) -> str:
        """Unit of mu: feff_xsedge50, flat or raw."""
        return str(self.base.attributes.get("normalisation"))

    @property
    def e0(self) -> float | None:
        """Edge energy in eV, where the source states it."""
        value: float | None = self.base.attributes.get("e0", None)
        return value

    @property
    def site(self) -> int | None:
        """Index of the absorbing site in its structure, from 0."""
        value: int | None = self.base.attributes.get("site", None)
        return value

    @property
    def multiplicity(self) -> int | None:
        """Number of equivalent sites that the spectrum stands for."""
        value: int | None = self.base.attributes.get("multiplicity", None)
        return value

    @property
    def origin(self) -> dict[str, Any]:
        """`structure_hash`, `neighbours` and `mean_distance` (angstrom) of the crystal that it is of, as `from_engine` takes them."""
        return {name: self.base.attributes.get(name, None) for name in ("structure_hash", "neighbours", "mean_distance")}

    @property
    def settings(self) -> dict[str, Any]:
        """How it was made."""
        return dict(self.base.attributes.get("settings", {}))

    def get_description(self) -> str:
        """One line for listings, such as `Fe K XANES, feff, 7112 to 7160 eV`."""
        energy = self.energy
        return f"{self.absorber} {self.edge} {self.kind}, {self.method}, {energy[0]:.0f} to {energy[-1]:.0f} eV"

    def _validate(self) -> bool:
        """Refuse to store what could not be read back as a spectrum."""
        super()._validate()
        unknown = set(self.get_arraynames()) - {"spectrum", "mu0", "band"}
        if unknown:
            raise ValidationError(f"a spectrum holds no array named {', '.join(sorted(unknown))}; remove it.")
        try:
            if self.get_array("spectrum").ndim != 2 or self.get_array("spectrum").shape[1] != 2:
                raise ValidationError(f"the spectrum has shape {self.get_array('spectrum').shape}; give (n, 2).")
            self.to_engine()
            self._check_extent()
        except KeyError as error:
            raise ValidationError("the node holds no spectrum; make it with `SpectrumData(energy, mu, ...)`.") from error
        except XastructError as error:
            raise ValidationError(str(error)) from error
        return True

    def _check_extent(self) -> None:
        """Check what the engine's spectrum does not hold: site, multiplicity, first shell and band."""
        if self.site is not None and (type(self.site) is not int or self.site < 0):
            raise ValidationError(f"site is {self.site!r}; give an index from 0 on.")
        if self.multiplicity is not None and (type(self.multiplicity) is not int or self.multiplicity < 1):
            raise ValidationError(f"multiplicity is {self.multiplicity!r}; give a count of at least 1.")
        _symbols(self.origin["neighbours"])
        distance = self.origin["mean_distance"]
        if distance is not None and (type(distance) not in (int, float) or not 0.0 < distance < np.inf):
            raise ValidationError(f"mean_distance is {distance!r}; give a length in angstrom.")
        band = self.band
        if band is None:
            return
        if self.method != "ml":
            raise ValidationError(f"a spectrum of method {self.method} has no band; only a learned model's (method ml) has.")
        if band.shape != (len(self.energy), 2):
            raise ValidationError(f"the band has shape {band.shape}; give ({len(self.energy)}, 2).")
        if not np.isfinite(band).all() or (band[:, 0] > band[:, 1]).any():
            raise ValidationError("the band holds values that are not finite, or a lower limit above its upper one.")
        try:
            point_band(self.mu, band, self.settings)
        except XastructError as error:
            raise ValidationError(str(error)) from error

    def _extent(self) -> dict[str, Any]:
        """What the node knows beside the engine's spectrum, as `engine.writers` take it."""
        return {name: self.base.attributes.get(name, None) for name in CRYSTAL} | {"band": self.band, "uuid": self.uuid}

    def _written(self, file_format: str, comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """Content of a file, and no further files, as AiiDA's exporters give them."""
        try:
            return write(file_format, self.to_engine(), self._extent(), comments), {}
        except XastructError as error:
            raise ValidationError(str(error)) from error

    def _prepare_csv(self, main_file_name: str = "", comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """Comma-separated columns under their names; `comments` puts the attributes above them, each line after a `#`."""
        return self._written("csv", comments)

    def _prepare_json(self, main_file_name: str = "", comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """Attributes, settings and columns as one JSON object."""
        return self._written("json")

    def _prepare_nexus(self, main_file_name: str = "", comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """HDF5 with an entry that follows NXxas."""
        return self._written("nexus")

    def _prepare_xdi(self, main_file_name: str = "", comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """Columns separated by blanks under an XDI head, as Athena and Larch read them."""
        return self._written("xdi")

    def _prepare_xmu(self, main_file_name: str = "", comments: bool = True) -> tuple[bytes, dict[str, bytes]]:
        """FEFF's xmu.dat; a spectrum without mu0 is refused."""
        return self._written("xmu")


def _symbols(neighbours: Any) -> list[str] | None:
    """Symbols of elements in their one spelling, sorted."""
    if neighbours is None:
        return None
    try:
        if isinstance(neighbours, str):
            raise TypeError
        return sorted(element_symbol(atomic_number(element)) for element in neighbours)
    except (TypeError, XastructError) as error:
        raise ValidationError(f"neighbours is {neighbours!r}; give a list of symbols of elements.") from error


def _plain(value: Any) -> Any:
    """An index or a count of numpy as Python has it, a whole one as an integer; anything else as it is."""
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain
