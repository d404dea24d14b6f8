"""From the raw files of a beamline, or of a program, to one spectrum."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Data, Dict, FolderData, SinglefileData

from ...data.spectrum import SpectrumData
from ...engine.errors import SpectrumError, XastructError


@calcfunction
def import_scans(parameters: Dict, **scans: Data) -> Any:
    """The spectrum in the files of one measurement; scans are merged.

    Read is any format of `aiida_xastruct.engine.readers`. A measured spectrum gets its quality in `settings["quality"]` and the fields of
    its files' heads in `settings["xdi"]`; a computed one gets site and crystal where its file tells.

    Args:
        parameters: fields of `aiida_xastruct.engine.scans.ScanParameters`; `{}` where the files say all.
        scans: under any names, one `SinglefileData` a file, or `FolderData` whose files are all scans. They are merged in the order
            of their names.

    Returns:
        `SpectrumData`, raw where it is measured; exit status 310 with one sentence where the files cannot be used.
    """
    from dataclasses import replace

    from ...engine.quality import with_quality
    from ...engine.readers import read_measurement
    from ...engine.scans import ScanParameters

    try:
        options = ScanParameters.from_dict(parameters.get_dict())
        files = [item for _, node in sorted(scans.items()) for item in _files(node)]
        spectrum = with_quality(read_measurement(files, options))
        crystal = spectrum.settings.get("crystal", {})
        settings = {name: value for name, value in spectrum.settings.items() if name != "crystal"}
        return SpectrumData.from_engine(replace(spectrum, settings=settings), **crystal)
    except XastructError as error:
        return ExitCode(310, str(error))


def _files(node: Data) -> list[tuple[str, bytes]]:
    """Name and content of each file of a node, sorted by name."""
    if isinstance(node, SinglefileData):
        names = [node.filename]
    elif isinstance(node, FolderData):
        names = sorted(node.base.repository.list_object_names())
    else:
        raise SpectrumError(f"scans come as SinglefileData or FolderData, not {type(node).__name__}.")
    return [(name, node.base.repository.get_object_content(name, mode="rb")) for name in names]
