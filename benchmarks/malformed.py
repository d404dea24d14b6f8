"""A thousand malformed crystals and spectra through the workflows: how each ends, and that none ends in a wrong number.

    python benchmarks/malformed.py --data ../shared/data --folder /tmp/malformed --json malformed.json
    python benchmarks/malformed.py --table malformed.json > docs/reference/malformed.md

Real crystals and measured scans are damaged in known ways (`malformed_structures.py`, `malformed_spectra.py`) and asked about with
`xastruct.predict` and `xastruct.infer`, without a code for FEFF. Each comes by the door that everyone uses, the constructor of its node.
What that refuses comes again by a back door, as an archive of a stranger could bring it: as attributes and arrays that nothing has checked.
A result is one of

- *no node*: constructor, or store, refuses it in words, and so there is nothing to ask about;
- *refused*: the workflow does, in one sentence, before there is a process;
- *code*: the process ends with an exit code and one sentence;
- *flagged*: there is an answer, which says in one sentence why it is not to be relied on;
- *right*: there is an answer, and it is that of the undamaged input: mu within `SAME_MU`, or the same neighbours and the distance within
  `SAME_DISTANCE` angstrom;
- *wrong*: there is an answer that is none of these. What raises an exception, in a process or outside, or ends without a sentence counts
  here, too.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import malformed_spectra
import malformed_structures
import numpy as np
from malformed_structures import Damage, Question
from pages import described, parse
from profiles import profile

#: What is the same answer: largest difference in flat mu, and in the mean distance, angstrom.
SAME_MU, SAME_DISTANCE = 2e-3, 0.02

#: Sound inputs that are damaged.
BASES = 12

ENDINGS = ("no node", "refused", "code", "flagged", "right", "wrong")

#: What a sentence looks like; those of AiiDA's ports, which name a type, end in a quotation mark.
SENTENCE = re.compile(r"(?!.*Traceback)\S.{8,1500}[.?!)']\Z")


def structure_node(question: Question, checked: bool) -> Any:
    """A StructureData, made as everyone makes one, or with attributes that nothing checks."""
    from aiida.orm import StructureData

    content = question.content
    if not checked:
        return _unchecked(StructureData(), content)
    node = StructureData(cell=content["cell"], pbc=tuple(content[name] for name in ("pbc1", "pbc2", "pbc3")))
    kinds = {kind["name"]: kind for kind in content["kinds"]}
    for site in content["sites"]:
        kind = kinds[site["kind_name"]]
        node.append_atom(position=site["position"], symbols=kind["symbols"], weights=kind["weights"], name=kind["name"])
    return node


def spectrum_node(question: Question, checked: bool) -> Any:
    """A SpectrumData, made as everyone makes one, or with an array and attributes that nothing checks."""
    from aiida_xastruct.data.spectrum import SpectrumData

    content = {name: value for name, value in question.content.items() if name != "_e0"}
    if checked:
        return SpectrumData(**content)
    energy = np.linspace(7000.0, 7300.0, 301)
    node = SpectrumData(energy, np.arctan(energy - 7112.0), "Fe", "K", "XANES")
    columns = [np.asarray(content.pop(name)) for name in ("energy", "mu")]
    node.set_array("spectrum", np.stack(columns, axis=-1) if columns[0].shape == columns[1].shape else columns[1])
    return _unchecked(node, content)


def _unchecked(node: Any, attributes: dict[str, Any]) -> Any:
    """The node, with these attributes and without its own check when it is stored: what an archive holds is not checked either."""
    for name in {"cell", "kinds", "sites"} & set(node.base.attributes.keys()) - attributes.keys():
        node.base.attributes.delete(name)
    node.base.attributes.set_many(attributes)
    node._validate = lambda: True
    return node.store()


def plain(value: Any) -> Any:
    """A plain value as a node."""
    from aiida.orm import to_aiida_type

    return to_aiida_type(value)


def ask(process: Any, name: str, node: Any, question: Question) -> dict[str, Any]:
    """How a question ends: its ending, words, exit status, and answer."""
    from aiida.common.exceptions import ValidationError
    from aiida.engine import run_get_node

    try:
        inputs = {name: node} | {key: plain(value) for key, value in question.inputs.items()}
    except (ValueError, TypeError, ValidationError) as error:
        return {"ending": "no node", "words": _words(error)}
    try:
        outputs, done = run_get_node(process, **inputs)
    except ValidationError as error:
        return {"ending": "no node", "words": _words(error)}
    except ValueError as error:
        words = _words(error)
        return {"ending": "refused" if SENTENCE.match(words) else "wrong", "words": words}
    except Exception as error:
        return {"ending": "wrong", "words": f"raised {type(error).__name__}: {error}"}
    if not done.is_finished:
        return {"ending": "wrong", "words": f"the process ended as {done.process_state.value}: {done.exception}"}
    if not done.is_finished_ok:
        words = str(done.exit_message)
        return {"ending": "code" if SENTENCE.match(words) else "wrong", "words": words, "status": done.exit_status}
    if name == "structure":
        mean = outputs["spectrum"]
        return {"ending": "answer", "words": "", "status": 0, "answer": (mean.energy, mean.mu)}
    said = outputs["answer"].get_dict()
    if said["in_domain"]:
        return {"ending": "answer", "words": "", "status": 0, "answer": (said["neighbour_set"], said["mean_distance"])}
    return {"ending": "flagged" if said["reason"] else "wrong", "words": said["reason"], "status": 0}


def _words(error: BaseException) -> str:
    """What an error says, without the head that AiiDA's ports put before it."""
    return re.sub(r"^(Error occurred validating port '[^']*': )+", "", str(error)).strip() or type(error).__name__


