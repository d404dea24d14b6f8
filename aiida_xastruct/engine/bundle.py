"""Models on disk, and what they answer.

A model is a folder: `weights.safetensors` (the ensemble), `domain.safetensors` (where it was trained) and `card.json` (task, elements,
training data, calibration, metrics). A family is a folder of models, `<task>-<kind>` each, with `family.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from . import ALGORITHM_VERSION
from .answers import LEAST_PROBABILITY, DistanceAnswer, ForwardAnswer, InverseAnswer, NeighbourAnswer, merge_inverse
from .card import check_card
from .content import content_hash
from .dataset import GRIDS, MAX_Z
from .edge_check import left_out, no_edge
from .edges import EdgeShifts
from .errors import ModelError, SpectrumError, StructureError
from .features import site_rows
from .formats import FAMILY, MODEL, check_stated
from .models.calibration import (
    MINIMUM_SITES,
    DistanceCalibration,
    ForwardCalibration,
    NeighbourCalibration,
    curve_spread,
    expected_error,
    read_calibration,
)
from .models.composition import CompositionModel
from .models.domain import DomainIndex
from .models.ensemble import Architecture, Ensemble, Prediction
from .models.tasks import Task
from .sevennet import FOLDER as SEVENNET
from .spectrum import Spectrum, atomic_number, edge_of, element_symbol, find_e0, k_to_energy, model_curve, tabulated_edge
from .structure import check_structure, symbol
from .surroundings import strange

CARD, WEIGHTS, DOMAIN, FAMILY_CARD = "card.json", "weights.safetensors", "domain.safetensors", "family.json"

#: Where the card of an EXAFS model says how its answers are weighed against those of XANES; see `engine.joint`.
POOL = "pool"

#: eV; below lie the K edges of hydrogen and helium.
LOWEST_EDGE = 50.0

#: Lists every material that a family has seen.
MATERIALS = "materials.txt"

DEFAULT_FAMILY = Path(__file__).parent.parent / "pretrained" / "default"

_QUESTIONS = {ForwardCalibration: "forward", DistanceCalibration: "distance", NeighbourCalibration: "neighbours"}

Promises = TypeVar("Promises", ForwardCalibration, DistanceCalibration, NeighbourCalibration)


class ModelBundle:
    """One model: its ensemble, calibration and domain."""

    def __init__(self, card: dict[str, Any], ensemble: Ensemble, domain: DomainIndex) -> None:
        self.card, self.ensemble, self.domain, self.task = card, ensemble, domain, ensemble.task
        self.calibration = read_calibration(self.task.name, card["calibration"])
        self.composition = CompositionModel.from_json(card["composition"]) if self.task.name == "neighbours" else None
        self.edges = EdgeShifts(card["edge_shift_by_engine"], card["edge_shift"])
        #: Training sites of each absorber, by atomic number.
        self.sites = {atomic_number(element): int(count) for element, count in card["training_sites"].items()}

    @classmethod
    def load(cls, folder: Path) -> ModelBundle:
        """Read a model.

        Raises:
            ModelError: if the folder holds no model, a damaged one, or one of another algorithm version.
        """
        try:
            card = json.loads((folder / CARD).read_text())
            task = Task(card["task"], card["kind"])
            architecture = Architecture(**card["architecture"])
            version = str(card["algorithm_version"])
        except ModelError:
            raise
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"{folder} does not hold a model ({error}); give a folder with {CARD} and {WEIGHTS}.") from error
        if version != ALGORITHM_VERSION[task.name]:
            raise ModelError(
                f"the {task.label} model was made for algorithm {version} of the engine, and this is {ALGORITHM_VERSION[task.name]}; "
                "install a family of this version or train it again."
            )
        check_stated(folder / CARD, card, MODEL, "`xastruct train`")
        check_card(task.name, task.kind, card)
        if task.name == "forward" and card["features"] != content_hash(SEVENNET):
            raise ModelError(f"the {task.label} model was trained on other SevenNet weights than those installed; install its own version.")
        domain = DomainIndex.load(folder / DOMAIN)
        if domain.centre.shape != (task.position_size,):
            raise ModelError(f"{folder / DOMAIN} is of another model; install the family again.")
        return cls(card, Ensemble.load(folder / WEIGHTS, task, architecture), domain)

    def save(self, folder: Path) -> None:
        """Write the model into a folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.ensemble.save(folder / WEIGHTS)
        self.domain.save(folder / DOMAIN)
        (folder / CARD).write_text(json.dumps(self.card, indent=1, sort_keys=True) + "\n")

    def promises(self, kind: type[Promises]) -> Promises:
        """The calibration of a model for the questions that `kind` is about.

        Raises:
            ModelError: if the model is for other questions.
        """
        if not isinstance(self.calibration, kind):
            name = _QUESTIONS[kind]
            raise ModelError(f"the {self.task.label} model was asked a {name} question; give a {name} model.")
        return self.calibration

    def outside(self, position: torch.Tensor, absorber: NDArray[np.int64]) -> list[str]:
        """For each row of `Task.position` (n, m) why it is outside the domain, empty if inside."""
        return self._domain_of(position, absorber)[1]

    def _domain_of(self, position: torch.Tensor, absorber: NDArray[np.int64]) -> tuple[NDArray[np.float64], list[str]]:
        """Scores, and for each row why it is outside the domain (empty if inside)."""
        scores = self.domain.score(position, absorber)
        reasons = []
        for z, score in zip(absorber, scores, strict=True):
            sites = self.sites.get(int(z), 0)
            if sites < MINIMUM_SITES:
                reasons.append(f"the model saw {sites} spectra of this absorber, fewer than {MINIMUM_SITES}")
            elif score > 1.0:
                reasons.append(f"it lies {score:.1f} times as far from the training data as 99 % of new materials do")
            else:
                reasons.append("")
        return scores, reasons

    def refused(self, element: str) -> str:
        """Why no spectrum can be predicted for the edge of an element; empty where one can."""
        if atomic_number(element) >= MAX_Z:
            return f"no model knows elements beyond Z {MAX_Z - 1}; use FEFF for this absorber."
        edge = edge_of(element)
        try:
            at = tabulated_edge(element, edge)
        except SpectrumError as error:
            return str(error)
        if at < LOWEST_EDGE:
            return f"the {edge} edge of {element}, at {at:.0f} eV, is no X-ray edge; choose another absorber."
        return ""

    def predict(self, structure: Structure, sites: Sequence[int]) -> list[ForwardAnswer]:
        """Spectra of sites of one crystal, computed from the structure.

        Raises:
            StructureError: if the structure cannot be answered for, or a site does not exist.
            ModelError: if this is no forward model.
        """
        check_structure(structure)
        elements = [symbol(structure, site) for site in sites]
        return self.predict_from_features(site_rows(structure, sites), elements)

    def predict_from_features(self, features: NDArray[np.float32], elements: Sequence[str]) -> list[ForwardAnswer]:
        """Spectra from features of sites (n, SITE_SIZE), as `engine.features` makes them."""
        calibration = self.promises(ForwardCalibration)
        absorber = np.array([atomic_number(element) for element in elements], dtype=np.int64)
        if refused := next(filter(None, map(self.refused, dict.fromkeys(elements))), ""):
            raise StructureError(refused)
        source = torch.as_tensor(np.asarray(features, dtype=np.float32))
        inputs = self.task.inputs(source)
        said = self.ensemble(inputs, torch.as_tensor(absorber))
        scores, outside = self._domain_of(self.task.position(source, inputs), absorber)
        outside = [far or odd for far, odd in zip(outside, strange(source.numpy(), absorber), strict=True)]
        expected = self.expected_curve_error(said, scores)
        half = calibration.half_band(expected)
        values = said.value.double().numpy() + (1.0 if self.task.kind == "EXAFS" else 0.0)
        answers = []
        for row, element in enumerate(elements):
            unsure = bool(expected[row] > calibration.threshold)
            verdict = "exceeds" if unsure else "is within"
            reason = f"expected error {expected[row]:.3g} {verdict} the calibrated threshold {calibration.threshold:.3g}"
            if outside[row]:
                reason += f"; outside the domain: {outside[row]}"
            answers.append(
                ForwardAnswer(
                    spectrum=self._spectrum(element, values[row]),
                    band=np.stack([values[row] - half[row], values[row] + half[row]], axis=1),
                    uncertainty=float(expected[row]),
                    error_bound=float(calibration.bound * expected[row]),
                    threshold=calibration.threshold,
                    coverage=calibration.coverage,
                    domain_score=float(scores[row]),
                    in_domain=not outside[row],
                    needs_reference=unsure or bool(outside[row]),
                    reason=reason,
                )
            )
        return answers

    def expected_curve_error(self, said: Prediction, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) expected errors of predicted curves at domain scores (n,)."""
        spread = curve_spread(said.spread.numpy(), self.task.kind)
        return self.promises(ForwardCalibration).error_model(said.stated[:, 0].double().numpy(), spread, scores)

    def edge_shift(self, element: str, engine: str = "") -> float:
        """Where FEFF puts an element's edge, by the training spectra: eV above the tabulated one; see `EdgeShifts.of`."""
        return self.edges.of(element, engine)

    def _spectrum(self, element: str, mu: NDArray[np.float64]) -> Spectrum:
        edge = edge_of(element)
        e0 = tabulated_edge(element, edge) + self.edge_shift(element)
        grid = GRIDS[self.task.kind]
        energy = e0 + (k_to_energy(grid) if self.task.kind == "EXAFS" else grid)
        settings = {"model": self.card["training_data_hash"][:12], "algorithm_version": self.card["algorithm_version"]}
        return Spectrum(energy, mu, element, edge, self.task.kind, "ml", "feff", "flat", None, e0, settings)

    def ask(self, spectra: Sequence[Spectrum]) -> tuple[Prediction, list[str]]:
        """What the ensemble of an inverse model says about spectra, and for each why it is outside the domain, empty if inside.

        Raises:
            SpectrumError: if a spectrum is of another kind or edge, or too short.
        """
        for spectrum in spectra:
            if spectrum.kind != self.task.kind:
                raise SpectrumError(f"the spectrum is {spectrum.kind} and the model answers for {self.task.kind}; choose the other model.")
            if spectrum.edge != edge_of(spectrum.absorber):
                known = edge_of(spectrum.absorber)
                raise SpectrumError(f"the models know the {known} edge of {spectrum.absorber}, not its {spectrum.edge} edge; use that one.")
        curves = np.stack([model_curve(spectrum) for spectrum in spectra]).astype(np.float32)
        empty = np.isfinite(curves).sum(axis=1) < 40
        if empty.any():
            raise SpectrumError("the spectrum covers too little of the range that models work on; measure further above the edge.")
        absorber = np.array([atomic_number(spectrum.absorber) for spectrum in spectra], dtype=np.int64)
        inputs = self.task.inputs(torch.as_tensor(curves)[:, None])
        outside = self.outside(self.task.position(inputs, inputs), absorber)
        reasons = [no_edge(spectrum) or left_out(spectrum) or reason for spectrum, reason in zip(spectra, outside, strict=True)]
        return self.ensemble(inputs, torch.as_tensor(absorber)), reasons

    def neighbours(self, spectra: Sequence[Spectrum], elements_present: Collection[str] | None = None) -> list[NeighbourAnswer]:
        """Elements of the first shell.

        Args:
            spectra: spectra of this model's kind.
            elements_present: what the sample is known to hold. Other elements get no probability, and chemistry has its say about which
                of these are neighbours (`CompositionModel`), with sets that are calibrated for it.

        Raises:
            SpectrumError: if a spectrum is of another kind or edge, or too short.
        """
        calibration = self.promises(NeighbourCalibration)
        said, outside = self.ask(spectra)
        probability = said.value.double().numpy()
        absorber = np.array([atomic_number(spectrum.absorber) for spectrum in spectra], dtype=np.int64)
        if elements_present is not None:
            assert self.composition is not None
            probability, calibration = compose(self.composition, probability, absorber, elements_present)
        named, whole = calibration.named(probability), calibration.whole(probability, absorber)
        return [
            neighbour_answer(probability[row], named[row], whole[row], calibration.coverage, reason) for row, reason in enumerate(outside)
        ]

    def distances(self, spectra: Sequence[Spectrum]) -> list[DistanceAnswer]:
        """First-shell distances and coordination number.

        Raises:
            SpectrumError: if a spectrum is of another kind or edge, or too short.
        """
        calibration = self.promises(DistanceCalibration)
        said, outside = self.ask(spectra)
        values, expected = said.value.double().numpy(), expected_error(self.task, said.stated.numpy(), said.spread.numpy())
        return [distance_answer(values[row], expected[row], calibration, reason) for row, reason in enumerate(outside)]


