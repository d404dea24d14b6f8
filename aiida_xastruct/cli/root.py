"""The command `aiida-xastruct`."""

from __future__ import annotations

import click
from aiida.cmdline.params import options, types

from .group import LazyCommand, XastructGroup

COMMANDS = {
    "cite": LazyCommand("aiida_xastruct.cli.cite:cite", "Say what to cite with a result."),
    "compare": LazyCommand("aiida_xastruct.cli.compare:compare", "Rank candidates by a measurement, or compare two spectra."),
    "core-hole": LazyCommand("aiida_xastruct.cli.core_hole:core_hole", "Install, list, show and export core-hole pseudopotentials."),
    "explore": LazyCommand("aiida_xastruct.cli.explore:explore", "Look at crystals, spectra and provenance on a web page."),
    "export": LazyCommand("aiida_xastruct.cli.export:export", "Write spectra and tables of answers for other programs."),
    "family": LazyCommand("aiida_xastruct.cli.family:family", "Install, list, show and export families of models."),
    "import": LazyCommand("aiida_xastruct.cli.imports:import_command", "Store spectra from files, with their quality."),
    "fit": LazyCommand("aiida_xastruct.cli.fit:fit", "Fit a mixture by its components."),
    "improve": LazyCommand("aiida_xastruct.cli.improve:improve", "Let FEFF teach a model what it knows least."),
    "infer": LazyCommand("aiida_xastruct.cli.infer:infer", "Infer the nearest neighbours behind a spectrum."),
    "plot": LazyCommand("aiida_xastruct.cli.plot:plot", "Draw spectra, answers and models."),
    "predict": LazyCommand("aiida_xastruct.cli.predict:predict", "Predict the spectrum of an element in a crystal."),
    "process": LazyCommand("aiida_xastruct.cli.process:process", "Calibrate, clean and normalise a measured spectrum."),
    "query": LazyCommand("aiida_xastruct.cli.query:query", "Find answers, and what stands behind them."),
    "reference": LazyCommand("aiida_xastruct.cli.reference:reference", "Make, count and write the library of FEFF spectra."),
    "report": LazyCommand("aiida_xastruct.cli.report:report", "Write one page about a result and what it rests on."),
    "screen": LazyCommand("aiida_xastruct.cli.screen:screen", "Predict thousands of crystals and rank them by a spectrum."),
    "train": LazyCommand("aiida_xastruct.cli.train:train", "Train a family of models."),
}


@click.group("aiida-xastruct", cls=XastructGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@options.PROFILE(type=types.ProfileParamType(load_profile=True), expose_value=False)
@click.version_option(package_name="aiida-xastruct", message="%(package)s %(version)s")
def cli() -> None:
    """X-ray absorption spectra of crystals, and the local structure behind a spectrum."""
