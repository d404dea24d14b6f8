"""`aiida-xastruct fit`: nodes and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_xastruct.cli.fit import fit
from aiida_xastruct.cli.root import cli
from aiida_xastruct.data.spectrum import SpectrumData


def xanes(edge: float, share: float = 1.0, other: float = 0.0) -> SpectrumData:
    """A flat XANES with a part of another edge in it."""
    energy = np.arange(7012.0, 7312.0, 0.5)
    mu = share * np.arctan((energy - edge) / 1.5) + (1.0 - share) * np.arctan((energy - other) / 1.5)
    return SpectrumData(
        energy, 0.5 + mu / np.pi, "Fe", "K", "XANES", normalisation="flat", energy_reference="calibrated", e0=edge, label=f"edge {edge:g}"
    ).store()


def test_a_mixture(aiida_profile_clean: Any, tmp_path: Path, run: Any) -> None:
    ferrous, ferric = xanes(7112.0), xanes(7117.0)
    mixed = xanes(7112.0, 0.35, 7117.0)
    exported = tmp_path / "ferric.csv"
    ferric.export(str(exported), fileformat="csv")
    found = json.loads(run(fit, mixed.pk, ferrous.pk, exported, "--json").output)
    assert [(row["name"], round(row["weight"], 3)) for row in found["components"]] == [("ferric", 0.65), ("edge_7112", 0.35)]
    assert found["total"] == pytest.approx(1.0)
    assert sorted(found["pk"]) == ["curves", "fit", "process", "target"]
    shown = run(fit, mixed.pk, ferrous.pk, ferric.pk, "--free-sum", "--range", -10, 30).output
    assert "65.0 %" in shown
    assert "-10 to 30 eV from E0, 81 points" in shown
    assert "sum of weights  1.000" in shown


def test_what_cannot_be_fitted(aiida_profile_clean: Any) -> None:
    pks = [str(xanes(7112.0).pk), str(xanes(7117.0).pk)]
    for arguments, words in [
        ([pks[0], pks[1], pks[1]], "edge_7117 and edge_7117_2 cannot be told apart"),
        ([pks[0], pks[1], "--range", "30", "10"], "the range 30 to 10 is none"),
        ([pks[0], "987654"], "987654 is neither a file nor a stored crystal or spectrum"),
        ([pks[0], pks[1], "--kind", "EXAFS", "--range", "40", "50"], "share 0 points"),
    ]:
        result = CliRunner().invoke(cli, ["fit", *arguments])
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output
