"""Compare what is installed here with the list of known weaknesses in the package `safety-db`, where no service of advisories answers.

    python scripts/known_weaknesses.py

It prints the date of the list, the number of packages compared, and each finding; exit code 1 if there is one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


def findings(installed: Iterable[tuple[str, str]], known: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """One line for each weakness of an installed release.

    Args:
        installed: names and versions.
        known: by name, what `insecure_full.json` lists: `specs` are the affected releases.
    """
    listed = {canonicalize_name(name): entries for name, entries in known.items()}
    for name, version in sorted(installed):
        for entry in listed.get(canonicalize_name(name), ()):
            if any(SpecifierSet(spec).contains(version, prereleases=True) for spec in entry["specs"]):
                yield f"{name} {version}: {entry['cve'] or entry['id']} ({', '.join(entry['specs'])}): {entry['advisory']}"


def main() -> int:
    """Command line."""
    # Read as a file: the package looks for it in the working directory when it is imported.
    known = json.loads(Path(str(distribution("safety-db").locate_file("safety_db/insecure_full.json"))).read_text())
    made = datetime.fromtimestamp(known.pop("$meta")["timestamp"], timezone.utc)
    installed = {(one.metadata["Name"], one.version) for one in distributions()}
    found = list(findings(installed, known))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(installed)} packages compared with {len(known)} of safety-db of {made:%d %B %Y}: {len(found)} findings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
