"""The reference library: FEFF spectra of experimental structures, made on idle cores and shipped with the project.

`build` computes into a state folder, `export` writes its new records as shards, `read_reference` reads them.
On the command line: `aiida-xastruct reference`, or `python -m aiida_xastruct.engine.reference` where AiiDA is not installed.
"""

from .library import ReferenceRecord, count_by_element, export, library_keys, read_reference
from .sources import read_structure

__all__ = ["ReferenceRecord", "count_by_element", "export", "library_keys", "read_reference", "read_structure"]
