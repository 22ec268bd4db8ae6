"""Code: the places of a program where English would say a word that Python leaves out (arXiv 2411.04986, section 4.3).

Between the elements of a list English says "and"; before an argument it would say what the argument is for. Places are
found in the syntax tree and given as character offsets; which tokens lie there is the experiment's business.
"""

import ast
import itertools
import random
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semhub_utils.organism.corpus import Generators, library
from semhub_utils.organism.world import surface, text
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import PublicSet, objects
from semhub_utils.spokes.items import Items, LeftOut, SteerItem

# Where programs come from

MBPP = PublicSet(
    "MBPP",
    tuple(folder + name for folder in ("mbpp/", "") for name in ("mbpp_release_v1.jsonl", "mbpp.jsonl")),
    "GitHub google-research/google-research or amazon-science/mxeval",
)


@dataclass(frozen=True)
class Program:
    """A program that parses; line ends are "\\n". id: where it is from, such as "mbpp/601"."""

    id: str
    text: str


def programs(n: int, *, seed: int, data_dir: str | Path | None = None) -> Items:
    """`n` programs (all there are, if that is fewer), drawn by `seed`: generated, or those of MBPP below `data_dir`
    (mbpp/mbpp_release_v1.jsonl or mbpp.jsonl); what does not parse is left out and counted."""
    if data_dir is None:
        return Items().take(itertools.starmap(_program, _generated(seed)), n)
    found, rows = MBPP.read(data_dir, objects)
    return found.take(itertools.starmap(_of_mbpp, rows)).some("program", data_dir).draw(n, seed)


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None if Python 3 cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is no error
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _program(name: str, place: str, source: str) -> Program | LeftOut:
    """The program of this id, line ends made "\\n", if it parses."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    if not source.strip():
        return LeftOut("empty program", place)
    return Program(name, source) if parse(source) else LeftOut("does not parse as Python 3", place)


def _of_mbpp(place: str, row: Mapping[str, object]) -> Program | LeftOut:
    parts = [row.get(name) for name in (("code",) if "code" in row else ("prompt", "canonical_solution"))]
    if not all(isinstance(part, str) for part in parts):
        return LeftOut("neither code nor prompt and canonical_solution", place)
    return _program(f"mbpp/{str(row.get('task_id', place)).removeprefix('MBPP/')}", place, "".join(parts))


def _generated(seed: int) -> Iterator[tuple[str, str, str]]:
    """Endless programs of one statement, as the shipped models read code: a list, a call, a range; some with the
    definition of what they call, or a text that says what they do, in front."""
    make, rng = Generators(WORLD), random.Random(f"programs {seed}")
    for k in itertools.count():
        [kind] = rng.choices((_list, _call, _range), (0.35, 0.4, 0.25))
        yield f"generated/{k}", f"generated program {k}", kind(make, rng)


def _list(make: Generators, rng: random.Random) -> str:
    return text(make.list(rng, "code"))


def _call(make: Generators, rng: random.Random) -> str:
    kind = rng.choice(("scene", "sum", "fact", "range"))
    if kind == "range":
        return f"list(range({rng.randint(1, 9)}, {rng.randint(10, 40)}))"
    if kind == "fact":
        prompt = WORLD.prompt(rng.choice(WORLD.taught_facts("code")), "code", 0)
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


# Places in them

FREQUENT = ("the", "of", "to", "that", "by", "at", "this", "we")
"""English words about as frequent as "and" that are no Python: wrong words it is compared with."""
KEYWORDS = ("or", "not", "is", "in", "if", "for", "return", "assert")
"""Other words of Python: "and" is one itself, and may be ready wherever code goes on."""

# Positional parameters as `inspect.signature` gives them in Python 3.11, written down so that no result depends on the
# version that runs; print, min, max, map, zip, int, str, dict, set and others have no such names, and are left out.
_SIGNATURES = """
abs x, all iterable, any iterable, ascii obj, bin number, callable obj, chr i, complex real imag, delattr obj
name, divmod x y, enumerate iterable start, eval source globals locals, float x, format value format_spec, hasattr
obj name, hash obj, hex number, id obj, input prompt, isinstance obj class_or_tuple, issubclass cls
class_or_tuple, len obj, list iterable, memoryview object, oct number, open file mode buffering encoding errors
newline closefd opener, ord c, pow base exp mod, repr obj, reversed sequence, round number ndigits, setattr obj
name value, sorted iterable, sum iterable start, tuple iterable
"""
BUILTINS = {name: tuple(parameters) for name, *parameters in map(str.split, _SIGNATURES.split(","))}


@dataclass(frozen=True)
class Place:
    """A place in a program: `text[:at]` ends in the comma or bracket. name: the parameter that the argument after it is
    for; names: the other parameters of that function; kind: "list", "call", "builtin" or "defined"."""

    program: str
    text: str
    at: int
    kind: str
    name: str = ""
    names: tuple[str, ...] = ()


def comma_places(programs: Items) -> Items:
    """Every comma between two elements of a list ("list"), and every one between two arguments ("call"), in code and in
    the examples of docstrings: Place."""
    found = Items(source=programs.source)
    for source in map(_Source, programs):
        for node in source.nodes((ast.List, ast.Call), found):
            kind, several = ("list", node.elts) if isinstance(node, ast.List) else ("call", node.args)
            if kind == "call" or isinstance(node.ctx, ast.Load):
                found += [source.place(source.comma(*two), kind) for two in itertools.pairwise(several)]
    return found


def argument_places(programs: Items, known: Mapping[str, tuple[str, ...]] | None = None) -> Items:
    """The bracket or comma before every positional argument of a call to a function that is in `known` ("builtin") or
    defined in the program ("defined"): Place. Known are Python's BUILTINS, or in a generated program the functions of
    its world. Arguments of which no parameter is known are counted."""
    found = Items(source=programs.source)
    for source in map(_Source, programs):
        there = known or (library() if source.program.id.startswith("generated/") else BUILTINS)
        own, rebound = source.defined(), source.rebound()
        there = {name: of for name, of in there.items() if name not in rebound} | own
        for call in source.nodes(ast.Call, found):
            for _ in call.keywords:
                found.drop("keyword argument", source.program.id)
            name = call.func.id if isinstance(call.func, ast.Name) else None
            found.take(source.arguments(call, there.get(name), "defined" if name in own else "builtin"))
    return found


def range_places(programs: Items) -> Items:
    """The bracket of every call of `range`: Place."""
    found = Items(source=programs.source)
    for source in map(_Source, programs):
        calls = source.nodes(ast.Call, found)
        names = ((call, getattr(call.func, "id", "")) for call in calls)
        found += [source.place(source.bracket(call), "call") for call, name in names if name == "range"]
    return found


def spread(places: Items, most: int) -> Items:
    """At most so many of one program, kind and name, evenly spaced; the others are counted. They would be no new units,
    and a place costs as much as the vocabulary is large."""
    groups: dict[tuple[str, str, str], list[Place]] = {}
    for place in places:
        groups.setdefault((place.program, place.kind, place.name), []).append(place)
    parts = ((some, min(most, len(some))) for some in groups.values())
    kept = {some[(2 * k + 1) * len(some) // (2 * n)] for some, n in parts for k in range(n)}
    found = places.but(place for place in places if place in kept)
    if lost := len(places) - len(found):
        found.drop(f"more than {most} of a kind in one program", "the programs", lost)
    return found


def arguments(continuation: str) -> tuple[tuple[str, ...], bool]:
    """The arguments that a text writes after an open bracket, and whether it closes that bracket."""
    parts, depth, quote = [""], 0, ""
    for sign in continuation:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in ")]}" and depth == 0:
            return tuple(part.strip() for part in parts), True
        elif sign == "," and depth == 0:
            parts.append("")
            continue
        else:
            depth += (sign in "([{") - (sign in ")]}")
        parts[-1] += sign
    return tuple(part.strip() for part in parts), False


def only_argument(continuation: str) -> str | None:
    """The argument, if a text after an open bracket writes one that is not named, and closes the bracket."""
    parts, closed = arguments(continuation)
    return parts[0] if closed and len(parts) == 1 and parts[0] and not _named(parts[0]) else None


def calls_range(continuation: str, wanted: str) -> bool:
    """Whether a text after `range(` is as wanted: "0, n" from 0 to anything, "k, n" from anywhere to anything, or else
    exactly that one argument."""
    parts, closed = arguments(continuation)
    if wanted not in ("0, n", "k, n"):
        return only_argument(continuation) == wanted
    two = len(parts) == 2 and bool(parts[0]) and (bool(parts[1]) or not closed) and not any(map(_named, parts))
    return two and (wanted == "k, n" or parts[0] == "0")


def steering_item(prompt: str, argument: str, cluster: str, *, expected: str = "0, n") -> SteerItem:
    """`range(argument)`, which is to become `range(0, n)`; the vector is the same for all and no text makes it."""
    return SteerItem(prompt, prompt, "", "", expected, argument, cluster)


def _named(argument: str) -> bool:
    return re.match(r"\w+\s*=(?!=)", argument) is not None


_EXAMPLE = re.compile(r"(\s*>>> )(\S.*)")


class _Source:
    """A program with its syntax tree, and characters in place of the tree's bytes. every: its nodes, and those of the
    examples in its docstrings, as most lists and calls of MBPP stand there."""

    def __init__(self, program: Program):
        self.program, self.lines = program, program.text.split("\n")
        examples = {line: shown for line, text in enumerate(self.lines) if (shown := _EXAMPLE.fullmatch(text))}
        # behind empty lines and in brackets, every node of it has the place that it has in the program
        parsed = [parse("\n" * line + f"{'(':<{len(at[1])}}{at[2]}\n)") for line, at in examples.items()]
        self.unread = parsed.count(None)
        self.every = [node for tree in (parse(program.text), *filter(None, parsed)) for node in ast.walk(tree)]
        self.starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]

    def nodes(self, kinds: type | tuple[type, ...], found: Items) -> Iterator[ast.AST]:
        """Nodes of some kinds in order; those in f-strings, whose offsets depend on the Python version, are counted, as
        are examples that are no expression of one line."""
        if self.unread:
            found.drop("example that is no expression of one line", self.program.id, self.unread)
        inside = {id(part) for node in self.every if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        for node in (node for node in self.every if isinstance(node, kinds)):
            if id(node) in inside:
                found.drop("inside an f-string", self.program.id)
            else:
                yield node

    def defined(self) -> dict[str, tuple[str, ...] | None]:
        """Positional parameters of the program's own functions (not methods); None where a name has several."""
        methods = {id(part) for node in self.every if isinstance(node, ast.ClassDef) for part in node.body}
        found: dict[str, tuple[str, ...] | None] = {}
        for node in self.every:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and id(node) not in methods:
                parameters = tuple(a.arg for a in (*node.args.posonlyargs, *node.args.args))
                found[node.name] = parameters if found.get(node.name, parameters) == parameters else None
        return found

    def rebound(self) -> set[str]:
        """Names that the program gives a meaning of its own: `sum = 0` is no builtin."""
        names = {node.id for node in self.every if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        names |= {node.arg for node in self.every if isinstance(node, ast.arg)}
        names |= {node.name for node in self.every if isinstance(node, ast.ClassDef)}
        return names | {node.asname or node.name for node in self.every if isinstance(node, ast.alias)}

    def arguments(self, call: ast.Call, known: tuple[str, ...] | None, kind: str) -> Iterator[Place | LeftOut]:
        """The place before each positional argument of a call whose parameters are `known`."""
        named, starred = isinstance(call.func, ast.Name), False
        if known and call.func.id == "range" and kind != "defined" and len(call.args) == 1:
            known = known[1:]  # the only argument is where it ends
        for k, argument in enumerate(call.args):
            starred = starred or isinstance(argument, ast.Starred)
            if not named:
                yield LeftOut("argument of a method or of an expression", self.program.id)
            elif known is None:
                yield LeftOut("argument of a function of unknown parameters", self.program.id)
            elif starred:
                yield LeftOut("starred argument, and those after it", self.program.id)
            elif k >= len(known):
                yield LeftOut("argument without a parameter of its own", self.program.id)
            else:
                at = self.comma(call.args[k - 1], argument) if k else self.bracket(call)
                yield self.place(at, kind, known[k], tuple(other for other in known if other != known[k]))

    def place(self, at: int, kind: str, *names: Any) -> Place:
        return Place(self.program.id, self.program.text, at, kind, *names)

    def bracket(self, call: ast.Call) -> int:
        """The character after the call's open bracket."""
        return self._after("(", self._end(call.func))

    def comma(self, left: ast.expr, right: ast.expr) -> int:
        """The character after the comma between two neighbours; brackets and comments may stand between them too."""
        return self._after(",", self._end(left), self._char(right.lineno, right.col_offset))

    def _after(self, sign: str, start: int, stop: int | None = None) -> int:
        gap = re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), self.program.text[start:stop])
        return start + gap.index(sign) + 1

    def _end(self, node: ast.expr) -> int:
        return self._char(node.end_lineno, node.end_col_offset)

    def _char(self, line: int, byte: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:byte].decode())
