"""Parser of a batch of FEFF runs: every site is judged as `parsers.feff` judges a job of one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from ..calculations.feff import FeffCalculation, feff_parameters, request
from ..calculations.feff_batch import FeffBatchCalculation, crystals, folder_of
from ..data.spectra import SiteSpectrum, SpectraData
from ..data.spectrum import SpectrumData
from .feff import stopped_by_scheduler
from .folder import ParsesFolder

if TYPE_CHECKING:
    from ..engine.feff.outcome import Outcome


class FeffBatchParser(ParsesFolder, Parser):
    """Parser of `FeffBatchCalculation`."""

    def parse_folder(self, folder: Path) -> ExitCode | None:
        """Attach `spectra` or `collection`, and `statuses`, and say how many sites failed."""
        from ..engine.feff.batch import ARCHIVE_FILE, read_report, unpack
        from ..engine.feff.outcome import Outcome, judge
        from ..engine.origin import origin_of
        from ..engine.structure import multiplicities, symbol

        unpack(folder / ARCHIVE_FILE, folder)
        inputs = {name: getattr(self.node.inputs, name) for name in self.node.inputs}  # each look is a query
        parameters = feff_parameters(inputs.get("parameters"))
        refused = json.loads(self.node.base.repository.get_object_content(FeffBatchCalculation.REFUSED))
        ended, unended = read_report(folder), self._unended(folder)
        rows: list[dict[str, Any]] = []
        found: list[SiteSpectrum] = []
        for name, crystal, sites in crystals(inputs):
            for site in sites:
                sub = folder_of(name, site)
                if sub in refused:
                    outcome = Outcome("ERROR_INPUT_REFUSED", f"no deck can be written: {refused[sub]}")
                else:
                    ask = partial(request, symbol(crystal, site), parameters)
                    outcome = judge(folder / sub, ask, "", None if sub in ended else unended)
                output = "" if outcome.spectrum is None else "collection" if name else f"spectra.{sub}"
                if outcome.spectrum is not None:
                    count = multiplicities(crystal, [site])[0]
                    found.append(SiteSpectrum(name, site, count, outcome.spectrum, origin_of(crystal, site)))
                rows.append(_row(name, site, outcome, output))
        self._attach(found)
        self.out("statuses", orm.Dict({"sites": rows}))
        return self._verdict(rows)

    def _attach(self, found: list[SiteSpectrum]) -> None:
        """Make the spectra outputs: of one crystal, which has no name, a node each; of many, one node."""
        if found and found[0].structure:
            self.out("collection", SpectraData.from_engine(found))
            return
        for item in found:
            node = SpectrumData.from_engine(item.spectrum, site=item.site, multiplicity=item.multiplicity, **(item.origin or {}))
            self.out(f"spectra.{folder_of('', item.site)}", node)

    def _verdict(self, rows: list[dict[str, Any]]) -> ExitCode | None:
        """Exit code of the job."""
        from ..engine.feff.outcome import TRANSIENT

        bad = [row for row in rows if row["label"]]
        if not bad:
            return None
        stopped = any(row["label"] in TRANSIENT for row in bad)
        if all(row["label"].startswith("ERROR") for row in rows):
            code = self.exit_codes.ERROR_NO_SITE_ENDED if stopped else self.exit_codes.ERROR_ALL_SITES_FAILED
        else:
            code = self.exit_codes.WARNING_SITES_STOPPED if stopped else self.exit_codes.WARNING_SITES_FAILED
        return code.format(count=len(bad), reason=f"{bad[0]['structure']} site {bad[0]['site']}: {bad[0]['reason']}".strip())

    def _unended(self, folder: Path) -> tuple[str, str]:
        """Label and reason of a site that the batch does not say the end of."""
        if by_scheduler := stopped_by_scheduler(self.node):
            return by_scheduler
        from ..engine.feff.batch import REPORT_FILE

        if not (folder / REPORT_FILE).is_file():
            return "ERROR_NO_OUTPUT", "the code ran no batch, which only xastruct-feff does; see the job's xastruct-feff.stderr."
        return "ERROR_KILLED", "the job ended before this site did."


def _row(name: str, site: int, outcome: Outcome, output: str) -> dict[str, Any]:
    """What became of a site, as a job of its own would have ended."""
    status = getattr(FeffCalculation.exit_codes, outcome.label).status if outcome.label else 0
    return {
        "structure": name,
        "site": site,
        "exit_status": status,
        "label": outcome.label,
        "reason": outcome.reason,
        "output": output,
        "facts": outcome.facts,
    }
