"""The measured scans of the demo: five of goethite at the Fe K edge, from the PyPI sdist of araucaria (BSD 2-Clause)."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

SDIST = "araucaria==0.1.11"
PATTERN = "20K_GOE_Fe_K_240."
COMMITTED = Path(__file__).parent.parent / "data" / "20K_GOE_Fe_K_240.00000.xdi"


def goethite_scans(folder: Path, offline: bool = False) -> tuple[list[Path], str]:
    """Files of the scans, and one sentence on where they are from.

    Args:
        folder: where the download goes.
        offline: take the committed scan at once.
    """
    if not offline:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
        try:
            done = subprocess.run([*command, "--dest", str(folder), SDIST], capture_output=True, text=True, timeout=180, check=False)
            archives = sorted(folder.glob("araucaria-*.tar.gz"))
            if done.returncode == 0 and archives:
                return _unpack(archives[0], folder), f"five scans, P65 (PETRA III), from the sdist of {SDIST}"
        except (subprocess.TimeoutExpired, tarfile.TarError, OSError):
            pass  # whatever keeps the download from us, the committed scan is there
    return [COMMITTED], f"one scan, P65 (PETRA III), committed here from {SDIST}" + ("" if offline else " (the download failed)")


def _unpack(archive: Path, folder: Path) -> list[Path]:
    """The scans alone, under their own names; nothing else of the archive is written or run."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = Path(member.name).name
            if name.startswith(PATTERN) and member.isfile():
                stream = tar.extractfile(member)
                assert stream is not None
                (folder / name).write_bytes(stream.read())
                found.append(folder / name)
    if not found:
        raise tarfile.TarError(f"{archive.name} holds no scan.")
    return sorted(found)