def same(answer: Any, right: Any) -> bool:
    """Whether two answers are the same."""
    if isinstance(answer[0], np.ndarray):
        if answer[0].shape != right[0].shape or not np.allclose(answer[0], right[0], atol=0.01):
            return False
        return bool(np.abs(answer[1] - right[1]).max() <= SAME_MU)
    return set(answer[0]) == set(right[0]) and abs(answer[1] - right[1]) <= SAME_DISTANCE


def judge(process: Any, name: str, make: Any, question: Question, right: Any) -> list[dict[str, Any]]:
    """The ending at the common door, and at the back door where the common one was shut."""
    from aiida.common.exceptions import ValidationError

    endings = []
    for door in ("common", "back"):
        try:
            node = make(question, door == "common")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, ValidationError) as error:
            # A spectrum's constructor is this package's own, so that its words have to be a sentence.
            own = name == "spectrum" and door == "common"
            ending = "wrong" if own and not SENTENCE.match(_words(error)) else "no node"
            endings.append({"door": door, "ending": ending, "words": f"{type(error).__name__}: {_words(error)}"})
            continue
        found = ask(process, name, node, question)
        if found["ending"] == "answer":
            found |= {"ending": "right" if same(found["answer"], right) else "wrong", "answer": None}
        endings.append({"door": door, **found})
        break
    return endings


def measure(
    process: Any, name: str, make: Any, bases: Iterator[Question], damages: tuple[Damage, ...], options: Any
) -> list[dict[str, Any]]:
    """All damages of one kind of input, in turn, until there are enough; those inputs are damaged that have an answer without a doubt."""
    sound, tried = [], 0
    for question in bases:
        found = ask(process, name, make(question, True), question)
        tried += 1
        if found["ending"] == "answer":
            sound.append((question, found["answer"]))
        if len(sound) == BASES:
            break
    print(f"{name}: {len(sound)} of {tried} sound inputs are answered without a doubt", file=sys.stderr)
    rows = []
    for number in range(options.number):
        damage = damages[number % len(damages)]
        if options.only and damage.__name__ not in options.only:
            continue
        random = Random(f"{options.seed}/{name}/{number}")
        question, right = sound[random.randrange(len(sound))]
        damaged = question.copy()
        damage(damaged, random)
        endings = judge(process, name, make, damaged, right)
        rows.append({"input": name, "number": number, "damage": damage.__name__, "endings": endings})
        for ending in endings:
            if ending["ending"] == "wrong":
                print(f"{name} {number} {damage.__name__} ({ending['door']}): {ending['words'][:300] or 'another answer'}", file=sys.stderr)
    return rows


