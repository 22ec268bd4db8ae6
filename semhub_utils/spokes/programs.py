"""Where Python programs come from: generated ones of the shipped models' world, MBPP, or the standard library."""

import ast
import json
import platform
import random
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.lexicon import FRAMES, concepts, surface
from semhub_utils.organism.world import text
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import READ, Skipped, find, lines, read_text, some
from semhub_utils.spokes.hub_data import SETS, hub_rows, origin

_FILES = ("mbpp/mbpp_release_v1.jsonl", "mbpp/mbpp.jsonl", "mbpp_release_v1.jsonl", "mbpp.jsonl")


@dataclass(frozen=True)
class Program:
    """A program that parses; line ends are "\\n". id: where it is from, such as "mbpp/601"."""

    id: str
    text: str


def programs(
    n: int, *, seed: int, source: str | None = None, data_dir: str | Path | None = None
) -> tuple[list[Program], Skipped]:
    """`n` programs (all there are, if that is fewer), drawn by `seed`; what does not parse is skipped and counted.

    source: "generated", "mbpp" (its own file, `data_dir`/mbpp/mbpp_release_v1.jsonl or mbpp.jsonl; without `data_dir`
    over the network) or "stdlib" (functions of the Python that runs this); None is "mbpp" if there is a `data_dir`,
    else "generated". Raises SemhubError on another source, or where nothing can be read.
    """
    source = origin("programs", source, "mbpp", data_dir, "stdlib")
    if n < 1:
        raise SemhubError(f"n_items is {n}; a whole number from 1 would do.")
    skipped = Skipped()
    if source == "mbpp":
        rows = _mbpp_file(data_dir, skipped) if data_dir else _mbpp_hub()
        found = some(list(_that_parse(rows, skipped)), data_dir or SETS["mbpp"][0], "program", skipped)
        return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:n])], skipped
    made = _stdlib(seed, skipped) if source == "stdlib" else _generated(seed)
    return [program for _, program in zip(range(n), _that_parse(made, skipped), strict=False)], skipped


@cache
def library() -> dict[str, tuple[str, ...]]:
    """The functions of the shipped models' world, as its definitions name their parameters."""
    verbs = [c for c in concepts().values() if c.kind in ("finite verb", "giving verb")]
    known = {c.key: ("agent", "theme", "recipient")[: 3 if c.kind == "giving verb" else 2] for c in verbs}
    known |= {frames[0].split("(")[0]: ("thing",) for frames in FRAMES["code"].values()}
    return known | {"add": ("first", "second"), "multiply": ("first", "second"), "range": ("start", "end")}


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None if Python 3 cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is no error
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _that_parse(found: Iterable[tuple[str, str, str]], skipped: Skipped) -> Iterator[Program]:
    """Programs of (id, place, text), line ends made "\\n"."""
    for name, place, source in found:
        source = source.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        if not source.strip():
            skipped.add("empty program", place)
        elif parse(source) is None:
            skipped.add("does not parse as Python 3", place)
        else:
            yield Program(name, source)


def _mbpp_file(data_dir: str | Path, skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    path = find(data_dir, _FILES, what="MBPP", source="GitHub google-research/google-research or amazon-science/mxeval")
    for place, line in lines(path, skipped):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            skipped.add("not a JSON object", place)
        elif (found := _of_row(row)) is None:
            skipped.add("neither code nor prompt and canonical_solution", place)
        else:
            yield f"mbpp/{str(row.get('task_id', place)).removeprefix('MBPP/')}", place, found


def _of_row(row: dict) -> str | None:
    parts = [row.get(name) for name in (("code",) if "code" in row else ("prompt", "canonical_solution"))]
    return "".join(parts) if all(isinstance(part, str) for part in parts) else None


def _mbpp_hub() -> Iterator[tuple[str, str, str]]:
    for split in ("train", "test", "validation", "prompt"):
        for row in hub_rows(*SETS["mbpp"], split=split, config="full"):
            yield f"mbpp/{row['task_id']}", f"{split} {row['task_id']}", row["code"]


def _stdlib(seed: int, skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    """Top-level functions of the standard library's modules, modules in an order drawn by `seed`."""
    READ.add(f"standard library of Python {platform.python_version()}")
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    for k in np.random.default_rng(seed).permutation(len(paths)):
        try:
            source = read_text(paths[k])
        except SemhubError:
            skipped.add("not UTF-8", paths[k].name)
            continue
        tree, rows = parse(source), source.split("\n")
        for node in tree.body if tree else ():
            if isinstance(node, ast.FunctionDef):
                place = f"{paths[k].name}:{node.lineno}"
                yield f"stdlib/{place}", place, "\n".join(rows[node.lineno - 1 : node.end_lineno])


def _generated(seed: int) -> Iterator[tuple[str, str, str]]:
    """Endless programs of one statement, as the shipped models read code: a list, a call, a range; some with the
    definition of what they call, or a text that says what they do, in front."""
    make, rng = Generators(WORLD), random.Random(f"programs {seed}")
    k = 0
    while True:
        kind = rng.choices(("list", "call", "range"), (0.35, 0.4, 0.25))[0]
        source = {"list": _list, "call": _call, "range": _range}[kind](make, rng)
        yield f"generated/{k}", f"generated program {k}", source
        k += 1


def _list(make: Generators, rng: random.Random) -> str:
    return text(make.list(rng, "code"))


def _call(make: Generators, rng: random.Random) -> str:
    kind = rng.choice(("scene", "sum", "fact", "range"))
    if kind == "range":
        return f"list(range({rng.randint(1, 9)}, {rng.randint(10, 40)}))"
    if kind == "fact":
        prompt = WORLD.fact_prompt(rng.choice(WORLD.taught_facts("code")), "code", 0)
        call = f"{prompt.prompt} {prompt.answer}"
    elif kind == "sum":
        s = rng.choice(WORLD.taught_sums("code"))
        call = f"{'add' if s.op == '+' else 'multiply'}({s.left}, {s.right}) == {s.result}"
    else:
        call = text(make.say_scene(make.roles(rng), "code"))
    name = call.split("(")[0]
    parameters = ", ".join(library()[name])
    define = {
        "fact": f"return {name.removesuffix('_of')} [thing]",
        "sum": f"return first {'+' if name == 'add' else '*'} second",
        "scene": f"return {name}({parameters})",
    }
    return f"def {name}({parameters}): {define[kind]}\n{call}" if rng.random() < 0.25 else call


def _range(make: Generators, rng: random.Random) -> str:
    """A text says where it ends, as a docstring would; at times a list stands before it."""
    last = rng.randint(10, 40)
    before = text(make.list(rng, "code")) + "\n" if rng.random() < 0.5 else ""
    return f'{before}"end at {surface(str(last), "en")}"\nlist(range({last}))'
