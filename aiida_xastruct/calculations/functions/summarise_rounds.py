"""What the rounds of an improvement came to, in one node."""

from __future__ import annotations

from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict


@calcfunction
def summarise_rounds(**nodes: Any) -> Dict:
    """One table of rounds.

    Args:
        nodes: `facts`, which is passed on, with `rounds`, a list of what each round led to; `picks_<number>`, `growth_<number>` and
            `verdict_<number>` of the rounds, numbered from 1.

    Returns:
        `facts` with, of each round, `candidates`, `asked`, `added`, `failed` and `left_out` (counts), `absorbers` (sites of each that were
        asked for), `covered` and the verdict.
    """
    facts = nodes["facts"].get_dict()
    rounds = []
    for number, said in enumerate(facts["rounds"], start=1):
        picks, growth = nodes[f"picks_{number}"].get_dict(), nodes[f"growth_{number}"].get_dict()
        absorbers: dict[str, int] = {}
        for row in picks["sites"]:
            absorbers[row["absorber"]] = absorbers.get(row["absorber"], 0) + 1
        counts = {"asked": growth["asked"], "added": growth["added"], "failed": len(growth["failed"]), "warned": len(growth["warned"])}
        rounds.append(
            {
                "round": number,
                "candidates": picks["candidates"],
                **counts,
                "left_out": growth["left_out"],
                "absorbers": dict(sorted(absorbers.items())),
                "covered": picks["covered"],
                **nodes[f"verdict_{number}"].get_dict(),
                **said,
            }
        )
    return Dict({**facts, "rounds": rounds})
