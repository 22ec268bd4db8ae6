"""What a chapter asks of any model: texts of one meaning and questions with answers, by data type. Without a folder of
text they are of the shipped models' world; with one, sentences of NTREX-128, sums, and questions about names of CLDR.

A question stands behind SHOTS others with their answers (`País: México. Idioma oficial: español`), as a model of no
such world is told by nothing else what is wanted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from semhub_utils.errors import need, need_one_of
from semhub_utils.spokes import arithmetic, facts
from semhub_utils.spokes.code import programs
from semhub_utils.spokes.items import Items, LensItem, Pair, Twin
from semhub_utils.spokes.languages import (
    NTREX,
    names,
    pair_sets,
    parallel_sentences,
    word_counts,
    words_compared,
)

SHOTS, SAME = 3, 4
"""Examples before a question, and at most so many countries of one language."""


def shown(data_dir: str | Path | None) -> tuple[Mapping[str, str], list[str]]:
    """One running text per data type, and the words that count as English, for the lens grid."""
    if data_dir is None:
        return facts.SENTENCES, facts.english_words()
    sentences = parallel_sentences(10_000, seed=0, data_dir=data_dir)
    short = min(sentences, key=lambda s: (abs(len(s.texts["english"].split()) - 9), s.id))
    code = min((p.text for p in programs(10_000, seed=0, data_dir=data_dir)), key=lambda text: abs(len(text) - 120))
    code = next((line.strip() for line in code.split("\n") if "return" in line), code[:80])
    said = {name: short.texts[name] for name in (*list(short.texts)[1:], "english")}
    said |= {"code": code, "digits": facts.SENTENCES["digits"]}
    return said, [*word_counts([s.texts["english"] for s in sentences])]


def words(data_dir: str | Path | None) -> dict[str, set[str]]:
    """By data type, English first, the words that its texts use, as far as they are known."""
    if data_dir is None:
        known = facts.words_of_types()
        return {name: known[key] for name, key in (facts.LANGUAGES | facts.TYPES).items()}
    sentences = parallel_sentences(10_000, seed=0, data_dir=data_dir)
    return {name: {*word_counts([s.texts[name] for s in sentences])} for name in ("english", *sentences[0].texts)}


def pairs(
    n: int, *, seed: int, data_dir: str | Path | None = None, ending: str = "", held_out: bool = True
) -> dict[str, list[Pair]]:
    """Up to `n` texts of each type, each with its English, by type: facts of the shipped models' world, held out or
    taught; or sums and products in digits and words, and, with an ending (`languages.ended`), sentences that end so,
    without one, CLDR's names of countries, months and days, each behind its kind (`País: Polonia`), as the last token
    then holds one thing alone, where they have no word in common with the English ones."""
    if data_dir is None:
        chosen = {name: facts.prompts(name, n, seed=seed, held_out=held_out) for name in facts.TYPES}
        return {name: facts.similarity_pairs(some) for name, some in chosen.items()}
    sums = {"digits": arithmetic.similarity_pairs(arithmetic.items(n, seed))}
    if not ending:
        return {name: _named(name).draw(n, seed) for name in NTREX if name != "english"} | sums
    sentences = parallel_sentences(n, seed=seed, data_dir=data_dir)
    found = {}
    for some in pair_sets(sentences):
        if some.ending == ending and some.series in sentences[0].texts:
            found[some.series] = some.pairs
            some.pairs.dropped.update(some.dropped)
    return found | sums


def _named(language: str) -> Items:
    found = Items(source="CLDR")
    for row in (row for row in names() if row["kind"] in asked()):
        texts = (asked()[row["kind"]][name].partition("{}")[0] + row[name] for name in (language, "english"))
        if words_compared(row[language]) & words_compared(row["english"]):
            found.drop("a word in common", row["english"])
        else:
            found.append(Pair(f"{row['kind']} {row['english']}", *texts, row["kind"], row["english"]))
    return found


def of_a_language(n: int, *, data_dir: str | Path | None = None, **given) -> tuple[str, list[Pair]]:
    """The first language that has any of `pairs`, Spanish where it is there, and these. Raises SemhubError where none
    has."""
    found = pairs(n, data_dir=data_dir, **given)
    language = next((name for name in found if name in NTREX and found[name]), None)
    need(language, f"{data_dir} has no sentence without a word in common with the English one; NTREX's would do.")
    return language, found[language]


def questions(language: str, n: int, *, seed: int, data_dir: str | Path | None = None) -> Items:
    """Up to `n` questions in a language, each with the same in English: Twin. Facts of the shipped models' world; or,
    wherever `data_dir` is, behind examples: which language is official in a country, the month after a month, the day
    after a day. An answer that is written alike in English is left out and counted. Group, relation: what is asked;
    cluster: what it is asked about."""
    if data_dir is None:
        return facts.twins(facts.prompts(language, n, seed=seed))
    need_one_of(language, [*NTREX], f"There are no questions in {language!r}")
    rng, found = np.random.default_rng([seed, 7]), Items(source="CLDR")
    by_key = {(row["kind"], row["key"]): row for row in names()}
    by_answer, rows = defaultdict(int), []
    for k in rng.permutation(len(names())):  # the same for every language
        row = names()[k]
        if row["kind"] in asked() and by_answer[row["kind"], row["next"]] < SAME:
            by_answer[row["kind"], row["next"]] += 1
            rows.append(row)

    def said(row: Mapping[str, str], name: str) -> tuple[str, str]:
        answer = by_key.get((row["kind"], row["next"])) or by_key["language", row["next"]]
        return asked()[row["kind"]][name].format(row[name]), answer[name]

    def prompt(row: Mapping[str, str], shots: Sequence[Mapping[str, str]], name: str) -> str:
        gap = "" if name == "chinese" else " "
        return "".join("{0}{2}{1}\n".format(*said(shot, name), gap) for shot in shots) + said(row, name)[0]

    for kind in asked():
        of = [row for row in rows if row["kind"] == kind]
        shots, others = of[:SHOTS], of[SHOTS:]
        for row in others:
            (_, answer), (_, english) = (said(row, name) for name in (language, "english"))
            if answer.casefold() == english.casefold():
                found.drop("written alike in English", f"{row['english']}")
                continue
            texts = (prompt(row, shots, name) for name in (language, "english"))
            found.append(Twin(f"{kind} {row['english']}", *texts, answer, english, kind, kind, row["english"]))
    return found.draw(n, seed)


@cache
def asked() -> dict[str, dict[str, str]]:
    """What is asked of a name, by kind and language."""
    rows = [line.split("\t") for line in (files("semhub_utils") / "data/questions.tsv").read_text("utf-8").split("\n")]
    return {kind: dict(zip(rows[0][1:], said, strict=True)) for kind, *said in rows[1:] if said}


def asked_types(n: int, *, seed: int, data_dir: str | Path) -> dict[str, tuple[list[Pair], list[LensItem]]]:
    """By type, `pairs` of sentences, or sums, and what the lens is asked, "english" and "own": the answers of
    `questions`, and of sums."""
    found = {}
    for name, some in pairs(n, seed=seed, data_dir=data_dir, ending="continued").items():
        if name == "digits":
            items = [
                replace(item, **{of: _renamed(getattr(item, of)) for of in ("targets", "wrong")})
                for item in arithmetic.lens_items(arithmetic.items(n, seed))
            ]
        else:
            items = lens_items(questions(name, n, seed=seed, data_dir=data_dir))
        found[name] = some, items
    return found


def _renamed(of: Mapping) -> dict:
    return {"english": of["word"], "own": of["digit"]}


def lens_items(twins: Items) -> Items:
    """A question read for the English word of its answer and for its own, against those of the others of its kind."""
    answers = defaultdict(dict)
    for t in twins:
        answers[t.group][t.hub_answer, t.answer] = None
    items = twins.but()
    for t in twins:
        english, own = zip(*answers[t.group], strict=True)
        wrong = {"english": tuple(w for w in dict.fromkeys(english) if w != t.hub_answer)}
        wrong["own"] = tuple(w for w in dict.fromkeys(own) if w != t.answer)
        targets = {"english": (t.hub_answer,), "own": (t.answer,)}
        items.append(LensItem(t.id, t.prompt, targets, t.cluster, wrong, t.group, t.hub_answer))
    return items
