"""`aiida-xastruct reference` on a real library, without a profile."""

from __future__ import annotations

from click.testing import CliRunner

from aiida_xastruct.cli.reference import reference


def test_help_and_errors(tmp_path):
    runner = CliRunner()
    shown = runner.invoke(reference, ["--help"])
    assert all(name in shown.output for name in ("build", "status", "export"))
    missing = runner.invoke(reference, ["export", "--state", str(tmp_path), "--library", str(tmp_path / "library")])
    assert missing.exit_code == 1
    assert "holds no records" in missing.output
    assert runner.invoke(reference, ["status"]).exit_code == 2


def test_build_status_export(tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    state, library = tmp_path / "state", tmp_path / "library"
    script = str(Path(sys.executable).parent / "aiida-xastruct")
    subprocess.run(
        [script, "reference", "build", "--state", str(state), "--kinds", "EXAFS", "--limit", "2", "--seed", "5"],
        check=True, capture_output=True, timeout=240, env={"PATH": "/usr/bin:/bin", "AIIDA_PATH": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    runner = CliRunner()
    assert "2 EXAFS" in runner.invoke(reference, ["status", "--state", str(state)]).output
    written = runner.invoke(reference, ["export", "--state", str(state), "--library", str(library)])
    assert written.exit_code == 0
    assert len(list(library.glob("exafs-*.h5"))) == 1