def distance_answer(
    value: NDArray[np.float64], expected: NDArray[np.float64], calibration: DistanceCalibration, outside: str
) -> DistanceAnswer:
    """The answer of one value (3,) and its expected error (3,); `outside` says why the question is outside the domain, if it is."""
    mean, nearest, log_coordination = (float(number) for number in value)
    half = calibration.factors[0] * float(expected[0])
    return DistanceAnswer(
        coverage=calibration.coverage,
        in_domain=not outside,
        reason=_domain_sentence(outside),
        mean_distance=mean,
        interval=(mean - half, mean + half),
        nearest_distance=nearest,
        coordination=float(np.exp(log_coordination)),
    )


def compose(
    composition: CompositionModel, probability: NDArray[np.float64], absorber: NDArray[np.int64], elements: Collection[str]
) -> tuple[NDArray[np.float64], NeighbourCalibration]:
    """Probabilities (n, MAX_Z) where the elements of the sample are known, and the calibration for them."""
    allowed = {atomic_number(element) for element in elements}
    if not allowed:
        raise SpectrumError("no element is named as present; name those that the sample may hold, or leave them open.")
    if min(allowed) >= MAX_Z:
        raise SpectrumError(f"no model knows elements beyond Z {MAX_Z - 1}; name other elements as present, or leave them open.")
    present = np.zeros(probability.shape, dtype=bool)
    present[:, [z for z in allowed if z < MAX_Z]] = True
    return composition(probability, absorber, present), composition.calibration


