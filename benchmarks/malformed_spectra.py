"""Spectra that are damaged, for `benchmarks/malformed.py`: the arguments of a SpectrumData, and what is asked of it.

A damage is a function that changes a `Question` in place; its docstring is the row of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from malformed_structures import Damage, Question

from aiida_xastruct.engine.errors import XastructError
from aiida_xastruct.engine.readers import read_measurement
from aiida_xastruct.engine.scans import ScanParameters
from aiida_xastruct.engine.spectrum import Spectrum, atomic_number, edge_of, element_symbol, find_e0

#: One scan of so many is taken; neighbours in the list are of one sample.
EVERY = 5


def sound_spectra(data: Path) -> Iterator[Question]:
    """Measured scans of the XAS data library, every other that is long enough as EXAFS, the rest as XANES."""
    for number, path in enumerate(sorted((data / "experiment" / "xasdatalibrary").glob("*.xdi"))):
        if number % EVERY:
            continue
        try:
            spectrum = read_measurement([(path.name, path.read_bytes())], ScanParameters())
            e0 = find_e0(spectrum)
        except XastructError:
            continue
        kind = "EXAFS" if number % (2 * EVERY) and spectrum.energy[-1] > e0 + 860.0 else "XANES"
        yield Question(_arguments(spectrum, kind, e0), {})


def _arguments(spectrum: Spectrum, kind: str, e0: float) -> dict[str, object]:
    """Arguments of a SpectrumData; `_e0`, which is none, is where the edge was."""
    return {
        "energy": spectrum.energy.tolist(), "mu": spectrum.mu.tolist(), "absorber": spectrum.absorber, "edge": spectrum.edge, "kind": kind,
        "method": "measured", "energy_reference": "nominal", "normalisation": spectrum.normalisation, "e0": None, "_e0": e0,
    }  # fmt: skip


def _arrays(question: Question) -> tuple[np.ndarray, np.ndarray]:
    return np.array(question.content["energy"]), np.array(question.content["mu"])


def _put(question: Question, energy: Sequence[float] | np.ndarray, mu: Sequence[float] | np.ndarray) -> None:
    question.content["energy"], question.content["mu"] = [float(x) for x in energy], [float(x) for x in mu]


def not_finite_mu(question: Question, random: Random) -> None:
    """One value of mu is NaN or infinite, or all are."""
    value = random.choice((math.nan, math.inf, -math.inf))
    mu = question.content["mu"]
    question.content["mu"] = [value] * len(mu)
    if random.random() < 0.7:
        mu[random.randrange(len(mu))] = value
        question.content["mu"] = mu


def not_finite_energy(question: Question, random: Random) -> None:
    """An energy is NaN or infinite."""
    energy = question.content["energy"]
    energy[random.choice((0, -1, random.randrange(len(energy))))] = random.choice((math.nan, math.inf))


def unsorted(question: Question, random: Random) -> None:
    """Energies are shuffled, descend, or two neighbours are swapped."""
    energy, mu = _arrays(question)
    order = np.arange(len(energy))
    place = random.randrange(len(energy) - 1)
    choice = random.randrange(3)
    if choice == 0:
        random.shuffle(order)  # type: ignore[arg-type]
    elif choice == 1:
        order = order[::-1]
    else:
        order[[place, place + 1]] = order[[place + 1, place]]
    _put(question, energy[order], mu[order])


def repeated(question: Question, random: Random) -> None:
    """An energy is there twice, or every one."""
    energy, mu = _arrays(question)
    order = np.repeat(np.arange(len(energy)), 2 if random.random() < 0.5 else 1)
    if len(order) == len(energy):
        order = np.insert(order, random.randrange(len(order)), order[random.randrange(len(order))])
        order.sort()
    _put(question, energy[order], mu[order])


def second_scan(question: Question, random: Random) -> None:
    """A second scan follows the first."""
    energy, mu = _arrays(question)
    _put(question, np.concatenate([energy, energy]), np.concatenate([mu, mu]))


def other_unit(question: Question, random: Random) -> None:
    """Energies are in keV, in MeV, in hartree, in meV, are angles of a monochromator or wavelengths."""
    energy, mu = _arrays(question)
    wavelength = 12398.42 / energy
    angle = np.degrees(np.arcsin(np.clip(wavelength / (2 * 3.1356), 0.0, 1.0)))
    made = (energy / 1e3, energy / 1e6, energy / 27.2114, energy * 1e3, angle[::-1], wavelength[::-1], energy / 13.6057)
    chosen = random.randrange(len(made))
    _put(question, made[chosen], mu[::-1] if chosen in (4, 5) else mu)


def relative(question: Question, random: Random) -> None:
    """Energies are counted from the edge, from the first point, or points are numbered."""
    energy, mu = _arrays(question)
    _put(question, random.choice((energy - question.content["_e0"], energy - energy[0], np.arange(len(energy)))), mu)


def shifted(question: Question, random: Random) -> None:
    """The energy scale is off by 100 to 2000 eV."""
    energy, mu = _arrays(question)
    _put(question, energy + random.choice((-1, 1)) * random.choice((100.0, 300.0, 1000.0, 2000.0)), mu)


def other_element(question: Question, random: Random) -> None:
    """It is said to be of another element."""
    z = atomic_number(question.content["absorber"]) + random.choice((-10, -2, -1, 1, 2, 10))
    question.content["absorber"] = element_symbol(z)
    question.content["edge"] = edge_of(element_symbol(z))


def other_edge(question: Question, random: Random) -> None:
    """It is said to be of another edge, or of none that there is."""
    question.content["edge"] = random.choice([edge for edge in ("K", "L1", "L2", "M5", "", "k", "N1") if edge != question.content["edge"]])


def no_element(question: Question, random: Random) -> None:
    """The absorber is no element."""
    question.content["absorber"] = random.choice(("", "Xx", "iron", "fe", None, 26, ["Fe"], "A" * 1000, "Fe\x00"))


def odd_words(question: Question, random: Random) -> None:
    """Kind, method, energy reference or normalisation are none that there are."""
    name = random.choice(("kind", "method", "energy_reference", "normalisation"))
    question.content[name] = random.choice(("", "XAFS", "other", None, 3, ["flat"]))


def odd_e0(question: Question, random: Random) -> None:
    """E0 is NaN, infinite, text, or hundreds of eV away."""
    energy = question.content["energy"]
    question.content["e0"] = random.choice((math.nan, math.inf, "edge", energy[0] - 500.0, energy[-1] + 500.0, 0.0, -1.0))


def constant(question: Question, random: Random) -> None:
    """Mu is constant."""
    question.content["mu"] = [random.choice((0.0, 1.0, -3.0, 1e-300, 1e300))] * len(question.content["mu"])


def no_edge(question: Question, random: Random) -> None:
    """Mu is a line, a parabola, a sine or a sawtooth."""
    energy, _ = _arrays(question)
    x = np.linspace(0.0, 1.0, len(energy))
    slope = random.choice((-1.0, 1.0, 100.0))
    curves = (slope * x, slope * (x - 0.5) ** 2, slope * np.sin(random.choice((5.0, 40.0, 300.0)) * x), slope * (x * 17.0 % 1.0))
    _put(question, energy, random.choice(curves))


def noise(question: Question, random: Random) -> None:
    """Mu is noise, white or walking."""
    energy, _ = _arrays(question)
    white = np.random.default_rng(random.randrange(2**32)).normal(size=len(energy))
    _put(question, energy, random.choice((white, np.cumsum(white), 1.0 + 1e-3 * white)))


def buried(question: Question, random: Random) -> None:
    """Noise as high as the edge lies over mu."""
    energy, mu = _arrays(question)
    draw = np.random.default_rng(random.randrange(2**32)).normal(size=len(energy))
    _put(question, energy, mu + random.choice((1.0, 3.0)) * np.ptp(mu) * draw)


def inverted(question: Question, random: Random) -> None:
    """The edge goes down: mu is negative, or a transmission."""
    energy, mu = _arrays(question)
    _put(question, energy, random.choice((-mu, np.exp(-mu), mu.max() - mu)))


def too_short(question: Question, random: Random) -> None:
    """There are 0 to 20 points."""
    energy, mu = _arrays(question)
    points = random.choice((0, 1, 2, 9, 12, 20))
    start = random.randrange(len(energy) - points)
    _put(question, energy[start : start + points], mu[start : start + points])


def part(question: Question, random: Random) -> None:
    """The scan ends before the edge, at it, or begins behind it."""
    energy, mu = _arrays(question)
    e0 = question.content["_e0"]
    keep = random.choice((energy < e0 - 5, energy < e0 + 3, energy < e0 + 15, energy > e0 - 2, energy > e0 + 10, energy > e0 + 50))
    _put(question, energy[keep], mu[keep])


def gap(question: Question, random: Random) -> None:
    """The points around the edge are missing."""
    energy, mu = _arrays(question)
    half = random.choice((15.0, 30.0, 60.0))
    keep = np.abs(energy - question.content["_e0"]) > half
    _put(question, energy[keep], mu[keep])


def coarse(question: Question, random: Random) -> None:
    """A point every 10 to 50 eV."""
    energy, mu = _arrays(question)
    grid = np.arange(energy[0], energy[-1], random.choice((10.0, 20.0, 50.0)))
    _put(question, grid, np.interp(grid, energy, mu))


def spikes(question: Question, random: Random) -> None:
    """Points near the edge are 1e3 to 1e12 times too high."""
    energy, mu = _arrays(question)
    near = np.flatnonzero(np.abs(energy - question.content["_e0"]) < 40.0)
    for place in random.sample(list(near), min(len(near), random.choice((1, 3, 10)))):
        mu[place] = random.choice((1e3, -1e3, 1e6, 1e12))
    _put(question, energy, mu)


def levels(question: Question, random: Random) -> None:
    """Mu has two levels only, or is cut off at a fifth of the edge."""
    energy, mu = _arrays(question)
    middle = 0.5 * (mu.min() + mu.max())
    low, high = mu.min(), mu.min() + 0.2 * np.ptp(mu)
    _put(question, energy, random.choice((np.where(mu > middle, 1.0, 0.0), np.clip(mu, low, high))))


def derivative(question: Question, random: Random) -> None:
    """Mu is its own derivative, or its integral."""
    energy, mu = _arrays(question)
    _put(question, energy, random.choice((np.gradient(mu, energy), np.cumsum(mu))))


def overflowing(question: Question, random: Random) -> None:
    """Mu is 1e200 to 1e308 times as high, or 1e-308 times."""
    energy, mu = _arrays(question)
    _put(question, energy, mu * random.choice((1e200, 1e307, 1e-250, 1e-308)))


def other_shape(question: Question, random: Random) -> None:
    """Energy and mu are of different lengths, tables, or no lists."""
    mu = question.content["mu"]
    question.content["mu"] = random.choice((mu[:-1], [mu, mu], [[value] for value in mu], 1.0, None, [], {"mu": mu}, [*mu[:-1], []]))


def no_numbers(question: Question, random: Random) -> None:
    """Mu or the energy is text, complex, or holds nothing."""
    name = random.choice(("energy", "mu"))
    values = question.content[name]
    made = (
        ["text"] * len(values),
        [complex(x, 1.0) for x in values],
        np.array(values) + 1.0j,
        [None, *values[1:]],
        "text",
        [*values[:-1], "1,5"],
    )
    question.content[name] = random.choice(made)


def said_flat(question: Question, random: Random) -> None:
    """Raw counts are said to be normalised."""
    energy, mu = _arrays(question)
    _put(question, energy, 1e4 + random.choice((3e3, 1e5)) * mu)
    question.content["normalisation"] = "flat"


def odd_elements(question: Question, random: Random) -> None:
    """The elements of the sample are no elements, or none."""
    question.inputs["elements"] = random.choice(([], ["Xx"], [26], [None], [["Fe"]], ["Fe", ""]))


def odd_question(question: Question, random: Random) -> None:
    """It is to be read as a kind that there is not."""
    question.inputs["kind"] = random.choice(("XAFS", "xanes", "", "BOTH", "K"))


def scaled(question: Question, random: Random) -> None:
    """Harmless: mu is in another unit, over a constant."""
    energy, mu = _arrays(question)
    _put(question, energy, random.choice((0.0, 7.0, -3.0)) + random.choice((1e-6, 0.01, 40.0, 1e6)) * mu)


def miscalibrated(question: Question, random: Random) -> None:
    """Harmless: the energy scale is off by up to 15 eV."""
    energy, mu = _arrays(question)
    _put(question, energy + random.choice((-15.0, -5.0, 5.0, 15.0)), mu)


DAMAGES: tuple[Damage, ...] = (
    not_finite_mu, not_finite_energy, unsorted, repeated, second_scan, other_unit, relative, shifted, other_element, other_edge,
    no_element, odd_words, odd_e0, constant, no_edge, noise, buried, inverted, too_short, part, gap, coarse, spikes, levels, derivative,
    overflowing, other_shape, no_numbers, said_flat, odd_elements, odd_question, scaled, miscalibrated,
)  # fmt: skip
