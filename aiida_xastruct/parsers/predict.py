"""Parser of a batch of predictions: the same nodes that the calcfunction makes, or the reason why there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from aiida.parsers import Parser

from ..data.table import TableData
from .feff import stopped_by_scheduler

#: What `xastruct` puts before a sentence about its input.
_SAYS = "xastruct: "


class PredictParser(Parser):
    """Parser of `PredictCalculation`."""

    def parse(self, retrieved_temporary_folder: str, **kwargs: Any) -> ExitCode | None:
        """Attach `table` and `spectra`."""
        from pyarrow import ArrowException

        from ..calculations.functions.predict_batch import spectra_node
        from ..engine.batch import FACTS, TABLE, read_batch
        from ..engine.errors import XastructError

        if FACTS not in self.retrieved.base.repository.list_object_names():
            return self._unfinished()
        folder = Path(retrieved_temporary_folder)
        try:
            said = self.retrieved.base.repository.get_object_content(FACTS)
            found = json.loads(said)["algorithm_version"]
            wanted = self.node.inputs.algorithm_version.value
            if found != wanted:
                return self.exit_codes.ERROR_OTHER_VERSION.format(found=found, wanted=wanted)
            arrays = read_batch(folder, said)
            with (folder / TABLE).open("rb") as stream:
                table = TableData.from_file(stream, arrays.kind)
        except XastructError as error:
            return self.exit_codes.ERROR_DAMAGED.format(reason=str(error))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArrowException) as error:
            return self.exit_codes.ERROR_DAMAGED.format(reason=f"{error}.")
        spectra = spectra_node(arrays.grid, arrays.mu, arrays.half_band)
        self.out("table", table)
        self.out("spectra", spectra)
        return None

    def _unfinished(self) -> ExitCode:
        """Exit code of a job without a batch."""
        if by_scheduler := stopped_by_scheduler(self.node):
            return self.exit_codes.ERROR_NOT_FINISHED.format(reason=by_scheduler[1])
        names = self.retrieved.base.repository.list_object_names()
        said = self.retrieved.base.repository.get_object_content("xastruct.stderr") if "xastruct.stderr" in names else ""
        lines = [line for line in said.splitlines() if line.strip()]
        if lines and lines[-1].startswith(_SAYS):
            return self.exit_codes.ERROR_REFUSED.format(reason=lines[-1].removeprefix(_SAYS))
        return self.exit_codes.ERROR_NOT_FINISHED.format(reason=lines[-1] if lines else "it says nothing; see the job's folder.")
