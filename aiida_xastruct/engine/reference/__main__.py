"""`python -m aiida_xastruct.engine.reference build|status|export|paths|offsets`: the reference library where AiiDA is not installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import XastructError
from .build import BuildOptions
from .command import build_command, export_command, offsets_command, paths_command, status_command
from .library import default_library


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m aiida_xastruct.engine.reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="compute spectra into a state folder until stopped; start again to go on")
    build.add_argument("--source", choices=("amcsd", "npz", "cif"), default="amcsd")
    build.add_argument("--path", default="", help="the table of an npz source, the folder of CIF files")
    build.add_argument("--kinds", default="EXAFS,XANES", help="EXAFS, XANES or both")
    build.add_argument("--mix", type=float, default=0.5, help="share of the computing time for XANES (0.5)")
    build.add_argument("--exafs-first", type=float, default=0.0, metavar="MINUTES", help="minutes of EXAFS alone at the start")
    build.add_argument("--cores", type=int, default=1)
    build.add_argument(
        "--exclude", type=Path, action="append", default=[], help="file of ids, or of formulas and space groups, to leave out"
    )
    build.add_argument("--without", action="append", default=[], metavar="ELEMENT", help="pass over structures that hold this element")
    build.add_argument("--most-elements", type=int, help="pass over structures of more elements")
    build.add_argument("--seed", type=int, help="order of elements and structures (random)")
    build.add_argument("--limit", type=int, help="stop after so many sites")
    status = commands.add_parser("status", help="unique sites by element; failures")
    offsets = commands.add_parser("offsets", help="FEFF's edge minus the tabulated one by element, over the library")
    paths = commands.add_parser("paths", help="compute the scattering paths of sites of the library, for the model of EXAFS to learn from")
    paths.add_argument("--library", type=Path, required=True, help="the library folder")
    paths.add_argument("--sites", type=int, default=10, help="of each absorber (10)")
    paths.add_argument("--cores", type=int, default=1)
    paths.add_argument("--seed", type=int, default=0, help="which sites (0)")
    offsets.add_argument("--library", type=Path, required=True, help="the library folder")
    export = commands.add_parser("export", help="write the records that the library lacks as new shards")
    for command, required in ((build, True), (status, False), (export, True)):
        command.add_argument("--state", type=Path, required=required, help="the state folder")
    build.add_argument("--library", type=Path, help="library whose sites are skipped (`reference` here, or in the clone this runs from)")
    for command, required in ((status, False), (export, True)):
        command.add_argument("--library", type=Path, required=required, help="the library folder")
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            chosen = BuildOptions(
                source=options.source,
                path=options.path,
                kinds=tuple(options.kinds.split(",")),
                mix=options.mix,
                exafs_first=options.exafs_first,
                cores=options.cores,
                exclude=tuple(options.exclude),
                without=tuple(options.without),
                most_elements=options.most_elements,
                seed=options.seed,
                limit=options.limit,
                library=options.library or default_library(),
            )
            print(build_command(options.state, chosen).words)
        elif options.command == "status":
            print(status_command(options.state, options.library).words)
        elif options.command == "paths":
            print(paths_command(options.library, options.sites, options.cores, options.seed).words)
        elif options.command == "offsets":
            print(offsets_command(options.library))
        else:
            print(export_command(options.state, options.library).words)
    except (XastructError, OSError) as error:
        print(f"reference {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
