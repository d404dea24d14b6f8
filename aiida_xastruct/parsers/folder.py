"""What parsers have in common that work on the retrieved files as a folder on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode


class ParsesFolder:
    """Copies what was retrieved into a temporary folder, for the engine's readers, which know no nodes; goes before `Parser`."""

    retrieved: Any

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse the copy."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            self.retrieved.copy_tree(folder)
            return self.parse_folder(folder)

    def parse_folder(self, folder: Path) -> ExitCode | None:
        """Attach outputs from the retrieved files in a folder."""
        raise NotImplementedError