def _domain_sentence(outside: str) -> str:
    return f"outside the domain: {outside}" if outside else "like the spectra that the model was trained on"


def neighbour_answer(
    probability: NDArray[np.float64], named: NDArray[np.bool_], whole: NDArray[np.bool_], coverage: float, outside: str
) -> NeighbourAnswer:
    """The answer of one row of probabilities (MAX_Z,), of the elements named and of those in the conformal set (MAX_Z,)."""
    order = [int(z) for z in np.argsort(-probability, kind="stable") if z > 0 and probability[z] > 0]
    names = {z: element_symbol(z) for z in order}
    return NeighbourAnswer(
        coverage=coverage,
        in_domain=not outside,
        reason=_domain_sentence(outside),
        neighbours={names[z]: float(probability[z]) for z in order if probability[z] >= LEAST_PROBABILITY},
        neighbour_set=[names[z] for z in order if named[z]],
        conformal_set=[names[z] for z in order if whole[z]],
    )


def list_materials(folder: Path, materials: Iterable[Mapping[str, Any]]) -> None:
    """Add materials to a family's list of those that it has seen, each once."""
    path = folder / MATERIALS
    lines = set(path.read_text().splitlines()) if path.is_file() else set()
    lines |= {f"{item['source']} {item['source_id']} {item['formula']} {item['space_group']}" for item in materials}
    path.write_text("\n".join(sorted(lines)) + "\n")


