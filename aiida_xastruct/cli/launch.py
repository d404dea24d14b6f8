"""Running a workflow from the command line: here and now, or by the daemon."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.params import types

from ..engine.errors import XastructError

#: What AiiDA puts before the sentence of an input validator.
_AIIDA_PREFIX = re.compile(r"^(Error occurred validating port '[^']*': |invalid attribute value )")


def stored_or_file(text: str, entry_point: str, read: Callable[[Path], Any] | None) -> Any:
    """The node that an argument names, or a new one from the file that it names.

    Args:
        text: path, pk, UUID or label. A file wins over a node.
        entry_point: of the node's type.
        read: makes a node from a file; None if only a node will do.

    Raises:
        XastructError: if there is neither.
    """
    if read is not None and Path(text).is_file():
        return read(Path(text))
    try:
        return types.DataParamType(sub_classes=(entry_point,)).convert(text, None, click.get_current_context())
    except click.BadParameter as error:
        kind = "a file" if read is not None else "a readable file"
        raise XastructError(f"{text} is neither {kind} nor a stored {entry_point.rpartition('.')[2]}; check the name.") from error


def answering_code(code: Any, needed: bool) -> Any:
    """FEFF to answer with: the code that was named, or the one that comes with this package if one is needed; None otherwise."""
    if code is not None or not needed:
        return code
    from ..tools.codes import bundled_feff_code

    return bundled_feff_code()


def engine_options(*engines: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add who answers where a model is not enough, of these, and what XSpectra needs for it, to a command."""
    words = "Who answers where a model is unsure." + " both: every crystal by each." * ("both" in engines)
    options = (
        click.option("--engine", type=click.Choice(engines), help=f"{words}  [default: feff]"),
        click.option("--pw-code", type=types.CodeParamType(), help="pw.x, for XSpectra.  [default: that of this machine]"),
        click.option("--xspectra-code", type=types.CodeParamType(), help="xspectra.x.  [default: that of this machine]"),
        click.option("--core-holes", help="Label of XSpectra's pseudopotentials.  [default: the one family that is installed]"),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def engine_inputs(engine: str | None, code: Any, pw_code: Any, xspectra_code: Any, core_holes: str | None, needed: bool) -> dict[str, Any]:
    """Inputs of `xastruct.predict` that say who answers: the codes that were named, or those of this machine if they are needed.

    Raises:
        XastructError: if a program is not installed, or what is for the other engine is given.
    """
    if engine == "xspectra" and code is not None:
        raise XastructError("--code names FEFF, and --engine xspectra asks XSpectra; leave one of the two out.")
    if engine not in ("xspectra", "both") and not (pw_code is xspectra_code is core_holes is None):
        raise XastructError("--pw-code, --xspectra-code and --core-holes are for --engine xspectra or both; give it, or leave them out.")
    inputs: dict[str, Any] = {"reference": engine}
    if engine != "xspectra":
        inputs["code"] = answering_code(code, needed)
    if engine in ("xspectra", "both"):
        from ..tools.codes import quantum_espresso_code

        inputs["pw_code"] = quantum_espresso_code("pw.x") if pw_code is None and needed else pw_code
        inputs["xspectra_code"] = quantum_espresso_code("xspectra.x") if xspectra_code is None and needed else xspectra_code
        inputs["core_hole_family"] = core_holes
    return inputs


def launch(make_builder: Callable[[], Any], daemon: bool) -> tuple[Any, Any]:
    """Run or submit a process.

    Args:
        make_builder: gives the builder; input validators speak while it is filled, and again when it is run.
        daemon: submit.

    Returns:
        outputs and node of a finished process, or None and the node of a submitted one.

    Raises:
        XastructError: if an input is refused, or a signal stopped the run.
    """
    from aiida.engine import submit

    from ..tools.running import run_here

    _reports_to_standard_error()
    try:
        builder = make_builder()
        if daemon:
            node = submit(builder)
            click.echo(f"submitted: {node.process_label} <{node.pk}>; `verdi process status {node.pk}` shows how it is doing.")
            return None, node
        return run_here(builder)
    except ValueError as error:
        raise XastructError(_AIIDA_PREFIX.sub("", str(error).strip())) from error


def _reports_to_standard_error() -> None:
    """Keep what workflows report out of the answer, which a program may read: AiiDA's command line prints both to the standard output."""
    for handler in logging.getLogger("aiida").handlers:
        handler.addFilter(_mark_for_standard_error)


def _mark_for_standard_error(record: logging.LogRecord) -> bool:
    record.err = True  # what AiiDA's CliHandler looks at
    return True


def report(node: Any) -> None:
    """Say on the standard error what is wrong with a finished process; stop where it has no answer."""
    if node.is_finished_ok:
        return
    message = f"{node.process_label} <{node.pk}> ended with {node.exit_status}: {node.exit_message or 'see `verdi process report`'}"
    if node.exit_status is None or node.exit_status < 400:
        raise XastructError(message)
    click.echo(f"Warning: {message}", err=True)
