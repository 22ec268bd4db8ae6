"""Running text of several data types: lines that the model reads, and other lines to count tokens in.

P(type | token) is Bayes' rule: P(token | type) is the token's share of the type's counted lines, plus a small stated
share for every type (`experiments.token_types`), and all types are equally likely beforehand, however much text each
has. No line is in both halves, so a token cannot get its type from the very text in which it is looked for.

The lines read mean the same in every language, so that a lens that speaks English can be asked whether it says the
words of this line's translation or of another's.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semhub_utils.errors import SemhubError
from semhub_utils.organism.corpus import Generators
from semhub_utils.organism.lexicon import AND, FRAMES, RELATIONS, surface
from semhub_utils.organism.world import Fact, fact_pieces, text, tidy
from semhub_utils.spokes.facts import WORLD
from semhub_utils.spokes.files import Skipped
from semhub_utils.spokes.hub_data import origin
from semhub_utils.spokes.texts import LANGUAGES, parallel_sentences, running_text


@dataclass(frozen=True)
class TypeTexts:
    """Lines of one data type.

    read: what the model reads. counted: other lines, to estimate P(type | token) from. twins: for each line read, the
    English that means the same, a sentence or the words for what it speaks of; empty where there is none. groups: lines
    of one form, among which twins may be exchanged. clusters: for each line read, the document it stands in, or what it
    speaks of first; empty where every line stands for itself.
    """

    name: str
    read: tuple[str, ...]
    counted: tuple[str, ...]
    twins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    def clusters_of(self, lines: Iterable[str]) -> list[str]:
        """Of some of the lines read, whatever they are kept apart or drawn together by."""
        of = dict(zip(self.read, self.clusters or self.read, strict=False))
        return [of[line] for line in lines]


def split_texts(
    n_items: int, n_counted: int, *, seed: int, source: str | None = None, data_dir: str | Path | None = None
) -> tuple[list[TypeTexts], Skipped]:
    """`n_items` lines to read and up to `n_counted` other ones to count in, of every type.

    source, as for `parallel_sentences`: "generated" (the four languages and code, two facts of one relation in each
    line read, and sums in digits, of the shipped models' world) or "ntrex" (the four languages of NTREX-128). Raises
    SemhubError where a number is below 1, the files are not there, or no line is left to count in.
    """
    for name, value in (("n_items", n_items), ("n_counted", n_counted)):
        if value < 1:
            raise SemhubError(f"{name} is {value}; a whole number from 1 would do.")
    if origin("sentences", source, "ntrex", data_dir) == "generated":
        return _generated(n_items, n_counted, seed), Skipped()
    sentences, skipped = parallel_sentences(n_items, seed=seed, source="ntrex", data_dir=data_dir)
    found = []
    for name in LANGUAGES:
        lines, _ = running_text(name, n_items + n_counted, seed=seed, source="ntrex", data_dir=data_dir)
        read = tuple(s.texts[name] for s in sentences)
        twins = tuple(s.texts["english"] for s in sentences) if name != "english" else ()
        counted = _others(lines, read, n_counted)
        if not counted:
            raise SemhubError(
                f"n_items is {n_items}, and none of the {len(lines)} lines of {name} is left to count tokens in; "
                "fewer items would do."
            )
        found.append(
            TypeTexts(
                name, read, counted, twins,
                groups=tuple(s.group for s in sentences), clusters=tuple(s.document or s.id for s in sentences),
            )
        )  # fmt: skip
    return found, skipped


def _others(lines: Sequence[str], read: Sequence[str], n: int) -> tuple[str, ...]:
    taken = set(read)
    return tuple(line for line in lines if line not in taken)[:n]


def _generated(n_items: int, n_counted: int, seed: int) -> list[TypeTexts]:
    make, rng = Generators(WORLD), random.Random(f"facts to read {seed}")
    known = {
        r: [f for f in WORLD.taught_facts("es") if f.relation == r] for r in RELATIONS
    }  # all but English know these
    chosen, left = [], {relation: [] for relation in RELATIONS}
    for relation in rng.choices(RELATIONS, k=n_items):  # no fact is told twice before all of its relation are told
        if len(left[relation]) < 2:
            left[relation] = rng.sample(known[relation], len(known[relation]))
        chosen.append([left[relation].pop(), left[relation].pop()])
    words = tuple(" ".join(surface(w, "en") for fact in pair for w in (fact.subject, fact.object)) for pair in chosen)
    groups, clusters = (tuple(of) for of in zip(*((first.relation, first.subject) for first, _ in chosen), strict=True))
    found = []
    for name, kind in {**LANGUAGES, "code": "code"}.items():
        read = tuple(_passage(pair, kind, rng) for pair in chosen)
        if name in LANGUAGES:
            lines, _ = running_text(name, n_items + n_counted, seed=seed)
        else:
            lines = [text(tidy(make.passage(rng, kind))) for _ in range(n_items + n_counted)]
        twins = words if name != "english" else ()
        found.append(TypeTexts(name, read, _others(lines, read, n_counted), twins, groups, clusters))
    sums = list(dict.fromkeys(text(make.sum(rng, "digits")) for _ in range(3 * (n_items + n_counted))))
    half = min(n_items, len(sums) // 2)
    return [*found, TypeTexts("digits", tuple(sums[:half]), tuple(sums[half:][:n_counted]))]


def _passage(pair: Sequence[Fact], kind: str, rng: random.Random) -> str:
    """Two facts in one sentence."""
    line = []
    for fact in pair:
        frame = rng.randrange(len(FRAMES[kind][fact.relation]))
        before, answer, after = fact_pieces(fact.subject, fact.relation, fact.object, frame, kind, kind, kind)
        line += [*([(kind, AND[kind])] if line else []), *before, *answer, *after]
    return text(tidy(line))