class FamilyBundle:
    """Models that belong together; each is read when it is first asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.card: dict[str, Any] = json.loads((folder / FAMILY_CARD).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{folder} does not hold a model family ({error}); give a folder with {FAMILY_CARD}, or 'default'.") from error
        if not isinstance(self.card, dict):
            raise ModelError(f"{folder / FAMILY_CARD} holds no mapping; install the family again.")
        check_stated(folder / FAMILY_CARD, self.card, FAMILY, "`xastruct train`")
        self._models: dict[str, ModelBundle] = {}

    @classmethod
    def load(cls, path: Path | str = "default") -> FamilyBundle:
        """A family by folder, or the one that ships, by the name `default`.

        Raises:
            ModelError: if there is no such family.
        """
        return cls(DEFAULT_FAMILY if str(path) == "default" else Path(path))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over all files of the family."""
        return content_hash(self.folder)

    def model(self, task: str, kind: str) -> ModelBundle:
        """The model for a task and a kind of spectrum.

        Raises:
            ModelError: if the family has none.
        """
        label = f"{task}-{kind}"
        if label not in self._models:
            if not (self.folder / label).is_dir():
                raise ModelError(f"the family in {self.folder} has no {label} model; it has {', '.join(sorted(self.labels)) or 'none'}.")
            self._models[label] = ModelBundle.load(self.folder / label)
        return self._models[label]

    @property
    def labels(self) -> list[str]:
        """Names of the models in the family, `<task>-<kind>`."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{CARD}"))

    def predict(self, structure: Structure, sites: Sequence[int], kind: str) -> list[ForwardAnswer]:
        """Spectra of sites of one crystal; see `ModelBundle.predict`."""
        return self.model("forward", kind).predict(structure, sites)

    def infer(self, spectrum: Spectrum, elements_present: Collection[str] | None = None) -> InverseAnswer:
        """The local structure behind one spectrum; see `ModelBundle.neighbours` and `ModelBundle.distances`."""
        spectrum = replace(spectrum, e0=find_e0(spectrum))
        near = self.model("neighbours", spectrum.kind).neighbours([spectrum], elements_present)[0]
        far = self.model("distance", spectrum.kind).distances([spectrum])[0]
        return merge_inverse(near, far)