def page(result: dict[str, Any]) -> str:
    """The page of a result."""
    rows = result["rows"]
    total = Counter(ending["ending"] for row in rows for ending in row["endings"])
    lines = [
        "# Malformed input",
        "",
        "Crystals and spectra that are damaged go through the workflows; each must end in a sentence, and none in a wrong number. What the "
        "endings are and what counts as the same answer stand in the head of `benchmarks/malformed.py`, which made this page:",
        "",
        "```console",
        f"$ python benchmarks/malformed.py --number {max(Counter(row['input'] for row in rows).values())} --seed {result['seed']} "
        "--data ../shared/data --folder /tmp/malformed --json malformed.json",
        "$ python benchmarks/malformed.py --table malformed.json > docs/reference/malformed.md",
        "```",
        "",
        f"**{len(rows):,} inputs**, of {BASES} crystals and {BASES} measured scans at most; "
        f"{sum(len(row['endings']) == 2 for row in rows):,} came by both doors. "
        f"Wrong numbers, exceptions and endings without a sentence: **{total['wrong']}**. "
        f"{result['seconds'] / 60:.0f} minutes, seed {result['seed']}.",
    ]
    for name, title in (("structure", "Crystals, `xastruct.predict`"), ("spectrum", "Spectra, `xastruct.infer`")):
        own = [row for row in rows if row["input"] == name]
        inputs = malformed_structures.DAMAGES if name == "structure" else malformed_spectra.DAMAGES
        lines += [
            "",
            f"## {title}",
            "",
            f"| {len(own)} inputs | inputs | {' | '.join(ENDINGS)} | exit codes |",
            "|---" * (len(ENDINGS) + 3) + "|",
        ]
        for damage in inputs:
            of = [row for row in own if row["damage"] == damage.__name__]
            if not of:
                continue
            count = Counter(ending["ending"] for row in of for ending in row["endings"])
            codes = sorted({ending["status"] for row in of for ending in row["endings"] if ending["ending"] == "code"})
            words = (damage.__doc__ or "").rstrip(".")
            cells = [words, str(len(of)), *(str(count[ending] or "") for ending in ENDINGS), ", ".join(map(str, codes))]
            lines.append("| " + " | ".join(cells) + " |")
    wrong = [(row, ending) for row in rows for ending in row["endings"] if ending["ending"] == "wrong"]
    if wrong:
        lines += ["", "## What was wrong", ""]
        lines += [
            f"- {row['input']} {row['number']}, `{row['damage']}`, by the {ending['door']} door: {ending['words'] or 'a confident answer'}"
            for row, ending in wrong
        ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    import json

    parser = described(__doc__)
    parser.add_argument("--data", type=Path, help="folder of `feff_mp.structures.jsonl.gz` and of `experiment/xasdatalibrary`")
    parser.add_argument("--folder", type=Path, help="of a temporary profile")
    parser.add_argument("--number", type=int, default=500, help="of crystals, and of spectra")
    parser.add_argument("--input", choices=("structure", "spectrum"), action="append", help="only these; both if left out")
    parser.add_argument("--only", action="append", help="only this damage, may be given again")
    parser.add_argument("--seed", type=int, default=0)
    options = parse(parser, page, "data", "folder")
    started, rows = time.monotonic(), list[dict[str, Any]]()
    warnings.simplefilter("ignore")
    with profile(options.folder, "sqlite"):
        from aiida_xastruct.workflows.infer import InferWorkChain
        from aiida_xastruct.workflows.predict import PredictWorkChain

        kinds = (
            (PredictWorkChain, "structure", structure_node, malformed_structures.sound_structures, malformed_structures.DAMAGES),
            (InferWorkChain, "spectrum", spectrum_node, malformed_spectra.sound_spectra, malformed_spectra.DAMAGES),
        )
        for process, name, make, read, damages in kinds:
            if options.input and name not in options.input:
                continue
            rows += measure(process, name, make, read(options.data), damages, options)
    result = {"seed": options.seed, "seconds": time.monotonic() - started, "rows": rows}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    if any(ending["ending"] == "wrong" for row in rows for ending in row["endings"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
