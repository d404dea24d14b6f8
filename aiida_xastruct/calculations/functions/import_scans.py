"""From the raw files of a beamline to one merged spectrum."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, calcfunction
from aiida.orm import Data, Dict, FolderData, SinglefileData

from ...data.spectrum import SpectrumData
from ...engine.errors import SpectrumError, XastructError


@calcfunction
def import_scans(parameters: Dict, **scans: Data) -> Any:
    """Merge the scans of one measurement.

    Args:
        parameters: fields of `aiida_xastruct.engine.scans.ScanParameters`; `{}` where the files say all.
        scans: under any names, one `SinglefileData` a file, or `FolderData` whose files are all scans. They are merged in the order
            of their names.

    Returns:
        `SpectrumData` of method measured, normalisation raw; exit status 310 with one sentence where the files cannot be used.
    """
    from ...engine.scans import ScanParameters, merge, read_scan

    try:
        options = ScanParameters.from_dict(parameters.get_dict())
        texts = [item for _, node in sorted(scans.items()) for item in _texts(node)]
        spectrum = merge([read_scan(text, name, options) for name, text in texts], options)
        return SpectrumData.from_engine(spectrum)
    except XastructError as error:
        return ExitCode(310, str(error))


def _texts(node: Data) -> list[tuple[str, str]]:
    """Name and text of each file of a node, sorted by name."""
    if isinstance(node, SinglefileData):
        names = [node.filename]
    elif isinstance(node, FolderData):
        names = sorted(node.base.repository.list_object_names())
    else:
        raise SpectrumError(f"scans come as SinglefileData or FolderData, not {type(node).__name__}.")
    # A beamline may write a degree sign in whatever encoding; what is no UTF-8 stands in comments, which are not needed.
    return [(name, node.base.repository.get_object_content(name, mode="rb").decode("utf-8", errors="replace")) for name in names]
