"""`aiida-xastruct export`: a spectrum in the format of another program, answers as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.params import types

from ..engine.errors import XastructError
from .group import with_profile
from .output import echo_mapping, json_option, write_file

if TYPE_CHECKING:
    from aiida.orm import Node

    from ..data.spectrum import SpectrumData

#: Formats of one spectrum; those of `engine.writers`, which is imported when it is needed.
SPECTRUM_FORMATS = ("csv", "json", "nexus", "xdi", "xmu")

#: Formats of tables; those of `tools.tables`.
TABLE_FORMATS = ("csv", "parquet")


@click.command("export")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...", type=types.NodeParamType())
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file.  [default: the screen]")
@click.option(
    "-f", "--format", "file_format", type=click.Choice(sorted({*SPECTRUM_FORMATS, *TABLE_FORMATS})),
    help="File format.  [default: the file's ending, or csv]",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@json_option
@with_profile
def export(nodes: tuple[Node, ...], output: Path | None, file_format: str | None, overwrite: bool, as_json: bool) -> None:
    """Write NODE (pk, UUID, label) to a file.

    A spectrum becomes xdi (which Athena and Larch read), csv, nexus (NXxas), json, or FEFF's xmu.dat. Tables, answers, and the
    processes that gave them become the rows of one table, csv or parquet.
    """
    from ..data.spectrum import SpectrumData

    spectra = [node for node in nodes if isinstance(node, SpectrumData)]
    if spectra and len(nodes) > 1:
        raise XastructError("a file holds one spectrum; export each into its own.")
    if spectra:
        export_spectrum(spectra[0], output, file_format, overwrite, as_json)
        return
    from ..tools.tables import table_of, written

    if file_format is None:
        file_format = "csv" if output is None else output.suffix.lower().lstrip(".")
    if file_format not in TABLE_FORMATS:
        raise XastructError(f"a table is written as {' or '.join(TABLE_FORMATS)}; name the file so or give --format.")
    table = table_of(nodes)
    if as_json and output is None:
        from .output import echo_rows

        echo_rows(table.column_names, [list(row.values()) for row in table.to_pylist()], True)
        return
    _put(written(table, file_format), output, file_format, overwrite, as_json, {"rows": len(table)})


def export_spectrum(node: SpectrumData, output: Path | None, file_format: str | None, overwrite: bool, as_json: bool) -> None:
    """Write one spectrum; the options are those of the commands.

    Raises:
        click.ClickException: if the file cannot be written or its format is unknown.
        ValidationError: if the format cannot hold this spectrum.
    """
    from ..engine.writers import format_of_name

    if file_format is None:
        file_format = ("json" if as_json else "csv") if output is None else format_of_name(output.name)
    if file_format not in SPECTRUM_FORMATS:
        what = output.name if output is not None and file_format is None else file_format
        raise click.ClickException(f"{what} is no known format of spectra; give --format {'|'.join(SPECTRUM_FORMATS)}.")
    content: bytes = node._exportcontent(file_format)[0]  # type: ignore[no-untyped-call]
    _put(content, output, file_format, overwrite, as_json, {"points": len(node.energy)})


def _put(content: bytes, output: Path | None, file_format: str, overwrite: bool, as_json: bool, facts: dict[str, Any]) -> None:
    """Write content to a file, or to the screen if it is text."""
    if output is not None:
        write_file(output, content, overwrite)
        echo_mapping({"file": str(output), "format": file_format, **facts}, as_json)
        return
    if file_format in ("nexus", "parquet"):
        raise click.ClickException(f"{file_format} is no text; give a file with --output.")
    click.echo(content.decode(), nl=False)
